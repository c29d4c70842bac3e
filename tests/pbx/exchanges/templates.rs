//! The requests of the shipped recipes on the wire, worked out from the files themselves with the variables of one
//! call.

use std::path::Path;

use super::dialplan::{Channel, Dialplan, End};
use super::switch::Switch;

/// Both messages of a call: path and body as the recipe makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) target: String,
    pub(crate) body: String,
}

const ADDRESS: &str = "http://127.0.0.1:7788";

pub(crate) fn recipe(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pbx").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Percent-encoding of everything but letters, digits and `-._~`.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The text between the first bracket of `text`, which it begins with, and the one that closes it.
pub(super) fn balanced(text: &str, open: char, close: char) -> &str {
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

/// Both messages of a call through a dial plan of Asterisk: of the caller and number that `channel` names.
fn of_asterisk(file: &str, verb: &str, channel: &[(&str, &str)]) -> Written {
    let plan = Dialplan::shipped(file);
    let mut asked = Vec::new();
    let mut answers = |written: &Written| {
        asked.push(written.clone());
        "allow.new".to_owned()
    };
    let mut call = Channel::new(&plan, channel, &mut answers);
    let argument = |name: &str| encoded(channel.iter().find(|(known, _)| *known == name).unwrap().1);
    let arguments = format!("{},{},{}", argument("ARG1"), argument("ARG2"), argument("ARG3"));
    assert_eq!(call.ask(&arguments), End::Returned);
    assert_eq!(call.hang_up(), End::Returned);
    asked.into_iter().find(|written| written.target.ends_with(verb)).unwrap()
}

/// The request of the dial plan with `CURL()`.
pub(crate) fn asterisk(verb: &str, channel: &[(&str, &str)]) -> Written {
    of_asterisk("extensions_usherd.conf", verb, channel)
}

/// The same of the FastAGI variant: its body is the query of the script.
pub(crate) fn asterisk_agi(verb: &str, channel: &[(&str, &str)]) -> Written {
    of_asterisk("extensions_usherd_agi.conf", verb, channel)
}

/// The request of FreeSWITCH's dial plan.
pub(crate) fn freeswitch(verb: &str, channel: &[(&str, &str)]) -> Written {
    let mut asked = Vec::new();
    let mut answers = |written: &Written| {
        asked.push(written.clone());
        ("200", "allow.new".to_owned())
    };
    let mut call = Switch::new(channel, &mut answers);
    call.execute("usherd_ask");
    call.hang_up();
    let fits = |written: &Written| written.target.split('?').next().unwrap().ends_with(verb);
    asked.into_iter().find(fits).unwrap()
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
