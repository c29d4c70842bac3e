//! Messages as the daemon reads and writes them (API 2, 3).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use usherd_contract::batch::Op;
use usherd_contract::body::{AcquireBody, ReleaseBody};
use usherd_contract::message::{Acquire, Release};
use usherd_contract::node_calls::NodeBody;
use usherd_contract::words::{Code, Detail};

use super::ask::{Ask, Ended};
use super::ledger::{Inventory, Message, Settled};
use super::verdict::{Answer, Unreachable};

/// Sessions of an inventory that are written before others get their turn.
const SESSIONS_IN_ONE_GO: usize = 256;

/// The node's own names and numbers, which every message carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'a> {
    pub node: &'a str,
    pub epoch: u64,
}

/// The message of a question; without a sender it is a part of a message that names one.
fn message<'a>(ask: &'a Ask, sender: Option<Sender<'a>>, seq: u64, existing: bool) -> Acquire<'a> {
    let (node, epoch) = (sender.map(|sender| sender.node), sender.map(|sender| sender.epoch));
    Acquire { node, epoch, seq: Some(seq), existing, ..ask.as_acquire() }
}

/// The body of `POST /v1/acquire`.
pub(super) fn acquire(ask: &Ask, sender: Sender<'_>, seq: u64, existing: bool) -> Bytes {
    written(&AcquireBody::from(&message(ask, Some(sender), seq, existing)))
}

/// The body of hello, heartbeat and goodbye.
pub(super) fn epoch(epoch: u64) -> Bytes {
    written(&NodeBody { epoch })
}

/// The body of `POST /v1/batch`.
pub(super) fn batch(messages: &[Message], sender: Sender<'_>) -> Bytes {
    let mut body = b"{\"ops\":[".to_vec();
    for (at, message) in messages.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        let op = match message {
            Message::Acquire { ask, seq, existing } => {
                Op::Acquire(AcquireBody::from(&self::message(ask, Some(sender), *seq, *existing)))
            }
            Message::Release { key: (tenant, session), seq, ended } => Op::Release(ReleaseBody::from(&Release {
                node: Some(sender.node),
                epoch: Some(sender.epoch),
                seq: Some(*seq),
                transferred: *ended == Ended::Transferred,
                ..Release::new(tenant, session)
            })),
        };
        write(&mut body, &op);
    }
    body.extend_from_slice(b"]}");
    body.into()
}

/// The body of an inventory. A long one is written in parts, so that calls get their turn in between.
pub(super) async fn inventory(inventory: &Inventory, epoch: u64) -> Bytes {
    let mut body = format!("{{\"epoch\":{epoch},\"seq\":{},\"sessions\":[", inventory.seq).into_bytes();
    for (at, (ask, seq)) in inventory.sessions.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        write(&mut body, &AcquireBody::from(&message(ask, None, *seq, !ask.is_inbound())));
        if at % SESSIONS_IN_ONE_GO == SESSIONS_IN_ONE_GO - 1 {
            tokio::task::yield_now().await;
        }
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn written(body: &impl Serialize) -> Bytes {
    let mut out = Vec::with_capacity(256);
    write(&mut out, body);
    out.into()
}

/// Bodies are made of texts and numbers, and a vector takes everything: this cannot fail.
fn write(out: &mut Vec<u8>, body: &impl Serialize) {
    let _ = serde_json::to_writer(out, body);
}

#[derive(Deserialize)]
struct Reply {
    code: String,
    #[serde(default)]
    detail: String,
    first: Option<String>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    held: u32,
    quota: Option<u32>,
    #[serde(default)]
    over: u32,
    ttl_s: Option<u32>,
    sip_code: Option<u16>,
    retry_after_s: Option<u32>,
    #[serde(default)]
    decision_id: String,
}

/// Reads the answer to an acquire; `None` where it is none of this protocol.
pub(super) fn answer(body: &[u8]) -> Option<Answer> {
    let reply: Reply = serde_json::from_slice(body).ok()?;
    let is_verdict = |code: &Code| !matches!(code, Code::ReleasedLast | Code::ReleasedMore | Code::ReleasedNone);
    Some(Answer {
        code: Code::from_word(&reply.code).filter(is_verdict)?,
        detail: Detail::from_word(&reply.detail).unwrap_or(Detail::None),
        first: reply.first.as_deref().and_then(Code::from_word),
        message: reply.message,
        held: reply.held,
        quota: reply.quota,
        over: reply.over,
        ttl_s: reply.ttl_s,
        sip_code: reply.sip_code,
        retry_after_s: reply.retry_after_s,
        decision_id: reply.decision_id,
    })
}

#[derive(Deserialize)]
struct Results {
    results: Vec<ResultBody>,
}

#[derive(Deserialize)]
struct ResultBody {
    code: Option<String>,
    #[serde(default)]
    detail: String,
    status: Option<u16>,
}

/// Reads the answer to a batch of so many; `None` where it is none of this protocol.
pub(super) fn results(body: &[u8], count: usize) -> Option<Vec<Settled>> {
    let Results { results } = serde_json::from_slice(body).ok()?;
    (results.len() == count).then(|| results.iter().map(settled).collect())
}

/// The decision of each operation of a batch, in their order; `None` where one was not decided.
pub(super) fn codes(body: &[u8]) -> Vec<Option<(Code, Detail)>> {
    let results = serde_json::from_slice::<Results>(body).map(|results| results.results).unwrap_or_default();
    let decided = |result: &ResultBody| {
        let detail = Detail::from_word(&result.detail).unwrap_or(Detail::None);
        Some((Code::from_word(result.code.as_deref()?)?, detail))
    };
    results.iter().map(decided).collect()
}

fn settled(result: &ResultBody) -> Settled {
    match (result.code.as_deref().and_then(Code::from_word), result.status) {
        (Some(Code::ReleasedMore), _) if result.detail == Detail::Linger.as_str() => Settled::Stays,
        (Some(_), _) => Settled::Done,
        (None, Some(status)) if status == 429 || status >= 500 => Settled::Later,
        (None, _) => Settled::Refused,
    }
}

/// The answer to a hello.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Welcome {
    pub heartbeat_s: u32,
    pub lease_s: u32,
    pub inventory_s: u32,
    /// Older daemons do not say it.
    pub presence_grace_s: Option<u32>,
}

