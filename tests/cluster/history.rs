//! Histories of a tenant, and whether one order of its operations explains them (Wing, Gong, Lowe).

use std::collections::{BTreeSet, HashSet};

/// An operation on a tenant's seats. Every session is of a subject of its own and is asked for once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Asked for a seat.
    Acquire,
    /// Asked again for the same session.
    Renew,
    /// Gave it back, as often as it took to hear that it was done.
    Release,
}

/// The answer to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The seat was taken.
    New,
    /// It is held.
    Same,
    /// No seat was free.
    Full,
    /// The seat is free.
    Last,
    /// There was nothing to give back.
    Nothing,
    /// Nobody knows: it may have been done, or not.
    Unknown,
}

/// One operation of one client, with the instants of its call and its return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) op: Op,
    pub(crate) session: u32,
    pub(crate) seen: Seen,
    pub(crate) called: u64,
    pub(crate) returned: u64,
}

type Held = BTreeSet<u32>;

/// The states in which an operation that was seen so may leave the tenant.
fn step(held: &Held, event: &Event, quota: usize) -> Vec<Held> {
    let with = || held.iter().copied().chain([event.session]).collect::<Held>();
    let without = || held.iter().copied().filter(|session| *session != event.session).collect::<Held>();
    let is_held = held.contains(&event.session);
    match (event.op, event.seen) {
        (Op::Acquire, Seen::New) if !is_held && held.len() < quota => vec![with()],
        // An earlier try of the same call was done, and its answer was lost.
        (Op::Acquire, Seen::Same) if !is_held && held.len() < quota => vec![with()],
        (Op::Acquire, Seen::Full) if !is_held && held.len() >= quota => vec![held.clone()],
        (Op::Acquire, Seen::Unknown) if !is_held && held.len() < quota => vec![held.clone(), with()],
        (Op::Acquire, Seen::Unknown) => vec![held.clone()],
        (Op::Renew, Seen::Same) if is_held => vec![held.clone()],
        (Op::Renew, Seen::Unknown) => vec![held.clone()],
        (Op::Release, Seen::Last) if is_held => vec![without()],
        (Op::Release, Seen::Nothing) if !is_held => vec![held.clone()],
        // One try of several gave it back.
        (Op::Release, Seen::Unknown) => vec![without()],
        _ => Vec::new(),
    }
}

/// Checks that some order of the events explains what each client saw, true to their calls and returns and to the order
/// of each client's own; `end` is what is held at last.
pub(crate) fn check(clients: &[Vec<Event>], quota: usize, end: &Held) -> Result<(), String> {
    let mut seen: HashSet<(Vec<usize>, Held)> = HashSet::new();
    let mut left = vec![(vec![0; clients.len()], Held::new())];
    let mut furthest = (0, Vec::new(), Held::new());
    while let Some((at, held)) = left.pop() {
        if !seen.insert((at.clone(), held.clone())) {
            continue;
        }
        let done: usize = at.iter().sum();
        if done >= furthest.0 {
            furthest = (done, at.clone(), held.clone());
        }
        let next = || at.iter().zip(clients).enumerate().filter_map(|(client, (at, of))| Some((client, of.get(*at)?)));
        if next().next().is_none() && held == *end {
            return Ok(());
        }
        let first_return = next().map(|(_, event)| event.returned).min().unwrap_or(u64::MAX);
        for (client, event) in next().filter(|(_, event)| event.called <= first_return) {
            for after in step(&held, event, quota) {
                let mut at = at.clone();
                at[client] += 1;
                left.push((at, after));
            }
        }
    }
    let (done, at, held) = furthest;
    let stuck: Vec<&Event> = at.iter().zip(clients).filter_map(|(at, of)| of.get(*at)).collect();
    Err(format!(
        "no order explains it: after {done} operations {held:?} are held of {quota}, and then {stuck:#?}; at last {end:?}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(op: Op, session: u32, seen: Seen, called: u64, returned: u64) -> Event {
        Event { op, session, seen, called, returned }
    }

    #[test]
    fn a_history_is_explained_or_it_is_not() {
        use Op::{Acquire, Release, Renew};
        use Seen::{Full, Last, New, Nothing, Same, Unknown};
        let none = Held::new();
        let check = |clients: &[Vec<Event>], end: &[u32]| super::check(clients, 1, &end.iter().copied().collect());
        let one = vec![event(Acquire, 1, New, 1, 2), event(Release, 1, Last, 5, 9)];
        check(&[one.clone(), vec![event(Acquire, 2, New, 6, 7)]], &[2]).unwrap();
        check(&[one.clone(), vec![event(Acquire, 2, New, 3, 4)]], &[2]).unwrap_err();
        check(&[one.clone(), vec![event(Acquire, 2, Full, 10, 11)]], &[]).unwrap_err();
        check(std::slice::from_ref(&one), &[1]).unwrap_err();
        check(&[vec![event(Acquire, 1, New, 1, 2), event(Renew, 1, Full, 3, 4)]], &[1]).unwrap_err();
        let unsure = |seen| vec![event(Acquire, 1, Unknown, 1, 9), event(Release, 1, seen, 8, 9)];
        for seen in [Last, Nothing, Unknown] {
            check(&[unsure(seen), vec![event(Acquire, 2, New, 20, 21)]], &[2]).unwrap();
        }
        check(&[unsure(Last), vec![event(Acquire, 2, Full, 3, 4)]], &[]).unwrap();
        check(&[unsure(Nothing), vec![event(Acquire, 2, Full, 3, 4)]], &[]).unwrap_err();
        check(&[vec![event(Acquire, 1, Same, 1, 2)]], &[1]).unwrap();
        super::check(&[], 1, &none).unwrap();
    }
}
