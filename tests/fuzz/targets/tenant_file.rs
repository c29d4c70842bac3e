//! Any bytes as a tenant's file: good or refused with places; a good one keeps its promises at every instant, and
//! what is accepted of it can be written back.
#![no_main]

use std::path::Path;

use chrono::{DateTime, Utc};
use libfuzzer_sys::fuzz_target;
use usherd::daemon::config::{Memory, Tenant, load_from, rewrite};
use usherd_subscription::entitlement::{entitlement, seats_peak};
use usherd_subscription::invoice::statement;
use usherd_subscription::record::{Actor, Object, SEATS_MAX, When};
use usherd_subscription::request::{Request, Verb, request};
use usherd_subscription::schedule::schedule;

const MAIN: &str = "/etc/usherd/usherd.toml";
const FILE: &str = "/etc/usherd/tenants.d/acme.toml";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_348_800, 0).unwrap()
}

fn read(bytes: &[u8]) -> Option<Tenant> {
    let mut files = Memory::default();
    files.put(MAIN, "");
    files.put(FILE, bytes);
    match load_from(&files, Path::new(MAIN), now()) {
        // Whatever id the file gives it.
        Ok(config) => Some((**config.tenants.values().next()?).clone()),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            assert!(problems.iter().all(|problem| !problem.message.is_empty() && problem.line > 0));
            None
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(tenant) = read(bytes) else { return };
    let (record, terms) = (&tenant.record, &*tenant.terms);
    assert!(seats_peak(record).is_none_or(|peak| peak <= SEATS_MAX));
    let mut at = DateTime::from_timestamp(0, 0).unwrap();
    for _ in 0..5_000 {
        let Some(next) = entitlement(record, terms, at).next_change_at else { break };
        assert!(next > at);
        at = next;
    }
    let date = now().date_naive();
    let _ = statement(record, terms, date, date);
    let booked = schedule(record, terms, now());
    let mut asks = vec![
        (Object::Subscription, Verb::Add { seats: 3 }),
        (Object::Subscription, Verb::Reduce { to: 1 }),
        (Object::Subscription, Verb::Cancel { licences: None, when: Some(When::PeriodEnd) }),
        (Object::Subscription, Verb::Cancel { licences: None, when: Some(When::Immediate) }),
        (Object::Subscription, Verb::Upgrade { seats: 7 }),
        (Object::Subscription, Verb::Suspend),
        (Object::Subscription, Verb::Resume),
    ];
    asks.extend(record.addons.iter().take(2).map(|addon| (Object::Addon(addon.id.clone()), Verb::Add { seats: 1 })));
    asks.extend(booked.iter().take(3).map(|item| (item.object.clone(), Verb::Revoke { change: item.id.clone() })));
    for (object, verb) in asks {
        let ask = Request { actor: Actor::Operator, object, verb };
        let Ok(accepted) = request(record, terms, &ask, now()) else { continue };
        let text = std::str::from_utf8(bytes).unwrap();
        if let Ok(new) = rewrite(text, None, record, &accepted.record) {
            let again = read(new.as_bytes()).unwrap_or_else(|| panic!("{ask:?} made a bad file:\n{new}"));
            assert_eq!(again.record, accepted.record, "{ask:?}:\n{new}");
        }
    }
});
