//! The display of the webhooks, and their tests by hand: between the API and the thread that delivers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use usherd_engine::{Name, Now};

use super::deliver::Outcome;
use super::queue::Waiting;
use crate::answers::webhooks::{self as answers, WebhookDelivery, WebhookState};
use crate::daemon::config::Webhook;
use crate::daemon::metrics::WebhookResult;
use crate::daemon::text::rfc3339;

/// Tries that the log remembers of each webhook.
const LOG_MAX: usize = 1_000;
/// Tests that wait at once.
const ORDERS_MAX: usize = 16;

/// A try, as the log has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counts up for each webhook, from 1.
    pub number: u64,
    /// When it ended, milliseconds since 1970 UTC.
    pub utc_ms: i64,
    /// The id of the message.
    pub id: String,
    /// The type of the message.
    pub about: String,
    /// The tenant concerned; empty for none.
    pub tenant: String,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// The status of the receiver's answer, if it gave one.
    pub status: Option<u16>,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// The result.
    pub result: WebhookResult,
    /// The error; empty for a success.
    pub error: String,
    /// When it is tried again, milliseconds since 1970 UTC.
    pub next_utc_ms: Option<i64>,
}

impl Entry {
    pub(crate) fn new(now: Now, tried: &Waiting, outcome: &Outcome, result: WebhookResult) -> Self {
        Entry {
            number: 0,
            utc_ms: now.utc_ms,
            id: tried.id.clone(),
            about: tried.about.clone(),
            tenant: tried.tenant.clone(),
            attempt: tried.attempts + 1,
            status: outcome.status,
            duration_ms: outcome.duration_ms,
            result,
            error: outcome.error.clone(),
            next_utc_ms: None,
        }
    }
}

impl From<&Entry> for WebhookDelivery {
    fn from(entry: &Entry) -> Self {
        let told = |text: &String| (!text.is_empty()).then(|| text.clone());
        WebhookDelivery {
            number: entry.number,
            at: rfc3339(entry.utc_ms).into(),
            id: entry.id.clone(),
            about: entry.about.clone(),
            tenant: told(&entry.tenant),
            attempt: entry.attempt,
            status: entry.status,
            duration_ms: entry.duration_ms,
            result: entry.result.into(),
            error: told(&entry.error),
            next_attempt_at: entry.next_utc_ms.map(|at| rfc3339(at).into()),
        }
    }
}

/// Somebody tries a webhook.
pub(crate) struct Order {
    pub(crate) hook: Name,
    pub(crate) reply: oneshot::Sender<Entry>,
}

/// The display of one webhook.
#[derive(Debug)]
struct Row {
    settings: Webhook,
    gone: bool,
    queued: usize,
    oldest_utc_ms: Option<i64>,
    success_utc_ms: Option<i64>,
    failure: Option<(i64, String)>,
    unsaved: Option<String>,
    numbered: u64,
    log: VecDeque<Entry>,
}

/// The display of the webhooks. No decision asks it.
#[derive(Debug)]
pub struct Board {
    rows: Mutex<Vec<Row>>,
    orders: mpsc::Sender<Order>,
    inbox: Mutex<Option<mpsc::Receiver<Order>>>,
    turns: AtomicU64,
}

impl Default for Board {
    fn default() -> Self {
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        Board { rows: Mutex::default(), orders, inbox: Mutex::new(Some(inbox)), turns: AtomicU64::new(0) }
    }
}

impl Board {
    /// The webhooks in the order of the configuration, as the API answers them.
    pub fn list(&self) -> Vec<answers::Webhook> {
        self.rows.lock().iter().map(answers::Webhook::from).collect()
    }

    /// The tries of one after a number, at most `limit`, and whether there are more; `None` where there is no such
    /// webhook.
    pub fn deliveries(&self, hook: &str, after: u64, limit: usize) -> Option<(Vec<Entry>, bool)> {
        let rows = self.rows.lock();
        let row = rows.iter().find(|row| row.settings.name == hook)?;
        let mut later = row.log.iter().filter(|entry| entry.number > after);
        let page: Vec<Entry> = later.by_ref().take(limit).cloned().collect();
        Some((page, later.next().is_some()))
    }

