//! Examples of the document: bodies and answers, each held against its type by a test.

use serde_json::json;

use super::operation::Examples;

pub(super) const ACQUIRE: Examples = &[
    ("allowed", || {
        json!({
            "code": "allow.new", "allow": true, "detail": "", "message": "A licence was taken.", "tenant": "acme",
            "subject": "anna", "session": "n1-7-4711", "held": 3, "quota": 16, "over": 0, "ttl_s": 15,
            "decision_id": "5f3a90c1-0-2a",
        })
    }),
    ("denied", || {
        json!({
            "code": "deny.full", "allow": false, "detail": "tenant",
            "message": "All licences are in use. Please try again later.", "tenant": "acme", "subject": "bob",
            "session": "n1-7-4712", "held": 16, "quota": 16, "over": 0, "retry_after_s": 60, "sip_code": 403,
            "decision_id": "5f3a90c1-0-2b",
        })
    }),
];

pub(super) const ACQUIRE_TEXT: Examples =
    &[("free", || json!("allow.free inbound")), ("denied", || json!("deny.full tenant"))];

pub(super) const ACQUIRE_BODY: Examples = &[("", || {
    json!({
        "tenant": "acme", "subject": "anna", "session": "n1-7-4711", "kind": "call", "direction": "outbound",
        "to": "030123456", "node": "n1", "epoch": 7, "seq": 12,
    })
})];

pub(super) const RELEASE: Examples = &[("", || {
    json!({
        "code": "released.last", "detail": "", "message": "The licence is free again.", "tenant": "acme",
        "session": "n1-7-4711", "held": 2, "quota": 16, "decision_id": "5f3a90c1-0-2c",
    })
})];

pub(super) const RELEASE_BODY: Examples =
    &[("", || json!({ "tenant": "acme", "session": "n1-7-4711", "node": "n1", "epoch": 7, "seq": 13 }))];

pub(super) const BATCH: Examples = &[("", || {
    json!({
        "ops": [
            {
                "op": "acquire", "tenant": "acme", "subject": "anna", "session": "d1", "kind": "desktop",
                "ttl_s": 60,
            },
            { "op": "release", "tenant": "acme", "session": "c9" },
        ],
    })
})];

pub(super) const FORGET_NODE: Examples = &[("", || json!({ "code": "forgotten", "epoch": 7, "orphaned": 0 }))];

pub(super) const HELLO: Examples = &[("", || {
    json!({
        "code": "ok", "heartbeat_s": 5, "lease_s": 15, "inventory_s": 60, "presence_grace_s": 30, "deadline_ms": 50,
        "on_unreachable": "allow", "dropped": 0, "orphaned": 0,
    })
})];

pub(super) const HELLO_BODY: Examples = &[("", || json!({ "epoch": 7 }))];

pub(super) const HEARTBEAT: Examples = &[("", || json!({ "code": "ok" }))];

pub(super) const INVENTORY: Examples =
    &[("", || json!({ "code": "ok", "kept": 41, "adopted": 1, "removed": 0, "ignored": 0 }))];

pub(super) const INVENTORY_BODY: Examples = &[("", || {
    json!({
        "epoch": 7, "seq": 99,
        "sessions": [{"tenant": "acme", "subject": "anna", "session": "d1", "kind": "desktop", "seq": 3}],
    })
})];

pub(super) const GOODBYE: Examples = &[("", || json!({ "code": "ok", "orphaned": 12 }))];

pub(super) const END_SUBJECT: Examples = &[("", || json!({ "code": "ended", "count": 2 }))];

pub(super) const END_SESSION: Examples = &[("", || json!({ "code": "ended", "count": 1 }))];

pub(super) const CHECK_ENDPOINTS: Examples = &[("", || {
    json!({
        "allow": false, "code": "deny", "detail": "limit reached", "endpoints": 48, "limit": 48,
        "message": "48 devices are set up and the seats include 48: 1 more would be too many.",
    })
})];

pub(super) const CHECK_ENDPOINTS_BODY: Examples = &[("", || json!({ "add": 1, "endpoints": 48 }))];

pub(super) const REQUEST_SUBSCRIPTION: Examples =
    &[("", || json!({ "request": "reduce", "seats": 10, "actor": "customer", "dry_run": true }))];

pub(super) const QUOTE: Examples = &[("", || {
    json!({
        "unit_cents": 801, "monthly_cents": 12816, "charge_cents": 3916, "net_cents": 1958, "credit_cents": 1958,
        "next_invoice_cents": 10858,
    })
})];

pub(super) const LOG_LEVEL: Examples = &[("", || json!({ "filter": "info,usherd::daemon::http=debug", "for_s": 600 }))];

pub(super) const TRUST_CLOCK: Examples = &[("", || {
    json!({
        "code": "ok", "at": "2027-06-17T10:02:00.000Z", "trusted_at": "2027-06-17T10:10:00.000Z",
        "message": "the wall clock, 2027-06-17T10:02:00.000Z, is trusted from 2027-06-17T10:10:00.000Z on",
    })
})];

pub(super) const HAND_OVER: Examples =
    &[("", || json!({ "code": "ok", "shard": 7, "from": "alpha", "to": "beta", "done": true }))];

pub(super) const HAND_OVER_BODY: Examples = &[("", || json!({ "shard": 7, "to": "beta" }))];

pub(super) const LEAVE: Examples = &[("", || json!({ "code": "ok", "member": "alpha", "leaving": true }))];

pub(super) const LEAVE_BODY: Examples = &[("", || json!({ "leave": true }))];

pub(super) const TEST_WEBHOOK: Examples = &[("", || {
    json!({
        "number": 7, "at": "2026-06-16T12:00:00Z", "id": "msg_1975d8e2f00_9f86d081884c7d65",
        "type": "usherd.test.v1", "tenant": null, "attempt": 1, "status": 204, "duration_ms": 31,
        "result": "delivered", "error": null, "next_attempt_at": null,
    })
})];
