//! The families of a cluster, as one of its members sees it; there only where it belongs to one.

use super::text::Text;

/// The cluster that the daemon belongs to.
pub struct ClusterStats<'a> {
    /// True if a tenant is decided here: of others nothing is told, so that a sum over members counts each once.
    pub decides: &'a dyn Fn(&str) -> bool,
    /// Of each shard its owner, empty where there is none, and true if that one shows signs of life.
    pub owners: Vec<(String, bool)>,
    /// How long ago the last transaction was sent that was committed, seconds; `None` before the first.
    pub proven_age_seconds: Option<f64>,
    /// Shards taken, by reason.
    pub takeovers: Vec<(&'static str, u64)>,
    /// Requests that another member answered.
    pub forwarded: u64,
    /// Answers that did not go out, because another member decided by then.
    pub fenced: u64,
    /// Seats given while the store had no answer.
    pub provisional: u64,
    /// New seats refused while the store had no answer.
    pub refused: u64,
}

/// Writes them all.
pub(super) fn write(stats: &ClusterStats<'_>, text: &mut Text<'_>) {
    let name = "usherd_shard_owner";
    text.family(
        name,
        "gauge",
        "1 for the owner of a shard, as this member sees it; 0 where that one is silent, or nobody is.",
    );
    for (shard, (owner, is_alive)) in stats.owners.iter().enumerate() {
        text.whole(name, &[("shard", &shard.to_string()), ("member", owner)], u64::from(*is_alive));
    }
    let name = "usherd_shard_takeovers_total";
    text.family(name, "counter", "Shards that this member took, by reason.");
    for (reason, count) in &stats.takeovers {
        text.whole(name, &[("reason", reason)], *count);
    }
    let name = "usherd_cluster_proven_age_seconds";
    text.family(name, "gauge", "Age of the last committed transaction of this member; +Inf before the first.");
    match stats.proven_age_seconds {
        Some(age) => text.real(name, "", &[], age),
        None => text.unlimited(name),
    }
    for (name, help, count) in [
        ("usherd_forwarded_requests_total", "Requests that another member answered.", stats.forwarded),
        ("usherd_fenced_answers_total", "Answers held back, because another member decided by then.", stats.fenced),
        ("usherd_provisional_grants_total", "Seats given while etcd had no answer.", stats.provisional),
        ("usherd_unsettled_refusals_total", "New seats refused while etcd had no answer.", stats.refused),
    ] {
        text.family(name, "counter", help);
        text.whole(name, &[], count);
    }
}
