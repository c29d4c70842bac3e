//! Time in the engine: renewals, heartbeats, deadlines.

use std::hint::black_box;

use usherd_engine::{Code, Engine, Kind, Now};

use crate::measure::{Goal, alternate, cpu_of, median, ratio, row};
use crate::world::{NOW, Names, Shape, chosen, full, with_tenants};

/// A renewal is an acquire of a known session. What it costs beyond finding the session is measured against
/// an acquire of the same session by another subject, which finds it and is refused.
pub(crate) fn renewal() {
    for (what, shape) in [("5,000", Shape::RESIDENT), ("1 M", Shape::MILLION)] {
        let engine = full(&shape);
        let mut random = fastrand::Rng::with_seed(3);
        let mut at = NOW;
        let [lookup, renewal] = alternate(9, |which| {
            let mut ns = 0.0;
            for _ in 0..100 {
                let (_, names) = chosen(&shape, &mut random, 1_000);
                at.uptime_ms += 1;
                ns += cpu_of(|| one_each(&engine, at, &names, which == 1));
            }
            ns / 100_000.0
        });
        let beyond: Vec<f64> = renewal.iter().zip(&lookup).map(|(renewal, lookup)| renewal - lookup).collect();
        let beside = format!("whole renewal {:.0} ns, refused look-up {:.0} ns", median(&renewal), median(&lookup));
        row(&format!("renewal beyond the look-up, {what}"), median(&beyond), " ns", Goal::AtMost(15.0), &beside);
    }
}

fn one_each(engine: &Engine, now: Now, names: &[Names], mine: bool) {
    let wanted = if mine { Code::AllowSame } else { Code::DenyConflict };
    for names in names {
        let mut message = names.acquire();
        message.subject = Some(if mine { &names.subject } else { "user-none@00000" });
        let code = engine.acquire(now, &message, &mut ()).map(|decision| decision.code);
        assert!(code == Ok(wanted));
    }
}

/// A heartbeat touches the node alone, however many sessions it has.
pub(crate) fn heartbeat() {
    let shape = Shape { sessions: 10_010, tenants: 1, ..Shape::RESIDENT };
    let engine = with_tenants(&shape);
    let mut names = Names::default();
    for (node, sessions) in [("few", 0..10), ("many", 10..10_010)] {
        let said = engine.hello(NOW, node, 1, &mut ());
        assert!(said.is_ok());
        for session in sessions {
            shape.name(session, &mut names);
            let mut message = names.acquire();
            (message.node, message.epoch, message.kind, message.ttl_s) = (Some(node), Some(1), Kind::Desktop, None);
            message.direction = None;
            assert!(engine.acquire(NOW, &message, &mut ()).is_ok_and(|decision| decision.code.allows()));
        }
    }
    let mut now = NOW;
    let [few, many] = alternate(9, |which| {
        let node = if which == 0 { "few" } else { "many" };
        cpu_of(|| {
            for _ in 0..100_000 {
                now.uptime_ms += 1;
                let _ = black_box(engine.heartbeat(now, node, 1, &mut ()));
            }
        }) / 100_000.0
    });
    let beside = format!("{:.0} ns with 10 sessions, {:.0} ns with 10,000", median(&few), median(&many));
    row("heartbeat of a node with 10,000 sessions / 10", ratio(&many, &few), "x", Goal::AtMost(1.2), &beside);
}

/// Measures the reaper while a million deadlines stand.
pub(crate) fn expire() {
    let shape = Shape::MILLION;
    let engine = full(&shape);
    let mut now = NOW;
    let idle = median(
        &(0..9).map(|_| cpu_of(|| (0..1_000).for_each(|_| engine.expire(now, &mut ()))) / 1_000.0).collect::<Vec<_>>(),
    );
    row("expire, nothing due, 1 M deadlines", idle, " ns", Goal::None, "");
    // One session ends; the tenants' bounds say where to look.
    let mut one = Vec::new();
    for session in 0..9 {
        let mut names = Names::default();
        shape.name(session, &mut names);
        let mut message = names.acquire();
        message.ttl_s = Some(1);
        assert!(engine.acquire(now, &message, &mut ()).is_ok());
        now.uptime_ms += 1_000;
        one.push(cpu_of(|| engine.expire(now, &mut ())) / 1_000.0);
        assert!(engine.session(&names.tenant, &names.session).is_none());
    }
    row("expire, one of 1 M is due", median(&one), " us", Goal::None, "");
    // All were renewed: the bounds are old, every deadline is looked at, none is due.
    let mut names = Names::default();
    for session in 9..shape.sessions {
        shape.name(session, &mut names);
        let mut later = now;
        later.uptime_ms += 60_000;
        assert!(engine.acquire(later, &names.acquire(), &mut ()).is_ok());
    }
    now.uptime_ms = NOW.uptime_ms + 3_600_000;
    let all = cpu_of(|| engine.expire(now, &mut ())) / 1e6;
    row("expire, 1 M deadlines moved, none due", all, " ms", Goal::None, "looks at each once");
    now.uptime_ms += 70_000;
    let ended = cpu_of(|| engine.expire(now, &mut ())) / 1e6;
    let left = engine.tenant(now, "tenant-00042").map(|tenant| tenant.held);
    assert_eq!(left, Some(0));
    row("expire, all 1 M end at once", ended, " ms", Goal::None, "");
}
