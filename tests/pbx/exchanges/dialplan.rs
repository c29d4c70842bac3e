//! As much of an Asterisk as the recipe's dial plans need: what they ask, and where a call goes, from the files themselves.

use std::collections::HashMap;
use std::process::Command;

use super::templates::{Written, balanced, encoded, recipe};

/// One line of an extension.
struct Step {
    label: String,
    application: String,
    data: String,
}

/// The contexts of a file, and their extensions.
pub(crate) struct Dialplan(HashMap<(String, String), Vec<Step>>);

/// Where a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The call may be made.
    Returned,
    /// The cause that the caller hears of.
    Refused(String),
    /// It has left by this.
    Dialled(String),
}

/// The answers of usherd to a path and a form.
pub(crate) type Answers<'a> = &'a mut dyn FnMut(&Written) -> String;

/// One channel.
pub(crate) struct Channel<'a> {
    plan: &'a Dialplan,
    pub(crate) variables: HashMap<String, String>,
    /// The channels that it has started.
    pub(crate) originated: Vec<String>,
    answers: Answers<'a>,
}

impl Dialplan {
    pub(crate) fn shipped(file: &str) -> Self {
        let (mut plan, mut context, mut exten) = (HashMap::new(), String::new(), String::new());
        for line in recipe(&format!("asterisk/{file}"))
            .lines()
            .filter(|line| !line.trim_start().starts_with(';') && !line.is_empty())
        {
            if let Some(name) = line.strip_prefix('[') {
                name.trim_end_matches(']').clone_into(&mut context);
                continue;
            }
            let step = match line.strip_prefix("exten => ") {
                Some(rest) => {
                    let (name, step) = rest.split_once(',').unwrap();
                    name.clone_into(&mut exten);
                    step
                }
                None => line.strip_prefix(" same => ").unwrap(),
            };
            let (priority, rest) = step.split_once(',').unwrap();
            let (application, _) = rest.split_once('(').unwrap();
            let data = rest[application.len() + 1..].strip_suffix(')').unwrap();
            let label = priority.strip_prefix("n(").map_or("", |label| label.trim_end_matches(')'));
            plan.entry((context.clone(), exten.clone())).or_insert_with(Vec::new).push(Step {
                label: label.to_owned(),
                application: application.to_owned(),
                data: data.to_owned(),
            });
        }
        Dialplan(plan)
    }

    /// The extension that a number leads to, patterns included.
    fn extension(&self, context: &str, number: &str) -> Option<&str> {
        let mut names: Vec<&str> = self.0.keys().filter(|key| key.0 == context).map(|key| key.1.as_str()).collect();
        names.sort_unstable();
        names.into_iter().rev().find(|name| fits(name, number))
    }
}

/// True if a number is this extension, or fits this pattern.
fn fits(extension: &str, number: &str) -> bool {
    let Some(mut pattern) = extension.strip_prefix('_') else { return extension == number };
    let mut digits = number.chars();
    while let Some(first) = pattern.chars().next() {
        let Some(digit) = digits.next() else { return false };
        if first == '[' {
            let set = balanced(pattern, '[', ']');
            if !set.contains(digit) {
                return false;
            }
            pattern = &pattern[set.len() + 2..];
        } else if first == digit {
            pattern = &pattern[1..];
        } else {
            return false;
        }
    }
    digits.next().is_none()
}

