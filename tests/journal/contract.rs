//! The duties of every back end of the journal, written against the trait alone.

use usherd::daemon::journal::{Commit, Epoch, Feed, Journal, JournalError, Keep, Local, RecordBuilder, Shard};

use super::disk::Disk;
use super::model::{State, Workload, options, utc};
use usherd_testkit::store::Memory;

/// Opens the store again each time, as a daemon does that was started anew.
type Reopen<'a, J> = &'a dyn Fn() -> J;

fn start<J: Journal>(reopen: Reopen<'_, J>) -> (J, Epoch, State) {
    let journal = reopen();
    let epoch = journal.acquire(Shard::ALL).unwrap();
    let state = State::of(&journal.replay(Shard::ALL).unwrap());
    (journal, epoch, state)
}

/// Every rule of the seam; `fresh` gives a store that nobody has used.
fn contract<J: Journal, F: Fn() -> J>(fresh: impl Fn() -> F) {
    what_is_committed_is_replayed(&fresh());
    order_of_records_does_not_matter(&fresh());
    a_later_owner_fences_the_earlier(&fresh());
    a_snapshot_stands_for_what_was_before_it(&fresh());
    an_abandoned_snapshot_changes_nothing(&fresh());
    an_empty_group_is_nothing(&fresh());
    versions_go_on(&fresh());
    damage_outside_heals_with_a_snapshot(&fresh());
}

fn what_is_committed_is_replayed<J: Journal>(reopen: Reopen<'_, J>) {
    let workload = Workload::new(1, 20);
    for life in 0..20 {
        let (journal, epoch, state) = start(reopen);
        assert_eq!(state, workload.states[life]);
        assert_eq!(journal.degraded(), None);
        assert_eq!(journal.commit(epoch, &mut workload.group(life)), Commit::Durable);
        assert_eq!(State::of(&journal.replay(Shard::ALL).unwrap()), workload.states[life + 1]);
    }
}

fn order_of_records_does_not_matter<J: Journal>(reopen: Reopen<'_, J>) {
    let workload = Workload::new(2, 12);
    let (journal, epoch, _) = start(reopen);
    for at in [3, 0, 11, 1, 7, 2, 10, 4, 6, 5, 9, 8] {
        assert_eq!(journal.commit(epoch, &mut workload.group(at)), Commit::Durable);
    }
    drop(journal);
    assert_eq!(start(reopen).2, workload.states[12]);
}

fn a_later_owner_fences_the_earlier<J: Journal>(reopen: Reopen<'_, J>) {
    let workload = Workload::new(3, 3);
    let (journal, first, _) = start(reopen);
    assert_eq!(journal.commit(first, &mut workload.group(0)), Commit::Durable);
    let second = journal.acquire(Shard::ALL).unwrap();
    assert!(second > first);
    assert_eq!(journal.commit(first, &mut workload.group(1)), Commit::Fenced);
    assert!(matches!(journal.snapshot_begin(first), Err(JournalError::Fenced)));
    assert!(matches!(journal.trim(first, Keep { age_ms: 0, bytes: 0 }, 0), Err(JournalError::Fenced)));
    assert_eq!(State::of(&journal.replay(Shard::ALL).unwrap()), workload.states[1]);
    assert!(matches!(journal.acquire(Shard(7)), Err(JournalError::UnknownShard)));
}

fn snapshot<J: Journal>(journal: &J, epoch: Epoch, workload: &Workload, at: usize) {
    let mut snapshot = journal.snapshot_begin(epoch).unwrap();
    let mut feed = Feed::new(journal, &mut snapshot);
    workload.feed(at, &mut feed);
    feed.finish().unwrap();
    journal.snapshot_mark(&mut snapshot);
    journal.snapshot_end(snapshot).unwrap();
}

