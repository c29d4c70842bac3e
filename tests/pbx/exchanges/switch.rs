//! As much of a FreeSWITCH as the recipe's context needs: what it asks, and where a call goes, from the file itself.

use std::collections::HashMap;

use super::dialplan::{End, matches};
use super::templates::{Written, balanced, encoded, recipe};

/// The answers of usherd to an address: the status and the body.
pub(crate) type Answers<'a> = &'a mut dyn FnMut(&Written) -> (&'static str, String);

/// One channel, in the context `usherd`.
pub(crate) struct Switch<'a> {
    pub(crate) variables: HashMap<String, String>,
    /// The variables that a leg that this channel calls would get.
    pub(crate) exported: HashMap<String, String>,
    file: String,
    answers: Answers<'a>,
    end: Option<End>,
}

/// An element's attribute.
fn attribute<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    Some(tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0)
}

fn plain(text: &str) -> String {
    text.replace("&amp;", "&").replace("&quot;", "\"")
}

impl<'a> Switch<'a> {
    pub(crate) fn new(variables: &[(&str, &str)], answers: Answers<'a>) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let file = recipe("freeswitch/dialplan/usherd.xml");
        let file = file.split_once("<include>").unwrap().1.to_owned();
        Switch { variables, exported: HashMap::new(), file, answers, end: None }
    }

    /// `execute_extension`, to its end; where the call went, if not on.
    pub(crate) fn execute(&mut self, destination: &str) -> Option<End> {
        let extensions: Vec<String> = self.file.split("<extension ").skip(1).map(str::to_owned).collect();
        for extension in extensions {
            let actions = self.actions(&extension, destination);
            if !actions.is_empty() {
                for (application, data) in actions {
                    if self.end.is_none() {
                        self.apply(&application, &data);
                    }
                }
                break;
            }
        }
        self.end.clone()
    }

    /// The caller has hung up: what is told at once, and what the scheduler tells later.
    pub(crate) fn hang_up(&mut self) {
        let hook = self.variables["api_hangup_hook"].clone();
        let request = self.expand(hook.strip_prefix("curl ").unwrap());
        self.curl(&request);
        let hook = self.variables["api_reporting_hook"].clone();
        let later = self.expand(hook.strip_prefix("sched_api ").unwrap());
        self.scheduled(&later, "+30 none");
    }

    /// The scheduler's time has come for the renewal, if there is one.
    pub(crate) fn renew(&mut self) {
        if let Some(task) = self.variables.get("usherd_renewal").cloned() {
            let group = format!("@60 {}", self.variables["uuid"]);
            self.scheduled(&task, &group);
        }
    }

    /// `sched_api TIME GROUP curl …&`, once.
    fn scheduled(&mut self, task: &str, time_and_group: &str) {
        let command = task.strip_prefix(time_and_group).unwrap_or_else(|| panic!("{task}"));
        let request = command.strip_prefix(" curl ").unwrap().strip_suffix('&').unwrap().to_owned();
        assert!(request.contains(" connect-timeout 1 timeout 2 "), "{request}");
        self.curl(&request);
    }

    /// The actions of an extension for a destination; none where its conditions do not hold.
    fn actions(&mut self, extension: &str, destination: &str) -> Vec<(String, String)> {
        let mut actions = Vec::new();
        for condition in extension.split("<condition ").skip(1) {
            let tag = format!(" {}", condition.split_once('>').unwrap().0);
            let field = match attribute(&tag, "field").unwrap() {
                "destination_number" => destination.to_owned(),
                field => self.expand(field),
            };
            let expression = attribute(&tag, "expression").unwrap();
            let holds = matches("-P", expression, &field);
            // Of an expression with brackets, they hold what it needs: all of it up to the first blank.
            let captured = field.split(' ').next().unwrap_or_default();
            let wanted = if holds { "<action " } else { "<anti-action " };
            let body = if tag.ends_with('/') { "" } else { condition.split_once('>').unwrap().1 };
            for action in
                body.split("</condition>").next().unwrap().lines().filter_map(|l| l.trim().strip_prefix(wanted))
            {
                let action = format!(" {action}");
                let data = plain(attribute(&action, "data").unwrap_or_default()).replace("$1", captured);
                actions.push((attribute(&action, "application").unwrap().to_owned(), data));
            }
            if !holds && attribute(&tag, "break") != Some("never") {
                break;
            }
        }
        actions
    }

    fn apply(&mut self, application: &str, data: &str) {
        match application {
            "set" | "export" => {
                let (name, value) = data.split_once('=').unwrap();
                let value = self.expand(value);
                let (local, name) = name.strip_prefix("nolocal:").map_or((true, name), |name| (false, name));
                if application == "export" {
                    self.exported.insert(name.to_owned(), value.clone());
                }
                if local {
                    self.variables.insert(name.to_owned(), value);
                }
            }
            "curl" => {
                let request = self.expand(data);
                self.curl(&request);
            }
            "execute_extension" => {
                let destination = data.strip_suffix(" XML usherd").unwrap();
                self.execute(destination);
            }
            "hangup" => self.end = Some(End::Refused(data.to_owned())),
            "pre_answer" | "playback" | "respond" => {}
            _ => panic!("the recipe uses {application}, which this test does not know"),
        }
    }

    fn curl(&mut self, request: &str) {
        let (url, method) = (request.split(' ').next().unwrap(), request.split(' ').next_back().unwrap());
        assert_eq!(method, "post");
        let target = url.strip_prefix("http://127.0.0.1:7788").unwrap().to_owned();
        let (status, body) = (self.answers)(&Written { target, body: String::new() });
        self.variables.insert("curl_response_code".to_owned(), status.to_owned());
        self.variables.insert("curl_response_data".to_owned(), body);
    }

    /// Replaces `${name}`, `${url_encode(…)}`, and `${sched_api(…)}` by what is to be scheduled.
    fn expand(&self, text: &str) -> String {
        let (mut rest, mut out) = (text, String::new());
        while let Some(at) = rest.find("${") {
            out += &rest[..at];
            let inside = balanced(&rest[at + 1..], '{', '}');
            rest = &rest[at + 1 + inside.len() + 2..];
            out += &match inside.split_once('(') {
                Some(("url_encode", arguments)) => encoded(&self.expand(arguments.strip_suffix(')').unwrap())),
                Some(("sched_api", arguments)) => self.expand(arguments.strip_suffix(')').unwrap()),
                Some((function, _)) => panic!("the recipe uses {function}(), which this test does not know"),
                None => self.variables.get(inside).cloned().unwrap_or_default(),
            };
        }
        out + rest
    }
}
