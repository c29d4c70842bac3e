//! The faults and their times, drawn from the seed before the first step.

use std::time::Duration;

/// Something that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The messages between a node and the daemon are lost, and connections are refused.
    Partition(usize),
    /// Only what the daemon sends to a node is lost: it decides, and nobody hears it.
    Deafen(usize),
    /// Their messages are kept back: connections lead nowhere.
    Hold(usize),
    /// Every link loses some.
    Loss,
    /// The daemon accepts connections, and reads and writes nothing.
    Hang,
    /// The daemon is killed; its journal stays.
    Kill,
    /// A node is killed, and starts again with a higher epoch.
    RestartNode(usize),
    /// Everything takes long.
    Slow,
}

/// A fault, and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Episode {
    pub(crate) from_ms: u64,
    pub(crate) until_ms: u64,
    pub(crate) fault: Fault,
}

/// The faults of one run of so long; each link, and the daemon, has one at a time.
pub(crate) fn draw(rng: &mut fastrand::Rng, nodes: usize, over: Duration) -> Vec<Episode> {
    let over_ms = u64::try_from(over.as_millis()).unwrap();
    let mut episodes = Vec::new();
    let mut lane = |rng: &mut fastrand::Rng, faults: &[Fault], rest_ms: u64| {
        let mut at = rng.u64(500..rest_ms);
        while at < over_ms {
            // Mostly short, some longer than a lease, few longer than lease and grace.
            let lasts = match rng.u8(..10) {
                0..7 => rng.u64(20..1_500),
                7..9 => rng.u64(1_500..5_000),
                _ => rng.u64(5_000..12_000),
            };
            let fault = faults[rng.usize(..faults.len())];
            episodes.push(Episode { from_ms: at, until_ms: (at + lasts).min(over_ms), fault });
            at += lasts + rng.u64(rest_ms / 4..rest_ms);
        }
    };
    for node in 0..nodes {
        lane(rng, &[Fault::Partition(node), Fault::Deafen(node), Fault::Hold(node)], 8_000);
        lane(rng, &[Fault::RestartNode(node)], 60_000);
    }
    lane(rng, &[Fault::Loss, Fault::Slow], 10_000);
    lane(rng, &[Fault::Hang, Fault::Kill], 8_000);
    episodes.sort_by_key(|episode| episode.from_ms);
    episodes
}
