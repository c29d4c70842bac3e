//! The cost of a request at the border: reading a body, writing a reply.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use usherd::daemon::http::reply::{DecisionContext, write_acquire};
use usherd_contract::batch::Op;
use usherd_contract::body::{AcquireBody, Body as _, ReleaseBody};
use usherd_engine::session::{Code, Decision, Detail};

const JSON: &[u8] = br#"{"tenant":"acme-berlin","subject":"anna.schmidt@acme.example","session":"pbx1-1718000000-1718000123.4567","kind":"call","direction":"outbound","to":"03012345678","node":"pbx1","epoch":1718000000,"seq":123456,"ttl_s":60}"#;
const FORM: &[u8] = b"tenant=acme-berlin&subject=anna.schmidt%40acme.example&session=pbx1-1718000000-1718000123.4567&kind=call&direction=outbound&to=03012345678&node=pbx1&epoch=1718000000&seq=123456&ttl_s=60";
const RELEASE: &[u8] = br#"{"op":"release","tenant":"acme-berlin","session":"pbx1-1718000000-1718000123.4567","node":"pbx1","epoch":1718000000,"seq":123457}"#;

fn wire(c: &mut Criterion) {
    c.bench_function("read acquire json", |b| {
        b.iter(|| AcquireBody::from_json(black_box(JSON)).is_ok_and(|read| read.checked().is_ok()));
    });
    c.bench_function("read acquire form", |b| {
        b.iter(|| AcquireBody::from_form(black_box(FORM)).is_ok_and(|read| read.checked().is_ok()));
    });
    c.bench_function("read release json", |b| {
        b.iter(|| ReleaseBody::from_json(black_box(RELEASE)).is_ok_and(|read| read.checked().is_ok()));
    });
    c.bench_function("read op json", |b| b.iter(|| Op::from_json(black_box(RELEASE)).is_ok()));
    let decision = Decision {
        code: Code::DenyFull,
        detail: Detail::Tenant,
        first: None,
        held: 25,
        quota: Some(25),
        ttl_ms: None,
        retry_after_s: 60,
        sip_code: 403,
    };
    let about = DecisionContext {
        tenant: "acme-berlin",
        subject: Some("anna.schmidt@acme.example"),
        session: Some("pbx1-1718000000-1718000123.4567"),
        decision_id: "1718000000-123456",
        message: "",
    };
    let mut out = BytesMut::with_capacity(1024);
    c.bench_function("write acquire json", |b| {
        b.iter(|| {
            out.clear();
            write_acquire(&mut out, black_box(&decision), black_box(&about));
            out.len()
        });
    });
}

criterion_group!(benches, wire);
criterion_main!(benches);
