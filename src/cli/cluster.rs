//! `cluster`: the members of a cluster, their shards and the etcd below, and orders to them.

use serde_json::{Value, json};

use super::client::{Ask, Client, Reply};
use super::failure::{FAILED, Failure, OK};
use super::list::missing_of;
use super::screen::{Format, Screen, counted};
use crate::answers::cluster::{Cluster, HandedOver, Leaving};

const MEMBER_COLUMNS: [&str; 6] = ["name", "alive", "leaving", "shards", "version", "advertise"];
const ETCD_COLUMNS: [&str; 6] = ["endpoint", "version", "leader", "db_bytes", "errors", "problem"];

/// `usherd cluster`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    verb: ClusterVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum ClusterVerb {
    /// Members, shards and their owners, the last commit, etcd; fails if a shard has no owner or nothing is committed
    Status,
    /// Give a shard to another member; whichever member is asked
    Handover {
        /// The number of the shard
        shard: u32,
        /// The member that is to own it
        #[arg(long, value_name = "MEMBER")]
        to: String,
    },
    /// Have the member that is asked give all its shards away and want none, until it restarts
    Leave {
        /// Take its part again instead
        #[arg(long)]
        stay: bool,
    },
}

/// Shows it, or does it.
///
/// # Errors
/// The daemon cannot be asked, belongs to no cluster, or does not do it.
pub(super) fn cluster(arguments: &ClusterArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    match &arguments.verb {
        ClusterVerb::Status => status(&client.ask_ok(&Ask::get("/v1/cluster"))?, screen),
        ClusterVerb::Handover { shard, to } => {
            let asked = json!({ "shard": shard, "to": to });
            let reply = client.ask_ok(&Ask::post("/v1/cluster/handover", &asked))?;
            let HandedOver { from, done, .. } = reply.read()?;
            let moves = if done { "went" } else { "is on its way" };
            told(&reply, &format!("shard {shard} {moves} from {from} to {to}"), screen)
        }
        ClusterVerb::Leave { stay } => {
            let reply = client.ask_ok(&Ask::post("/v1/cluster/leave", &json!({ "leave": !stay })))?;
            let Leaving { member, leaving, .. } = reply.read()?;
            let does = if leaving { "gives its shards to the others" } else { "takes its part again" };
            told(&reply, &format!("{member} {does}; see `usherd cluster status`"), screen)
        }
    }
}

fn told(reply: &Reply, line: &str, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    if screen.format == Format::Table {
        screen.line(line)?;
    } else {
        screen.verbatim(&reply.body)?;
    }
    Ok(OK)
}

fn status(reply: &Reply, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let (cluster, answer): (Cluster, Value) = (reply.read()?, reply.json()?);
    let rows = |noun: &str| answer.get(noun).and_then(Value::as_array).cloned().unwrap_or_default();
    match screen.format {
        Format::Json => screen.verbatim(&reply.body)?,
        Format::Csv => {
            let table = screen.rows(&rows("members"), &MEMBER_COLUMNS);
            screen.table(&table)?;
        }
        Format::Table => {
            screen.line(&summary(&cluster))?;
            for (noun, columns) in [("members", MEMBER_COLUMNS), ("etcd", ETCD_COLUMNS)] {
                screen.write("\n")?;
                let table = screen.rows(&rows(noun), &columns);
                screen.table(&table)?;
            }
            for alarm in cluster.alarms.iter().flatten() {
                screen.line(&format!("\nalarm of etcd: {alarm}"))?;
            }
        }
    }
    let is_well = cluster.status.missing.is_empty() && cluster.status.cut_off.is_none();
    Ok(if is_well { OK } else { FAILED })
}

/// `seen by alpha: 3 members, 16 shards, each with an owner; the last commit was 12 ms ago`
fn summary(cluster: &Cluster) -> String {
    let status = &cluster.status;
    let owners = match missing_of(&status.missing) {
        None => "each with an owner".to_owned(),
        Some(missing) => format!("without an owner: {missing}"),
    };
    let commit = match (&status.cut_off, status.proven_ms_ago) {
        (Some(why), _) => format!("nothing is committed: {why}"),
        (None, Some(ms)) => format!("the last commit was {ms} ms ago"),
        (None, None) => "nothing was committed yet".to_owned(),
    };
    let (members, shards) = (counted(status.members.len(), "member"), counted(status.owners.len(), "shard"));
    format!("seen by {}: {members}, {shards}, {owners}; {commit}", status.member)
}
