//! The counters of the hot path: one set of cells per runtime, written by it alone, summed at a scrape.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use usherd_engine::{Code, Detail, Kind, Reason};

use super::route::{Method, Route, STATUSES, status_index};
use super::text::Text;

/// Upper bounds of the time a decision takes, nanoseconds.
const DECISION_NANOS: [u64; 18] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
];
/// Upper bounds of the time a request takes, nanoseconds.
const HTTP_NANOS: [u64; 12] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    50_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
];

const KINDS: usize = Kind::ALL.len() + 1;
const DECISIONS: usize = KINDS * Code::ALL.len() * Detail::ALL.len();
const METHODS: usize = Method::ALL.len();
const REQUESTS: usize = Route::ALL.len() * METHODS * (STATUSES.len() + 1);

/// The cells of one runtime. About 60 KiB, of which a decision touches two lines.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Cells {
    decision_time: [AtomicU64; DECISION_NANOS.len() + 1],
    decision_nanos: AtomicU64,
    in_flight: AtomicU64,
    releases: [AtomicU64; Reason::ALL.len()],
    decisions: [AtomicU64; DECISIONS],
    requests: [AtomicU64; REQUESTS],
    request_time: [[AtomicU64; HTTP_NANOS.len() + 1]; Route::ALL.len()],
    request_nanos: [AtomicU64; Route::ALL.len()],
}

impl Cells {
    pub(super) fn new() -> Self {
        Cells {
            decision_time: [const { AtomicU64::new(0) }; _],
            decision_nanos: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            releases: [const { AtomicU64::new(0) }; _],
            decisions: [const { AtomicU64::new(0) }; _],
            requests: [const { AtomicU64::new(0) }; _],
            request_time: [const { [const { AtomicU64::new(0) }; _] }; _],
            request_nanos: [const { AtomicU64::new(0) }; _],
        }
    }
}

/// Counts for one runtime. Clones share their cells: give every runtime its own from
/// [`super::Metrics::shard`], and its tasks clones of that.
#[derive(Clone, Debug)]
pub struct Shard {
    pub(super) cells: Arc<Cells>,
}

impl Shard {
    /// A decision was made, in so many nanoseconds; no kind for a release, or where it could not be read.
    pub fn decision(&self, kind: Option<Kind>, code: Code, detail: Detail, nanos: u64) {
        add(&self.cells.decisions[decision_index(kind, code, detail)], 1);
        add(&self.cells.decision_time[DECISION_NANOS.partition_point(|bound| *bound < nanos)], 1);
        add(&self.cells.decision_nanos, nanos);
    }

    /// A session left the table.
    pub fn release(&self, reason: Reason) {
        add(&self.cells.releases[reason as usize], 1);
    }

    /// So many left it at once.
    pub fn releases(&self, reason: Reason, count: u64) {
        add(&self.cells.releases[reason as usize], count);
    }

    /// A request was answered, in so many nanoseconds.
    pub fn http(&self, route: Route, method: &http::Method, status: u16, nanos: u64) {
        add(&self.cells.requests[request_index(route, Method::from(method), status_index(status))], 1);
        let bucket = HTTP_NANOS.partition_point(|bound| *bound < nanos);
        add(&self.cells.request_time[route as usize][bucket], 1);
        add(&self.cells.request_nanos[route as usize], nanos);
    }

    /// A request is in flight until the guard is dropped, however it ends.
    pub fn in_flight(&self) -> InFlight<'_> {
        add(&self.cells.in_flight, 1);
        InFlight { cells: &self.cells }
    }
}

/// One request in flight.
#[derive(Debug)]
pub struct InFlight<'a> {
    cells: &'a Cells,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.cells.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(cell: &AtomicU64, step: u64) {
    cell.fetch_add(step, Ordering::Relaxed);
}

fn decision_index(kind: Option<Kind>, code: Code, detail: Detail) -> usize {
    let kind = kind.map_or(Kind::ALL.len(), |kind| kind as usize);
    (kind * Code::ALL.len() + code as usize) * Detail::ALL.len() + detail as usize
}

fn request_index(route: Route, method: Method, status: usize) -> usize {
    (route as usize * METHODS + method as usize) * (STATUSES.len() + 1) + status
}

