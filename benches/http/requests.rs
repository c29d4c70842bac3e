//! The requests: acquires and releases of one phone call each, in every format that is compared.

use std::fmt::Write as _;

/// Calls that a connection goes through.
const CALLS: usize = 16;

/// Names of a call of a connection.
pub(crate) struct Call {
    pub tenant: String,
    pub subject: String,
    pub session: String,
}

impl Call {
    pub(crate) fn of(connection: usize, number: usize) -> Self {
        let at = connection * CALLS + number;
        Call {
            tenant: format!("tenant-{:05}", at % 1_000),
            subject: format!("anna.schmidt-{at}@acme.example"),
            session: format!("pbx1-1718000000-{at:010}.4567"),
        }
    }

    pub(crate) fn json(&self) -> (String, String) {
        let Call { tenant, subject, session } = self;
        let acquire = format!(
            r#"{{"tenant":"{tenant}","subject":"{subject}","session":"{session}","kind":"call","direction":"outbound","to":"03012345678","node":"pbx1","epoch":1718000000,"ttl_s":3600}}"#
        );
        (acquire, format!(r#"{{"tenant":"{tenant}","session":"{session}","node":"pbx1","epoch":1718000000}}"#))
    }

    fn form(&self) -> (String, String) {
        let Call { tenant, subject, session } = self;
        let subject = subject.replace('@', "%40");
        let acquire = format!(
            "tenant={tenant}&subject={subject}&session={session}&kind=call&direction=outbound&to=03012345678&node=pbx1&epoch=1718000000&ttl_s=3600"
        );
        (acquire, format!("tenant={tenant}&session={session}&node=pbx1&epoch=1718000000"))
    }
}

pub(crate) fn post(path: &str, content_type: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:7788\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn pairs(connection: usize, of: impl Fn(&Call) -> [Vec<u8>; 2]) -> Vec<Vec<u8>> {
    (0..CALLS).flat_map(|number| of(&Call::of(connection, number))).collect()
}

pub(crate) fn json(connection: usize) -> Vec<Vec<u8>> {
    pairs(connection, |call| {
        let (acquire, release) = call.json();
        [post("/v1/acquire", "application/json", &acquire), post("/v1/release", "application/json", &release)]
    })
}

pub(crate) fn form(connection: usize) -> Vec<Vec<u8>> {
    const FORM: &str = "application/x-www-form-urlencoded";
    pairs(connection, |call| {
        let (acquire, release) = call.form();
        [post("/v1/acquire", FORM, &acquire), post("/v1/release", FORM, &release)]
    })
}

/// A hundred decisions: 50 calls come, then the same go.
pub(crate) fn batch(connection: usize) -> Vec<Vec<u8>> {
    let calls: Vec<_> = (0..50).map(|number| Call::of(1_000 + connection * 4, number).json()).collect();
    let mut body = String::from("{\"ops\":[");
    let acquires = calls.iter().map(|(acquire, _)| ("acquire", acquire));
    let releases = calls.iter().map(|(_, release)| ("release", release));
    for (at, (op, text)) in acquires.chain(releases).enumerate() {
        let comma = if at > 0 { "," } else { "" };
        assert!(write!(body, "{comma}{{\"op\":\"{op}\",{}", &text[1..]).is_ok());
    }
    body.push_str("]}");
    vec![post("/v1/batch", "application/json", &body)]
}

/// A command as an array of strings.
pub(crate) fn resp(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        assert!(write!(text, "${}\r\n{word}\r\n", word.len()).is_ok());
    }
    text.into_bytes()
}

/// The same calls for a Redis with both scripts; several in one write where `pipelined` says so.
pub(crate) fn redis(connection: usize, acquire: &str, release: &str, pipelined: usize) -> Vec<Vec<u8>> {
    let single = pairs(connection, |call| {
        let session = format!("s:{}:{}", call.tenant, call.session);
        let (claims, tenant) = (format!("c:{}:", call.tenant), format!("t:{}", call.tenant));
        [
            resp(&["EVALSHA", acquire, "3", &session, &claims, &tenant, &call.subject, "3600"]),
            resp(&["EVALSHA", release, "3", &session, &claims, &tenant]),
        ]
    });
    single.chunks(pipelined).map(<[Vec<u8>]>::concat).collect()
}

/// The same calls over our own RESP listener.
pub(crate) fn commands(connection: usize, pipelined: usize) -> Vec<Vec<u8>> {
    let single = pairs(connection, |call| {
        let Call { tenant, subject, session } = call;
        [
            resp(&["CU.ACQUIRE", tenant, subject, session, "call", "direction", "outbound", "ttl_s", "3600"]),
            resp(&["CU.RELEASE", tenant, session]),
        ]
    });
    single.chunks(pipelined).map(<[Vec<u8>]>::concat).collect()
}
