//! The scenarios of rule book 9.2 and 9.4 that requests decide, and the refusals that none of them shows.

use chrono::Duration;
use usherd_subscription::policy::{CancelAfterTerm, Downgrade, PendingConflict, Terms};
use usherd_subscription::record::{Actor, Addon, Change, ContractKind, Record};
use usherd_subscription::schedule::{schedule, subscription_state};

use crate::script::{Play, t};

const E: &str = "2027-06-15T22:00:00Z";

/// 16 seats since 2026-06-16: E = 2027-06-16 (T096).
fn sixteen() -> Record {
    Record { start: "2026-06-16T00:00:00".parse().ok(), ..Record::paid(Some(16)) }
}

fn trial() -> Record {
    Record { kind: ContractKind::Trial, start: "2026-06-01T10:00:00".parse().ok(), ..Record::paid(Some(10)) }
}

/// S: 10 seats, A: 5 seats (rule book 9.4).
fn storefront() -> Record {
    let addons = vec![Addon::new("a", 5)];
    Record { start: "2026-06-01T00:00:00".parse().ok(), addons, ..Record::paid(Some(10)) }
}

fn storefront_terms() -> Terms {
    Terms {
        pending_conflict: PendingConflict::Reject,
        cancel_immediate: true,
        cancel_after_term: CancelAfterTerm::PeriodEnd,
        ..Terms::default()
    }
}

fn with(change: impl FnOnce(&mut Terms)) -> Terms {
    let mut terms = Terms::default();
    change(&mut terms);
    terms
}

#[track_caller]
fn check(id: &str, record: Record, terms: Terms, script: &str) -> Record {
    let mut play = Play { record, terms, now: t("2026-11-22T12:00:00Z") };
    play.run(id, script);
    play.record
}

#[track_caller]
fn check_storefront(id: &str, record: Record, script: &str) {
    let mut play = Play { record, terms: storefront_terms(), now: t("2026-06-15T12:00:00Z") };
    play.run(id, script);
}

