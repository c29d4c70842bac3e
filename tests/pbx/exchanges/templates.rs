//! What the shipped recipes write on the wire, worked out from the files themselves with the variables of one call.

use std::collections::HashMap;
use std::path::Path;

/// Both messages of a call: path and body as the recipe makes them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) target: String,
    pub(crate) body: String,
}

const ADDRESS: &str = "http://127.0.0.1:7788";

pub(crate) fn recipe(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pbx").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The variables of a channel: upper and lower case are the same, as FreeSWITCH has them.
#[derive(Default)]
pub(crate) struct Variables(HashMap<String, String>);

impl Variables {
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Variables(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Replaces `${NAME}` and `${FUNCTION(arguments)}`, the innermost first, as both PBXs do.
    fn expand(&self, text: &str) -> String {
        let mut rest = text;
        let mut out = String::new();
        while let Some(at) = rest.find("${") {
            out += &rest[..at];
            let inside = balanced(&rest[at + 1..], '{', '}');
            rest = &rest[at + 1 + inside.len() + 2..];
            out += &match inside.split_once('(') {
                Some((function, arguments)) => self.call(function, arguments.strip_suffix(')').unwrap()),
                None => self.0.get(inside).cloned().unwrap_or_default(),
            };
        }
        out + rest
    }

    fn call(&self, function: &str, arguments: &str) -> String {
        let arguments = self.expand(arguments);
        match function {
            "URIENCODE" | "url_encode" => encoded(&arguments),
            "IF" => {
                let (left, rest) = arguments.strip_prefix("$[\"").unwrap().split_once("\" != \"\"]?").unwrap();
                if left.is_empty() { String::new() } else { rest.to_owned() }
            }
            _ => panic!("the recipe uses {function}(), which this test does not know"),
        }
    }
}

/// Percent-encoding of everything but letters, digits and `-._~`.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// What stands between the first bracket of `text`, which it begins with, and the one that closes it.
fn balanced(text: &str, open: char, close: char) -> &str {
    assert!(text.starts_with(open), "{text}");
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        depth += i32::from(letter == open) - i32::from(letter == close);
        if depth == 0 {
            return &text[1..at];
        }
    }
    panic!("`{open}` is never closed: {text}");
}

/// The dial plan of Asterisk from `[usherd-ask]` on: its `Set()` lines are carried out, then its `CURL()` is read.
pub(crate) fn asterisk(verb: &str, mut variables: Variables) -> Written {
    let file = recipe("asterisk/extensions_usherd.conf");
    for line in file.lines().filter(|line| !line.starts_with(';')) {
        let Some(at) = line.find("Set(") else { continue };
        let (name, value) = balanced(&line[at + 3..], '(', ')').split_once('=').unwrap();
        if let Some(at) = line.find("CURL(") {
            let (url, body) = balanced(&line[at + 4..], '(', ')').split_once(',').unwrap();
            let target = url.strip_prefix(ADDRESS).unwrap();
            if target.ends_with(verb) {
                return Written { target: target.to_owned(), body: variables.expand(body) };
            }
        } else if name.starts_with("USHERD_") {
            let value = variables.expand(value);
            variables.set(name, value);
        }
    }
    panic!("no CURL() for {verb}");
}

/// The same of the FastAGI variant: its body is the query of the script.
pub(crate) fn asterisk_agi(verb: &str, mut variables: Variables) -> Written {
    let file = recipe("asterisk/extensions_usherd_agi.conf");
    for line in file.lines().filter(|line| !line.starts_with(';')) {
        if let Some(at) = line.find(",AGI(") {
            let url = variables.expand(balanced(&line[at + 4..], '(', ')'));
            let target = url.strip_prefix("agi://127.0.0.1:4573").unwrap();
            let (target, body) = target.split_once('?').unwrap();
            if target.ends_with(verb) {
                return Written { target: target.to_owned(), body: body.to_owned() };
            }
        } else if let Some(at) = line.find("Set(USHERD_") {
            let (name, value) = balanced(&line[at + 3..], '(', ')').split_once('=').unwrap();
            let value = variables.expand(value);
            variables.set(name, value);
        }
    }
    panic!("no AGI() for {verb}");
}

/// The extension `usherd_ask` of FreeSWITCH: its `set` actions are carried out, the others under `else` where there
/// is no epoch.
pub(crate) fn freeswitch(verb: &str, mut variables: Variables) -> Written {
    let file = recipe("freeswitch/dialplan/usherd.xml");
    let ask = file.split("<extension name=\"usherd_ask\">").nth(1).unwrap().split("</extension>").next().unwrap();
    let orders = if variables.expand("${usherd_epoch}").is_empty() { "<anti-action " } else { "<action " };
    for line in ask.lines().map(str::trim) {
        let wanted = if line.contains("_order=") || line.contains("_order=\"") { orders } else { "<action " };
        let Some(action) = line.strip_prefix(wanted) else { continue };
        let data = action.split("data=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
        let request = if action.starts_with("application=\"curl\"") {
            Some(data.clone())
        } else {
            let (name, value) = data.split_once('=').unwrap_or((&data, ""));
            let value = variables.expand(value);
            variables.set(name, value.clone());
            (name == "api_hangup_hook").then(|| value.strip_prefix("curl ").unwrap().to_owned())
        };
        let Some(request) = request.map(|request| variables.expand(&request)) else { continue };
        let (url, method) = (request.split(' ').next().unwrap(), request.split(' ').next_back().unwrap());
        let target = url.strip_prefix(ADDRESS).unwrap();
        assert_eq!(method, "post");
        if target.split('?').next().unwrap().ends_with(verb) {
            return Written { target: target.to_owned(), body: String::new() };
        }
    }
    panic!("no curl for {verb}");
}

/// The script of OpenSIPS: strings and pseudo-variables, joined by plus signs.
pub(crate) fn opensips(verb: &str, variables: &[(&str, &str)]) -> Written {
    let file = recipe("opensips/usherd.cfg");
    let post = format!("rest_post(\"{ADDRESS}/v1/{verb}\", ");
    let body_name = file.split(&post).nth(1).unwrap().split(',').next().unwrap();
    let assignment = file.split(&format!("{body_name} = ")).nth(1).unwrap().split(";\n").next().unwrap();
    let body = assignment.split(" + ").map(|part| match part.strip_prefix('"') {
        Some(text) => text.strip_suffix('"').unwrap().to_owned(),
        None => {
            let name = part.strip_prefix("$(").map_or(part, |inner| inner.strip_suffix(')').unwrap());
            let (name, escape) = name.strip_suffix("{rest.escape}").map_or((name, false), |name| (name, true));
            let known = variables.iter().find(|(known, _)| *known == name);
            let value = known.unwrap_or_else(|| panic!("the recipe uses {part}, which this test does not know")).1;
            if escape { encoded(value) } else { value.to_owned() }
        }
    });
    Written { target: format!("/v1/{verb}"), body: body.collect() }
}