impl<'a> Channel<'a> {
    pub(crate) fn new(plan: &'a Dialplan, variables: &[(&str, &str)], answers: Answers<'a>) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Channel { plan, variables, originated: Vec::new(), answers }
    }

    /// `Gosub(usherd-ask,s,1(…))` with these arguments, split as Asterisk splits them.
    pub(crate) fn ask(&mut self, arguments: &str) -> End {
        let arguments = split_arguments(arguments);
        self.set("ARGC", &arguments.len().to_string());
        for (number, argument) in arguments.iter().enumerate() {
            self.set(&format!("ARG{}", number + 1), argument);
        }
        self.run("usherd-ask", "s")
    }

    /// The caller has hung up.
    pub(crate) fn hang_up(&mut self) -> End {
        self.run("usherd-release", "s")
    }

    fn set(&mut self, name: &str, value: &str) {
        let name = name.strip_prefix("GLOBAL(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(name);
        self.variables.insert(name.trim_start_matches('_').to_owned(), value.to_owned());
    }

    fn run(&mut self, context: &str, exten: &str) -> End {
        let plan = self.plan;
        let (mut context, mut exten) = (context.to_owned(), exten.to_owned());
        let (mut at, mut turns) = (0, 0);
        loop {
            turns += 1;
            assert!(turns < 200, "it goes round and round");
            let name = plan.extension(&context, &exten).unwrap_or_else(|| panic!("no {exten} in {context}"));
            let steps = &plan.0[&(context.clone(), name.to_owned())];
            let step = &steps[at];
            at += 1;
            self.set("EXTEN", &exten);
            let data = self.expand(&step.data);
            match step.application.as_str() {
                "Return" => return End::Returned,
                "Hangup" => return End::Refused(data),
                "Dial" => return End::Dialled(data),
                "GotoIf" | "Goto" => {
                    let target = if step.application == "Goto" { Some(data.as_str()) } else { chosen(&data) };
                    let Some(target) = target else { continue };
                    match target.split(',').collect::<Vec<_>>()[..] {
                        [label] => at = steps.iter().position(|step| step.label == label).unwrap(),
                        [number, "1"] => (exten, at) = (number.to_owned(), 0),
                        [other, number, "1"] => (context, exten, at) = (other.to_owned(), number.to_owned(), 0),
                        _ => panic!("{data}"),
                    }
                }
                "GosubIf" => {
                    if let Some(target) = chosen(&data) {
                        let [context, exten, "1"] = target.split(',').collect::<Vec<_>>()[..] else { panic!("{data}") };
                        assert_eq!(self.run(context, exten), End::Returned, "{data}");
                    }
                }
                "ExecIf" => {
                    if let Some(inner) = chosen(&data) {
                        let (application, rest) = inner.split_once('(').unwrap();
                        self.apply(application, rest.strip_suffix(')').unwrap());
                    }
                }
                application => self.apply(application, &data),
            }
        }
    }

    fn apply(&mut self, application: &str, data: &str) {
        match application {
            "Set" => {
                let (name, value) = data.split_once('=').unwrap();
                self.set(name, value);
            }
            "AGI" => {
                let (target, body) = data.strip_prefix("agi://127.0.0.1:4573").unwrap().split_once('?').unwrap();
                let code = (self.answers)(&Written { target: target.to_owned(), body: body.to_owned() });
                // What the scripts' listener leaves on the channel.
                let code = match code.split(' ').next().unwrap() {
                    problem if problem.contains("/problems/malformed") => "error",
                    problem if problem.starts_with('{') => "unavailable",
                    code => code,
                };
                self.set("USHERD_CODE", code);
                let allows = if code.is_empty() {
                    ""
                } else if code.starts_with("deny.") {
                    "0"
                } else {
                    "1"
                };
                self.set("USHERD_ALLOW", allows);
            }
            "Playback" => self.set("PLAYBACKSTATUS", "FAILED"),
            "Originate" => self.originated.push(data.to_owned()),
            "Progress" | "PlayTones" | "Wait" | "StackPop" => {}
            _ => panic!("the recipe uses {application}(), which this test does not know"),
        }
    }

    /// Replaces `${NAME}`, `${NAME:1:2}`, `${FUNCTION(arguments)}` and `$[expression]`, the innermost first.
    fn expand(&mut self, text: &str) -> String {
        let (mut rest, mut out) = (text, String::new());
        while let Some(at) = rest.find("${").into_iter().chain(rest.find("$[")).min() {
            out += &rest[..at];
            let (open, close) = if rest[at..].starts_with("${") { ('{', '}') } else { ('[', ']') };
            let inside = balanced(&rest[at + 1..], open, close);
            rest = &rest[at + 1 + inside.len() + 2..];
            out += &if open == '[' {
                evaluated(&self.expand(inside))
            } else if let Some((function, arguments)) = inside.split_once('(') {
                let arguments = self.expand(arguments.strip_suffix(')').unwrap());
                self.call(function, &arguments)
            } else {
                self.value(inside)
            };
        }
        out + rest
    }

    fn value(&self, text: &str) -> String {
        let mut parts = text.split(':');
        let value = self.variables.get(parts.next().unwrap()).cloned().unwrap_or_default();
        let length = value.len();
        let place = |part: Option<&str>, or: usize| match part.map(|part| part.parse::<isize>().unwrap()) {
            None => or,
            Some(number) if number < 0 => length.saturating_sub(number.unsigned_abs()),
            Some(number) => length.min(number.unsigned_abs()),
        };
        let from = place(parts.next(), 0);
        let part = parts.next();
        let to = match part {
            Some(part) if !part.starts_with('-') => length.min(from + part.parse::<usize>().unwrap()),
            part => place(part, length),
        };
        value.get(from..to.max(from)).unwrap_or_default().to_owned()
    }

    fn call(&mut self, function: &str, arguments: &str) -> String {
        match function {
            "URIENCODE" => encoded(arguments),
            "URIDECODE" => {
                let bytes = percent_encoding::percent_decode_str(arguments).collect::<Vec<u8>>();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            "ISNULL" => u8::from(arguments.is_empty()).to_string(),
            "LEN" => arguments.len().to_string(),
            "IF" => chosen(arguments).unwrap_or_default().to_owned(),
            "REGEX" => {
                let (pattern, text) = arguments.strip_prefix('"').unwrap().split_once('"').unwrap();
                u8::from(matches("-E", pattern, text.strip_prefix(' ').unwrap_or(text))).to_string()
            }
            "FILTER" => filter(arguments),
            "DIALPLAN_EXISTS" => {
                let parts: Vec<&str> = arguments.split(',').collect();
                u8::from(self.plan.extension(parts[0], parts[1]).is_some()).to_string()
            }
            // Of this channel, of Asterisk, of its database: here it is one map. No other channel lives.
            "GLOBAL" => self.value(arguments),
            "IMPORT" => String::new(),
            "DB_DELETE" => self.variables.remove(&format!("DB({arguments})")).unwrap_or_default(),
            "CALLERID" => self.value(&format!("CALLERID({arguments})")),
            "FIELDQTY" => {
                assert_eq!(arguments, "CHANNEL(name),-");
                self.value("CHANNEL").split('-').count().to_string()
            }
            "CUT" => {
                let last = arguments.strip_prefix("CHANNEL(name),-,1-").unwrap().parse().unwrap();
                self.value("CHANNEL").split('-').take(last).collect::<Vec<_>>().join("-")
            }
            "CHANNEL" => self.value("CHANNEL").split('/').next().unwrap().to_owned(),
            "CURL" => {
                let (url, body) = arguments.split_once(',').unwrap();
                // A second daemon is told by its whole address.
                let target = url.strip_prefix("http://127.0.0.1:7788").unwrap_or(url).to_owned();
                assert!(target.contains("/v1/"), "{target}");
                (self.answers)(&Written { target, body: body.to_owned() })
            }
            _ => panic!("the recipe uses {function}(), which this test does not know"),
        }
    }
}

/// `condition?yes:no`, both optional: a condition is true unless empty or 0.
fn chosen(text: &str) -> Option<&str> {
    let (condition, rest) = text.split_once('?').unwrap();
    let (yes, no) = rest.split_once(':').unwrap_or((rest, ""));
    Some(if is_true(condition) { yes } else { no }).filter(|part| !part.is_empty())
}

/// As much of `$[…]` as there is: one less than a number, but not less than one; otherwise whether it is true.
fn evaluated(text: &str) -> String {
    match text.strip_suffix(" - 1 | 1") {
        Some(number) => (number.parse::<usize>().unwrap() - 1).max(1).to_string(),
        None => u8::from(is_true(text)).to_string(),
    }
}

/// `|` of `&` of comparisons.
fn is_true(text: &str) -> bool {
    text.split(" | ").any(|part| part.split(" & ").all(holds))
}

fn holds(text: &str) -> bool {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('!') {
        return !holds(rest);
    }
    let plain = |part: &str| part.trim().trim_matches('"').to_owned();
    if let Some((left, right)) = text.split_once(" != ") {
        plain(left) != plain(right)
    } else if let Some((left, right)) = text.split_once(" = ") {
        plain(left) == plain(right)
    } else if let Some((left, right)) = text.split_once(" > ") {
        plain(left).parse::<i64>().unwrap() > plain(right).parse::<i64>().unwrap()
    } else {
        !["", "0"].contains(&text)
    }
}

fn filter(arguments: &str) -> String {
    let (allowed, text) = arguments.split_once(',').unwrap();
    let keeps = |letter: char| match allowed {
        "0-9" => letter.is_ascii_digit(),
        "0-9A-Za-z+" => letter.is_ascii_alphanumeric() || letter == '+',
        "\\x20-\\x7e\\x80-\\xff" => !letter.is_ascii_control(),
        "a-z._" => letter.is_ascii_lowercase() || "._".contains(letter),
        _ => panic!("{allowed}"),
    };
    text.chars().filter(|letter| keeps(*letter)).collect()
}

/// Commas within brackets separate nothing.
fn split_arguments(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0_i32);
    for letter in text.chars() {
        depth = (depth + i32::from(letter == '(') - i32::from(letter == ')')).max(0);
        if letter == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(letter);
        }
    }
    parts
}

/// True if this kind of regular expression matches a text: `-E` as in the C library, `-P` as in PCRE.
pub(crate) fn matches(kind: &str, pattern: &str, text: &str) -> bool {
    let mut grep = Command::new("grep");
    grep.args([kind, "-qze", pattern]).env("LC_ALL", "C").stdin(std::process::Stdio::piped());
    let mut grep = grep.spawn().unwrap();
    std::io::Write::write_all(&mut grep.stdin.take().unwrap(), &[text.as_bytes(), b"\0"].concat()).unwrap();
    let status = grep.wait().unwrap().code();
    assert!(matches!(status, Some(0 | 1)), "grep {kind} {pattern}: {status:?}");
    status == Some(0)
}
