//! The description of the wire contract for machines, made of the table of routes and of the types of answers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::{Method, Response};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use usherd_contract::problem::Problem;

use super::operation::{Media, Reply, Tag};
use super::parameters::{PARAMETERS, Parameter, Place};
use super::shared::{COMMON, Common, DESCRIPTION, HEADERS, header_component};
use crate::daemon::access::auth::RouteClass;
use crate::daemon::api::Worker;
use crate::daemon::api::answer::json_bytes;
use crate::daemon::api::routes::{ROUTES, Row};
use crate::daemon::http::ReplyBody;

/// OpenAPI 3.1, as `/openapi.json` serves it; made once, some milliseconds.
pub fn openapi() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());
    &DOCUMENT
}

impl Worker {
    /// `GET /openapi.json`
    pub(in crate::daemon::api) fn document(&self) -> Response<ReplyBody> {
        json_bytes(openapi().as_bytes().into())
    }
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    // Bodies first: the defaults of those are meant for who sends them.
    let bodies: Vec<Value> = ROUTES.iter().map(|row| body(row, &mut generator)).collect();
    let mut schemas = generator.take_definitions(true);
    let mut paths = BTreeMap::<&str, Map<String, Value>>::new();
    for (row, body) in ROUTES.iter().zip(bodies) {
        let mut operation = operation(row, &mut generator);
        if !body.is_null() {
            operation["requestBody"] = body;
        }
        paths.entry(row.path).or_default().insert(row.method.as_str().to_lowercase(), operation);
    }
    let responses = components(COMMON.iter().map(|common| (common.name, response(common, &mut generator))));
    let mut answers = generator.take_definitions(true);
    answers.values_mut().for_each(without_defaults);
    schemas.append(&mut answers);
    schemas.values_mut().for_each(normalise);
    let headers = HEADERS.iter().map(|header| (header.component, (header.described)()));
    let everywhere = PARAMETERS.iter().filter(|parameter| parameter.of.is_empty());
    let parameters = components(everywhere.map(|parameter| (parameter.name, described(parameter, &mut generator))));
    let tags = Tag::ALL.iter().map(|tag| json!({ "name": tag.as_str(), "description": tag.about() }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "usherd",
            "version": "1",
            "summary": "Decides who may take a concurrent-user licence of a phone system",
            "description": DESCRIPTION,
        },
        "servers": [{ "url": "http://127.0.0.1:7788" }],
        "security": [{ "token": [] }, { "certificate": [] }, {}],
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": components(headers),
            "parameters": parameters,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`ush_<role>_<secret>`. Where no credential is configured, loopback and the Unix \
                                    socket are trusted.",
                },
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A client certificate whose name is in `[[auth.certificates]]`.",
                },
            },
        },
    })
}

fn components<'n>(members: impl Iterator<Item = (&'n str, Value)>) -> Map<String, Value> {
    members.map(|(name, member)| (name.to_owned(), member)).collect()
}

fn reference(family: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{family}/{name}") })
}

fn body(row: &Row, generator: &mut SchemaGenerator) -> Value {
    let operation = row.operation;
    let mut body = json!({ "content": content(operation.body, generator) });
    if operation.needs_body {
        body["required"] = json!(true);
    }
    if operation.body.is_empty() { Value::Null } else { body }
}

fn content(media: &[Media], generator: &mut SchemaGenerator) -> Map<String, Value> {
    let described = media.iter().map(|media| {
        let mut schema = Value::from((media.schema)(generator));
        if !media.about.is_empty() {
            schema["description"] = json!(media.about);
        }
        let mut shown = json!({ "schema": schema });
        if let Some(line) = media.line {
            shown["x-line-schema"] = line(generator).into();
        }
        match media.examples {
            [] => {}
            [("", example)] => shown["example"] = example(),
            several => {
                let values = several.iter().map(|(name, example)| (*name, json!({ "value": example() })));
                shown["examples"] = components(values).into();
            }
        }
        (media.content_type.to_owned(), shown)
    });
    described.collect()
}

fn operation(row: &Row, generator: &mut SchemaGenerator) -> Value {
    let operation = row.operation;
    let mut shown = json!({
        "operationId": operation.id,
        "tags": [operation.tag.as_str()],
        "summary": operation.summary,
        "responses": responses(row, generator),
    });
    let parameters: Vec<Value> = parameters(row).map(|parameter| used(parameter, generator)).collect();
    if !parameters.is_empty() {
        shown["parameters"] = parameters.into();
    }
    if !operation.about.is_empty() {
        shown["description"] = json!(operation.about);
    }
    if row.is_open() {
        shown["security"] = json!([]);
    }
    shown
}

