//! The daemon's answers, as far as the live view shows them. Fields that an older or newer daemon lacks are absent.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use usherd_engine::Kind;

use crate::daemon::metrics::Band;

/// The daemon as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Overview {
    /// Its version.
    pub version: String,
    /// Now, by its clock.
    pub at: Option<DateTime<Utc>>,
    /// True if it decides.
    pub ready: bool,
    /// Tenants that it knows.
    pub tenants: u64,
    /// Seats that are held.
    pub held: u64,
    /// Seats that all limited tenants have together.
    pub quota: u64,
    /// Seats above the quota of their tenant.
    pub over: u64,
    /// Tenants by [`Band`].
    pub bands: [u64; Band::ALL.len()],
    /// Sessions by kind: with a claim, without.
    pub sessions: Vec<(String, u64, u64)>,
    /// Nodes that report.
    pub nodes_up: u64,
    /// Nodes that were lost.
    pub nodes_silent: u64,
    /// When an acknowledged decision is durable.
    pub durability: String,
    /// Why it is not as durable as was asked for.
    pub degraded: Option<String>,
    /// Why the last configuration was rejected.
    pub config_error: Option<String>,
    /// True if the configuration is the last good one, because the files were not good at the start.
    pub config_old: bool,
    /// When the configuration was loaded.
    pub config_loaded: Option<DateTime<Utc>>,
    /// The next booking of all tenants.
    pub next: Option<Booked>,
    /// True if contracts follow the wall clock (H5).
    pub clock_trusted: bool,
    /// The fullest tenants, as far as the daemon names them.
    pub fullest: Vec<Tenant>,
}

/// A booked change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Booked {
    /// Whose; empty where that is clear.
    pub tenant: String,
    /// When.
    pub at: Option<DateTime<Utc>>,
    /// The quota then; `None` is unlimited.
    pub seats: Option<u64>,
    /// The state then.
    pub state: String,
}

/// A line of the fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tenant {
    /// Its id.
    pub id: String,
    /// The name for people; empty where the daemon does not say.
    pub name: String,
    /// State of its subscription.
    pub state: String,
    /// How full it is, as a word of [`Band`].
    pub band: String,
    /// Seats that are held.
    pub held: u64,
    /// `None` is unlimited.
    pub quota: Option<u64>,
    /// Seats above the quota.
    pub over: u64,
    /// Most seats at once: today where the daemon says so, otherwise since its start.
    pub peak: u64,
    /// Denials, likewise.
    pub denials: u64,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Session {
    /// Its id.
    pub id: String,
    /// Whose it is; empty for nobody.
    pub subject: String,
    /// The kind of session.
    pub kind: String,
    /// Which way a call goes; empty for other things.
    pub direction: String,
    /// Why a call leg exists; empty for other things.
    pub leg: String,
    /// True if it needs a seat.
    pub counts: bool,
    /// True if its node is lost.
    pub orphan: bool,
    /// The node that reported it; empty for none.
    pub node: String,
    /// Since when.
    pub started: Option<DateTime<Utc>>,
    /// Until it ends unless it is renewed, seconds.
    pub ends_in_s: Option<u64>,
}

/// A subject that holds a seat, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Holder {
    /// The subject.
    pub subject: String,
    /// The claims, the oldest first; none where the seat lingers after the last.
    pub claims: Vec<Session>,
}

/// One tenant in depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Detail {
    /// Its line.
    pub line: Tenant,
    /// Now, by the clock of the daemon.
    pub at: Option<DateTime<Utc>>,
    /// True if people are called by pseudonyms, because the token may not see names.
    pub pseudonyms: bool,
    /// Channels in use, and those that the seats include.
    pub channels: (u64, Option<u64>),
    /// The next booking.
    pub next: Option<Booked>,
    /// The holders of seats, by name.
    pub holders: Vec<Holder>,
    /// Sessions by kind: with a claim, without.
    pub sessions: Vec<(String, u64, u64)>,
    /// True if there is more than was read.
    pub cut: bool,
    /// How full it was; empty where the daemon keeps no history.
    pub usage: Vec<Slot>,
}

/// A slot of the history.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slot {
    /// Its beginning.
    pub at: DateTime<Utc>,
    /// Most seats that were held in it.
    pub peak: u64,
    /// The quota; `None` is unlimited.
    pub quota: Option<u64>,
    /// Denials in it.
    pub denials: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Event {
    /// Its number.
    pub id: u64,
    /// The type of the event.
    pub what: String,
    /// When.
    pub at: Option<DateTime<Utc>>,
    /// Whose; empty for the daemon.
    pub tenant: String,
    /// The subject; empty for nobody.
    pub subject: String,
    /// Which session; empty for none.
    pub session: String,
    /// The kind of session; empty for none.
    pub kind: String,
    /// Which way a call goes, the class and the reservation group; empty where not told.
    pub direction: String,
    /// Function extension class.
    pub class: String,
    /// Reservation group.
    pub group: String,
    /// The answer with its detail, why it ended, or a sentence.
    pub told: String,
    /// Seats held and the quota after it, as `10/10`.
    pub seats: String,
}

