//! Bodies of acquire and release as structs that lend their messages (API 2).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::faults;
use super::fields::{Lenient, Text, Worded};
use super::form::{self, Faulty};
use super::format::BodyFormat;
use super::malformed::{FieldError, Malformed};
use super::message::{Acquire, Release};
use super::words::{Class, Device, Direction, Kind, Leg};

/// The fields of an acquire, and of an operation of a batch; unknown ones are ignored (API 1). The client writes by the
/// same struct, so that no field has two names.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AcquireBody<'a> {
    #[serde(borrow, skip_serializing_if = "Lenient::is_nothing")]
    pub(super) op: Lenient<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    tenant: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    subject: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    session: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Worded<Kind>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Worded<Direction>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leg: Option<Worded<Leg>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Worded<Device>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Worded<Class>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    to: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    emergency: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<bool>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    group: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    existing: Option<bool>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    node: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Lenient::is_nothing")]
    why: Lenient<'a>,
    #[serde(borrow, skip_serializing_if = "Lenient::is_nothing")]
    status: Lenient<'a>,
}

/// The `why` of a release whose parties stay bridged (C7).
const TRANSFER: &str = "transfer";

fn lend<'b>(text: &'b Option<Text<'_>>) -> Option<&'b str> {
    text.as_ref().map(|text| &*text.0)
}

fn pick<W: Copy>(word: Option<Worded<W>>) -> Option<W> {
    word.map(|word| word.0)
}

fn text(text: &str) -> Option<Text<'_>> {
    Some(Text(Cow::Borrowed(text)))
}

/// The fields of a message, without those that have their default.
impl<'a> From<&Acquire<'a>> for AcquireBody<'a> {
    fn from(message: &Acquire<'a>) -> Self {
        AcquireBody {
            op: Lenient::Nothing,
            tenant: text(message.tenant),
            subject: message.subject.and_then(text),
            session: message.session.and_then(text),
            kind: Some(Worded(message.kind)),
            direction: message.direction.map(Worded),
            leg: (message.leg != Leg::Originate).then_some(Worded(message.leg)),
            device: message.device.map(Worded),
            class: message.class.map(Worded),
            to: message.to.and_then(text),
            emergency: message.emergency.then_some(true),
            external: message.external,
            group: message.group.and_then(text),
            ttl_s: message.ttl_s,
            existing: message.existing.then_some(true),
            node: message.node.and_then(text),
            epoch: message.epoch,
            seq: message.seq,
            why: Lenient::Nothing,
            status: Lenient::Nothing,
        }
    }
}

impl<'a> From<&Release<'a>> for ReleaseBody<'a> {
    fn from(message: &Release<'a>) -> Self {
        let why = if message.transferred { Lenient::Text(Cow::Borrowed(TRANSFER)) } else { Lenient::Nothing };
        ReleaseBody {
            tenant: text(message.tenant),
            session: text(message.session),
            node: message.node.and_then(text),
            epoch: message.epoch,
            seq: message.seq,
            why,
        }
    }
}

/// Fields of which a body is made: what a body must know to be read.
pub trait Fields<'a>: Default + Deserialize<'a> {
    /// Takes a field as text; an unknown one is ignored (API 1).
    fn set(&mut self, key: &str, value: Cow<'a, str>, faulty: &mut Faulty);
    /// Takes the fields that it lacks from another.
    fn fill_from(&mut self, other: Self);
    /// All that is wrong with JSON which could not be read.
    fn wrong(body: &[u8], error: &serde_json::Error) -> Malformed;
}

/// A body, however it comes.
pub trait Body<'a>: Fields<'a> {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// 400: every wrong field, or where the JSON ends to be JSON.
    fn from_json(body: &'a [u8]) -> Result<Self, Malformed> {
        faults::need_object(body)?;
        read_json(body).map_err(|error| Self::wrong(body, &error))
    }

    /// Reads a form or a query string. An empty value is an absent one, because dial plans send what they
    /// have. A key that comes twice is wrong, for nobody knows which was meant.
    ///
    /// # Errors
    /// 400: every wrong field.
    fn from_form(form: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Self::default();
        form::read(form, |key, value, faulty| body.set(key, value, faulty))?;
        Ok(body)
    }