/// The variables of the path, the parameters that the row knows, and those that it reads beside them.
fn parameters(row: &Row) -> impl Iterator<Item = &'static Parameter> {
    let id = row.operation.id;
    let named = move |name: &str, in_path: bool| {
        let mut found = PARAMETERS.iter().filter(move |parameter| {
            parameter.name == name
                && (parameter.place == Place::Path) == in_path
                && (parameter.of.is_empty() || parameter.of.contains(&id))
        });
        let first = found.next();
        // The meaning that is its own goes before the common one.
        found.find(|parameter| !parameter.of.is_empty()).or(first)
    };
    let in_path = row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let beside = row.parameters.unwrap_or_default().iter().chain(row.operation.reads);
    in_path.filter_map(move |name| named(name, true)).chain(beside.filter_map(move |name| named(name, false)))
}

fn used(parameter: &Parameter, generator: &mut SchemaGenerator) -> Value {
    if parameter.of.is_empty() { reference("parameters", parameter.name) } else { described(parameter, generator) }
}

fn described(parameter: &Parameter, generator: &mut SchemaGenerator) -> Value {
    let mut shown = json!({
        "name": parameter.name,
        "in": parameter.place.as_str(),
        "description": parameter.about,
        "schema": (parameter.schema)(generator),
    });
    if parameter.place == Place::Path {
        shown["required"] = json!(true);
    }
    shown
}

/// The answers of a row: its own, and those that follow from who may ask, from its path and from its body.
fn responses(row: &Row, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let operation = row.operation;
    let takes_form = operation.body.iter().any(|media| media.content_type == "application/x-www-form-urlencoded");
    let of_nodes = row.class() == Some(RouteClass::Nodes);
    let follows = |common: &&Common| match common.name {
        "NotPermitted" | "TooMany" => !row.is_open(),
        // One machine has no cluster.
        "NotFound" => (row.path.contains('{') && !of_nodes) || row.path.starts_with("/v1/cluster"),
        "Timeout" | "TooLarge" => !operation.body.is_empty(),
        "UnsupportedType" => takes_form,
        "Epoch" => of_nodes,
        "Conflict" => row.method == Method::DELETE || operation.id == "handOver",
        _ => true,
    };
    let common = COMMON.iter().filter(follows);
    let mut all: Map<String, Value> =
        common.map(|common| (common.status.to_string(), reference("responses", common.name))).collect();
    all.extend(operation.replies.iter().map(|own| (own.status.to_string(), reply(own, generator))));
    all
}

fn reply(reply: &Reply, generator: &mut SchemaGenerator) -> Value {
    let mut shown = json!({ "description": reply.about });
    if !reply.headers.is_empty() {
        shown["headers"] = headers(reply.headers);
    }
    if !reply.media.is_empty() {
        shown["content"] = content(reply.media, generator).into();
    }
    shown
}

fn response(common: &Common, generator: &mut SchemaGenerator) -> Value {
    const PROBLEM: &[Media] = &[Media::of::<Problem<'static>>("application/problem+json")];
    let media = if common.is_problem { PROBLEM } else { &[] };
    let shown = Reply { status: common.status, about: common.about, headers: common.headers, media };
    reply(&shown, generator)
}

fn headers(names: &[&str]) -> Value {
    let shown = names.iter().map(|name| (*name, reference("headers", header_component(name))));
    components(shown).into()
}

/// Takes away what is read where a field is missing: an answer has it.
fn without_defaults(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        fields.remove("default");
        fields.values_mut().for_each(without_defaults);
    }
    if let Value::Array(items) = schema {
        items.iter_mut().for_each(without_defaults);
    }
}

/// Says of a property that may be absent that it is not null, and of descriptions that their lines go on.
fn normalise(schema: &mut Value) {
    if let Value::Array(items) = schema {
        items.iter_mut().for_each(normalise);
    }
    let Value::Object(fields) = schema else { return };
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = text.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    let required = fields.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|one| one == name));
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.iter_mut().filter(|(name, _)| !is_required(name)).for_each(|(_, property)| never_null(property));
    }
    fields.values_mut().for_each(normalise);
}

/// `Option` stands for null and for absent; here it is the latter.
fn never_null(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for list in ["type", "enum"] {
        if let Some(Value::Array(words)) = fields.get_mut(list) {
            words.retain(|word| !word.is_null() && word != "null");
            if let (1, Some(word)) = (words.len(), words.first().cloned())
                && list == "type"
            {
                fields.insert(list.to_owned(), word);
            }
        }
    }
    if let Some(Value::Array(mut either)) = fields.remove("anyOf") {
        either.retain(|one| one["type"] != "null");
        match either.pop() {
            Some(Value::Object(only)) if either.is_empty() => fields.extend(only),
            last => {
                either.extend(last);
                fields.insert("anyOf".to_owned(), either.into());
            }
        }
    }
}
