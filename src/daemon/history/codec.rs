//! Rows of the history as bytes; any bytes give an answer, never a panic.

use usherd_engine::Name;

use super::slot::{Level, Levels, Row, Slot};
use crate::daemon::varint::{Reader, put_varint};

/// Longest tenant id, bytes.
const NAME_BYTES_MAX: u64 = 64;

/// Appends a tenant and its row.
pub(super) fn put_row(out: &mut Vec<u8>, tenant: &str, row: &Row) {
    put_varint(out, tenant.len() as u64);
    out.extend_from_slice(tenant.as_bytes());
    put_varint(out, row.slots.len() as u64);
    for (at, slot) in &row.slots {
        out.push(*at);
        put_slot(out, slot);
    }
    put_varint(out, row.levels.len() as u64);
    let mut before = 0;
    for level in row.levels.iter() {
        put_varint(out, u64::from(level.level - before));
        put_varint(out, level.ms);
        put_varint(out, level.starts);
        before = level.level;
    }
}

fn put_slot(out: &mut Vec<u8>, slot: &Slot) {
    put_varint(out, slot.peak.into());
    // Demand is hardly ever above the peak, and 0 is one byte.
    put_varint(out, slot.demand.saturating_sub(slot.peak).into());
    put_varint(out, slot.quota.map_or(0, |quota| u64::from(quota) + 1));
    put_varint(out, slot.seat_ms);
    put_varint(out, slot.saturated_ms);
    put_varint(out, slot.denials);
    put_varint(out, slot.denials_true);
}

/// Takes a tenant and its row; `None` where the bytes are none.
pub(super) fn take_row(reader: &mut Reader<'_>) -> Option<(Name, Row)> {
    let length = reader.varint().filter(|length| *length <= NAME_BYTES_MAX)?;
    let tenant = Name::from(std::str::from_utf8(reader.take(length as usize)?).ok()?);
    let mut row = Row::default();
    for _ in 0..reader.varint()? {
        let at = reader.byte()?;
        if row.slots.last().is_some_and(|(before, _)| *before >= at) {
            return None;
        }
        row.slots.push((at, take_slot(reader)?));
    }
    row.levels = take_levels(reader)?;
    Some((tenant, row))
}

fn take_slot(reader: &mut Reader<'_>) -> Option<Slot> {
    let peak = number(reader)?;
    Some(Slot {
        peak,
        demand: peak.checked_add(number(reader)?)?,
        quota: number(reader)?.checked_sub(1),
        seat_ms: reader.varint()?,
        saturated_ms: reader.varint()?,
        denials: reader.varint()?,
        denials_true: reader.varint()?,
    })
}

fn take_levels(reader: &mut Reader<'_>) -> Option<Levels> {
    let mut levels = Levels::default();
    let mut before = 0u32;
    for _ in 0..reader.varint()? {
        let level = before.checked_add(number(reader)?)?;
        let Level { ms, starts, .. } = Level { level, ms: reader.varint()?, starts: reader.varint()? };
        levels.add(level, ms, starts);
        before = level;
    }
    Some(levels)
}

fn number(reader: &mut Reader<'_>) -> Option<u32> {
    reader.varint()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rng: &mut fastrand::Rng) -> Row {
        let mut row = Row::default();
        for at in 0..rng.u8(0..24) {
            let peak = rng.u32(0..50);
            let slot = Slot {
                peak,
                demand: peak + rng.u32(0..3),
                quota: rng.bool().then(|| rng.u32(0..99)),
                seat_ms: rng.u64(0..1 << 40),
                saturated_ms: rng.u64(0..1 << 22),
                denials: rng.u64(0..9),
                denials_true: rng.u64(0..9),
            };
            row.put(at, &slot);
        }
        (0..rng.u32(0..9)).for_each(|_| row.levels.add(rng.u32(0..300), rng.u64(0..9_999), rng.u64(0..99)));
        row
    }

    #[test]
    fn a_row_comes_back_as_it_was_and_damage_is_no_panic() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let known = row(&mut rng);
            let mut bytes = Vec::new();
            put_row(&mut bytes, "office-lindenhof", &known);
            let back = take_row(&mut Reader { bytes: &bytes });
            assert_eq!(back, Some(("office-lindenhof".into(), known)));
            for cut in 0..bytes.len() {
                assert_eq!(take_row(&mut Reader { bytes: &bytes[..cut] }), None);
            }
            let at = rng.usize(0..bytes.len());
            bytes[at] ^= 1 << rng.u8(0..8);
            let _ = take_row(&mut Reader { bytes: &bytes });
        }
    }
}
