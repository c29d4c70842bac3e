//! The cluster, as this member sees it.

use crate::answers::cluster::{ClusterMember, ClusterStatus};
use crate::daemon::app::Deciding;

/// The state of the cluster; `None` where the daemon belongs to none.
pub(super) fn status(deciding: &Deciding) -> Option<ClusterStatus> {
    let shards = deciding.shards.as_ref()?;
    let owners = shards.owners();
    let owned = |name: &str| {
        let mine = owners.of.iter().enumerate().filter(|(_, owner)| owner.as_deref() == Some(name));
        mine.map(|(shard, _)| shard as u32).collect()
    };
    let members = owners.members.iter().map(|member| ClusterMember {
        name: member.name.clone(),
        advertise: member.advertise.clone(),
        version: member.version.clone(),
        alive: member.is_alive,
        leaving: member.is_leaving,
        shards: owned(&member.name),
    });
    let journal = deciding.committer.get().and_then(|committer| committer.journal()?.cluster());
    Some(ClusterStatus {
        member: shards.member().to_owned(),
        members: members.collect(),
        missing: shards.missing().into_iter().map(|shard| shard.0).collect(),
        proven_ms_ago: journal.and_then(|journal| journal.proven_ago()).map(|ago| ago.as_millis() as u64),
        cut_off: shards.refused().or_else(|| journal.and_then(|journal| journal.cut_off())),
        owners: owners.of.clone(),
    })
}
