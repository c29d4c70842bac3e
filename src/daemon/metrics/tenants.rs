//! Which tenants a scrape shows, and their series, written straight from the rows.

use std::collections::HashSet;

use usherd_engine::Name;

use super::rows::{Keep, Row};
use super::text::{Text, escape};

/// Beyond so many tenants, `all` is told in shards only.
pub const TENANTS_UNSHARDED_MAX: usize = 1_000;
/// Most shards that a scrape may be cut into.
pub const SHARDS_MAX: u32 = 1_024;

/// Which tenants get series of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantMode {
    /// The largest, and those that are noticeable.
    Top,
    /// Every one.
    All,
    /// Those that are named.
    Watch,
    /// None.
    None,
}

/// `[metrics]` as far as it is about tenants.
#[derive(Clone, Debug)]
pub struct TenantExport {
    /// `metrics.tenants`.
    pub mode: TenantMode,
    /// How many of the largest, by seats held.
    pub top: usize,
    /// How many more that are full, over, or denied somebody within the hour.
    pub noticed_max: usize,
    /// How long a tenant keeps its place once it was among the largest, or full, or over, milliseconds.
    pub sticky_ms: u64,
    /// How long a denial keeps its tenant noticeable, milliseconds.
    pub denied_ms: u64,
    /// The names for [`TenantMode::Watch`].
    pub watch: HashSet<Name>,
}

impl Default for TenantExport {
    fn default() -> Self {
        TenantExport {
            mode: TenantMode::Top,
            top: 50,
            noticed_max: 200,
            sticky_ms: 1_800_000,
            denied_ms: 3_600_000,
            watch: HashSet::new(),
        }
    }
}

impl TenantExport {
    pub(super) fn keep(&self) -> Keep {
        Keep { sticky_ms: self.sticky_ms, denied_ms: self.denied_ms }
    }
}

/// One part of a scrape: `3/16` is the third of sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScrapeShard {
    number: u32,
    of: u32,
}

impl ScrapeShard {
    /// Reads `?shard=`; `None` where it is not `i/n` with 1 <= i <= n <= [`SHARDS_MAX`].
    pub fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        if !number.bytes().chain(of.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let shard = ScrapeShard { number: number.parse().ok()?, of: of.parse().ok()? };
        ((1..=shard.of).contains(&shard.number) && shard.of <= SHARDS_MAX).then_some(shard)
    }

    /// True if it is the one that also tells of the fleet.
    pub fn is_first(self) -> bool {
        self.number == 1
    }

    fn holds(self, row: &Row) -> bool {
        row.key % self.of == self.number - 1
    }
}

/// The tenants and families that a scrape shows.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Positions of rows.
    pub(super) rows: Vec<u32>,
    pub(super) omitted: usize,
    /// `all` was asked for, but there are too many for one scrape.
    pub(super) fell_back: bool,
}

/// Chooses rows, and renews the places of those that are among the largest.
pub(super) fn choose(export: &TenantExport, list: &mut [Row], now_ms: u64, shard: Option<ScrapeShard>) -> Choice {
    let here = list.iter().filter(|row| row.is_here).count();
    let fell_back = export.mode == TenantMode::All && shard.is_none() && here > TENANTS_UNSHARDED_MAX;
    let mode = if fell_back { TenantMode::Top } else { export.mode };
    let mut rows = match mode {
        TenantMode::All => positions(list, |_| true),
        TenantMode::Watch => positions(list, |row| export.watch.contains(&row.id)),
        TenantMode::None => Vec::new(),
        TenantMode::Top => top(export, list, now_ms),
    };
    let mut of = here;
    if let Some(shard) = shard {
        rows.retain(|at| list.get(*at as usize).is_some_and(|row| shard.holds(row)));
        of = list.iter().filter(|row| row.is_here && shard.holds(row)).count();
    }
    Choice { omitted: of - rows.len(), rows, fell_back }
}

/// Positions of rows of tenants that are decided here.
fn positions(list: &[Row], wanted: impl Fn(&Row) -> bool) -> Vec<u32> {
    (0u32..).zip(list).filter(|(_, row)| row.is_here && wanted(row)).map(|(at, _)| at).collect()
}

/// The largest; as many again that were so lately; and the noticeable ones.
fn top(export: &TenantExport, list: &mut [Row], now_ms: u64) -> Vec<u32> {
    let mut rows = positions(list, |_| true);
    first(&mut rows, export.top, |a, b| {
        let (a, b) = (&list[a as usize], &list[b as usize]);
        b.held.cmp(&a.held).then_with(|| a.id.cmp(&b.id))
    });
    for at in &rows {
        list[*at as usize].large_until = now_ms.saturating_add(export.sticky_ms);
    }
    let mut sticky = positions(list, |row| row.large_until > now_ms);
    first(&mut sticky, export.top.saturating_mul(2), |a, b| {
        let (a, b) = (&list[a as usize], &list[b as usize]);
        b.large_until.cmp(&a.large_until).then_with(|| b.held.cmp(&a.held)).then_with(|| a.id.cmp(&b.id))
    });
    let mut noticed = positions(list, |row| row.noticed_until > now_ms);
    first(&mut noticed, export.noticed_max, |a, b| {
        let (a, b) = (&list[a as usize], &list[b as usize]);
        let rank = |row: &Row| (row.over() > 0, row.noticed_until, row.held);
        rank(b).cmp(&rank(a)).then_with(|| a.id.cmp(&b.id))
    });
    sticky.extend(noticed);
    sticky.sort_unstable();
    sticky.dedup();
    sticky
}

