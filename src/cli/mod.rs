//! The command line: verbs in, tables or JSON out, and an exit code that says how it went (API 7).

mod address;
mod agent;
mod ask;
mod check;
mod client;
mod clock;
mod cluster;
mod config;
mod connection;
mod demo;
mod doctor;
mod events;
mod failure;
mod instant;
mod journal;
mod list;
mod money;
mod node;
mod records;
mod reload;
mod report;
mod rules;
mod screen;
mod serve;
mod shell;
mod size;
mod subscription;
mod table;
mod token;
mod top;
mod webhook;
mod whatif;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use connection::Connection;
use failure::{Failure, OK, USAGE};
use screen::{Format, Screen};

/// Decides in real time who may take a concurrent-user licence
///
/// Without a verb it serves: the configuration is --config, config/usherd.toml beside the working folder, or
/// /etc/usherd/usherd.toml. Exit codes: 0 success, 1 failed or denied, 2 usage, 78 configuration; `usherd check`
/// has those of monitoring plugins, 0 to 3.
#[derive(Clone, Debug, Parser)]
#[command(name = "usherd", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    /// The format of the output
    #[arg(short, long, global = true, value_enum, default_value_t, help_heading = "Output")]
    output: Output,
    /// Show times in UTC, not in the zone of this machine
    #[arg(long, global = true, help_heading = "Output")]
    utc: bool,
}

/// The formats of [`Format`], and one that only `report` has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// The daemon's answer as it is, for scripts.
    Json,
    /// RFC 4180, for spreadsheets.
    Csv,
    /// One page to send around, for `report` alone.
    Html,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// The daemon, in the foreground
    Serve,
    /// See it work: a daemon on loopback, and an office whose day passes in minutes; needs nothing
    Demo(demo::DemoArgs),
    /// The agent beside a PBX, in the foreground; its configuration is --config, or /etc/usherd/agent.toml
    Agent(agent::AgentArgs),
    /// Check, write or show the configuration, without a running daemon
    Config(config::ConfigArgs),
    /// The changes that a reload would make, with their consequences
    Plan(reload::ReloadArgs),
    /// Load the files as they are, and wait for the outcome
    Reload(reload::ReloadArgs),
    /// The state of the daemon: ready or not, and its totals
    Status,
    /// The fleet and its tenants, live in the terminal; --once prints it
    Top(top::TopArgs),
    /// The tenants and how full they are
    Tenants(list::TenantsArgs),
    /// The live sessions of a tenant
    Sessions(list::SessionsArgs),
    /// The PBX nodes
    Nodes(list::NodesArgs),
    /// Forget a PBX node by hand
    Node(node::NodeArgs),
    /// The cluster that the daemon belongs to: its members and shards, and orders to them
    Cluster(cluster::ClusterArgs),
    /// Say that the machine's wall clock is right, after a start far from where it was
    Clock(clock::ClockArgs),
    /// Events, as they happen
    Events(events::EventsArgs),
    /// The answer that an acquire would get, rule by rule; changes nothing
    Explain(ask::AcquireArgs),
    /// Ask for a seat by hand
    Acquire(ask::AcquireArgs),
    /// Give a seat back by hand
    Release(ask::ReleaseArgs),
    /// Monitoring plugin: one line, performance data, exit code 0 to 3
    Check(check::CheckArgs),
    /// Check an installation: what is wrong, why it matters and how to fix it
    Doctor(doctor::DoctorArgs),
    /// The cost of a number of seats, and of a change to it now
    Quote(money::QuoteArgs),
    /// The monthly cost of a tenant's subscription, credits included, from its files
    Statement(money::StatementArgs),
    /// Show a subscription at an instant, or request a change to it
    Subscription(subscription::SubscriptionArgs),
    /// The audit trail, read from its files
    Journal(journal::JournalArgs),
    /// How many seats a company needs: the brochure's average and the safe figure, or by what was measured
    Size(size::SizeArgs),
    /// The requests that other quotas would have denied, with their price
    Whatif(whatif::WhatifArgs),
    /// A tenant's usage over a time; -o html makes one file to send around
    Report(report::ReportArgs),
    /// Make and check signed bundles of tenant records, for [sync]
    Records(records::RecordsArgs),
    /// Webhooks: their deliveries, tests and secrets
    Webhook(webhook::WebhookArgs),
    /// The completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The manual page, or one for each verb into a folder
    Man {
        /// The folder
        folder: Option<PathBuf>,
    },
}

