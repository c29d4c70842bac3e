//! A whole tenant leaves the table, because somebody else decides it from now on.

use super::Engine;
use super::cell::Cell;
use super::ending::{End, end_session};
use super::holds::Work;
use super::key::Key;
use super::part::Part;
use super::session::{Name, Now, Reason};

impl Engine {
    /// Takes out everything that lives in a tenant's table, and tells nobody: it goes on elsewhere. Its quota and policy
    /// stay, and so do its counters. Answers how many sessions it were.
    ///
    /// The caller sees to it that nobody decides for the tenant meanwhile.
    pub fn evict(&self, now: Now, tenant: &str) -> u32 {
        let world = self.world.load();
        let Some(slot) = world.tenants.get(tenant) else { return 0 };
        let (tenant, directory) = (&slot.tenant, self.nodes.directory());
        let mut count = 0;
        let look = |part: &mut Part, sessions: &mut Vec<Key>| {
            sessions.extend(part.sessions().map(|session: &Cell| session.session.clone()));
        };
        tenant.sweep_sessions(Work::Sweep, look, |hold, id, at| {
            let end = End {
                now_ms: now.uptime_ms,
                reason: Reason::Admin,
                tombstone: None,
                tombstone_until: now.uptime_ms,
                linger_until: None,
            };
            end_session(tenant, &directory, hold, id, at, &end, &mut ());
            count += 1;
        });
        tenant.each_part(Work::Sweep, |part| {
            tenant.end_lingering(part, u64::MAX);
        });
        tenant.sweep_tombstones(Work::Sweep, |_| false);
        count
    }

    /// The tenant in whose table a message of this one is decided: itself where it is known, else the one that lends its
    /// seats (D4), if any does.
    pub fn home(&self, tenant: &str) -> Option<Name> {
        let world = self.world.load();
        if world.tenants.contains_key(tenant) { Some(tenant.into()) } else { world.default_tenant.clone() }
    }

    /// Every tenant that has a table.
    pub fn tenant_ids(&self) -> Vec<Name> {
        self.world.load().tenants.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::plan::{Entitled, Plan, TenantPlan};
    use super::super::session::{Acquire, Code, Direction, GoneRecord, Kind, Leg, SessionRecord, Stamp, Standing};
    use super::super::{Limits, RestoredTombstone};
    use super::*;
    use crate::Changes;

    const NOW: Now = Now { uptime_ms: 1_000_000, utc_ms: 1_700_000_000_000 };

    fn engine() -> Engine {
        let engine = Engine::new(Limits::default());
        let tenant = |id: &str| TenantPlan {
            id: id.into(),
            entitled: Entitled { standing: Standing::Active, seats: Some(2) },
            policy: Arc::default(),
            reserve: Vec::new(),
            pool: None,
        };
        engine.install(NOW, Plan { tenants: vec![tenant("acme"), tenant("beta")], ..Plan::default() }, &mut ());
        engine
    }

    fn call(engine: &Engine, epoch: u64, tenant: &str, session: &str, changes: &mut impl Changes) -> Code {
        let message = Acquire {
            direction: Some(Direction::Outbound),
            node: Some("pbx"),
            epoch: Some(epoch),
            seq: Some(1),
            ttl_s: Some(600),
            ..Acquire::new(tenant, session, session, Kind::Call)
        };
        engine.acquire(NOW, &message, changes).unwrap().code
    }

    /// Every session that was recorded, as a journal would give it back.
    #[derive(Default)]
    struct Kept(Vec<(String, String, u64)>);

    impl Changes for Kept {
        fn put(&mut self, session: &SessionRecord<'_>, _fresh: bool) {
            self.0.push((session.tenant.to_owned(), session.session.to_owned(), session.version));
        }
        fn gone(&mut self, _: &GoneRecord<'_>) {}
        fn node(&mut self, _: &str, _: u64) {}
    }

    #[test]
    fn a_tenant_leaves_without_a_trace_and_comes_back_whole() {
        let (from, to) = (engine(), engine());
        let mut kept = Kept::default();
        assert_eq!(call(&from, 5, "acme", "anna", &mut kept), Code::AllowNew);
        assert_eq!(call(&from, 5, "acme", "bert", &mut kept), Code::AllowNew);
        assert_eq!(call(&from, 5, "beta", "carl", &mut kept), Code::AllowNew);
        assert_eq!(from.evict(NOW, "acme"), 2);
        assert_eq!(from.evict(NOW, "nobody"), 0);
        assert_eq!(from.session_total(), 1, "the other tenant is untouched");
        assert_eq!(call(&from, 5, "acme", "dora", &mut ()), Code::AllowNew, "and nothing of it is left");
        let records: Vec<SessionRecord<'_>> = kept
            .0
            .iter()
            .take(2)
            .map(|(tenant, session, version)| SessionRecord {
                tenant,
                session,
                subject: session,
                kind: Kind::Call,
                direction: Some(Direction::Outbound),
                leg: Leg::Originate,
                device: None,
                class: None,
                counts: true,
                external: true,
                group: "",
                node: "pbx",
                epoch: Some(5),
                seq: Some(1),
                ttl_s: None,
                first: Code::AllowNew,
                started_utc_ms: NOW.utc_ms,
                version: *version,
            })
            .collect();
        let tombstones = [RestoredTombstone {
            tenant: "acme".into(),
            session: "emil".into(),
            node: "pbx".into(),
            stamp: Stamp { epoch: 5, seq: 9 },
            version: 7,
            left_ms: 60_000,
        }];
        to.hello(NOW, "pbx", 6, &mut ()).unwrap();
        assert_eq!(to.restore(NOW, records.into_iter(), &tombstones, &[("pbx".into(), 5)], 40), 0);
        to.heartbeat(NOW, "pbx", 6, &mut ()).unwrap();
        assert_eq!(call(&to, 6, "acme", "dora", &mut ()), Code::DenyFull, "its seats are held here now");
        let mut later = Kept::default();
        assert_eq!(call(&to, 6, "beta", "carl", &mut later), Code::AllowNew);
        assert!(later.0[0].2 > 40, "what is recorded here is newer than all that was recorded there");
    }
}
