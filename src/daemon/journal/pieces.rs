//! The changes of a long piece of work, each in the turn that is open when it comes.

use super::Journal;
use super::codec::RecordBuilder;
use super::turn::{Ticket, TurnWriter};

impl<J: Journal> TurnWriter<J> {
    /// A place for the changes of a long piece of work, each of which goes into the turn that is open when it comes, so
    /// that no other runtime waits for the end of the work.
    pub fn pieces(&self, utc_ms: i64) -> Pieces<'_, J> {
        Pieces { writer: self, utc_ms, number: None }
    }
}

/// Takes entries one by one; a change that is part of a decision is encoded as it comes.
pub trait TakesEntries {
    /// Has something encoded. It is called inside critical sections.
    fn add(&mut self, encode: impl FnOnce(&mut RecordBuilder));
}

impl TakesEntries for RecordBuilder {
    fn add(&mut self, encode: impl FnOnce(&mut RecordBuilder)) {
        encode(self);
    }
}

/// The changes of a long piece of work ([`TurnWriter::pieces`]).
pub struct Pieces<'a, J: Journal> {
    writer: &'a TurnWriter<J>,
    utc_ms: i64,
    /// The turn of the last one.
    number: Option<u64>,
}

impl<J: Journal> TakesEntries for Pieces<'_, J> {
    fn add(&mut self, encode: impl FnOnce(&mut RecordBuilder)) {
        let (_, ticket) = self.writer.record(self.utc_ms, encode);
        self.number = ticket.leave_open().or(self.number);
    }
}

impl<'a, J: Journal> Pieces<'a, J> {
    /// Ready when all of them are committed.
    pub fn ticket(self) -> Ticket<'a, J> {
        self.number.map_or_else(|| self.writer.confirming(), |number| self.writer.ticket(number))
    }
}