/// Runs the verb that the arguments name; the first argument is the name of the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let code = match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let mut stdout = io::stdout();
            let format = match cli.output {
                Output::Table | Output::Html => Format::Table,
                Output::Json => Format::Json,
                Output::Csv => Format::Csv,
            };
            let mut screen = Screen::new(&mut stdout, format, cli.utc);
            screen.colour = screen::wants_colour();
            screen.links = screen::wants_links();
            finish(dispatch(&cli, &mut screen))
        }
        Err(error) => {
            // Help and version are answers and go to the output; for them clap exits with 0.
            let _ = error.print();
            match error.exit_code() {
                0 => OK,
                _ if is_check(&arguments) => check::UNKNOWN,
                _ => USAGE,
            }
        }
    };
    ExitCode::from(code)
}

/// True if a monitoring system asks: there 2 would be critical, and a typing error is not.
fn is_check(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).any(|argument| argument == "check")
        && !arguments.iter().skip(1).any(|argument| argument == "config")
}

fn finish(result: Result<u8, Failure>) -> u8 {
    result.unwrap_or_else(|failure| {
        let _ = io::stderr().write_all(failure.render().as_bytes());
        failure.code
    })
}

fn dispatch(cli: &Cli, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let main = cli.config.as_deref();
    if cli.output == Output::Html && !matches!(cli.verb, Some(Verb::Report(_))) {
        return Err(Failure::usage("only `usherd report` makes HTML").fix("use -o table, json or csv"));
    }
    let client = || cli.connection.client(main);
    match cli.verb.as_ref().unwrap_or(&Verb::Serve) {
        Verb::Serve => serve::serve(main, screen.colour),
        Verb::Demo(arguments) => demo::demo(arguments, main, screen),
        Verb::Agent(arguments) => agent::agent(arguments, main, &cli.connection, screen),
        Verb::Config(arguments) => config::config(arguments, main, cli.connection.token_file.as_deref(), screen),
        Verb::Plan(arguments) => reload::plan(arguments, client()?, screen),
        Verb::Reload(arguments) => reload::reload(arguments, client()?, screen),
        Verb::Status => list::status(&client()?, screen),
        Verb::Top(arguments) => top::top(arguments, client()?, screen),
        Verb::Tenants(arguments) => list::tenants(arguments, &client()?, screen),
        Verb::Sessions(arguments) => list::sessions(arguments, &client()?, screen),
        Verb::Nodes(arguments) => list::nodes(arguments, &client()?, screen),
        Verb::Node(arguments) => node::node(arguments, &client()?, screen),
        Verb::Cluster(arguments) => cluster::cluster(arguments, &client()?, screen),
        Verb::Clock(arguments) => clock::clock(arguments, &client()?, screen),
        Verb::Events(arguments) => events::events(arguments, &client()?, screen),
        Verb::Explain(arguments) => ask::explain(arguments, &client()?, screen),
        Verb::Acquire(arguments) => ask::acquire(arguments, &client()?, screen),
        Verb::Release(arguments) => ask::release(arguments, &client()?, screen),
        Verb::Check(arguments) => {
            let (line, code) = check::check(arguments, client());
            screen.write(&line).map(|()| code)
        }
        Verb::Doctor(arguments) => doctor::doctor(arguments, main, &cli.connection, screen),
        Verb::Quote(arguments) => money::quote(arguments, main, screen),
        Verb::Statement(arguments) => money::statement_of(arguments, main, screen),
        Verb::Subscription(arguments) => subscription::subscription(arguments, main, &cli.connection, screen),
        Verb::Journal(arguments) => journal::journal(arguments, main, screen),
        Verb::Size(arguments) => size::size(arguments, client, screen),
        Verb::Whatif(arguments) => whatif::whatif(arguments, &client()?, screen),
        Verb::Report(arguments) => report::report(arguments, &client()?, cli.output == Output::Html, screen),
        Verb::Records(arguments) => records::records(arguments, main, screen),
        Verb::Webhook(arguments) => webhook::webhook(arguments, client, screen),
        Verb::Completions { shell } => shell::completions(Cli::command(), *shell, screen),
        Verb::Man { folder } => shell::man(Cli::command(), folder.as_deref(), screen),
    }
}
