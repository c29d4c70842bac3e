//! Metrics of faults that were survived: connections that were not let in, cut or broken, panics, and what cannot be.

use prometheus::{IntCounter, IntCounterVec, Result};

use super::maker::{Maker, raise};

/// Counts of one listener since the start, by a closed set of reasons.
pub type Reasons = Vec<(&'static str, u64)>;

/// The faults at one listener; those of one name are added up.
#[derive(Clone, Debug, Default)]
pub struct ListenerFaults<'a> {
    /// Its name.
    pub listener: &'a str,
    /// Connections that were not let in.
    pub refused: Reasons,
    /// Connections and requests that a deadline ended.
    pub deadlines: Reasons,
    /// Connections that ended in an error.
    pub broken: Reasons,
    /// Errors of accepting.
    pub accept_errors: Reasons,
}

/// The faults since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults<'a> {
    /// Of the edge.
    pub listeners: &'a [ListenerFaults<'a>],
    /// Panics of any thread.
    pub panics: u64,
    /// Invariants of the table that did not hold.
    pub impossible: u64,
}

/// The families.
pub(super) struct FaultCounters {
    refused: IntCounterVec,
    deadlines: IntCounterVec,
    broken: IntCounterVec,
    accept_errors: IntCounterVec,
    panics: IntCounter,
    impossible: IntCounter,
}

const LABELS: [&str; 2] = ["listener", "reason"];

impl FaultCounters {
    pub(super) fn new(make: &Maker) -> Result<Self> {
        Ok(FaultCounters {
            refused: make.counters("usherd_connections_refused_total", "Connections that were not let in.", &LABELS)?,
            deadlines: make.counters(
                "usherd_connection_deadlines_total",
                "Connections, or requests of one, that a deadline ended.",
                &LABELS,
            )?,
            broken: make.counters("usherd_connections_broken_total", "Connections that ended in an error.", &LABELS)?,
            accept_errors: make.counters(
                "usherd_accept_errors_total",
                "Errors of accepting a connection, which lost that one.",
                &LABELS,
            )?,
            panics: make
                .counter("usherd_panics_total", "Panics; that of a request is answered 503, and touches no other.")?,
            impossible: make.counter(
                "usherd_impossible_total",
                "Invariants of the table of seats that did not hold: a fault of the program.",
            )?,
        })
    }

    /// Takes over what was counted; no counter falls.
    pub(super) fn set(&self, faults: &Faults<'_>) {
        raise(&self.panics, faults.panics);
        raise(&self.impossible, faults.impossible);
        for at in faults.listeners {
            let alike = || faults.listeners.iter().filter(|other| other.listener == at.listener);
            raise_all(&self.refused, at.listener, alike().flat_map(|of| &of.refused));
            raise_all(&self.deadlines, at.listener, alike().flat_map(|of| &of.deadlines));
            raise_all(&self.broken, at.listener, alike().flat_map(|of| &of.broken));
            raise_all(&self.accept_errors, at.listener, alike().flat_map(|of| &of.accept_errors));
        }
    }
}

/// Brings each reason of a listener up to the sum of its counts.
fn raise_all<'a>(
    family: &IntCounterVec,
    listener: &str,
    counts: impl Iterator<Item = &'a (&'static str, u64)> + Clone,
) {
    for (reason, _) in counts.clone() {
        let total = counts.clone().filter(|(other, _)| other == reason).map(|(_, count)| count).sum();
        raise(&family.with_label_values(&[listener, reason]), total);
    }
}
