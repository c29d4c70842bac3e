//! Reads what the view shows, beside it: in a thread of its own, so that no slow daemon ever holds up a key.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::facts::Detail;
use super::news::{Fleet, News, Wish};
use crate::answers::events::Event;
use crate::answers::nodes::{NodeState, Nodes};
use crate::answers::operation::Explanation;
use crate::answers::overview::Overview;
use crate::answers::sessions::{Sessions, Subjects};
use crate::answers::tenants::Tenants;
use crate::answers::usage::Usage;
use crate::answers::words::EventType;
use crate::cli::client::{Ask, Client, encoded, with_query};
use crate::cli::failure::{Failure, OK};
use crate::daemon::clock::monotonic_ns;

/// Rows of a page, the most that the daemon gives.
const PAGE_ROWS: usize = 1_000;
/// Tenants that are read to be sorted here. Of more, the daemon names the fullest and searches.
pub(super) const TENANTS_MAX: usize = 20_000;
/// Sessions, and subjects, of one tenant.
const SESSIONS_MAX: usize = 5_000;
/// A list that took so long is read again after so many times that: it costs the daemon a tenth of a thread at most.
const REST: u64 = 9;
/// How long the view has to end by itself when the terminal has gone.
const HANGUP_PATIENCE: Duration = Duration::from_secs(1);
/// Before events are asked for again.
const RETRY: Duration = Duration::from_secs(1);
/// Before a history is read again: its slots have minutes.
const USAGE_NS: u64 = 15_000_000_000;

/// Tells the reader what to read.
pub(super) struct Reader {
    wish: watch::Sender<Wish>,
    ask: mpsc::UnboundedSender<Order>,
}

enum Order {
    Explain(Value),
    Refresh,
}

impl Reader {
    /// Begins to read, and sends what it finds.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(client: Client, interval: Duration, first: Wish, news: Sender<News>) -> Result<Self, Failure> {
        let (wish, wishes) = watch::channel(first);
        let (ask, orders) = mpsc::unbounded_channel();
        let read = move || {
            client.run(async {
                let hung_up = tokio::select! {
                    () = poll(&client, interval, wishes.clone(), orders, &news) => false,
                    () = listen(&client, wishes, &news) => false,
                    hung_up = until_signal() => hung_up,
                };
                // Whoever does not listen any more has ended anyway.
                let _ = news.send(News::End);
                if hung_up {
                    // Who waits for keys of a terminal that is gone reads its end for ever.
                    tokio::time::sleep(HANGUP_PATIENCE).await;
                    std::process::exit(OK.into());
                }
            });
        };
        thread::Builder::new()
            .name("top-reader".to_owned())
            .spawn(read)
            .map_err(|error| Failure::failed(format!("no thread can be started to read with: {error}")))?;
        Ok(Reader { wish, ask })
    }

    /// Says what shall be read from now on.
    pub(super) fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|own| {
            let changed = *own != wish;
            *own = wish;
            changed
        });
    }

    /// Asks why.
    pub(super) fn explain(&self, body: Value) {
        let _ = self.ask.send(Order::Explain(body));
    }

    /// Reads at once.
    pub(super) fn refresh(&self) {
        let _ = self.ask.send(Order::Refresh);
    }
}

/// Ends with the signals that end a program; whether it was a hangup, which is the end of the terminal.
async fn until_signal() -> bool {
    let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
    let mut signals: VecDeque<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    let (Some(mut a), Some(mut b), Some(mut c)) = (signals.pop_front(), signals.pop_front(), signals.pop_front())
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = a.recv() => false,
        _ = b.recv() => true,
        _ = c.recv() => false,
    }
}

async fn poll(
    client: &Client,
    interval: Duration,
    mut wishes: watch::Receiver<Wish>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    news: &Sender<News>,
) {
    let mut memory = Memory::default();
    loop {
        let wish = wishes.borrow_and_update().clone();
        let round = async {
            if !wish.paused {
                let found = memory.read(client, &wish).await.unwrap_or_else(|failure| News::Failed(one_line(&failure)));
                let _ = news.send(found);
            }
            tokio::time::sleep(interval).await;
        };
        tokio::select! {
            () = round => {}
            changed = wishes.changed() => if changed.is_err() { return },
            order = orders.recv() => match order {
                Some(Order::Explain(body)) => _ = news.send(News::Explained(explain(client, &body).await)),
                Some(Order::Refresh) => memory = Memory::default(),
                None => return,
            },
        }
    }
}

/// One line of what failed and how to fix it.
fn one_line(failure: &Failure) -> String {
    let what = failure.what.replace("\n", ";");
    if failure.fix.is_empty() { what } else { format!("{what} - {}", failure.fix) }
}

/// Reads once what is wished for.
///
/// # Errors
/// The daemon cannot be asked, or knows no such tenant.
pub(super) async fn once(client: &Client, wish: &Wish) -> Result<News, Failure> {
    Memory::default().read(client, wish).await
}

/// An answer that was read, and when it is worth reading again.
#[derive(Default)]
struct Memory {
    tenants_due_ns: u64,
    searched: String,
    usage_due_ns: u64,
    usage_of: String,
    usage: Usage,
}

impl Memory {
    async fn read(&mut self, client: &Client, wish: &Wish) -> Result<News, Failure> {
        match &wish.tenant {
            None => self.fleet(client, &wish.search).await.map(|fleet| News::Fleet(Box::new(fleet))),
            Some(id) => self.tenant(client, id).await.map(|detail| News::Tenant(Box::new(detail))),
        }
    }

