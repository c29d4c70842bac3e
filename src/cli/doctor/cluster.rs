//! The cluster: its shards, its commits, its members, etcd, and the file with its token.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::finding::Finding;
use crate::answers::cluster::{Cluster, ClusterStatus, EtcdEndpoint};
use crate::cli::screen::counted;
use crate::daemon::config::Config;

const CHECK: &str = "cluster";
const MEMBERS: &str = "members";
const ETCD: &str = "etcd";
const TOKEN: &str = "token";
/// From here on a commit is overdue, milliseconds: as in the alert.
const PROVEN_MS_MAX: u64 = 5_000;

/// The cluster by what a member of it says.
pub(super) fn judge(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = vec![shards(&cluster.status), members(&cluster.status)];
    findings.extend(etcd(&cluster.etcd, cluster.alarms.as_deref()));
    findings
}

fn shards(status: &ClusterStatus) -> Finding {
    let log =
        "`usherd cluster status` on each member says who sees what; journalctl -u usherd says why nobody takes it";
    if let Some(why) = &status.cut_off {
        let what = format!("{} commits nothing: {why}", status.member);
        return Finding::fail(
            CHECK,
            what,
            "new seats are given by on_no_majority alone",
            "see the findings on etcd below",
        );
    }
    if !status.missing.is_empty() {
        let missing: Vec<String> = status.missing.iter().map(u32::to_string).collect();
        let what = format!(
            "nobody decides {} of {}: {}",
            missing.len(),
            counted(status.owners.len(), "shard"),
            missing.join(", ")
        );
        return Finding::fail(
            CHECK,
            what,
            "their tenants get no new seats; inbound and emergency calls are allowed",
            log,
        );
    }
    match status.proven_ms_ago {
        Some(ms) if ms <= PROVEN_MS_MAX => {
            let shards = counted(status.owners.len(), "shard");
            Finding::ok(CHECK, format!("{shards}, each with an owner; {} committed {ms} ms ago", status.member))
        }
        Some(ms) => Finding::fail(
            CHECK,
            format!("the last commit of {} was {} s ago", status.member, ms / 1_000),
            "what it decides is not sure to be kept, and the others take its shards over",
            "check etcd's disk and the network between; `etcdctl check perf`",
        ),
        None => {
            Finding::warn(CHECK, format!("{} has committed nothing yet", status.member), "it decides nothing yet", log)
        }
    }
}

fn members(status: &ClusterStatus) -> Finding {
    let told = |silent: bool| {
        let some = status.members.iter().filter(move |member| member.alive != silent);
        some.map(|member| format!("{} {}", member.name, member.version)).collect::<Vec<_>>().join(", ")
    };
    let silent = told(true);
    if !silent.is_empty() {
        return Finding::warn(
            MEMBERS,
            format!("no sign of life of {silent}"),
            "the others carry its tenants: one less may fail",
            "start it again, or look why it does not reach etcd",
        );
    }
    let mut versions: Vec<&str> = status.members.iter().map(|member| member.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let why = "what the newer one fixed is not in force everywhere";
        return Finding::warn(
            MEMBERS,
            format!("of different versions: {}", told(false)),
            why,
            "upgrade the others, one by one",
        );
    }
    Finding::ok(MEMBERS, format!("{}, all of {}", counted(status.members.len(), "member"), versions.join("")))
}

fn etcd(endpoints: &[EtcdEndpoint], alarms: Option<&[String]>) -> Vec<Finding> {
    let why = "without a majority of etcd no new seat can be recorded, and no shard can be taken over";
    let mut findings = Vec::new();
    let lost = endpoints.iter().filter(|endpoint| endpoint.problem.is_some()).count();
    for endpoint in endpoints {
        let Some(problem) = &endpoint.problem else { continue };
        let (what, fix) =
            (format!("{}: {problem}", endpoint.endpoint), "systemctl status etcd there; is the network open?");
        let has_majority = lost * 2 < endpoints.len();
        findings.push(if has_majority {
            Finding::warn(ETCD, what, why, fix)
        } else {
            Finding::fail(ETCD, what, why, fix)
        });
    }
    for alarm in alarms.unwrap_or_default() {
        let fix = "NOSPACE: `etcdctl defrag`, a larger --quota-backend-bytes, then `etcdctl alarm disarm`";
        findings.push(Finding::fail(ETCD, format!("alarm {alarm}"), why, fix));
    }
    for endpoint in endpoints.iter().filter(|endpoint| !endpoint.errors.is_empty()) {
        let what = format!("{}: {}", endpoint.endpoint, endpoint.errors.join("; "));
        findings.push(Finding::warn(ETCD, what, why, "look at its log: journalctl -u etcd"));
    }
    if findings.is_empty() {
        let mut versions: Vec<&str> = endpoints.iter().filter_map(|endpoint| endpoint.version.as_deref()).collect();
        versions.sort_unstable();
        versions.dedup();
        let what =
            format!("{} answer, version {}, no alarm", counted(endpoints.len(), "endpoint"), versions.join(" and "));
        findings.push(Finding::ok(ETCD, what));
    }
    findings
}