fn a_snapshot_stands_for_what_was_before_it<J: Journal>(reopen: Reopen<'_, J>) {
    let workload = Workload::new(4, 12);
    let (journal, epoch, _) = start(reopen);
    for at in 0..12 {
        assert_eq!(journal.commit(epoch, &mut workload.group(at)), Commit::Durable);
        if at % 3 == 2 {
            snapshot(&journal, epoch, &workload, at + 1);
            journal.trim(epoch, Keep { age_ms: 0, bytes: 0 }, utc(100)).unwrap();
        }
    }
    drop(journal);
    assert_eq!(start(reopen).2, workload.states[12]);
}

fn an_abandoned_snapshot_changes_nothing<J: Journal>(reopen: Reopen<'_, J>) {
    let workload = Workload::new(5, 4);
    let (journal, epoch, _) = start(reopen);
    for at in 0..4 {
        assert_eq!(journal.commit(epoch, &mut workload.group(at)), Commit::Durable);
        let mut snapshot = journal.snapshot_begin(epoch).unwrap();
        let mut feed = Feed::new(&journal, &mut snapshot);
        Workload::new(99, 3).feed(3, &mut feed);
        feed.finish().unwrap();
    }
    drop(journal);
    assert_eq!(start(reopen).2, workload.states[4]);
}

fn an_empty_group_is_nothing<J: Journal>(reopen: Reopen<'_, J>) {
    let (journal, epoch, _) = start(reopen);
    assert_eq!(journal.commit(epoch, &mut RecordBuilder::new()), Commit::Durable);
    assert_eq!(journal.counters().records(), 0);
}

fn versions_go_on<J: Journal>(reopen: Reopen<'_, J>) {
    let workload = Workload::new(6, 30);
    let (journal, epoch, _) = start(reopen);
    (0..30).for_each(|at| assert_eq!(journal.commit(epoch, &mut workload.group(at)), Commit::Durable));
    let highest = journal.replay(Shard::ALL).unwrap().version_max;
    snapshot(&journal, epoch, &workload, 30);
    journal.trim(epoch, Keep { age_ms: 0, bytes: 0 }, utc(100)).unwrap();
    drop(journal);
    let journal = reopen();
    journal.acquire(Shard::ALL).unwrap();
    assert_eq!(journal.replay(Shard::ALL).unwrap().version_max, highest);
}

fn damage_outside_heals_with_a_snapshot<J: Journal>(reopen: Reopen<'_, J>) {
    let workload = Workload::new(7, 4);
    let (journal, epoch, _) = start(reopen);
    journal.lost("a test");
    assert_eq!(journal.degraded().as_deref(), Some("a test"));
    snapshot(&journal, epoch, &workload, 4);
    assert_eq!(journal.degraded(), None);
    drop(journal);
    assert_eq!(start(reopen).2, workload.states[4]);
}

#[test]
fn a_simulated_disk_keeps_the_contract() {
    for sync in [false, true] {
        contract(|| {
            let disk = Disk::default();
            move || Local::new(disk.clone(), options(sync, 500))
        });
    }
}

#[test]
fn a_folder_keeps_the_contract() {
    use usherd::daemon::journal::storage::Folder;
    contract(|| {
        let folder = tempfile::tempdir().unwrap();
        move || Local::new(Folder::at(folder.path()).unwrap(), options(true, 500))
    });
}

#[test]
fn two_daemons_never_share_a_folder() {
    use usherd::daemon::journal::storage::Folder;
    let folder = tempfile::tempdir().unwrap();
    let make = || Local::new(Folder::at(folder.path()).unwrap(), options(false, 500));
    let first = make();
    first.acquire(Shard::ALL).unwrap();
    let second = make();
    assert!(matches!(second.acquire(Shard::ALL), Err(JournalError::Locked)));
    drop(first);
    second.acquire(Shard::ALL).unwrap();
}

#[test]
fn a_shared_store_keeps_the_contract() {
    contract(|| {
        let store = Memory::default();
        move || super::etcd::live(&store)
    });
}
