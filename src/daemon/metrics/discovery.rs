//! Tells Prometheus which shards to scrape (`/v1/prometheus/sd`).

use std::collections::BTreeMap;

use super::tenants::{SHARDS_MAX, TENANTS_UNSHARDED_MAX};
use crate::answers::operation::{ServiceDiscovery, Targets};

/// How many shards keep a scrape of all tenants at about 1,000 each: a power of two, so that a growing fleet
/// seldom moves a tenant to another one.
pub fn shards_for(tenants: usize) -> u32 {
    let shards = tenants.div_ceil(TENANTS_UNSHARDED_MAX).next_power_of_two();
    u32::try_from(shards).map_or(SHARDS_MAX, |shards| shards.min(SHARDS_MAX))
}

/// The answer for Prometheus' HTTP service discovery: every target once per shard, with the parameter that
/// asks for it and a label `shard` that keeps its own series (`up` and the like) apart. One shard is none.
pub fn service_discovery(targets: &[&str], shards: u32) -> ServiceDiscovery {
    let shards = shards.clamp(1, SHARDS_MAX);
    let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
    if shards == 1 {
        return ServiceDiscovery(vec![Targets { targets, labels: BTreeMap::new() }]);
    }
    let group = |number: u32| {
        let shard = format!("{number}/{shards}");
        let labels = [("__param_shard", shard.clone()), ("shard", shard)];
        Targets { targets: targets.clone(), labels: labels.map(|(name, value)| (name.to_owned(), value)).into() }
    };
    ServiceDiscovery((1..=shards).map(group).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::value_of;
    use crate::daemon::metrics::ScrapeShard;

    #[test]
    fn every_shard_is_offered_once_and_can_be_asked_for() {
        let groups = service_discovery(&["a:7788"], 4).0;
        assert_eq!(groups.len(), 4);
        for group in groups {
            assert_eq!(group.targets, ["a:7788"]);
            assert!(ScrapeShard::parse(&group.labels["__param_shard"]).is_some());
        }
        let text = |targets: &[&str], shards| value_of(&service_discovery(targets, shards)).to_string();
        assert_eq!(text(&["a:1"], 1), r#"[{"labels":{},"targets":["a:1"]}]"#);
        assert_eq!(text(&[], 0), r#"[{"labels":{},"targets":[]}]"#);
    }

    #[test]
    fn shards_hold_about_a_thousand() {
        for (tenants, shards) in [(0, 1), (1_000, 1), (1_001, 2), (10_000, 16), (usize::MAX, SHARDS_MAX)] {
            assert_eq!(shards_for(tenants), shards, "{tenants}");
        }
    }
}
