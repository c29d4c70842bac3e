//! Holds every answer that a test sees against `/openapi.json`: status, headers, content type, body.

use std::collections::HashMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use usherd::daemon::api::openapi;

use crate::daemon::Answer;

/// The document as it is served.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(openapi()).unwrap());

/// The document with every object closed: a field that it does not name is then a fault.
static CLOSED: LazyLock<Value> = LazyLock::new(|| {
    let mut document = DOCUMENT.clone();
    for (name, schema) in document["components"]["schemas"].as_object_mut().unwrap() {
        // What clients send may have more fields, and an operation is made of two objects.
        if !matches!(name.as_str(), "Acquire" | "Release" | "Operation") {
            close(schema);
        }
    }
    document
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, &'static Validator>>> = LazyLock::new(Mutex::default);

fn close(schema: &mut Value) {
    if let Value::Array(all) = schema {
        all.iter_mut().for_each(close);
    }
    let Value::Object(fields) = schema else { return };
    if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
        fields.insert("additionalProperties".into(), json!(false));
    }
    fields.values_mut().for_each(close);
}

/// A validator of a schema that may point into the components.
pub(crate) fn validator(schema: &Value) -> &'static Validator {
    let key = schema.to_string();
    let mut known = VALIDATORS.lock();
    known.entry(key).or_insert_with(|| {
        let mut whole = schema.as_object().cloned().unwrap_or_default();
        whole.insert("components".into(), CLOSED["components"].clone());
        let made = jsonschema::validator_for(&Value::Object(whole)).unwrap_or_else(|error| panic!("{error}: {schema}"));
        Box::leak(Box::new(made))
    })
}

/// Panics where a value does not fit a schema of the document.
pub(crate) fn fits(schema: &Value, value: &Value, what: &str) {
    let faults: Vec<String> =
        validator(schema).iter_errors(value).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(faults.is_empty(), "{what} is not as documented: {faults:#?}\n{value:#}");
}

/// The value behind a `$ref`, or the value itself.
pub(crate) fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(pointer) => {
            DOCUMENT.pointer(pointer.trim_start_matches('#')).unwrap_or_else(|| panic!("{pointer} leads nowhere"))
        }
        None => value,
    }
}

/// The path item and template that a request path belongs to. A literal segment goes before a variable.
pub(crate) fn path_item(path: &str) -> Option<(&'static str, &'static Map<String, Value>)> {
    let path = path.split('?').next().unwrap_or_default();
    let asked: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == asked.len()
            && parts.iter().zip(&asked).all(|(part, asked)| part.starts_with('{') || part == asked)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let found =
        paths.iter().filter(|(template, _)| fits(template)).min_by_key(|(template, _)| template.matches('{').count());
    found.map(|(template, item)| (template.as_str(), item.as_object().unwrap()))
}

/// The methods of a path item, as `Allow` names them.
pub(crate) fn methods(item: &Map<String, Value>) -> Vec<String> {
    let mut methods: Vec<String> = item.keys().map(|method| method.to_uppercase()).collect();
    if methods.iter().any(|method| method == "GET") {
        methods.push("HEAD".to_owned());
    }
    methods.sort();
    methods
}

/// Panics where an answer is not one that the document names for this route.
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let what = format!("{method} {path} {}", answer.status);
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    let Some((_, item)) = path_item(path) else {
        assert_eq!(answer.status, 404, "{what}: not in the document\n{answer:?}");
        if method == "HEAD" {
            return;
        }
        return fits(&problem, &answer.json(), &what);
    };
    let wanted = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
    let Some(operation) = item.get(&wanted) else {
        assert_eq!(answer.status, 405, "{what}: not in the document\n{answer:?}");
        let mut allowed: Vec<String> =
            answer.header("allow").unwrap_or_default().split(',').map(|method| method.trim().to_owned()).collect();
        allowed.sort();
        assert_eq!(allowed, methods(item), "{what}: Allow");
        if method == "HEAD" {
            return;
        }
        return fits(&problem, &answer.json(), &what);
    };
    let response = &operation["responses"][answer.status.to_string()];
    assert!(!response.is_null(), "{what}: the status is not documented\n{answer:?}");
    let response = resolved(response);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let header = resolved(header);
        let Some(value) = answer.header(name) else {
            assert_eq!(header["required"], false, "{what}: no {name}");
            continue;
        };
        let value = value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number));
        fits(&header["schema"], &value, &format!("{what} {name}"));
    }
    if method != "HEAD" {
        check_body(&response["content"], answer, &what);
    }
}

fn check_body(content: &Value, answer: &Answer, what: &str) {
    if content.is_null() {
        return assert_eq!(answer.body, "", "{what}: a body");
    }
    let essence = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
    let media = &content[&essence];
    assert!(!media.is_null(), "{what}: content type {essence:?} is not documented\n{answer:?}");
    if essence == "application/json" || essence.ends_with("+json") {
        return fits(&media["schema"], &answer.json(), what);
    }
    fits(&media["schema"], &json!(answer.body), what);
    if media.get("x-line-schema").is_some() {
        for line in lines(&answer.body) {
            fits(&media["x-line-schema"], &line, what);
        }
    }
}

/// The JSON of each whole line of NDJSON, and of each whole `data:` of server-sent events.
pub(crate) fn lines(body: &str) -> Vec<Value> {
    let whole = body.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let json = whole.filter_map(|line| line.strip_prefix("data: ").or(line.starts_with('{').then_some(line)));
    json.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