#[test]
fn a_reduction_by_each_regime_t096_t097_t098() {
    check("T096", sixteen(), Terms::default(), "
        reduce 10 -> 2027-06-15T22:00:00Z
        is pending_change 16 base pending_quantity_change
        at 2027-06-15T21:59:59Z
        is pending_change 16
        at 2027-06-15T22:00:00Z
        is active 10 base active");
    check("T097", sixteen(), with(|terms| terms.downgrade = Downgrade::AfterTermRecreate), "
        reduce 10 -> in_term 2027-06-15T22:00:00Z
        at 2027-06-15T22:00:00Z
        reduce 10 -> needs_recreate
        is active 16");
    let recreate = with(|terms| (terms.downgrade, terms.cancel_immediate) = (Downgrade::RecreateNow, true));
    check("T098", sixteen(), recreate, "
        reduce 10 -> needs_recreate
        cancel immediate -> now
        is ended 0 base cancelled
        add 1 -> ended");
}

#[test]
fn after_the_term_a_reduction_waits_for_the_month_t100_t101() {
    check("T100", sixteen(), Terms::default(), "
        at 2028-02-29T22:59:59Z
        reduce 10 -> 2028-02-29T23:00:00Z");
    check("T101", Record { start: "2026-03-01T00:00:00".parse().ok(), ..sixteen() }, Terms::default(), "
        at 2027-03-31T21:59:59Z
        reduce 10 -> 2027-03-31T22:00:00Z");
}

#[test]
fn an_addition_meets_a_booked_reduction_t104() {
    check("T104 keep", sixteen(), Terms::default(), "
        reduce 10 -> 2027-06-15T22:00:00Z
        add 4 -> now
        is pending_change 20
        reduce 8 -> pending_change
        at 2027-06-15T22:00:00Z
        is active 10");
    check("T104 reject", sixteen(), with(|terms| terms.pending_conflict = PendingConflict::Reject), "
        reduce 10 -> 2027-06-15T22:00:00Z
        add 4 -> pending_change 2027-06-15T22:00:00Z
        cancel -> pending_change
        operator suspend -> pending_change
        is pending_change 16");
    check("T104 replace", sixteen(), with(|terms| terms.pending_conflict = PendingConflict::Replace), "
        reduce 10 -> 2027-06-15T22:00:00Z
        add 4 -> now
        is active 20
        reduce 12 -> 2027-06-15T22:00:00Z
        reduce 11 -> 2027-06-15T22:00:00Z
        at 2027-06-15T22:00:00Z
        is active 11");
}

#[test]
fn a_cancellation_needs_no_notice_t106_t107() {
    check("T106", sixteen(), Terms::default(), "
        at 2027-06-15T21:59:00Z
        cancel -> 2027-06-15T22:00:00Z
        is pending_cancel 16 base pending_cancel
        at 2027-06-15T22:00:00Z
        is ended 0");
    check("T107", sixteen(), Terms::default(), "
        reduce 10 -> 2027-06-15T22:00:00Z
        cancel -> 2027-06-15T22:00:00Z
        at 2027-06-15T22:00:00Z
        is ended 0");
    check("J12 after E", sixteen(), Terms::default(), "
        at 2027-06-16T12:00:00Z
        cancel -> 2027-06-30T22:00:00Z");
    check("J12 by terms", sixteen(), with(|terms| terms.cancel_after_term = CancelAfterTerm::TermEnd), "
        at 2027-06-16T12:00:00Z
        cancel -> 2028-06-15T22:00:00Z");
    check("J12 at once", sixteen(), Terms::default(), "
        cancel immediate -> not_immediate 2027-06-15T22:00:00Z
        operator cancel immediate -> now
        is ended 0");
}

#[test]
fn the_term_does_not_begin_anew_j9_j10() {
    let record = check("J9", sixteen(), Terms::default(), "add 4 -> now");
    assert_eq!(record.start, sixteen().start);
    check("J10", record, Terms::default(), "
        reduce 10 -> 2027-06-15T22:00:00Z
        at 2027-06-15T22:00:00Z
        is active 10
        reduce 9 -> 2027-06-30T22:00:00Z");
}

#[test]
fn storefront_immediate_t137_t143() {
    check_storefront("T137", storefront(), "
        cancel 3 immediate -> now
        is active 12");
    check_storefront("T143", storefront(), "
        addon:a cancel period_end -> 2026-06-30T22:00:00Z
        is active 15 addon pending_cancel
        cancel immediate -> now
        is ended 0 base cancelled addon cancelled");
}

#[test]
fn storefront_end_of_period_t139_t145() {
    check_storefront("T139", storefront(), "
        cancel period_end -> 2026-06-30T22:00:00Z
        is pending_cancel 15 base pending_cancel
        revoke subscription@cancel -> needs_operator
        operator revoke subscription@cancel -> now
        is active 15 base active");
    check_storefront("T145", storefront(), "
        addon:a cancel 3 period_end -> 2026-06-30T22:00:00Z
        at 2026-06-30T22:00:00Z
        is active 12");
    check_storefront("T145 revoked", storefront(), "
        addon:a cancel 3 period_end -> 2026-06-30T22:00:00Z
        revoke addon:a@2026-06-30T22:00:00Z -> now
        at 2026-06-30T22:00:00Z
        is active 15
        revoke addon:a@2026-06-30T22:00:00Z -> unknown_change");
}

#[test]
fn storefront_revoking_t146_t151_t152() {
    check_storefront("T146", storefront(), "
        operator addon:a cancel period_end -> 2026-06-30T22:00:00Z
        revoke addon:a@cancel -> not_yours
        operator revoke addon:a@cancel -> now
        is active 15 addon active");
    check_storefront("T151", storefront(), "
        cancel 3 period_end -> 2026-06-30T22:00:00Z
        cancel period_end -> pending_change
        operator cancel immediate -> now
        is ended 0");
    check_storefront("T152", storefront(), "
        cancel immediate -> now
        revoke subscription@cancel -> ended
        operator revoke subscription@cancel -> ended
        operator resume -> ended
        add 5 -> ended");
}

/// N7, every cell: what is pending, who booked it, and what customer and operator are told.
#[test]
fn the_whole_revoke_table_n7() {
    let pending = [
        ("addon:a cancel 3 period_end", "addon:a@2026-06-30T22:00:00Z", "now"),
        ("addon:a cancel period_end", "addon:a@cancel", "now"),
        ("cancel 3 period_end", "subscription@2026-06-30T22:00:00Z", "now"),
        ("cancel period_end", "subscription@cancel", "needs_operator"),
    ];
    for (ask, id, customer) in pending {
        for (by, first, second) in [("", customer, "now"), ("operator ", "not_yours", "now")] {
            let script = format!("{by}{ask} -> 2026-06-30T22:00:00Z\nrevoke {id} -> {first}");
            check_storefront(&script, storefront(), &script);
            let script = format!("{by}{ask} -> 2026-06-30T22:00:00Z\noperator revoke {id} -> {second}\nis active 15");
            check_storefront(&script, storefront(), &script);
        }
    }
    for by in ["", "operator "] {
        let script = format!("
            addon:a cancel 3 immediate -> now
            {by}addon:a revoke addon:a@2026-06-15T12:00:00Z -> already_executed
            addon:a cancel immediate -> now
            {by}revoke addon:a@cancel -> already_executed
            is active 10 addon cancelled
            {by}addon:a add 1 -> ended");
        check_storefront("executed", storefront(), &script);
    }
}

type Set = fn(&mut Addon);

/// N6, every cell: S before P, then the add-on active, pending quantity, pending cancel.
#[test]
fn the_whole_matrix_at_the_end_of_the_period_n6_t140_t142() {
    let p = t("2026-06-30T22:00:00Z");
    let change = |seats| Change { effective_at: p, seats, by: Actor::Customer };
    let addons: [(&str, Set); 3] = [
        ("active", |_| {}),
        ("quantity", |addon| {
            addon.changes.push(Change { effective_at: t("2026-06-30T22:00:00Z"), seats: 8, by: Actor::Customer });
        }),
        ("cancel", |addon| addon.cancel_at = Some(t("2026-06-30T22:00:00Z"))),
    ];
    let subscriptions: [(&str, [u32; 3]); 4] =
        [("active", [15, 18, 10]), ("quantity", [12, 15, 7]), ("cancel", [0, 0, 0]), ("immediate", [0, 0, 0])];
    for (subscription, seats) in subscriptions {
        for ((addon, set), seats) in addons.iter().zip(seats) {
            let mut record = storefront();
            set(&mut record.addons[0]);
            match subscription {
                "quantity" => record.changes.push(change(7)),
                "cancel" => record.cancel_at = Some(p),
                "immediate" => record.cancel_at = Some(p - Duration::days(16)),
                _ => {}
            }
            let ended = record.cancel_at.is_some();
            let before = if subscription == "immediate" { "is ended 0" } else { "" };
            let state = if ended { "ended" } else { "active" };
            let after = if ended || *addon == "cancel" { "cancelled" } else { "active" };
            let script = format!("{before}\nat 2026-06-30T22:00:00Z\nis {state} {seats} addon {after}");
            check_storefront(&format!("{subscription} and {addon}"), record, &script);
        }
    }
}

#[test]
fn a_revoked_end_lets_the_addons_change_happen_again_n7() {
    let mut record = storefront();
    let change = Change { effective_at: t("2026-06-30T22:00:00Z"), seats: 8, by: Actor::Customer };
    record.addons[0].changes.push(change);
    let mut play = Play { record, terms: storefront_terms(), now: t("2026-06-15T12:00:00Z") };
    play.run("void", "cancel period_end -> 2026-06-30T22:00:00Z");
    let words = |play: &Play| -> Vec<_> {
        schedule(&play.record, &play.terms, play.now).iter().map(|item| item.status.as_str()).collect()
    };
    assert_eq!(words(&play), ["pending", "void"]);
    play.run("again", "operator revoke subscription@cancel -> now");
    assert_eq!(words(&play), ["pending"]);
    play.run("again", "at 2026-06-30T22:00:00Z\nis active 18");
}

#[test]
fn the_manual_flow_t148_n2() {
    let terms = Terms { execute_subscription: false, execute_addon: false, ..storefront_terms() };
    let mut play = Play { record: storefront(), terms, now: t("2026-06-15T12:00:00Z") };
    play.run("T148", "
        cancel immediate -> waits
        is active 15
        cancel -> pending_request
        operator withdraw request:1 -> not_yours
        accept request:1 -> needs_operator
        withdraw request:1 -> now
        is active 15 base active
        withdraw request:1 -> already_executed
        operator accept request:1 -> already_executed
        addon:a cancel 2 period_end -> waits
        operator reject request:2 -> now
        addon:a cancel 2 period_end -> waits
        revoke request:3 -> now
        addon:a cancel 2 immediate -> waits
        operator accept request:4 -> now
        is active 13
        operator accept request:9 -> unknown_change
        cancel 1 immediate -> waits
        operator cancel immediate -> now
        is ended 0");
    let mut play = Play { record: storefront(), terms: Terms { execute_addon: false, ..storefront_terms() }, now: play.now };
    play.run("an end leaves nothing to decide", "
        addon:a cancel 2 period_end -> waits
        cancel immediate -> now
        is ended 0");
    assert_eq!(schedule(&play.record, &play.terms, play.now), []);
    let replacing = Terms { execute_subscription: false, pending_conflict: PendingConflict::Replace, ..storefront_terms() };
    let record = Record { changes: vec![Change { effective_at: t("2026-06-30T22:00:00Z"), seats: 7, by: Actor::Customer }], ..storefront() };
    check("T148 what waits changes nothing", record, replacing, "
        at 2026-06-15T12:00:00Z
        cancel 2 immediate -> waits
        is pending_change 15
        operator accept request:1 -> now
        is active 13");
    let small = Terms { execute_subscription: false, execute_below_cents: 1_781, ..storefront_terms() };
    check("N2 threshold", storefront(), small, "
        at 2026-06-15T12:00:00Z
        cancel 3 immediate -> waits
        operator reject request:1 -> now
        cancel 2 immediate -> now
        is active 13");
}

#[test]
fn as_of_a_date_t149() {
    for (date, answer) in [
        ("2026-06-10", "2026-06-09T22:00:00Z"),
        ("2026-06-15", "2026-06-14T22:00:00Z"),
        ("2026-06-16", "future_date"),
        ("2026-05-31", "before_period"),
    ] {
        let state = if answer.starts_with("2026") { "is ended 0" } else { "is active 15" };
        check_storefront("T149", storefront(), &format!("operator cancel {date} -> {answer}\n{state}"));
    }
    check_storefront("N5", storefront(), "
        cancel 2026-06-10 -> needs_operator
        operator cancel 3 2026-06-10 -> whole_only");
}

/// A file with an end before its start is refused, so that no request may make one.
#[test]
fn nothing_ends_before_its_start_j12() {
    let later = |record: Record| Record { start: "2027-03-10T09:00:00".parse().ok(), ..record };
    let mut paid = later(storefront());
    paid.term_months = 0;
    for (id, record, end) in
        [("trial", later(trial()), "2027-04-09T07:00:00Z"), ("no term", paid, "2027-03-10T08:00:00Z")]
    {
        for terms in [Terms::default(), storefront_terms()] {
            check(id, record.clone(), terms, &format!("
                operator cancel immediate -> not_immediate 2027-03-10T08:00:00Z
                operator suspend -> now
                operator resume -> now
                operator cancel -> {end}
                at {end}
                is ended 0"));
        }
    }
    check("begun", later(trial()), Terms::default(), "
        at 2027-03-10T08:00:00Z
        operator cancel immediate -> now
        is ended 0");
    check("an add-on", later(storefront()), Terms::default(), "
        operator addon:a cancel immediate -> now
        operator cancel 3 immediate -> now
        is active 7");
}

#[test]
fn a_trial_becomes_paid_t154() {
    let mut record = trial();
    record.addons.push(Addon::new("a", 5));
    let record = check("T154", record, Terms::default(), "
        at 2026-06-16T12:00:00Z
        is trial 15 base trial
        add 5 -> use_upgrade
        upgrade 0 -> use_cancel
        upgrade 12 -> now
        is active 17
        upgrade 13 -> not_a_trial
        reduce 10 -> 2027-06-15T22:00:00Z");
    assert_eq!(record.start, "2026-06-16T00:00:00".parse().ok());
    check("J3", trial(), Terms::default(), "
        at 2026-06-30T22:00:00Z
        cancel -> 2026-07-01T08:00:00Z
        upgrade 12 -> now
        is active 12
        at 2026-07-02T00:00:00Z
        is active 12");
    check("J3 too late", trial(), Terms::default(), "
        at 2026-07-01T08:00:00Z
        is ended 0
        upgrade 12 -> ended");
}

#[test]
fn an_action_that_hangs_fails_and_takes_nothing_away_t155() {
    let since = t("2026-06-15T12:00:00Z");
    let record = Record { action_since: Some(since), ..storefront() };
    let terms = storefront_terms();
    let state = |minutes| subscription_state(&record, &terms, since + Duration::minutes(minutes)).as_str();
    assert_eq!((state(120), state(121)), ("active", "failed"));
    check_storefront("T155", record.clone(), "
        at 2026-06-15T14:01:00Z
        is active 15 base failed
        add 1 -> action_pending
        cancel 1 immediate -> action_pending
        operator cancel immediate -> now");
}

#[test]
fn suspended_and_resumed_j5() {
    check("J5", sixteen(), Terms::default(), "
        suspend -> needs_operator
        operator resume -> not_suspended
        operator suspend -> now
        is suspended 16 base suspended
        operator suspend -> suspended
        add 1 -> suspended
        resume -> needs_operator
        operator resume -> now
        is active 16");
}

#[test]
fn what_else_is_refused() {
    check("J11", sixteen(), Terms::default(), "
        reduce 16 -> not_a_reduction
        reduce 17 -> not_a_reduction
        reduce 0 -> use_cancel
        cancel 17 -> not_a_reduction
        cancel 0 -> not_a_reduction
        add 0 -> not_an_addition
        add 999985 -> too_many_seats
        add 999984 -> now
        is active 1000000");
    check("objects", storefront(), Terms::default(), "
        addon:b add 1 -> unknown_object
        addon:a suspend -> whole_only
        addon:a upgrade 3 -> whole_only
        revoke subscription@cancel -> unknown_change
        operator accept request:1 -> unknown_change");
    check("N8", Record { price_protected: true, ..sixteen() }, Terms::default(), "
        add 1 -> price_protected
        reduce 1 -> price_protected
        cancel -> 2027-06-15T22:00:00Z
        add 1 -> price_protected");
    check("N8", sixteen(), Terms::default(), "
        cancel -> 2027-06-15T22:00:00Z
        add 1 -> pending_cancel
        reduce 1 -> pending_cancel
        cancel -> pending_cancel 2027-06-15T22:00:00Z");
    check("F5", Record { seats: None, ..sixteen() }, Terms::default(), "
        add 1 -> unlimited
        reduce 10 -> 2027-06-15T22:00:00Z");
    assert_eq!(t(E), t("2027-06-15T22:00:00Z"));
}

#[test]
fn a_long_record_is_full_at_its_limit() {
    let many = (0..1_000).map(|n| Change {
        effective_at: t("2020-01-01T00:00:00Z") + Duration::hours(n),
        seats: 16,
        by: Actor::Customer,
    });
    check("full", Record { changes: many.collect(), ..sixteen() }, Terms::default(), "add 1 -> too_many_changes");
}
