//! `node`: what is done by hand to one PBX node.

use super::client::{Ask, Client, encoded};
use super::failure::{Failure, OK};
use super::screen::{Format, Screen};
use crate::answers::nodes::NodeForgotten;

/// `usherd node`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct NodeArgs {
    #[command(subcommand)]
    verb: NodeVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum NodeVerb {
    /// Forget the epoch and the tombstones of a node, so that it may say hello with any epoch
    Forget {
        /// The node
        name: String,
        /// Also while it is up or has sessions: these wait for it with the usual grace
        #[arg(long)]
        force: bool,
    },
}

/// Does it.
///
/// # Errors
/// The daemon cannot be asked, knows no such node, or wants `--force`.
pub(super) fn node(arguments: &NodeArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let NodeVerb::Forget { name, force } = &arguments.verb;
    let path = format!("/v1/nodes/{}{}", encoded(name), if *force { "?force=1" } else { "" });
    let reply = client.ask_ok(&Ask::delete(&path))?;
    if screen.format == Format::Table {
        let NodeForgotten { epoch, orphaned, .. } = reply.read()?;
        let epoch = epoch.map_or("it had no epoch".to_owned(), |epoch| format!("its epoch was {epoch}"));
        screen.line(&format!("{name} is forgotten: {epoch}, {orphaned} sessions wait for it or another node"))?;
    } else {
        screen.verbatim(&reply.body)?;
    }
    Ok(OK)
}
