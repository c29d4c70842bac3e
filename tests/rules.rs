//! The rule book as data: every scenario is a row, put to the engine and to its naive model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by a panic that it failed")]

#[path = "simulation/machine.rs"]
mod machine;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/model_nodes.rs"]
mod model_nodes;
#[path = "rules/book.rs"]
mod book;
#[path = "rules/script.rs"]
mod script;

use script::{Make, check};

const MODEL: Make = |limits| Box::new(model::Model::new(limits));

#[test]
fn the_model_agrees_with_the_rule_book() {
    book::ROWS.iter().for_each(|row| check(row, MODEL));
}

#[test]
fn every_scenario_of_the_rule_book_is_a_row() {
    for id in book::BOOK {
        let row = book::ROWS.iter().any(|row| row.id == *id && !row.rules.is_empty());
        assert!(row != book::ELSEWHERE.contains(id), "{id} must be a row, or be listed as decided elsewhere");
    }
}