    /// Reads names and values that a protocol keeps apart by itself, as [`Self::from_form`] does those of a form.
    ///
    /// # Errors
    /// 400: every wrong field.
    fn from_pairs(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, Malformed> {
        let mut body = Self::default();
        form::read_pairs(pairs, Cow::Borrowed, |key, value, faulty| body.set(key, value, faulty))?;
        Ok(body)
    }

    /// Reads a body in either format, and the query for what the body does not say.
    ///
    /// # Errors
    /// 400 as the two above.
    fn parse(body: &'a [u8], format: BodyFormat, query: Option<&'a str>) -> Result<Self, Malformed> {
        let mut read = match format {
            BodyFormat::Form => Self::from_form(body)?,
            _ if body.trim_ascii().is_empty() => Self::default(),
            BodyFormat::Json | BodyFormat::Ndjson => Self::from_json(body)?,
        };
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            read.fill_from(Self::from_form(query.as_bytes())?);
        }
        Ok(read)
    }
}

impl<'a, B: Fields<'a>> Body<'a> for B {}

/// Reads JSON: what is text as a whole is not looked at again string by string.
pub(super) fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    }
}

/// Takes over the fields that are not said.
macro_rules! fill {
    ($own:ident from $other:ident: $($field:ident),+; lenient: $($lenient:ident),+) => {
        $(if $own.$field.is_none() { $own.$field = $other.$field; })+
        $(if let Lenient::Nothing = $own.$lenient { $own.$lenient = $other.$lenient; })+
    };
}

impl<'a> Fields<'a> for AcquireBody<'a> {
    fn set(&mut self, key: &str, value: Cow<'a, str>, faulty: &mut Faulty) {
        match key {
            "tenant" => self.tenant = Some(Text(value)),
            "subject" => self.subject = Some(Text(value)),
            "session" => self.session = Some(Text(value)),
            "to" => self.to = Some(Text(value)),
            "group" => self.group = Some(Text(value)),
            "node" => self.node = Some(Text(value)),
            "op" => self.op = Lenient::Text(value),
            "why" => self.why = Lenient::Text(value),
            "status" => self.status = Lenient::Text(value),
            "kind" => self.kind = faulty.word(key, &value).map(Worded),
            "direction" => self.direction = faulty.word(key, &value).map(Worded),
            "leg" => self.leg = faulty.word(key, &value).map(Worded),
            "device" => self.device = faulty.word(key, &value).map(Worded),
            "class" => self.class = faulty.word(key, &value).map(Worded),
            "emergency" => self.emergency = faulty.flag(key, &value),
            "external" => self.external = faulty.flag(key, &value),
            "existing" => self.existing = faulty.flag(key, &value),
            "epoch" => self.epoch = faulty.number(key, &value),
            "seq" => self.seq = faulty.number(key, &value),
            "ttl_s" => self.ttl_s = faulty.number(key, &value),
            _ => {}
        }
    }

    fn fill_from(&mut self, other: Self) {
        fill!(self from other: tenant, subject, session, kind, direction, leg, device, class, to, emergency, external,
            group, node, epoch, seq, ttl_s, existing; lenient: status, why);
    }

    fn wrong(body: &[u8], error: &serde_json::Error) -> Malformed {
        faults::of_acquire(body, error, Self::faults_left)
    }
}

impl<'a> AcquireBody<'a> {
    pub(super) fn faults_left(body: &[u8]) -> Option<Malformed> {
        serde_json::from_slice::<AcquireBody<'_>>(body).ok().and_then(|body| body.checked().err())
    }

    /// True if a denial is to be a 403 (`status=1`).
    pub fn wants_status(&self) -> bool {
        self.status.is_set()
    }

    /// The tenant as given, unchecked.
    pub fn tenant(&self) -> Option<&str> {
        lend(&self.tenant)
    }

    /// The node as given, unchecked.
    pub fn node(&self) -> Option<&str> {
        lend(&self.node)
    }

