//! Transactions and answers as etcd's gateway writes them: JSON, with keys and values in base64 and numbers as strings.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::store::{Answer, Compare, Found, Op, Outcome, Txn};

/// Most comparisons of a transaction, and most operations of each of its branches: etcd's own limit.
pub const OPS_MAX: usize = 128;
/// Largest transaction, bytes of its keys and values; etcd takes 1.5 MiB with what is around them.
pub const TXN_BYTES_MAX: usize = 1 << 20;

/// Longest text of an answer that is shown, characters.
const SHOWN_CHARS_MAX: usize = 200;

/// Why a try has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Another endpoint, or a later try, may answer.
    Unknown(String),
    /// None will, to the same question.
    Refused(String),
    /// One will if it is told who asks.
    Unauthenticated(String),
    /// It was done, and there is more to tell than is read.
    TooLarge(String),
    /// The revision is gone already.
    Compacted,
}

impl Failure {
    /// The same for people.
    pub(super) fn into_text(self) -> String {
        match self {
            Failure::Unknown(why) | Failure::Refused(why) | Failure::Unauthenticated(why) | Failure::TooLarge(why) => {
                why
            }
            Failure::Compacted => "the revision is compacted already".to_owned(),
        }
    }
}

/// The state of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its URL, as configured.
    pub endpoint: String,
    /// Its own word, or why there is none.
    pub reachable: Result<Health, String>,
}

/// The word of a member of etcd on itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The version of its program.
    pub version: String,
    /// Its id, as etcdctl shows it.
    pub member: String,
    /// Size of its database, bytes, with what compaction has freed.
    pub db_bytes: u64,
    /// Of them in use.
    pub db_used_bytes: u64,
    /// True if it leads.
    pub is_leader: bool,
    /// True if it knows who leads.
    pub has_leader: bool,
    /// The last entry of its log.
    pub raft_index: u64,
    /// The last one that it has applied.
    pub raft_applied_index: u64,
    /// Its complaints: no leader, alarms.
    pub errors: Vec<String>,
}

/// Checks a transaction against the limits: why etcd would not take it.
pub(super) fn too_much(txn: &Txn) -> Option<String> {
    let most = txn.compares.len().max(txn.then.len()).max(txn.otherwise.len());
    if most > OPS_MAX {
        return Some(format!("a transaction of {most} operations; etcd takes {OPS_MAX}"));
    }
    let bytes: usize = txn.then.iter().chain(&txn.otherwise).map(bytes_of).sum();
    (bytes > TXN_BYTES_MAX).then(|| format!("a transaction of {bytes} bytes; at most {TXN_BYTES_MAX} are sent"))
}

fn bytes_of(op: &Op) -> usize {
    match op {
        Op::Put { key, value } => key.len() + value.len(),
        Op::Delete { from, to } | Op::Get { from, to, .. } => from.len() + to.len(),
    }
}

/// True if it changes nothing, whichever branch is done.
pub(super) fn is_read_only(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.otherwise).all(|op| matches!(op, Op::Get { .. }))
}

/// A transaction, as it is sent.
pub(super) fn txn_body(txn: &Txn) -> Vec<u8> {
    let ops = |ops: &[Op]| ops.iter().map(op_value).collect::<Vec<_>>();
    let compares: Vec<_> = txn.compares.iter().map(compare_value).collect();
    json!({ "compare": compares, "success": ops(&txn.then), "failure": ops(&txn.otherwise) }).to_string().into_bytes()
}

fn compare_value(compare: &Compare) -> Value {
    let (target, field, key, revision) = match compare {
        Compare::Created { key, revision } => ("CREATE", "create_revision", key, revision),
        Compare::Changed { key, revision } => ("MOD", "mod_revision", key, revision),
    };
    json!({ "key": STANDARD.encode(key), "target": target, "result": "EQUAL", field: revision.to_string() })
}

fn op_value(op: &Op) -> Value {
    match op {
        Op::Put { key, value } => {
            json!({ "request_put": { "key": STANDARD.encode(key), "value": STANDARD.encode(value) } })
        }
        Op::Delete { from, to } => {
            json!({ "request_delete_range": { "key": STANDARD.encode(from), "range_end": STANDARD.encode(to) } })
        }
        Op::Get { from, to, keys_max, is_keys_only } => json!({ "request_range": {
            "key": STANDARD.encode(from), "range_end": STANDARD.encode(to), "limit": keys_max.to_string(),
            "keys_only": is_keys_only,
        } }),
    }
}

/// A number, which the gateway writes as a string.
#[derive(Clone, Copy, Default)]
struct Number(u64);

