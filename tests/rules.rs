//! The rule book as data: every scenario is a row, put to the engine and to its naive model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by a panic that it failed")]

#[path = "rules/book.rs"]
#[rustfmt::skip] // A row is one thing to read, not five lines.
mod book;
#[path = "rules/found.rs"]
#[rustfmt::skip] // A row is one thing to read, not five lines.
mod found;
#[path = "rules/grants.rs"]
#[rustfmt::skip] // A row is one thing to read, not five lines.
mod grants;
#[path = "rules/inclusive.rs"]
mod inclusive;
#[path = "rules/lives.rs"]
#[rustfmt::skip] // A row is one thing to read, not five lines.
mod lives;
#[path = "rules/loading.rs"]
mod loading;
#[path = "rules/money.rs"]
mod money;
#[path = "rules/planner.rs"]
mod planner;

use usherd_testkit::rules::model::Model;
use usherd_testkit::rules::real::Real;
use usherd_testkit::rules::script::{Make, Row, check};

const MODEL: Make = |limits| Box::new(Model::new(limits));

const ENGINE: Make = |limits| Box::new(Real::new(limits));

const OURS: &[&[Row]] = &[
    grants::ORDER,
    grants::CLASSES,
    grants::UNKNOWN,
    grants::QUOTAS,
    grants::LIMITS,
    lives::ENDS,
    lives::NODES,
    lives::INVENTORIES,
    lives::STANDING,
    found::ROWS,
];

/// Puts all rows to a machine, and names every one that fails.
fn check_all(rows: &mut dyn Iterator<Item = &Row>, make: Make) {
    let failed: Vec<&str> =
        rows.filter(|row| std::panic::catch_unwind(|| check(row, make)).is_err()).map(|row| row.id).collect();
    assert!(failed.is_empty(), "{} rows failed: {failed:?}", failed.len());
}

#[test]
fn the_model_agrees_with_the_rule_book() {
    check_all(&mut book::ROWS.iter(), MODEL);
}

#[test]
fn the_model_agrees_with_our_rows() {
    check_all(&mut OURS.iter().copied().flatten(), MODEL);
}

#[test]
fn every_scenario_of_the_rule_book_is_a_row() {
    for id in book::BOOK {
        let row = book::ROWS.iter().any(|row| row.id == *id && !row.rules.is_empty());
        assert!(row || inclusive::DECIDED.contains(id), "{id} is neither a row nor decided by the subscription alone");
    }
}

#[test]
fn the_engine_agrees_with_the_rule_book() {
    check_all(&mut book::ROWS.iter(), ENGINE);
}

#[test]
fn the_engine_agrees_with_our_rows() {
    check_all(&mut OURS.iter().copied().flatten(), ENGINE);
}