/// True if the engine can answer this: those series are there from the start.
pub(super) fn can_occur(kind: Option<Kind>, code: Code, detail: Detail) -> bool {
    use Detail as D;
    let Some(kind) = kind else {
        return match code {
            Code::ReleasedLast | Code::ReleasedNone | Code::IgnoreStale => detail == D::None,
            Code::ReleasedMore => matches!(detail, D::None | D::Linger),
            Code::AllowFree => matches!(detail, D::Emergency | D::Inbound),
            _ => false,
        };
    };
    let seats = kind != Kind::Phone;
    match code {
        Code::AllowFree => match detail {
            D::Emergency => true,
            D::Lifeline => seats,
            D::Service => matches!(kind, Kind::Phone | Kind::Call),
            D::Connector => kind == Kind::Connector,
            D::Guest => kind == Kind::Guest,
            D::Inbound | D::Internal | D::System => kind == Kind::Call,
            _ => false,
        },
        Code::AllowOver => seats && matches!(detail, D::None | D::Limit),
        Code::AllowNew | Code::AllowHeld | Code::AllowSame => seats && detail == D::None,
        Code::DenyConflict | Code::DenyUnknownTenant | Code::IgnoreStale => seats && detail == D::None,
        Code::DenyFull => match detail {
            D::Channels => kind == Kind::Call,
            D::Tenant | D::Pool | D::Reservation | D::Limit => seats,
            _ => false,
        },
        Code::DenyInactive => seats && matches!(detail, D::Ended | D::Suspended | D::Stale),
        Code::ReleasedLast | Code::ReleasedMore | Code::ReleasedNone => false,
    }
}

/// True if a route is expected to answer this, so that the series is there from the start.
fn is_usual(route: Route, method: Method, status: u16) -> bool {
    match route {
        Route::Other => status == 404 && matches!(method, Method::Get | Method::Post),
        Route::Acquire | Route::Release => method == route.method() && matches!(status, 200 | 400 | 401 | 403 | 503),
        Route::Metrics | Route::Livez | Route::Readyz | Route::Dashboard => {
            method == route.method() && matches!(status, 200 | 401 | 503)
        }
        _ => method == route.method() && matches!(status, 200 | 400 | 401 | 404 | 503),
    }
}

/// Writes the families of all shards, summed.
pub(super) fn write(shards: &[Arc<Cells>], text: &mut Text<'_>) {
    write_decisions(shards, text);
    write_requests(shards, text);
}