    /// The engine's request, unchecked: look for an emergency in it first (C14), then call
    /// [`Acquire::check`], or [`Self::checked`] at once.
    ///
    /// # Errors
    /// 400: no tenant or no kind.
    pub fn request(&self) -> Result<Acquire<'_>, Malformed> {
        let (Some(tenant), Some(kind)) = (self.tenant(), pick(self.kind)) else {
            return Err(self.missing());
        };
        Ok(Acquire {
            tenant,
            subject: lend(&self.subject),
            session: lend(&self.session),
            kind,
            direction: pick(self.direction),
            leg: pick(self.leg).unwrap_or(Leg::Originate),
            device: pick(self.device),
            class: pick(self.class),
            to: lend(&self.to),
            emergency: self.emergency.unwrap_or(false),
            external: self.external,
            group: lend(&self.group),
            node: lend(&self.node),
            epoch: self.epoch,
            seq: self.seq,
            ttl_s: self.ttl_s,
            existing: self.existing.unwrap_or(false),
        })
    }

    /// The engine's request, its shape checked.
    ///
    /// # Errors
    /// 400: every wrong field.
    pub fn checked(&self) -> Result<Acquire<'_>, Malformed> {
        let request = self.request()?;
        request.check().map_err(|faults| Malformed::from_faults(&faults))?;
        Ok(request)
    }

    /// The fields that are missing, with all else that is wrong.
    fn missing(&self) -> Malformed {
        let whole = Acquire {
            direction: pick(self.direction),
            ..Acquire::new(self.tenant().unwrap_or("-"), "-", "-", pick(self.kind).unwrap_or(Kind::Phone))
        };
        let asked = Acquire {
            subject: lend(&self.subject).or(whole.subject.filter(|_| self.kind.is_none())),
            session: lend(&self.session),
            leg: pick(self.leg).unwrap_or(Leg::Originate),
            to: lend(&self.to),
            group: lend(&self.group),
            node: lend(&self.node),
            epoch: self.epoch,
            seq: self.seq,
            ttl_s: self.ttl_s,
            ..whole
        };
        let mut errors = Vec::new();
        if self.tenant.is_none() {
            errors.push(FieldError::of("tenant", "is required: 1-64 of a-z 0-9 . _ -"));
        }
        if self.kind.is_none() {
            errors.push(FieldError::of("kind", "is required: one of desktop, mobile, phone, connector, guest, call"));
        }
        for fault in asked.check().err().unwrap_or_default() {
            errors.push(FieldError::of(fault.field, fault.what));
        }
        Malformed::faulty(errors)
    }

    /// The tenant of a node that speaks for one only, where the message names none.
    #[must_use]
    pub fn of_tenant(mut self, tenant: Option<&'a str>) -> Self {
        self.tenant = self.tenant.or(tenant.map(|tenant| Text(Cow::Borrowed(tenant))));
        self
    }

    /// Node and epoch of the message that this is a part of, where it names none of its own.
    pub fn inherit(&mut self, node: &'a str, epoch: Option<u64>) {
        if self.node.is_none() {
            self.node = Some(Text(Cow::Borrowed(node)));
        }
        if self.epoch.is_none() {
            self.epoch = epoch;
        }
    }

    pub(super) fn into_release(self) -> ReleaseBody<'a> {
        let AcquireBody { tenant, session, node, epoch, seq, why, .. } = self;
        ReleaseBody { tenant, session, node, epoch, seq, why }
    }
}

/// The fields of a release; unknown ones are ignored.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ReleaseBody<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    tenant: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    session: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    node: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Lenient::is_nothing")]
    why: Lenient<'a>,
}

impl<'a> Fields<'a> for ReleaseBody<'a> {
    fn set(&mut self, key: &str, value: Cow<'a, str>, faulty: &mut Faulty) {
        match key {
            "tenant" => self.tenant = Some(Text(value)),
            "session" => self.session = Some(Text(value)),
            "node" => self.node = Some(Text(value)),
            "why" => self.why = Lenient::Text(value),
            "epoch" => self.epoch = faulty.number(key, &value),
            "seq" => self.seq = faulty.number(key, &value),
            _ => {}
        }
    }

    fn fill_from(&mut self, other: Self) {
        fill!(self from other: tenant, session, node, epoch, seq; lenient: why);
    }

    fn wrong(body: &[u8], error: &serde_json::Error) -> Malformed {
        faults::of_release(body, error, Self::faults_left)
    }
}

impl<'a> ReleaseBody<'a> {
    fn faults_left(body: &[u8]) -> Option<Malformed> {
        serde_json::from_slice::<ReleaseBody<'_>>(body).ok().and_then(|body| body.checked().err())
    }

    /// The tenant of a node that speaks for one only, where the message names none.
    #[must_use]
    pub fn of_tenant(mut self, tenant: Option<&'a str>) -> Self {
        self.tenant = self.tenant.or(tenant.map(|tenant| Text(Cow::Borrowed(tenant))));
        self
    }

    /// The tenant as given, unchecked.
    pub fn tenant(&self) -> Option<&str> {
        lend(&self.tenant)
    }

    /// The node as given, unchecked.
    pub fn node(&self) -> Option<&str> {
        lend(&self.node)
    }

