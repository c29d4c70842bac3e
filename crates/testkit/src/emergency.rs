//! The table of numbers that are dialled in an emergency, for the tests of each recipe.

/// One line of the table.
pub struct Row {
    /// Its number in the file, which names its calls.
    pub line: usize,
    /// The digits for an outside line; `-` is none.
    pub prefix: String,
    /// The text that a phone sends.
    pub dialled: String,
    /// True if it is an emergency call.
    pub is_emergency: bool,
    /// True if each recipe has to recognise it by itself; otherwise it may ask, and the daemon recognises it.
    pub for_all: bool,
}

/// All of them.
pub fn rows() -> Vec<Row> {
    let lines = include_str!("emergency.tsv").lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    let rows: Vec<Row> = lines
        .map(|(number, line)| {
            let [prefix, dialled, emergency, by] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            assert!(["yes", "no"].contains(&emergency) && ["all", "asked"].contains(&by), "{line}");
            Row {
                line: number + 1,
                prefix: prefix.to_owned(),
                dialled: unescaped(dialled),
                is_emergency: emergency == "yes",
                for_all: by == "all",
            }
        })
        .collect();
    assert!(rows.len() > 60, "{} rows", rows.len());
    rows
}

/// `\u{200b}` is one character.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\u{");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('}').unwrap();
        out.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
        out += rest;
    }
    out
}

impl Row {
    /// The digits for an outside line; empty is none.
    pub fn outside(&self) -> &str {
        if self.prefix == "-" { "" } else { &self.prefix }
    }

    /// The address of the INVITE in which a phone of this domain sends it, where it can be one.
    pub fn as_request_uri(&self, domain: &str) -> Option<String> {
        let text = &self.dialled;
        let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("urn") => Some(text.clone()),
            // A proxy routes these by their host, or cannot route them at all.
            Some(_) => None,
            None if text.contains('@') => None,
            None => Some(format!("sip:{}@{domain}", escaped(text))),
        }
    }
}

/// The user part of an address: characters that are not allowed there are percent-encoded.
pub fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