    async fn fleet(&mut self, client: &Client, search: &str) -> Result<Fleet, Failure> {
        let reply = client.answer(&Ask::get("/v1/overview")).await?;
        let overview: Option<Overview> = match reply.status {
            // A token that is for some tenants only: they are listed below, and nothing is said of the others.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => None,
            status if status.is_success() => Some(reply.read()?),
            _ => return Err(reply.failure()),
        };
        let mut fleet = Fleet { overview, ..Fleet::default() };
        if fleet.overview.as_ref().is_some_and(|overview| overview.nodes.silent > 0) {
            let (nodes, _) = rows(client, "/v1/nodes", &[], PAGE_ROWS, |page: Nodes| (page.nodes, page.next)).await?;
            let silent = nodes.into_iter().filter(|node| node.state == NodeState::Silent.into());
            fleet.silent = silent.map(|node| node.node).collect();
        }
        let start = monotonic_ns();
        if start >= self.tenants_due_ns || search != self.searched {
            let search_for = [("search", (!search.is_empty()).then(|| search.to_owned()))];
            let list = |page: Tenants| (page.tenants, page.next);
            let (found, cut) = rows(client, "/v1/tenants", &search_for, TENANTS_MAX, list).await?;
            let end = monotonic_ns();
            // What is one page is read every time.
            let rest = if found.len() < PAGE_ROWS { 0 } else { (end - start) * REST };
            (fleet.tenants, fleet.cut) = (Some(found), cut);
            (self.tenants_due_ns, self.searched) = (end + rest, search.to_owned());
        }
        Ok(fleet)
    }

    async fn tenant(&mut self, client: &Client, id: &str) -> Result<Detail, Failure> {
        // The list of the fleet is read anew when the view comes back to it.
        self.tenants_due_ns = 0;
        let path = format!("/v1/tenants/{}", encoded(id));
        let tenant = checked(client, &Ask::get(&path)).await?;
        let list = |page: Sessions| (page.sessions, page.next);
        let (sessions, cut) = rows(client, &format!("{path}/sessions"), &[], SESSIONS_MAX, list).await?;
        let list = |page: Subjects| (page.subjects, page.next);
        let (subjects, cut_too) = rows(client, &format!("{path}/subjects"), &[], SESSIONS_MAX, list).await?;
        if monotonic_ns() >= self.usage_due_ns || self.usage_of != id {
            let reply = client.answer(&Ask::get(&format!("{path}/usage"))).await?;
            // An older daemon keeps no history; then there is no curve.
            self.usage = if reply.status.is_success() { reply.read()? } else { Usage::default() };
            (self.usage_due_ns, self.usage_of) = (monotonic_ns() + USAGE_NS, id.to_owned());
        }
        Ok(Detail::new(tenant, &sessions, subjects, &self.usage, cut || cut_too))
    }
}

async fn checked<T: DeserializeOwned>(client: &Client, ask: &Ask<'_>) -> Result<T, Failure> {
    let reply = client.answer(ask).await?;
    if reply.status.is_success() { reply.read() } else { Err(reply.failure()) }
}

/// Reads a list page by page, and whether there is more than `most` rows of it; `taken` takes the rows and the place
/// of the next page out of a page.
async fn rows<P: DeserializeOwned, R>(
    client: &Client,
    path: &str,
    filters: &[(&str, Option<String>)],
    most: usize,
    taken: impl Fn(P) -> (Vec<R>, Option<String>),
) -> Result<(Vec<R>, bool), Failure> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let mut parameters = filters.to_vec();
        parameters.extend([("after", after.clone()), ("limit", Some(PAGE_ROWS.to_string()))]);
        let (found, next) = taken(checked(client, &Ask::get(&with_query(path, &parameters))).await?);
        rows.extend(found);
        // A daemon that names the same place for ever would keep us for ever.
        if next.is_none() || next == after {
            return Ok((rows, false));
        }
        if rows.len() >= most {
            return Ok((rows, true));
        }
        after = next;
    }
}

async fn explain(client: &Client, body: &Value) -> Result<Box<Explanation>, String> {
    checked(client, &Ask::post("/v1/explain", body)).await.map_err(|failure| one_line(&failure))
}

/// Follows what happens: everything of a tenant that is looked at, otherwise what an operator must see.
async fn listen(client: &Client, mut wishes: watch::Receiver<Wish>, news: &Sender<News>) {
    // From the oldest that is kept.
    let (mut last, mut of) = (0, None);
    loop {
        let tenant = wishes.borrow_and_update().tenant.clone();
        if tenant != of {
            (last, of) = (0, tenant.clone());
        }
        let rare = EventType::ALL.iter().filter(|kind| !matches!(kind, EventType::Granted | EventType::Released));
        let rare: Vec<&str> = rare.map(|kind| kind.as_str()).collect();
        let types = of.is_none().then(|| rare.join(","));
        let path = with_query("/v1/events", &[("tenant", of.clone()), ("types", types)]);
        let following = async {
            let ask = Ask::stream(&path, Some(last));
            let ended = client.lines(&ask, |line| Ok(pass_on(line, &mut last, news))).await;
            if let Err(failure) = ended {
                let _ = news.send(News::NoEvents(one_line(&failure)));
            }
            tokio::time::sleep(RETRY).await;
        };
        let other = async {
            while wishes.changed().await.is_ok() {
                if wishes.borrow_and_update().tenant != tenant {
                    return true;
                }
            }
            false
        };
        tokio::select! {
            () = following => {}
            goes_on = other => if !goes_on { return },
        }
    }
}

/// Passes an event on; `false` where nobody wants it any more. A gap is none: nothing of before was seen.
fn pass_on(line: &str, last: &mut u64, news: &Sender<News>) -> bool {
    let Ok(event) = serde_json::from_str::<Event>(line) else { return true };
    let Some(id) = event.id else { return true };
    *last = id;
    news.send(News::Event(Box::new(event))).is_ok()
}