/// Why an acquire would get what it would get.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Explanation {
    /// The answer with its detail.
    pub code: String,
    /// True if it is allowed.
    pub allow: bool,
    /// The sentence for people.
    pub message: String,
    /// Rule, what it looked at, what it said.
    pub steps: Vec<[String; 3]>,
    /// Changes that would make it succeed.
    pub would_allow: Vec<String>,
    /// The event that frees a seat soonest.
    pub frees_next: Option<String>,
}

/// A word or sentence; empty where there is none.
pub(super) fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn instant(value: &Value, key: &str) -> Option<DateTime<Utc>> {
    let text = value.get(key).and_then(Value::as_str)?;
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn booked(value: &Value) -> Option<Booked> {
    let change = value.get("next_change").filter(|change| change.is_object())?;
    Some(Booked {
        tenant: text(change, "tenant"),
        at: instant(change, "at"),
        seats: change.get("seats").and_then(Value::as_u64),
        state: text(change, "state"),
    })
}

impl Overview {
    /// Reads `/v1/overview`.
    pub(super) fn read(value: &Value) -> Self {
        let part = |key: &str| value.get(key).unwrap_or(&Value::Null);
        let sentence = |part: &Value, key: &str| Some(text(part, key)).filter(|text| !text.is_empty());
        let kinds = Kind::ALL.iter().map(|kind| kind.as_str());
        let (nodes, config) = (part("nodes"), part("config"));
        Overview {
            version: text(value, "version"),
            at: instant(value, "at"),
            ready: flag(value, "ready"),
            tenants: number(value, "tenants"),
            held: number(value, "held"),
            quota: number(value, "quota"),
            over: number(value, "over"),
            bands: std::array::from_fn(|at| number(part("bands"), Band::ALL[at].as_str())),
            sessions: kinds
                .filter_map(|kind| part("sessions").get(kind).map(|of| (kind, of)))
                .map(|(kind, of)| (kind.to_owned(), number(of, "counting"), number(of, "free")))
                .collect(),
            nodes_up: number(nodes, "up"),
            nodes_silent: number(nodes, "silent"),
            durability: text(part("journal"), "durability"),
            degraded: sentence(part("journal"), "degraded"),
            config_error: match config.get("last_reload_successful") {
                Some(Value::Bool(false)) => Some(sentence(config, "last_error").unwrap_or_else(|| "rejected".into())),
                _ => None,
            },
            config_old: flag(config, "from_last_good"),
            config_loaded: instant(config, "loaded_at"),
            next: booked(value),
            clock_trusted: part("time").get("wall_clock_trusted").and_then(Value::as_bool).unwrap_or(true),
            fullest: items(value, "fullest").map(Tenant::read).collect(),
        }
    }
}

impl Tenant {
    /// Reads a row of `/v1/tenants`, or the whole of one tenant.
    pub(super) fn read(value: &Value) -> Self {
        let today = |key: &str| value.get(format!("{key}_today")).and_then(Value::as_u64);
        Tenant {
            id: text(value, "tenant"),
            name: text(value, "name"),
            state: text(value, "state"),
            band: text(value, "band"),
            held: number(value, "held"),
            quota: value.get("quota").and_then(Value::as_u64),
            over: number(value, "over"),
            peak: today("peak").unwrap_or_else(|| number(value, "peak")),
            denials: today("denials").unwrap_or_else(|| number(value, "denials")),
        }
    }

    /// Held over quota; unlimited is never full, and a seat of none is more than full.
    pub(super) fn fullness(&self) -> f64 {
        match self.quota {
            None => 0.0,
            Some(0) if self.held == 0 => 0.0,
            Some(0) => f64::INFINITY,
            Some(quota) => self.held as f64 / quota as f64,
        }
    }
}

impl Session {
    /// Reads a row of `…/sessions`.
    pub(super) fn read(value: &Value) -> Self {
        Session {
            id: text(value, "session"),
            subject: text(value, "subject"),
            kind: text(value, "kind"),
            direction: text(value, "direction"),
            leg: text(value, "leg"),
            counts: flag(value, "counts"),
            orphan: flag(value, "orphan"),
            node: text(value, "node"),
            started: instant(value, "started"),
            ends_in_s: value.get("ends_in_s").and_then(Value::as_u64),
        }
    }

    /// `desktop d1`, `outbound call c7`
    pub(super) fn told(&self) -> String {
        let words = [self.direction.as_str(), &self.kind, &self.id];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        words.join(" ")
    }
}

impl Detail {
    /// Reads `/v1/tenants/{t}` with the rows of its sessions, its subjects and its usage.
    pub(super) fn read(tenant: &Value, sessions: &[Value], subjects: &[Value], usage: &Value, cut: bool) -> Self {
        let sessions: Vec<Session> = sessions.iter().map(Session::read).collect();
        let seated = subjects.iter().filter(|row| flag(row, "seated")).map(|row| text(row, "subject"));
        let inclusive = tenant.get("inclusive").unwrap_or(&Value::Null);
        Detail {
            line: Tenant::read(tenant),
            at: instant(tenant, "at"),
            pseudonyms: tenant.get("names").and_then(Value::as_bool) == Some(false),
            channels: (number(inclusive, "channels_in_use"), inclusive.get("channels").and_then(Value::as_u64)),
            next: booked(tenant),
            holders: holders(&sessions, seated),
            sessions: by_kind(&sessions),
            cut,
            usage: items(usage, "usage").filter_map(Slot::read).collect(),
        }
    }
}

fn holders(sessions: &[Session], seated: impl Iterator<Item = String>) -> Vec<Holder> {
    let mut claims: BTreeMap<&str, Vec<Session>> = BTreeMap::new();
    for session in sessions.iter().filter(|session| session.counts) {
        claims.entry(&session.subject).or_default().push(session.clone());
    }
    let names: BTreeSet<String> = seated.chain(claims.keys().map(|&subject| subject.to_owned())).collect();
    names
        .into_iter()
        .map(|subject| {
            let mut claims = claims.remove(subject.as_str()).unwrap_or_default();
            claims.sort_by(|a, b| a.started.cmp(&b.started).then_with(|| a.id.cmp(&b.id)));
            Holder { subject, claims }
        })
        .collect()
}

fn by_kind(sessions: &[Session]) -> Vec<(String, u64, u64)> {
    let count = |kind: &str, counts: bool| {
        sessions.iter().filter(|session| session.kind == kind && session.counts == counts).count() as u64
    };
    let kinds = Kind::ALL.iter().map(|kind| kind.as_str());
    let all = kinds.map(|kind| (kind.to_owned(), count(kind, true), count(kind, false)));
    all.filter(|(_, claims, free)| claims + free > 0).collect()
}

impl Slot {
    fn read(value: &Value) -> Option<Self> {
        let quota = value.get("quota").and_then(Value::as_u64);
        let (peak, denials) = (number(value, "peak"), number(value, "denials"));
        instant(value, "at").map(|at| Slot { at, peak, quota, denials })
    }
}

impl Event {
    /// Reads a line of `/v1/events`.
    pub(super) fn read(value: &Value) -> Self {
        let code = [text(value, "code"), text(value, "detail"), text(value, "reason"), text(value, "message")];
        let told: Vec<&str> = code.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        let quota = value.get("quota").and_then(Value::as_u64).map_or_else(|| "unlim".to_owned(), |q| q.to_string());
        Event {
            id: number(value, "id"),
            what: text(value, "type"),
            at: instant(value, "at"),
            tenant: text(value, "tenant"),
            subject: text(value, "subject"),
            session: text(value, "session"),
            kind: text(value, "kind"),
            direction: text(value, "direction"),
            class: text(value, "class"),
            group: text(value, "group"),
            told: told.join(" "),
            seats: match value.get("held").and_then(Value::as_u64) {
                Some(held) => format!("{held}/{quota}"),
                None => String::new(),
            },
        }
    }
}

impl Explanation {
    /// Reads the answer of `/v1/explain`.
    pub(super) fn read(value: &Value) -> Self {
        let frees = value.get("frees_next").filter(|frees| frees.is_object());
        Explanation {
            code: format!("{} {}", text(value, "code"), text(value, "detail")).trim_end().to_owned(),
            allow: flag(value, "allow"),
            message: text(value, "message"),
            steps: items(value, "steps").map(|step| ["rule", "input", "outcome"].map(|key| text(step, key))).collect(),
            would_allow: items(value, "would_allow").filter_map(Value::as_str).map(str::to_owned).collect(),
            frees_next: frees.map(|frees| format!("in {} s: {}", number(frees, "in_s"), text(frees, "by"))),
        }
    }
}
