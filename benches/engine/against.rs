//! The engine against the same decision on three DashMaps, and both against one map: pairs of acquire and release.

use usherd::daemon::journal::RecordBuilder;
use usherd_engine::{Changes, Code};

use crate::dashmaps::DashMaps;
use crate::measure::{Goal, alternate, cpu_of, median, ratio, row};
use crate::pair::{Bodies, CHOICE, Yardstick, from_json, pair};
use crate::world::{Decider, NOW, Names, Shape, Viewed};

/// The entries of a turn, in bytes, until the daemon would give it away and begin the next.
const TURN_BYTES: usize = 4_096;

/// How a pair is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Names,
    /// With the record of each change, as the journal encodes it.
    Record,
    /// Somebody goes and somebody else comes: whose cells are warm does not come back.
    NewPersons,
    NewPersonsRecord,
    Json,
}

const HOW: [(How, &str); 5] = [
    (How::Names, "by names"),
    (How::Record, "with records"),
    (How::NewPersons, "new persons"),
    (How::NewPersonsRecord, "new persons, records"),
    (How::Json, "from JSON"),
];

/// One who decides, and who is there.
struct Side<D> {
    decider: D,
    shape: Shape,
    /// How often the person of each session was replaced.
    generations: Vec<u32>,
    record: RecordBuilder,
}

impl<D: Decider> Side<D> {
    fn full(shape: &Shape) -> Self {
        let mut record = RecordBuilder::new();
        record.at(NOW.utc_ms);
        let generations = vec![0; shape.sessions as usize];
        Side { decider: D::full(shape), shape: *shape, generations, record }
    }

    fn names(&self, session: u32) -> Names {
        let mut names = Names::default();
        self.shape.name_of(session, self.generations[session as usize], &mut names);
        names
    }

    /// CPU nanoseconds of a pair for each of these sessions.
    fn take(&mut self, how: How, sessions: &[u32]) -> f64 {
        let (mut go, mut come) = (Vec::with_capacity(sessions.len()), Vec::with_capacity(sessions.len()));
        for session in sessions {
            go.push(self.names(*session));
            if matches!(how, How::NewPersons | How::NewPersonsRecord) {
                self.generations[*session as usize] += 1;
                come.push(self.names(*session));
            }
        }
        let Side { decider, record, .. } = self;
        match how {
            How::Names => cpu_of(|| pair(decider, &go)),
            How::Record => cpu_of(|| recorded(decider, &go, &go, record)),
            How::NewPersons => cpu_of(|| replaced(decider, &go, &come, &mut ())),
            How::NewPersonsRecord => cpu_of(|| recorded(decider, &go, &come, record)),
            How::Json => {
                let bodies: Vec<Bodies> = go.iter().map(Bodies::of).collect();
                cpu_of(|| from_json(decider, &bodies))
            }
        }
    }

    fn check_seats(&self) {
        let tenants = self.shape.tenants.min(100);
        let held: u32 = (0..tenants).map(|at| self.decider.seats(NOW, &format!("tenant-{at:05}")).0).sum();
        let each = self.shape.sessions / self.shape.tenants / self.shape.sessions_per_subject;
        assert_eq!(held, each * tenants, "seats leaked");
    }
}

fn replaced(decider: &impl Decider, go: &[Names], come: &[Names], changes: &mut impl Changes) {
    for (go, come) in go.iter().zip(come) {
        let released = decider.release(NOW, &go.release(), changes).code;
        let taken = decider.acquire(NOW, &come.acquire(), changes).code;
        assert!((released, taken) == (Code::ReleasedLast, Code::AllowNew));
    }
}

fn recorded(decider: &impl Decider, go: &[Names], come: &[Names], record: &mut RecordBuilder) {
    for (go, come) in go.chunks(16).zip(come.chunks(16)) {
        replaced(decider, go, come, record);
        if record.payload_bytes() >= TURN_BYTES {
            record.clear(1 << 20);
        }
    }
}

/// A million live sessions of 10,000 tenants.
pub(crate) fn million() {
    compare(&Shape::MILLION, "1 M", 100, [2.2, 3.8], 1.8);
}

/// Everything within the caches of the core.
pub(crate) fn resident() {
    compare(&Shape::RESIDENT, "5,000", 200, [2.2, f64::NAN], 2.3);
}

/// Pairs of both by turns; `of_map` are the goals by names and from JSON against the map, `of_maps` against three.
fn compare(shape: &Shape, size: &str, choices: usize, of_map: [f64; 2], of_maps: f64) {
    let yardstick = Yardstick::new(shape);
    let (mut maps, mut engine) = (Side::<DashMaps>::full(shape), Side::<Viewed>::full(shape));
    let mut random = fastrand::Rng::with_seed(20_261_130);
    let values: [Vec<f64>; 11] = alternate(9, |which| {
        let mut ns = 0.0;
        for _ in 0..choices {
            let sessions: Vec<u32> = (0..CHOICE).map(|_| random.u32(0..shape.sessions)).collect();
            ns += match which {
                0 => {
                    let names = |session: &u32| {
                        let mut names = Names::default();
                        shape.name(*session, &mut names);
                        names
                    };
                    let names: Vec<Names> = sessions.iter().map(names).collect();
                    cpu_of(|| yardstick.by_names(&names))
                }
                which if which % 2 == 1 => maps.take(HOW[which / 2].0, &sessions),
                which => engine.take(HOW[which / 2 - 1].0, &sessions),
            };
        }
        ns / (choices * CHOICE) as f64
    });
    maps.check_seats();
    engine.check_seats();
    let map = &values[0];
    println!("yardstick, {size}: DashMap remove+insert by session id {:.0} ns", median(map));
    for (at, (how, name)) in HOW.into_iter().enumerate() {
        let (theirs, ours) = (&values[at * 2 + 1], &values[at * 2 + 2]);
        let goal = match how {
            How::Names => Goal::AtMost(of_map[0]),
            How::Json if !of_map[1].is_nan() => Goal::AtMost(of_map[1]),
            _ => Goal::None,
        };
        let faster = if how == How::Names { Goal::AtLeast(of_maps) } else { Goal::None };
        let ns = |values: &[f64]| format!("{:.0} ns", median(values));
        row(&format!("{name}, {size}: three DashMaps / one map"), ratio(theirs, map), "x", Goal::None, &ns(theirs));
        row(&format!("{name}, {size}: engine / one map"), ratio(ours, map), "x", goal, &ns(ours));
        row(&format!("{name}, {size}: faster than three DashMaps"), ratio(theirs, ours), "x", faster, "");
    }
}