    /// The engine's request, its shape checked.
    ///
    /// # Errors
    /// 400: every wrong field.
    pub fn checked(&self) -> Result<Release<'_>, Malformed> {
        let request = Release {
            tenant: self.tenant().unwrap_or_default(),
            session: lend(&self.session).unwrap_or_default(),
            node: lend(&self.node),
            epoch: self.epoch,
            seq: self.seq,
            transferred: self.why.text() == TRANSFER,
        };
        request.check().map_err(|faults| Malformed::from_faults(&faults))?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{BATCH_OPS_MAX, Op, batch_ops};
    use super::super::node_calls::{InventoryBody, NodeBody};
    use super::*;

    fn pointers(problem: &Malformed) -> Vec<&str> {
        problem.errors().iter().map(|error| error.pointer.as_str()).collect()
    }

    /// The names of the fields of a JSON object.
    fn names(json: &[u8]) -> Vec<String> {
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json)
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn every_field_is_written_under_the_name_it_is_read_by() {
        let full = Acquire {
            direction: Some(Direction::Outbound),
            leg: Leg::Deliver,
            device: Some(Device::Dect),
            class: Some(Class::Lift),
            to: Some("030\"1"),
            emergency: true,
            external: Some(false),
            group: Some("sales"),
            node: Some("n1"),
            epoch: Some(7),
            seq: Some(8),
            ttl_s: Some(60),
            existing: true,
            ..Acquire::new("acme", "J\u{fc}rgen", "c1", Kind::Call)
        };
        let json = serde_json::to_vec(&AcquireBody::from(&full)).unwrap();
        let mut written = names(&json);
        // Of the envelope, or of who asks for plain text.
        written.extend(["op", "why", "status"].map(str::to_owned));
        written.sort();
        let mut read: Vec<&str> =
            faults::ACQUIRE.iter().map(|(name, _)| *name).chain(["op", "why", "status"]).collect();
        read.sort_unstable();
        assert_eq!(written, read);
        let back = AcquireBody::from_json(&json).unwrap();
        assert_eq!(format!("{:?}", back.checked().unwrap()), format!("{full:?}"));

        let bare = Acquire {
            direction: Some(Direction::Inbound),
            subject: None,
            ..Acquire::new("acme", "", "c1", Kind::Call)
        };
        let json = serde_json::to_vec(&AcquireBody::from(&bare)).unwrap();
        assert_eq!(names(&json), ["direction", "kind", "session", "tenant"], "what goes without saying is not said");

        let ended =
            Release { node: Some("n1"), epoch: Some(7), seq: Some(8), transferred: true, ..Release::new("acme", "c1") };
        let json = serde_json::to_vec(&ReleaseBody::from(&ended)).unwrap();
        let mut written = names(&json);
        written.sort();
        let mut read: Vec<&str> = faults::RELEASE.iter().map(|(name, _)| *name).chain(["why"]).collect();
        read.sort_unstable();
        assert_eq!(written, read);
        let back = ReleaseBody::from_json(&json).unwrap();
        assert_eq!(format!("{:?}", back.checked().unwrap()), format!("{ended:?}"));
    }