fn sum(shards: &[Arc<Cells>], cell: impl Fn(&Cells) -> &AtomicU64) -> u64 {
    shards.iter().map(|cells| cell(cells).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
}

fn write_decisions(shards: &[Arc<Cells>], text: &mut Text<'_>) {
    let name = "usherd_decisions_total";
    text.family(name, "counter", "Answers given, by kind of session (empty: a release), code and detail.");
    let kinds = Kind::ALL.iter().copied().map(Some).chain([None]);
    for kind in kinds {
        for (code, detail) in pairs() {
            let count = sum(shards, |cells| &cells.decisions[decision_index(kind, code, detail)]);
            if count > 0 || can_occur(kind, code, detail) {
                let kind = kind.map_or("", Kind::as_str);
                text.whole(name, &[("kind", kind), ("code", code.as_str()), ("detail", detail.as_str())], count);
            }
        }
    }
    let name = "usherd_releases_total";
    text.family(name, "counter", "Sessions that left the table, by what ended them.");
    for reason in Reason::ALL {
        let count = sum(shards, |cells| &cells.releases[*reason as usize]);
        text.whole(name, &[("reason", reason.as_str())], count);
    }
    let name = "usherd_decision_duration_seconds";
    text.family(name, "histogram", "Time from the parsed message to the answer, without the network.");
    let nanos = sum(shards, |cells| &cells.decision_nanos);
    let counts: Vec<u64> = (0..=DECISION_NANOS.len()).map(|at| sum(shards, |cells| &cells.decision_time[at])).collect();
    text.histogram(name, &[], DECISION_NANOS.iter().map(|bound| seconds(*bound)), &counts, seconds(nanos));
}

fn pairs() -> impl Iterator<Item = (Code, Detail)> {
    Code::ALL.iter().flat_map(|code| Detail::ALL.iter().map(|detail| (*code, *detail)))
}

fn write_requests(shards: &[Arc<Cells>], text: &mut Text<'_>) {
    let name = "usherd_http_requests_total";
    text.family(name, "counter", "HTTP requests answered, by route, method and status.");
    for route in Route::ALL {
        for method in Method::ALL {
            for at in 0..=STATUSES.len() {
                let count = sum(shards, |cells| &cells.requests[request_index(*route, *method, at)]);
                let status = STATUSES.get(at).copied();
                if count > 0 || status.is_some_and(|status| is_usual(*route, *method, status)) {
                    let mut digits = itoa::Buffer::new();
                    let status = status.map_or("other", |status| digits.format(status));
                    let labels = [("route", route.as_str()), ("method", method.as_str()), ("status", status)];
                    text.whole(name, &labels, count);
                }
            }
        }
    }
    let name = "usherd_http_request_duration_seconds";
    text.family(name, "histogram", "Time from the read request to the written answer, by route.");
    for route in Route::ALL {
        let at = *route as usize;
        let nanos = sum(shards, |cells| &cells.request_nanos[at]);
        let counts: Vec<u64> =
            (0..=HTTP_NANOS.len()).map(|bucket| sum(shards, |cells| &cells.request_time[at][bucket])).collect();
        let bounds = HTTP_NANOS.iter().map(|bound| seconds(*bound));
        text.histogram(name, &[("route", route.as_str())], bounds, &counts, seconds(nanos));
    }
    let name = "usherd_http_requests_in_flight";
    text.family(name, "gauge", "HTTP requests that are being answered.");
    text.whole(name, &[], sum(shards, |cells| &cells.in_flight));
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds lose their last bits after 104 days of deciding")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(shards: &[Arc<Cells>]) -> String {
        let mut out = Vec::new();
        write(shards, &mut Text::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    fn shard() -> Shard {
        Shard { cells: Arc::new(Cells::new()) }
    }

    #[test]
    fn shards_are_summed() {
        let (one, two) = (shard(), shard());
        one.decision(Some(Kind::Call), Code::DenyFull, Detail::Tenant, 250);
        two.decision(Some(Kind::Call), Code::DenyFull, Detail::Tenant, 251);
        two.decision(None, Code::ReleasedLast, Detail::None, 200_000_000);
        two.releases(Reason::Ttl, 3);
        one.http(Route::Acquire, &http::Method::POST, 200, 8_000);
        one.http(Route::Acquire, &http::Method::PATCH, 418, 8_000);
        let flight = two.in_flight();
        let text = written(&[one.cells.clone(), two.cells.clone()]);
        for line in [
            "usherd_decisions_total{kind=\"call\",code=\"deny.full\",detail=\"tenant\"} 2",
            "usherd_decisions_total{kind=\"\",code=\"released.last\",detail=\"\"} 1",
            "usherd_decisions_total{kind=\"mobile\",code=\"allow.new\",detail=\"\"} 0",
            "usherd_releases_total{reason=\"ttl\"} 3",
            "usherd_decision_duration_seconds_bucket{le=\"0.00000025\"} 1",
            "usherd_decision_duration_seconds_bucket{le=\"0.0000005\"} 2",
            "usherd_decision_duration_seconds_bucket{le=\"0.1\"} 2",
            "usherd_decision_duration_seconds_bucket{le=\"+Inf\"} 3",
            "usherd_decision_duration_seconds_count 3",
            "usherd_http_requests_total{route=\"acquire\",method=\"POST\",status=\"200\"} 1",
            "usherd_http_requests_total{route=\"acquire\",method=\"other\",status=\"other\"} 1",
            "usherd_http_requests_in_flight 1",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        drop(flight);
        assert!(written(&[two.cells]).contains("in_flight 0\n"));
    }

    #[test]
    fn every_answer_has_a_cell_of_its_own() {
        let mut cells = std::collections::HashSet::new();
        for kind in Kind::ALL.iter().copied().map(Some).chain([None]) {
            for (code, detail) in pairs() {
                assert!(cells.insert(decision_index(kind, code, detail)));
            }
        }
        assert_eq!((cells.len(), cells.iter().max()), (DECISIONS, Some(&(DECISIONS - 1))));
    }
}
