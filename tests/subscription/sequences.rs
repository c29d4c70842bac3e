//! Whatever is asked in whatever order: the record stays valid, time alone changes it where it says so, and
//! the history of a record gives the record.

use chrono::{DateTime, Duration, Utc};
use proptest::prelude::*;
use usherd_subscription::entitlement::{Entitlement, entitlement, seats_peak};
use usherd_subscription::policy::{BillingPeriod, CancelAfterTerm, Downgrade, PendingConflict, Terms};
use usherd_subscription::record::{
    Actor, Addon, Change, ContractKind, Object, Record, SEATS_MAX, SubmittedStatus, When,
};
use usherd_subscription::request::{Request, Verb, request};
use usherd_subscription::schedule::schedule;

use crate::script::t;

fn terms() -> impl Strategy<Value = Terms> {
    let words = (0..3usize, 0..3usize, 0..3usize, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    words.prop_map(|(downgrade, conflict, after, immediate, revoke, execute, year)| Terms {
        downgrade: [Downgrade::Scheduled, Downgrade::AfterTermRecreate, Downgrade::RecreateNow][downgrade],
        pending_conflict: [PendingConflict::Keep, PendingConflict::Replace, PendingConflict::Reject][conflict],
        cancel_after_term: [CancelAfterTerm::MonthEnd, CancelAfterTerm::TermEnd, CancelAfterTerm::PeriodEnd][after],
        cancel_immediate: immediate,
        revoke_full_by_customer: revoke,
        execute_subscription: execute,
        execute_addon: !execute,
        billing: if year { BillingPeriod::Year } else { BillingPeriod::Month },
        ..Terms::default()
    })
}

/// A request: revocations name a place in the schedule of the moment.
#[derive(Clone, Debug)]
enum Step {
    Ask(Verb),
    Book(u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let when = prop_oneof![
        Just(None),
        Just(Some(When::Immediate)),
        Just(Some(When::PeriodEnd)),
        (0i64..900).prop_map(|days| Some(When::Date((t("2026-01-01T00:00:00Z") + Duration::days(days)).date_naive()))),
    ];
    prop_oneof![
        3 => (0u32..2_000).prop_map(|seats| Step::Ask(Verb::Add { seats })),
        3 => (0u32..40).prop_map(|to| Step::Ask(Verb::Reduce { to })),
        1 => (prop::option::of(0u32..20), when).prop_map(|(licences, when)| Step::Ask(Verb::Cancel { licences, when })),
        1 => (0u32..30).prop_map(|seats| Step::Ask(Verb::Upgrade { seats })),
        1 => prop_oneof![Just(Verb::Suspend), Just(Verb::Resume)].prop_map(Step::Ask),
        3 => (0u8..4, 0usize..6).prop_map(|(kind, at)| Step::Book(kind, at)),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (any::<bool>(), 0i64..700, 0u32..30, prop::option::weighted(0.9, 0u32..50), 0usize..3).prop_map(
        |(trial, days, term_months, seats, addons)| Record {
            kind: if trial { ContractKind::Trial } else { ContractKind::Paid },
            start: Some((t("2025-01-01T10:00:00Z") + Duration::days(days)).naive_utc()),
            term_months,
            addons: (0..addons).map(|n| Addon::new(&format!("a{n}"), 5)).collect(),
            ..Record::paid(seats)
        },
    )
}

type Script = Vec<(Step, bool, u8, i64)>;
type History = Vec<(DateTime<Utc>, Request)>;

fn script() -> impl Strategy<Value = Script> {
    prop::collection::vec((step(), any::<bool>(), 0u8..4, 0i64..60 * 24 * 40), 1..30)
}

/// Plays a script; returns every accepted request with its instant, and the record at the end.
fn play(record: &Record, terms: &Terms, script: &Script) -> (History, Record, DateTime<Utc>) {
    let (mut record, mut now) = (record.clone(), t("2026-06-01T00:00:00Z"));
    let mut history = Vec::new();
    for (step, operator, object, minutes) in script {
        now += Duration::minutes(*minutes);
        let object = match object {
            0 | 1 => Object::Subscription,
            n => Object::Addon(format!("a{}", n - 2)),
        };
        let verb = match step {
            Step::Ask(verb) => verb.clone(),
            Step::Book(kind, at) => {
                let booked = schedule(&record, terms, now);
                let Some(item) = booked.get(at % booked.len().max(1)) else { continue };
                let change = item.id.clone();
                match kind {
                    0 => Verb::Accept { change },
                    1 => Verb::Reject { change },
                    2 => Verb::Withdraw { change },
                    _ => Verb::Revoke { change },
                }
            }
        };
        let actor = if *operator { Actor::Operator } else { Actor::Customer };
        let ask = Request { actor, object, verb };
        if let Ok(accepted) = request(&record, terms, &ask, now) {
            record = accepted.record;
            history.push((now, ask));
            check_valid(&record);
        }
    }
    (history, record, now)
}

fn check_valid(record: &Record) {
    let ascending = |changes: &[Change]| changes.is_sorted_by(|a, b| a.effective_at < b.effective_at);
    assert!(ascending(&record.changes), "{record:?}");
    assert!(record.addons.iter().all(|addon| ascending(&addon.changes)), "{record:?}");
    assert!(seats_peak(record).is_none_or(|peak| peak <= SEATS_MAX), "{record:?}");
    let mut ids: Vec<&str> = record.requests.iter().map(|request| request.id.as_str()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{record:?}");
    let open = record.requests.iter().filter(|request| request.status == SubmittedStatus::Submitted);
    let mut objects: Vec<_> = open.map(|request| &request.object).collect();
    objects.sort();
    assert!(objects.windows(2).all(|pair| pair[0] != pair[1]), "two undecided requests for one object: {record:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_accepted_requests_keeps_the_record_valid(record in record(), terms in terms(), script in script()) {
        let (history, end, now) = play(&record, &terms, &script);
        let mut again = record;
        for (at, ask) in history {
            again = request(&again, &terms, &ask, at).map_err(|refusal| TestCaseError::fail(refusal.message))?.record;
        }
        prop_assert_eq!(&again, &end, "replaying the history gives the record");
        // Everything booked has an id of its own.
        let mut ids: Vec<String> = schedule(&end, &terms, now).into_iter().map(|item| item.id).collect();
        let before = ids.len();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), before);
    }

    #[test]
    fn an_entitlement_is_constant_between_the_instants_it_names_v11(
        record in record(), terms in terms(), script in script(), probes in prop::collection::vec(0i64..1_000_000, 20),
    ) {
        let (_, record, _) = play(&record, &terms, &script);
        let mut now = t("2025-01-01T00:00:00Z");
        for _ in 0..200 {
            let named = entitlement(&record, &terms, now);
            let Some(next) = named.next_change_at else { break };
            prop_assert!(next > now);
            for probe in &probes {
                let at = now + (next - now) * (*probe as i32) / 1_000_000;
                let got = entitlement(&record, &terms, at.min(next - Duration::nanoseconds(1)));
                prop_assert_eq!(got, Entitlement { next_change_at: Some(next), ..named });
            }
            let after = entitlement(&record, &terms, next);
            prop_assert_ne!((after.state, after.seats), (named.state, named.seats));
            now = next;
        }
    }
}