    #[test]
    fn the_same_request_reads_the_same_in_every_format() {
        let json = br#"{"tenant":"acme","subject":"anna","session":"n1-7-c","kind":"call","direction":"outbound",
            "leg":"deliver","to":"030 1","node":"n1","epoch":7,"seq":8,"ttl_s":60,"existing":true,"new_field":[1]}"#;
        let form = b"tenant=acme&subject=anna&session=n1-7-c&kind=call&direction=outbound&leg=deliver\
            &to=030+1&node=n1&epoch=7&seq=8&ttl_s=60&existing=1&new_field=x&group=";
        let form: Vec<u8> = form.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        let (json, form) = (AcquireBody::from_json(json).unwrap(), AcquireBody::from_form(&form).unwrap());
        let query =
            std::str::from_utf8(b"tenant=acme&subject=anna&session=n1-7-c&kind=call&direction=outbound").unwrap();
        let rest = br#"{"leg":"deliver","to":"030 1","node":"n1","epoch":7,"seq":8,"ttl_s":60,"existing":true}"#;
        let split = AcquireBody::parse(rest, BodyFormat::Json, Some(query)).unwrap();
        let want = format!("{:?}", json.checked().unwrap());
        assert_eq!(format!("{:?}", form.checked().unwrap()), want);
        assert_eq!(format!("{:?}", split.checked().unwrap()), want);
    }

    #[test]
    fn plain_strings_are_borrowed_and_escaped_ones_are_not_lost() {
        let body = br#"{"tenant":"acme","subject":"a\u00fcb","kind":"phone","session":"s"}"#;
        let read = AcquireBody::from_json(body).unwrap();
        assert!(matches!(read.tenant, Some(Text(Cow::Borrowed("acme")))));
        assert_eq!(read.checked().unwrap().subject, Some("aüb"));
    }

    #[test]
    fn every_fault_is_named() {
        for (body, want) in [
            (r#"{}"#, &["/tenant", "/kind", "/session"][..]),
            (r#"{"tenant":"a","subject":"b","session":"c","kind":"pigeon"}"#, &["/kind"]),
            (r#"{"tenant":1,"subject":[],"session":{},"kind":7}"#, &["/tenant", "/subject", "/session", "/kind"]),
            (r#"{"tenant":"a","subject":"b","session":"c","kind":"phone","epoch":-1,"seq":1.5}"#, &["/epoch", "/seq"]),
            (r#"{"tenant":"a","subject":"b","session":"c","kind":"phone","seq":1}"#, &["/epoch"]),
            (
                r#"{"tenant":"A","subject":"\n","session":"\u00fc","kind":"phone"}"#,
                &["/tenant", "/subject", "/session"],
            ),
            (
                r#"{"tenant":"a","subject":"b","kind":"x","emergency":"yes","ttl_s":0}"#,
                &["/kind", "/emergency", "/session", "/ttl_s"],
            ),
            (r#"{"tenant":"a","subject":"b","session":"c","kind":"call"}"#, &["/direction"]),
            (r#"{"tenant":"a","#, &[""]),
            (r#"[1]"#, &[""]),
            (r#"[]"#, &[""]),
            (r#"["a","b","c","phone"]"#, &[""]),
            (r#"{"tenant":"a","tenant":"b"}"#, &[""]),
        ] {
            let problem = match AcquireBody::from_json(body.as_bytes()) {
                Ok(read) => read.checked().unwrap_err(),
                Err(problem) => problem,
            };
            assert_eq!(pointers(&problem), want, "{body}");
        }
        let broken = AcquireBody::from_json(b"{\"tenant\":\n oops}").unwrap_err();
        assert!(broken.detail().contains("line 2 column"), "{}", broken.detail());
        let kind = AcquireBody::from_form(b"kind=pigeon").unwrap_err();
        assert!(kind.errors()[0].detail.contains("desktop, mobile"), "{kind:?}");
        let long = format!(r#"{{"tenant":"a","session":"{}"}}"#, "x".repeat(129));
        assert_eq!(pointers(&ReleaseBody::from_json(long.as_bytes()).unwrap().checked().unwrap_err()), ["/session"]);
    }

    #[test]
    fn a_release_ignores_what_only_an_acquire_knows() {
        let body = br#"{"op":"release","tenant":"a","session":"s","kind":7,"why":"transfer"}"#;
        let Op::Release(read) = Op::from_json(body).unwrap() else { panic!("not a release") };
        assert!(read.checked().unwrap().transferred);
        let body = br#"{"tenant":"a","session":"s","why":["odd"]}"#;
        assert!(!ReleaseBody::from_json(body).unwrap().checked().unwrap().transferred);
    }

    #[test]
    fn a_malformed_operation_leaves_the_others() {
        let body = br#"{"ops":[{"op":"acquire","tenant":"a","subject":"b","session":"c","kind":"phone"},
            {"op":"fly"},7,{"op":"release","tenant":"a","session":"c"}]}"#;
        let ops: Vec<_> = batch_ops(body).unwrap().into_iter().map(Op::from_json).collect();
        assert!(matches!(ops.as_slice(), [Ok(Op::Acquire(_)), Err(_), Err(_), Ok(Op::Release(_))]), "{ops:?}");
        assert_eq!(pointers(&batch_ops(b"{}").unwrap_err()), ["/ops"]);
        let many = format!(r#"{{"ops":[{}1]}}"#, "1,".repeat(BATCH_OPS_MAX));
        assert!(batch_ops(many.as_bytes()).unwrap_err().is_too_large());
    }

    #[test]
    fn an_inventory_is_read_whole_or_not_at_all() {
        let good = br#"{"epoch":3,"seq":9,"sessions":[
            {"tenant":"a","subject":"b","session":"c","kind":"phone","seq":4}]}"#;
        let read = InventoryBody::parse(good, "n1", 10).unwrap();
        let session = read.sessions[0].checked().unwrap();
        assert_eq!((session.node, session.epoch, session.seq), (Some("n1"), Some(3), Some(4)));
        let bad = br#"{"seq":9,"sessions":[{"tenant":"a","subject":"b","session":"c","kind":"phone"},{"kind":"x"}]}"#;
        let problem = InventoryBody::parse(bad, "n1", 10).unwrap_err();
        assert_eq!(pointers(&problem), ["/epoch", "/sessions/1/kind", "/sessions/1/tenant", "/sessions/1/session"]);
        assert!(InventoryBody::parse(good, "n1", 0).unwrap_err().is_too_large());
        assert_eq!(pointers(&InventoryBody::parse(b"{}", "n1", 1).unwrap_err()), ["/sessions"]);
    }

    #[test]
    fn a_node_message_is_its_epoch() {
        for (body, format, query) in [
            (&b"{\"epoch\":4}"[..], BodyFormat::Json, None),
            (b"epoch=4", BodyFormat::Form, None),
            (b"", BodyFormat::Form, Some("epoch=4")),
            (b"{}", BodyFormat::Json, Some("epoch=4")),
        ] {
            assert_eq!(NodeBody::parse(body, format, query).unwrap(), NodeBody { epoch: 4 });
        }
        for body in [&b"{\"epoch\":\"4\"}"[..], b"{}", b"{\"epoch\":-4}"] {
            assert_eq!(pointers(&NodeBody::parse(body, BodyFormat::Json, None).unwrap_err()), ["/epoch"]);
        }
    }

    #[test]
    fn the_format_is_named_or_seen() {
        for (header, body, want) in [
            (Some(&b"application/json; charset=utf-8"[..]), &b"{}"[..], Some(BodyFormat::Json)),
            (Some(b"application/x-www-form-urlencoded"), b"a=b", Some(BodyFormat::Form)),
            (Some(b"application/x-www-form-urlencoded"), b" {}", Some(BodyFormat::Json)),
            (Some(b"Application/X-NDJSON"), b"{}", Some(BodyFormat::Ndjson)),
            (Some(b"text/xml"), b"<a/>", None),
            (None, b"{}", Some(BodyFormat::Json)),
            (None, b"a=b", Some(BodyFormat::Form)),
        ] {
            assert_eq!(BodyFormat::of(header, body), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_a_request_or_a_named_fault(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            no_silent_fault(&body);
        }

        #[test]
        fn whatever_looks_like_a_request_is_one_or_a_named_fault(
            fields in proptest::collection::vec((field(), value()), 0..12),
        ) {
            let json: Vec<String> = fields.iter().map(|(field, value)| format!("\"{field}\":{value}")).collect();
            no_silent_fault(format!("{{{}}}", json.join(",")).as_bytes());
            let form: Vec<String> = fields.iter().map(|(field, value)| format!("{field}={value}")).collect();
            no_silent_fault(form.join("&").as_bytes());
            let inventory = format!("{{\"sessions\":[{{{}}}]}}", json.join(","));
            proptest::prop_assert!(InventoryBody::parse(inventory.as_bytes(), "n", 9).is_err(), "no epoch");
        }
    }

    fn field() -> impl proptest::strategy::Strategy<Value = String> {
        proptest::string::string_regex("tenant|subject|session|kind|epoch|seq|ttl_s|emergency|node|why|op|x").unwrap()
    }

    fn value() -> impl proptest::strategy::Strategy<Value = String> {
        let values =
            "1|-1|1\\.5|18446744073709551616|null|true|\"a\"|\"call\"|\"release\"|\"\\\\u0000\"|\\[1\\]|\\{\\}|\"%ff\"";
        proptest::string::string_regex(values).unwrap()
    }

    fn no_silent_fault(body: &[u8]) {
        let said = |problem: Malformed| assert!(!problem.is_too_large() && !problem.detail().is_empty());
        for format in [BodyFormat::Json, BodyFormat::Form] {
            let _ = AcquireBody::parse(body, format, None)
                .map(|read| read.checked().map(|_| ()).map_err(said))
                .map_err(said);
            let _ = ReleaseBody::parse(body, format, None)
                .map(|read| read.checked().map(|_| ()).map_err(said))
                .map_err(said);
            let _ = NodeBody::parse(body, format, None).map_err(said);
        }
        let _ = Op::from_json(body).map_err(said);
        let _ = super::super::hint::Hint::of(body, None);
    }
}
