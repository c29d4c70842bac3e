//! How long a lock of the table is held by whoever walks through it, and by whoever changes its size.

use usherd_engine::{Acquire, HOLD_MAX_NS, Now, SessionFilter, Work};

use crate::measure::{Goal, row, thread_cpu_ns};
use crate::world::{Decider, Ids, NOW, Names, Shape, Viewed};

const SHAPE: Shape = Shape { sessions: 200_000, tenants: 1, sessions_per_subject: 1, ids: Ids::Short };
const TENANT: &str = "tenant-00000";

/// One tenant with 200,000 sessions comes, is read, loses its node, is taken up by an inventory and expires.
pub(crate) fn holds() {
    let engine = Viewed::with_tenants(&SHAPE);
    engine.measure_holds(thread_cpu_ns);
    assert!(engine.hello(NOW, "pbx1", 1, &mut ()).is_ok());
    let all: Vec<Names> = (0..SHAPE.sessions)
        .map(|session| {
            let mut names = Names::default();
            SHAPE.name(session, &mut names);
            names
        })
        .collect();
    let asked = |names| Acquire { node: Some("pbx1"), epoch: Some(1), seq: Some(1), ..Names::acquire(names) };
    for names in &all {
        Decider::acquire(&engine, NOW, &Acquire { ttl_s: None, ..asked(names) }, &mut ());
    }
    for _ in 0..5 {
        let page = engine.sessions(TENANT, &SessionFilter::default(), "", 1_000).unwrap_or_default();
        assert_eq!(page.len(), 1_000);
        engine.snapshot(NOW, &mut ());
        assert!(engine.explain(NOW, &all[0].acquire()).held > 0);
    }
    let lost = Now { uptime_ms: NOW.uptime_ms + 20_000, ..NOW };
    engine.expire(lost, &mut ());
    let listed: Vec<Acquire<'_>> = all[..all.len() / 2].iter().map(asked).collect();
    let taken = engine.inventory(lost, "pbx1", 1, 2, &listed, &mut ());
    assert!(taken.is_ok_and(|taken| taken.removed == SHAPE.sessions / 2), "{taken:?}");
    engine.expire(Now { uptime_ms: lost.uptime_ms + 3_600_000, ..NOW }, &mut ());
    assert_eq!(engine.tenant(lost, TENANT).map(|view| view.sessions), Some(0));
    for work in Work::ALL {
        let times = engine.hold_times(*work);
        let beside = format!(
            "longest of {}; {} above 20 us, mean {:.1} us",
            times.count,
            times.long,
            times.sum_ns as f64 / times.count as f64 / 1e3
        );
        row(
            &format!("hold of a lock, {work}"),
            times.longest_ns as f64 / 1e3,
            " us",
            Goal::AtMost(HOLD_MAX_NS as f64 / 1e3),
            &beside,
        );
    }
}