/// Keeps the first so many in an order.
fn first(rows: &mut Vec<u32>, count: usize, mut order: impl FnMut(u32, u32) -> std::cmp::Ordering) {
    if rows.len() > count {
        if count > 0 {
            rows.select_nth_unstable_by(count - 1, |a, b| order(*a, *b));
        }
        rows.truncate(count);
    }
}

/// Writes every family of the chosen tenants, one family after the other.
pub(super) fn write(list: &[Row], choice: &Choice, out: &mut Vec<u8>) {
    let whole = |value: u32| Value::Whole(u64::from(value));
    let seats = |seats: Option<u32>| seats.map_or(Value::Unlimited, whole);
    let rows: Vec<(&Row, Padded)> = choice
        .rows
        .iter()
        .filter_map(|at| list.get(*at as usize))
        .map(|row| (row, if row.plain { Padded::new(row.id.as_bytes()) } else { Padded::default() }))
        .collect();
    let mut to = Series { rows: &rows, out };
    to.gauge("usherd_tenant_seats_in_use", "Seats that the tenant's people hold.", |row| whole(row.held));
    let help = "Most seats held at once in the present and the previous window of 5 minutes.";
    to.gauge("usherd_tenant_seats_in_use_peak", help, |row| whole(row.peak));
    let help = "Seats that the tenant may hold; +Inf is unlimited.";
    to.gauge("usherd_tenant_seats_quota", help, |row| seats(row.quota));
    let help = "Seats held, summed over time; its rate is the exact mean occupancy.";
    to.counter("usherd_tenant_seat_seconds_total", help, |row| Value::Milli(row.seat_ms.total()));
    let help = "Time with no free seat.";
    to.counter("usherd_tenant_saturated_seconds_total", help, |row| Value::Milli(row.saturated_ms.total()));
    let help = "Denials for want of a seat or of an active subscription.";
    to.counter("usherd_tenant_denials_total", help, |row| Value::Whole(row.denials.total()));
    to.gauge("usherd_tenant_channels_in_use", "Trunk lines in use, both directions.", |row| whole(row.channels));
    let help = "The quota after the next booked change; +Inf is unlimited.";
    to.gauge("usherd_tenant_scheduled_seats_quota", help, |row| row.scheduled.map_or(Value::Absent, seats));
}

/// A sample's value.
enum Value {
    Whole(u64),
    /// Thousandths.
    Milli(u64),
    Unlimited,
    Absent,
}

/// Longest line end: quote, brace, blank, 20 digits, point and three more, line feed.
const TAIL_MAX: usize = 28;
/// Bytes of a line's parts that are copied at once, whatever their length: that costs less than to look at it.
const PART: usize = 64;

/// A part of a line with room behind it; empty for one that is longer than a part may be.
struct Padded {
    bytes: [u8; PART],
    len: usize,
}

impl Default for Padded {
    fn default() -> Self {
        Padded { bytes: [0; PART], len: 0 }
    }
}

impl Padded {
    fn new(text: &[u8]) -> Self {
        let mut padded = Padded::default();
        if let Some(place) = padded.bytes.get_mut(..text.len()) {
            place.copy_from_slice(text);
            padded.len = text.len();
        }
        padded
    }

    fn write(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

/// Where the families of tenants go.
struct Series<'a> {
    rows: &'a [(&'a Row, Padded)],
    out: &'a mut Vec<u8>,
}

impl Series<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl Fn(&Row) -> Value) {
        Text::new(self.out).family(name, "gauge", help);
        self.series(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Fn(&Row) -> Value) {
        Text::new(self.out).family(name, "counter", help);
        self.series(name, value);
    }

    fn series(&mut self, name: &str, value: impl Fn(&Row) -> Value) {
        let head = Padded::new(&[name.as_bytes(), b"{tenant=\""].concat());
        debug_assert!(head.len > 0, "the names of families are short");
        let mut digits = itoa::Buffer::new();
        for (row, id) in self.rows {
            let mut tail = Tail::default();
            match value(row) {
                Value::Whole(value) => tail.push(digits.format(value).as_bytes()),
                Value::Milli(value) => {
                    tail.push(digits.format(value / 1_000).as_bytes());
                    let rest = value % 1_000;
                    let digit = |by: u64| b'0' + (rest / by % 10) as u8;
                    tail.push(&[b'.', digit(100), digit(10), digit(1)]);
                }
                Value::Unlimited => tail.push(b"+Inf"),
                Value::Absent => continue,
            }
            self.out.reserve(3 * PART);
            head.write(self.out);
            if id.len > 0 {
                id.write(self.out);
            } else {
                escape(&row.id, self.out);
            }
            tail.write(self.out);
        }
    }
}

/// The text after a label value, put together before it is copied once.
struct Tail {
    bytes: [u8; TAIL_MAX],
    len: usize,
}

impl Default for Tail {
    fn default() -> Self {
        let mut bytes = [b'\n'; TAIL_MAX];
        bytes[..3].copy_from_slice(b"\"} ");
        Tail { bytes, len: 3 }
    }
}

impl Tail {
    fn push(&mut self, more: &[u8]) {
        let end = self.len + more.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(more);
            self.len = end;
        }
    }

    /// With one line feed of those that it was filled with.
    fn write(&self, out: &mut Vec<u8>) {
        let end = out.len() + (self.len + 1).min(TAIL_MAX);
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}