    /// How long a try of this webhook may take, seconds; `None` where there is none of the name.
    pub fn patience_s(&self, hook: &str) -> Option<u32> {
        self.rows.lock().iter().find(|row| row.settings.name == hook).map(|row| row.settings.timeout_s)
    }

    /// How often everything that was due was looked at; it stands still where the thread of the webhooks does.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    pub(crate) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Release);
    }

    /// Has a signed test sent to a webhook; the answer comes when the try is over. `None`: too many wait already.
    pub fn test(&self, hook: &str) -> Option<oneshot::Receiver<Entry>> {
        let (reply, over) = oneshot::channel();
        self.orders.try_send(Order { hook: hook.into(), reply }).ok()?;
        Some(over)
    }

    /// For the thread that delivers; once.
    pub(crate) fn inbox(&self) -> Option<mpsc::Receiver<Order>> {
        self.inbox.lock().take()
    }

    /// Another configuration is in force: there are these webhooks.
    pub fn configure(&self, settings: &[Webhook]) {
        let mut rows = self.rows.lock();
        let mut before = std::mem::take(&mut *rows);
        rows.extend(settings.iter().map(|settings| {
            match before.iter().position(|row| row.settings.name == settings.name) {
                Some(at) => Row { settings: settings.clone(), ..before.swap_remove(at) },
                None => Row {
                    settings: settings.clone(),
                    gone: false,
                    queued: 0,
                    oldest_utc_ms: None,
                    success_utc_ms: None,
                    failure: None,
                    unsaved: None,
                    numbered: 0,
                    log: VecDeque::new(),
                },
            }
        }));
    }

    /// How a webhook is, and what waits for it.
    pub(crate) fn show(&self, hook: &str, gone: bool, queued: usize, oldest_utc_ms: Option<i64>) {
        self.with(hook, |row| (row.gone, row.queued, row.oldest_utc_ms) = (gone, queued, oldest_utc_ms));
    }

    pub(crate) fn show_unsaved(&self, hook: &str, why: Option<String>) {
        self.with(hook, |row| row.unsaved = why);
    }

    /// A try is over.
    pub(crate) fn log(&self, hook: &str, entry: &mut Entry) {
        self.with(hook, |row| {
            row.numbered += 1;
            entry.number = row.numbered;
            if entry.error.is_empty() {
                row.success_utc_ms = Some(entry.utc_ms);
            } else {
                row.failure = Some((entry.utc_ms, entry.error.clone()));
            }
            if row.log.len() == LOG_MAX {
                row.log.pop_front();
            }
            row.log.push_back(entry.clone());
        });
    }

    fn with(&self, hook: &str, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.lock().iter_mut().find(|row| row.settings.name == hook) {
            change(row);
        }
    }
}

impl From<&Row> for answers::Webhook {
    fn from(row: &Row) -> Self {
        let settings = &row.settings;
        let state = match (settings.enabled, row.gone, &row.failure) {
            (false, ..) => WebhookState::Off,
            (_, true, _) => WebhookState::Gone,
            (.., Some((at, _))) if row.success_utc_ms.is_none_or(|success| success < *at) => WebhookState::Failing,
            _ => WebhookState::Ok,
        };
        let at = |utc_ms: i64| rfc3339(utc_ms).into();
        answers::Webhook {
            name: settings.name.to_string(),
            url: settings.shown_url(),
            state: state.into(),
            types: settings.types.iter().map(|topic| (*topic).into()).collect(),
            tenants: settings.tenants.iter().map(Name::to_string).collect(),
            names: settings.names,
            queued: row.queued,
            queue_max: settings.queue_max,
            oldest_at: row.oldest_utc_ms.map(at),
            last_success_at: row.success_utc_ms.map(at),
            last_error_at: row.failure.as_ref().map(|(failed, _)| at(*failed)),
            last_error: row.failure.as_ref().map(|(_, why)| why.clone()),
            not_saved: row.unsaved.clone(),
        }
    }
}