/// Checks that nobody else reads the token; nothing where it cannot be looked at, or there is no cluster.
pub(super) fn token(config: &Config) -> Option<Finding> {
    let section = config.settings.cluster.as_ref()?;
    let path = config.main().parent().unwrap_or(Path::new("")).join(&section.token_file);
    let mode = std::fs::metadata(&path).ok()?.permissions().mode();
    Some(if mode & 0o004 == 0 {
        Finding::ok(TOKEN, format!("{} is not for every user to read", path.display()))
    } else {
        Finding::warn(
            TOKEN,
            format!("every user of the machine may read the token of the cluster, {}", path.display()),
            "whoever has it may ask in anybody's name",
            format!("chmod o-rwx {}, and make a new token if somebody may have read it", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, *};
    use super::*;
    use crate::answers::cluster::ClusterMember;

    fn good() -> Cluster {
        let member = |name: &str| ClusterMember {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            alive: true,
            ..ClusterMember::default()
        };
        let endpoint = |name: &str| EtcdEndpoint {
            endpoint: name.to_owned(),
            version: Some("3.4.23".to_owned()),
            ..EtcdEndpoint::default()
        };
        Cluster {
            status: ClusterStatus {
                member: "a".to_owned(),
                owners: vec![Some("a".to_owned()), Some("b".to_owned())],
                members: vec![member("a"), member("b")],
                proven_ms_ago: Some(40),
                ..ClusterStatus::default()
            },
            etcd: ["http://x", "http://y", "http://z"].map(endpoint).into(),
            alarms: Some(Vec::new()),
            ..Cluster::default()
        }
    }

    #[test]
    fn each_thing_that_can_be_wrong_with_a_cluster() {
        let down = |cluster: &mut Cluster, at: usize| cluster.etcd[at].problem = Some("refused".to_owned());
        type Breaks<'a> = &'a dyn Fn(&mut Cluster);
        let table: [(Breaks<'_>, &[Verdict], &str); 10] = [
            (&|_| (), &[Ok, Ok, Ok], "version 3.4.23"),
            (&|it| it.status.missing = vec![1], &[Fail, Ok, Ok], "nobody decides 1 of 2 shards: 1"),
            (&|it| it.status.cut_off = Some("no answer".to_owned()), &[Fail, Ok, Ok], "a commits nothing: no answer"),
            (&|it| it.status.proven_ms_ago = Some(5_001), &[Fail, Ok, Ok], "5 s ago"),
            (&|it| it.status.proven_ms_ago = None, &[Warn, Ok, Ok], "nothing yet"),
            (&|it| it.status.members[1].alive = false, &[Ok, Warn, Ok], "no sign of life of b 1.0.0"),
            (&|it| it.status.members[1].version = "1.1.0".to_owned(), &[Ok, Warn, Ok], "a 1.0.0, b 1.1.0"),
            (&|it| down(it, 0), &[Ok, Ok, Warn], "http://x: refused"),
            (&|it| [0, 2].iter().for_each(|at| down(it, *at)), &[Ok, Ok, Fail, Fail], "http://z: refused"),
            (&|it| it.alarms = Some(vec!["NOSPACE".to_owned()]), &[Ok, Ok, Fail], "alarm NOSPACE"),
        ];
        for (breaks, verdicts, word) in table {
            let mut cluster = good();
            breaks(&mut cluster);
            let findings = judge(&cluster);
            assert_eq!(findings.iter().map(|finding| finding.verdict).collect::<Vec<_>>(), verdicts, "{findings:?}");
            assert!(findings.iter().any(|finding| finding.what.contains(word)), "{word}: {findings:?}");
        }
    }
}