/// Bytes, which it writes in base64.
#[derive(Default)]
struct Bytes(Vec<u8>);

struct NumberVisitor;
struct BytesVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, as a string")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
        Ok(Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        text.parse().map(Number).map_err(E::custom)
    }
}

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        STANDARD.decode(text).map(Bytes).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(BytesVisitor)
    }
}

// The gateway leaves out what is zero, false or empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    revision: Number,
    member_id: Number,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TxnAnswer {
    header: Header,
    succeeded: bool,
    responses: Vec<OpAnswer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OpAnswer {
    response_range: RangeAnswer,
    response_delete_range: DeleteAnswer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RangeAnswer {
    kvs: Vec<KeyValue>,
    more: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValue {
    key: Bytes,
    create_revision: Number,
    mod_revision: Number,
    value: Bytes,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeleteAnswer {
    deleted: Number,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusAnswer {
    header: Header,
    version: String,
    #[serde(rename = "dbSize")]
    db_size: Number,
    #[serde(rename = "dbSizeInUse")]
    db_size_in_use: Number,
    leader: Number,
    #[serde(rename = "raftIndex")]
    raft_index: Number,
    #[serde(rename = "raftAppliedIndex")]
    raft_applied_index: Number,
    errors: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AlarmAnswer {
    alarms: Vec<Alarm>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Alarm {
    #[serde(rename = "memberID")]
    member: Number,
    alarm: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Trouble {
    error: String,
    message: String,
    code: u32,
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("a broken answer: {error}"))
}

/// The answer to this transaction.
pub(super) fn txn_answer(txn: &Txn, body: &[u8]) -> Result<Answer, String> {
    let answer: TxnAnswer = read(body)?;
    let asked = if answer.succeeded { txn.then.len() } else { txn.otherwise.len() };
    if answer.responses.len() != asked {
        return Err(format!("a broken answer: {} results of {asked} operations", answer.responses.len()));
    }
    let outcomes = answer.responses.into_iter().map(outcome).collect::<Result<_, _>>()?;
    Ok(Answer { held: answer.succeeded, revision: answer.header.revision.0, outcomes })
}

fn outcome(answer: OpAnswer) -> Result<Outcome, String> {
    let found = answer.response_range.kvs.into_iter().map(|kv| {
        let key = String::from_utf8(kv.key.0).map_err(|_| "a key in it is not UTF-8".to_owned())?;
        Ok(Found { key, value: kv.value.0, created: kv.create_revision.0, changed: kv.mod_revision.0 })
    });
    Ok(Outcome {
        found: found.collect::<Result<_, String>>()?,
        is_cut: answer.response_range.more,
        deleted: answer.response_delete_range.deleted.0,
    })
}

/// The word of a member on itself.
pub(super) fn health(body: &[u8]) -> Result<Health, String> {
    let answer: StatusAnswer = read(body)?;
    let (member, leader) = (answer.header.member_id.0, answer.leader.0);
    Ok(Health {
        version: answer.version,
        member: format!("{member:x}"),
        db_bytes: answer.db_size.0,
        db_used_bytes: answer.db_size_in_use.0,
        is_leader: leader == member,
        has_leader: leader != 0,
        raft_index: answer.raft_index.0,
        raft_applied_index: answer.raft_applied_index.0,
        errors: answer.errors,
    })
}

/// The alarms that are raised, each with its member.
pub(super) fn alarms(body: &[u8]) -> Result<Vec<String>, String> {
    let answer: AlarmAnswer = read(body)?;
    Ok(answer.alarms.into_iter().map(|alarm| format!("{} at member {:x}", alarm.alarm, alarm.member.0)).collect())
}

/// A text of an object.
pub(super) fn text_of(body: &[u8], field: &str) -> Result<String, String> {
    let answer: Value = read(body)?;
    answer[field].as_str().map(str::to_owned).ok_or_else(|| format!("a broken answer: no {field} in it"))
}

/// Codes of gRPC, by which the gateway says what kind of failure it is.
mod code {
    pub(super) const UNKNOWN: u32 = 2;
    pub(super) const CANCELLED: u32 = 1;
    pub(super) const DEADLINE_EXCEEDED: u32 = 4;
    pub(super) const ABORTED: u32 = 10;
    pub(super) const INTERNAL: u32 = 13;
    pub(super) const UNAVAILABLE: u32 = 14;
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

/// An answer that is none: its status and body.
pub(super) fn failure(status: u16, body: &[u8]) -> Failure {
    let trouble = serde_json::from_slice::<Trouble>(body).unwrap_or_default();
    let told = if trouble.message.is_empty() { trouble.error } else { trouble.message };
    if told.is_empty() {
        let shown: String = String::from_utf8_lossy(body).trim().chars().take(SHOWN_CHARS_MAX).collect();
        return match status {
            404 => Failure::Refused(
                "it has no JSON gateway; start etcd without --enable-grpc-gateway=false, and name its client port"
                    .to_owned(),
            ),
            _ => Failure::Unknown(format!("it answers {status} {shown}").trim_end().to_owned()),
        };
    }
    let has = |part: &str| told.contains(part);
    match trouble.code {
        code::UNAUTHENTICATED => Failure::Unauthenticated(told),
        _ if has("user name is empty") || has("revision of auth store is old") => Failure::Unauthenticated(told),
        _ if has("required revision has been compacted") => Failure::Compacted,
        _ if has("too many requests") => Failure::Unknown(told),
        code::UNKNOWN
        | code::CANCELLED
        | code::DEADLINE_EXCEEDED
        | code::ABORTED
        | code::INTERNAL
        | code::UNAVAILABLE => Failure::Unknown(told),
        _ => Failure::Refused(format!("{told}{}", remedy(&told))),
    }
}

/// The thing to do, with what parts it from etcd's own words.
fn remedy(told: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 6] = [
        (
            "database space exceeded",
            "; its database is full: compact and defragment it, then `etcdctl alarm disarm`, or give it a larger \
             --quota-backend-bytes",
        ),
        ("corrupt cluster", "; its members do not hold the same: repair etcd, then `etcdctl alarm disarm`"),
        ("permission denied", "; give the user of cluster.user a role that may read and write the cluster's prefix"),
        ("invalid user ID or password", "; see cluster.user and cluster.password_file"),
        ("request is too large", "; do not lower etcd's --max-request-bytes below 1572864"),
        ("too many operations", "; do not lower etcd's --max-txn-ops below 128"),
    ];
    REMEDIES.iter().find(|(part, _)| told.contains(part)).map_or("", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(txn: &Txn) -> Value {
        serde_json::from_slice(&txn_body(txn)).unwrap()
    }

    #[test]
    fn a_transaction_is_written_as_the_gateway_reads_it() {
        let created = Compare::Created { key: "owner/1".into(), revision: 0 };
        let changed = Compare::Changed { key: "ptr/1".into(), revision: u64::MAX };
        let txn = Txn {
            compares: vec![created, changed],
            then: vec![Op::put("k", vec![0, 255]), Op::delete_all("log/")],
            otherwise: vec![Op::Get { from: "a".into(), to: "b".into(), keys_max: 7, is_keys_only: true }],
        };
        assert_eq!(
            sent(&txn),
            json!({
                "compare": [
                    { "key": "b3duZXIvMQ==", "target": "CREATE", "result": "EQUAL", "create_revision": "0" },
                    { "key": "cHRyLzE=", "target": "MOD", "result": "EQUAL", "mod_revision": "18446744073709551615" },
                ],
                "success": [
                    { "request_put": { "key": "aw==", "value": "AP8=" } },
                    { "request_delete_range": { "key": "bG9nLw==", "range_end": "bG9nMA==" } },
                ],
                "failure": [
                    { "request_range": { "key": "YQ==", "range_end": "Yg==", "limit": "7", "keys_only": true } },
                ],
            })
        );
    }

    #[test]
    fn an_answer_is_read_with_what_is_left_out() {
        let txn = Txn { then: vec![Op::put("k", "v"), Op::get("k"), Op::delete_all("k")], ..Txn::default() };
        let body = br#"{"header":{"cluster_id":"15875391935852295136","revision":"9"},"succeeded":true,"responses":[
            {"response_put":{"header":{"revision":"9"}}},
            {"response_range":{"header":{},"kvs":[{"key":"aw==","create_revision":"4","mod_revision":"9","version":"2",
                "value":"dg=="}],"more":true,"count":"3"}},
            {"response_delete_range":{"deleted":"1"}}]}"#;
        let found = Found { key: "k".into(), value: b"v".to_vec(), created: 4, changed: 9 };
        let outcomes = vec![
            Outcome::default(),
            Outcome { found: vec![found], is_cut: true, deleted: 0 },
            Outcome { found: vec![], is_cut: false, deleted: 1 },
        ];
        assert_eq!(txn_answer(&txn, body), Ok(Answer { held: true, revision: 9, outcomes }));
        let nothing = Answer { held: false, revision: 9, outcomes: vec![] };
        assert_eq!(txn_answer(&txn, br#"{"header":{"revision":9}}"#), Ok(nothing), "a plain number, no branch");
    }

    #[test]
    fn a_broken_answer_is_none() {
        let txn = Txn { then: vec![Op::get("k")], ..Txn::default() };
        let kv = |kv: &str| format!("{{\"succeeded\":true,\"responses\":[{{\"response_range\":{{\"kvs\":[{kv}]}}}}]}}");
        for (body, why) in [
            ("", "EOF"),
            ("[1]", "invalid"),
            (r#"{"succeeded":true}"#, "0 results of 1 operations"),
            (kv(r#"{"key":"=="}"#).as_str(), "a broken answer"),
            (kv(r#"{"key":"/w=="}"#).as_str(), "not UTF-8"),
            (kv(r#"{"create_revision":"-1"}"#).as_str(), "invalid digit"),
        ] {
            let told = txn_answer(&txn, body.as_bytes()).unwrap_err();
            assert!(told.contains(why), "{body}: {told}");
        }
    }

    #[test]
    fn a_failure_says_if_another_try_may_help() {
        let told = |error: &str, code: u32| {
            failure(503, json!({ "error": error, "message": error, "code": code }).to_string().as_bytes())
        };
        for error in ["etcdserver: request timed out", "etcdserver: no leader", "etcdserver: leader changed"] {
            assert_eq!(told(error, 14), Failure::Unknown(error.to_owned()));
        }
        assert!(matches!(told("etcdserver: too many requests", 8), Failure::Unknown(_)));
        assert!(matches!(told("etcdserver: invalid auth token", 16), Failure::Unauthenticated(_)));
        assert!(matches!(told("etcdserver: user name is empty", 3), Failure::Unauthenticated(_)));
        assert_eq!(told("etcdserver: mvcc: required revision has been compacted", 11), Failure::Compacted);
        for (error, code, remedy) in [
            ("etcdserver: mvcc: database space exceeded", 8, "alarm disarm"),
            ("etcdserver: corrupt cluster", 15, "alarm disarm"),
            ("etcdserver: permission denied", 7, "role"),
            ("etcdserver: request is too large", 3, "--max-request-bytes"),
            ("etcdserver: too many operations in txn request", 3, "--max-txn-ops"),
            ("etcdserver: duplicate key given in txn request", 3, "duplicate"),
        ] {
            let Failure::Refused(why) = told(error, code) else { panic!("{error}") };
            assert!(why.starts_with(error) && why.contains(remedy), "{why}");
        }
        // As etcd 3.6 writes it.
        let newer = br#"{"code":7,"message":"etcdserver: permission denied","details":[]}"#;
        assert!(matches!(failure(403, newer), Failure::Refused(_)));
        assert!(matches!(failure(404, b"404 page not found\n"), Failure::Refused(_)));
        assert_eq!(failure(502, b"bad gateway\n"), Failure::Unknown("it answers 502 bad gateway".to_owned()));
    }

    #[test]
    fn a_transaction_has_limits() {
        let many = |count| Txn { otherwise: vec![Op::get("k"); count], ..Txn::default() };
        assert_eq!(too_much(&many(OPS_MAX)), None);
        assert!(too_much(&many(OPS_MAX + 1)).unwrap().contains("129 operations"));
        let large = |bytes| Txn { then: vec![Op::put("k", vec![0; bytes - 1])], ..Txn::default() };
        assert_eq!(too_much(&large(TXN_BYTES_MAX)), None);
        assert!(too_much(&large(TXN_BYTES_MAX + 1)).unwrap().contains("1048577 bytes"));
        assert!(is_read_only(&many(3)) && !is_read_only(&large(9)));
    }

    #[test]
    fn a_member_tells_how_it_is() {
        let body = br#"{"header":{"member_id":"16"},"version":"3.4.23","dbSize":"32768","leader":"16","raftIndex":"5",
            "raftAppliedIndex":"4","dbSizeInUse":"16384","errors":["memberID:16 alarm:NOSPACE "]}"#;
        let told = health(body).unwrap();
        assert_eq!((told.version.as_str(), told.member.as_str(), told.db_bytes), ("3.4.23", "10", 32_768));
        assert_eq!((told.is_leader, told.has_leader, told.raft_index, told.errors.len()), (true, true, 5, 1));
        let lone = health(br#"{"header":{"member_id":"16"}}"#).unwrap();
        assert!(!lone.is_leader && !lone.has_leader);
        assert_eq!(alarms(b"{}"), Ok(vec![]));
        let raised = br#"{"alarms":[{"memberID":"255","alarm":"NOSPACE"}]}"#;
        assert_eq!(alarms(raised), Ok(vec!["NOSPACE at member ff".to_owned()]));
    }
}
