//! One group of all tenants becomes a record of each shard, or several where it is long.

use std::collections::BTreeMap;

use usherd_engine::session::Changes as _;

use crate::daemon::journal::codec::{Audit, RecordBuilder};
use crate::daemon::journal::decode::{Entries, Entry, Flaw};
use crate::daemon::journal::{Shard, watermarks};

/// A record that becomes longer is cut, payload bytes.
pub(super) const RECORD_BYTES_MAX: usize = 128 * 1024;

/// A group, divided among the shards.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// Of each shard one record or more, to be kept in this order.
    pub(super) records: BTreeMap<Shard, Vec<RecordBuilder>>,
    /// Tenants of shards that are not held are in it: nothing of them is in a record.
    pub(super) is_foreign: bool,
}

/// Divides a payload among the shards that are held.
///
/// Entries of a tenant go to its shard. Nodes, and marks of no tenant, go to every shard, because whoever takes it over
/// must know them; an audit entry of no tenant to the first. Where a shard's part does not fit into one record, what was
/// given back comes before what was taken: whoever reads only the first records finds no seat taken twice.
///
/// # Errors
/// An entry makes no sense.
pub(super) fn split(payload: &[u8], shards: u32, held: &[Shard]) -> Result<Split, Flaw> {
    let mut split = Split::default();
    let mut length = BTreeMap::<Shard, usize>::new();
    each(payload, shards, held, &mut split.is_foreign, |shard, utc_ms, entry| {
        let records = split.records.entry(shard).or_insert_with(|| vec![RecordBuilder::new()]);
        if let [record] = records.as_mut_slice() {
            put(record, utc_ms, entry);
            length.insert(shard, record.payload_bytes());
        }
    })?;
    if length.values().any(|bytes| *bytes > RECORD_BYTES_MAX) {
        split.records.retain(|shard, _| length.get(shard).is_some_and(|bytes| *bytes <= RECORD_BYTES_MAX));
        let is_long = |shard: Shard| length.get(&shard).is_some_and(|bytes| *bytes > RECORD_BYTES_MAX);
        for gives_back in [true, false] {
            each(payload, shards, held, &mut split.is_foreign, |shard, utc_ms, entry| {
                if is_long(shard) && matches!(entry, Entry::Gone(_)) == gives_back {
                    put(open(split.records.entry(shard).or_default()), utc_ms, entry);
                }
            })?;
        }
    }
    Ok(split)
}

/// The record that still takes entries.
fn open(records: &mut Vec<RecordBuilder>) -> &mut RecordBuilder {
    if records.last().is_none_or(|record| record.payload_bytes() >= RECORD_BYTES_MAX) {
        records.push(RecordBuilder::new());
    }
    let last = records.len() - 1;
    &mut records[last]
}

fn each(
    payload: &[u8],
    shards: u32,
    held: &[Shard],
    is_foreign: &mut bool,
    mut give: impl FnMut(Shard, i64, &Entry<'_>),
) -> Result<(), Flaw> {
    for entry in Entries::new(payload) {
        let (utc_ms, entry) = entry?;
        match tenant(&entry) {
            Some(tenant) => {
                let shard = Shard::of(tenant, shards);
                if held.contains(&shard) {
                    give(shard, utc_ms, &entry);
                } else {
                    *is_foreign = true;
                }
            }
            None if matches!(entry, Entry::Audit(_)) => {
                held.first().iter().for_each(|shard| give(**shard, utc_ms, &entry));
            }
            None => held.iter().for_each(|shard| give(*shard, utc_ms, &entry)),
        }
    }
    Ok(())
}

fn tenant<'a>(entry: &Entry<'a>) -> Option<&'a str> {
    match entry {
        Entry::Put { session, .. } => Some(session.tenant),
        Entry::Gone(gone) => Some(gone.tenant),
        Entry::Audit(Audit { tenant, .. }) => Some(*tenant).filter(|tenant| !tenant.is_empty()),
        Entry::Mark { key, .. } => watermarks::tenant_of(key),
        Entry::Node { .. } => None,
    }
}

fn put(record: &mut RecordBuilder, utc_ms: i64, entry: &Entry<'_>) {
    record.at(utc_ms);
    match entry {
        Entry::Put { session, fresh } => record.put(session, *fresh),
        Entry::Gone(gone) => record.gone(gone),
        Entry::Node { node, epoch } => record.node(node, *epoch),
        Entry::Audit(audit) => record.audit(audit),
        Entry::Mark { key, value } => record.mark(key, *value),
    }
}