/// Reads the answer to a hello.
pub(super) fn welcome(body: &[u8]) -> Option<Welcome> {
    serde_json::from_slice(body).ok()
}

#[derive(Deserialize)]
struct EpochProblem {
    known_epoch: Option<u64>,
}

/// The epoch under which the daemon knows this node, from its refusal of a hello; older daemons do not say it.
pub(super) fn known_epoch(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<EpochProblem>(body).ok()?.known_epoch
}

/// The result of an inventory.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct TakenIn {
    pub kept: u32,
    pub adopted: u32,
    pub removed: u32,
    pub ignored: u32,
}

/// Reads the answer to an inventory.
pub(super) fn taken_in(body: &[u8]) -> Option<TakenIn> {
    serde_json::from_slice(body).ok()
}

/// Why there is no decision, from an answer that is not 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoDecision {
    /// The result as if the daemon had not answered.
    Unreachable(Unreachable),
    /// The daemon does not understand the question (400); what it says.
    Malformed(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    detail: String,
    errors: Vec<ProblemError>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProblemError {
    pointer: String,
    detail: String,
}

/// Reads an answer to an acquire that is no decision.
pub(super) fn no_decision(status: u16, body: &[u8]) -> NoDecision {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    match status {
        // Without a lease something else must end the claim (E3): it does not know this node.
        400 if matches!(problem.errors.as_slice(), [only] if only.pointer == "/ttl_s") => {
            NoDecision::Unreachable(Unreachable::NotGreeted)
        }
        400 => {
            let errors: Vec<String> =
                problem.errors.iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect();
            NoDecision::Malformed(format!("{}: {}", problem.detail, errors.join("; ")))
        }
        status => NoDecision::Unreachable(Unreachable::of_status(status)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use usherd_contract::batch::batch_ops;
    use usherd_contract::body::Body as _;
    use usherd_contract::format::BodyFormat;
    use usherd_contract::node_calls::InventoryBody;
    use usherd_contract::words::{Direction, Leg};

    const SENDER: Sender<'_> = Sender { node: "n1", epoch: 7 };

    #[test]
    fn a_question_says_what_was_set_and_nothing_else() {
        let ask = Ask::call("acme", "anna", "n1-7-c1", Direction::Outbound);
        let full = Ask { to: Some("030\"1".into()), leg: Leg::Deliver, external: Some(false), ..ask.clone() };
        let text = |ask, existing| String::from_utf8(acquire(ask, SENDER, 9, existing).to_vec()).unwrap();
        assert_eq!(
            text(&ask, false),
            r#"{"tenant":"acme","subject":"anna","session":"n1-7-c1","kind":"call","direction":"outbound","node":"n1","epoch":7,"seq":9}"#
        );
        let want = r#""leg":"deliver","to":"030\"1","external":false,"existing":true,"#;
        assert!(text(&full, true).contains(want), "{}", text(&full, true));
    }

    #[tokio::test]
    async fn every_body_reads_as_it_was_meant() {
        let ask = Ask {
            to: Some("030\"1".into()),
            ttl_s: Some(9),
            ..Ask::call("acme", "zo\u{eb}", "c1", Direction::Outbound)
        };
        let meant = |sender, seq, existing| format!("{:?}", message(&ask, sender, seq, existing));
        let question = acquire(&ask, SENDER, 9, false);
        let read = AcquireBody::from_json(&question).unwrap();
        assert_eq!(format!("{:?}", read.checked().unwrap()), meant(Some(SENDER), 9, false));

        let key = (ask.tenant.clone(), "c2".into());
        let messages = [
            Message::Acquire { ask: Arc::new(ask.clone()), seq: 10, existing: true },
            Message::Release { key: key.clone(), seq: 11, ended: Ended::Transferred },
            Message::Release { key, seq: 12, ended: Ended::Over },
        ];
        let body = batch(&messages, SENDER);
        let ops: Vec<Op<'_>> = batch_ops(&body).unwrap().into_iter().map(|op| Op::from_json(op).unwrap()).collect();
        let [Op::Acquire(adopted), Op::Release(bridged), Op::Release(over)] = &ops[..] else { panic!("{ops:?}") };
        assert_eq!(format!("{:?}", adopted.checked().unwrap()), meant(Some(SENDER), 10, true));
        for (release, seq, transferred) in [(bridged, 11, true), (over, 12, false)] {
            let read = release.checked().unwrap();
            assert_eq!((read.tenant, read.session, read.transferred), ("acme", "c2", transferred));
            assert_eq!((read.node, read.epoch, read.seq), (Some("n1"), Some(7), Some(seq)));
        }

        let body = epoch(7);
        assert_eq!(NodeBody::parse(&body, BodyFormat::Json, None), Ok(NodeBody { epoch: 7 }));
        let listed = Inventory { seq: 13, sessions: vec![(Arc::new(ask.clone()), 5)] };
        let body = inventory(&listed, 7).await;
        let read = InventoryBody::parse(&body, "n1", 10).unwrap();
        assert_eq!((read.epoch, read.seq, read.sessions.len()), (7, 13, 1));
        assert_eq!(format!("{:?}", read.sessions[0].checked().unwrap()), meant(Some(SENDER), 5, true));
    }

    #[test]
    fn an_answer_that_is_not_of_the_protocol_is_none() {
        for (body, code) in [
            (
                r#"{"code":"deny.full","allow":false,"detail":"tenant","held":1,"quota":1,"sip_code":403}"#,
                Some(Code::DenyFull),
            ),
            (r#"{"code":"allow.new","quota":null}"#, Some(Code::AllowNew)),
            (r#"{"code":"allow.maybe"}"#, None),
            (r#"{"code":"released.last"}"#, None),
            (r#"<html>"#, None),
            ("", None),
        ] {
            assert_eq!(answer(body.as_bytes()).map(|answer| answer.code), code, "{body}");
        }
    }

    #[test]
    fn what_became_of_a_report_is_read_from_its_place() {
        let body = br#"{"results":[{"code":"released.last","detail":""},{"code":"released.more","detail":"linger"},
            {"status":400,"type":"x"},{"status":503},{"code":"deny.unknown_tenant"}]}"#;
        let want = [Settled::Done, Settled::Stays, Settled::Refused, Settled::Later, Settled::Done];
        assert_eq!(results(body, 5).unwrap(), want);
        assert_eq!(results(body, 4), None);
    }

    #[test]
    fn what_is_no_decision_has_a_reason() {
        let ttl = br#"{"status":400,"detail":"x","errors":[{"pointer":"/ttl_s","detail":"is required"}]}"#;
        let kind = br#"{"status":400,"detail":"bad","errors":[{"pointer":"/kind","detail":"is odd"}]}"#;
        for (status, body, want) in [
            (400, &ttl[..], NoDecision::Unreachable(Unreachable::NotGreeted)),
            (400, &kind[..], NoDecision::Malformed("bad: /kind is odd".to_owned())),
            (401, b"", NoDecision::Unreachable(Unreachable::NotPermitted)),
            (403, b"", NoDecision::Unreachable(Unreachable::NotPermitted)),
            (503, b"", NoDecision::Unreachable(Unreachable::NotReady)),
            (429, b"", NoDecision::Unreachable(Unreachable::Overloaded)),
            (502, b"nginx", NoDecision::Unreachable(Unreachable::ServerError)),
            (404, b"nginx", NoDecision::Unreachable(Unreachable::NotFound)),
            (302, b"", NoDecision::Unreachable(Unreachable::Protocol)),
        ] {
            assert_eq!(no_decision(status, body), want);
        }
    }
}
