//! `/openapi.json` itself: well formed, and of one mind with the router.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use usherd::daemon::api::ROUTES;
use usherd::daemon::metrics::Route;

use crate::daemon::Running;
use crate::spec::{self, DOCUMENT, fits, resolved};

fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

#[test]
fn it_is_openapi_3_1_as_far_as_a_small_check_can_tell() {
    assert!(DOCUMENT["openapi"].as_str().unwrap().starts_with("3.1."));
    for key in ["title", "version"] {
        assert!(DOCUMENT["info"][key].is_string(), "{key}");
    }
    let tags: Vec<&str> =
        DOCUMENT["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations() {
        let what = format!("{method} {path}");
        assert!(path.starts_with('/') && ["get", "post", "put", "delete"].contains(&method), "{what}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{what}: the operationId comes twice");
        assert!(operation["summary"].is_string(), "{what}");
        assert!(
            operation["tags"].as_array().unwrap().iter().all(|tag| tags.contains(&tag.as_str().unwrap())),
            "{what}"
        );
        let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().map(resolved).collect();
        let mut in_path: Vec<&str> =
            parameters.iter().filter(|p| p["in"] == "path").map(|p| p["name"].as_str().unwrap()).collect();
        let mut in_template: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        in_path.sort_unstable();
        in_template.sort_unstable();
        assert_eq!(in_path, in_template, "{what}");
        for parameter in parameters {
            assert!(parameter["schema"].is_object() && parameter["description"].is_string(), "{what}: {parameter}");
            assert_eq!(parameter["in"] == "path", parameter["required"] == true, "{what}: {parameter}");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(status.len() == 3 && status.parse::<u16>().is_ok(), "{what}: {status}");
            assert!(resolved(response)["description"].is_string(), "{what}: {status}");
        }
    }
    let mut used = BTreeSet::new();
    references(&DOCUMENT, &mut used);
    let components = DOCUMENT["components"].as_object().unwrap();
    for (family, members) in components.iter().filter(|(family, _)| *family != "securitySchemes") {
        for name in members.as_object().unwrap().keys() {
            assert!(used.contains(&format!("#/components/{family}/{name}")), "{family} {name} is used nowhere");
        }
    }
    for (name, schema) in components["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name} is no JSON Schema 2020-12");
    }
}

/// Every `$ref` leads somewhere.
fn references(value: &Value, used: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(pointer)) = fields.get("$ref") {
                resolved(value);
                used.insert(pointer.clone());
            }
            fields.values().for_each(|value| references(value, used));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, used)),
        _ => {}
    }
}

#[test]
fn every_example_is_what_it_is_an_example_of() {
    let mut seen = 0;
    for (path, method, operation) in operations() {
        let responses = operation["responses"].as_object().unwrap().values().map(resolved);
        for holder in responses.chain([&operation["requestBody"]]) {
            for (essence, media) in holder["content"].as_object().into_iter().flatten() {
                let several = media["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
                for example in several.chain(media.get("example")) {
                    if essence != "application/x-www-form-urlencoded" {
                        fits(&media["schema"], example, &format!("{method} {path} {essence}"));
                        seen += 1;
                    }
                }
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn the_router_and_the_document_name_the_same_routes() {
    let documented: BTreeSet<(String, &str)> =
        operations().map(|(path, method, _)| (method.to_uppercase(), path)).collect();
    let served: BTreeSet<(String, &str)> = ROUTES.iter().map(|row| (row.method.to_string(), row.path)).collect();
    assert_eq!(documented, served);
}

#[test]
fn every_route_of_the_table_is_served_and_no_other() {
    // Nobody listens on port 1: the test of a webhook ends at once.
    let hook = "[[webhook]]\nname = \"desk\"\nurl = \"http://127.0.0.1:1/\"\nsecret_file = \"none\"\n";
    let daemon = Running::start(hook, &[("acme", "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 1\n")]);
    let concrete = |path: &str| {
        path.replace("{webhook}", "desk")
            .replace("{tenant}", "acme")
            .replace("{node}", "n1")
            .replace("{session}", "s%201")
            .replace("{subject}", "a%2Fb")
    };
    for row in ROUTES {
        let (method, path) = (&row.method, row.path);
        let (status, body) = match method.as_str() {
            // It does not end: that it begins is told by its head.
            "GET" if path == "/v1/events" => ("HEAD", ""),
            method => (method, "{}"),
        };
        let answer = daemon.call(status, &concrete(path), "Content-Type: application/json\r\n", body);
        let is_object = ["{session}", "{subject}", "{node}"].iter().any(|object| path.ends_with(object));
        if path.starts_with("/v1/cluster") {
            assert!(
                answer.status == 404 && answer.body.contains("belongs to no cluster"),
                "{method} {path}: {answer:?}"
            );
        } else {
            assert!(is_object || !matches!(answer.status, 404 | 405), "{method} {path}: {answer:?}");
        }
        if is_object {
            assert!(
                ["not live in", "no session", "is not known; see"].iter().any(|nobody| answer.body.contains(nobody)),
                "{answer:?}"
            );
        }
        for wrong in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let (_, item) = spec::path_item(path).unwrap();
            if !spec::methods(item).iter().any(|method| method == wrong) {
                let answer = daemon.call(wrong, &concrete(path), "", "");
                assert_eq!(answer.status, 405, "{wrong} {path}");
                let mut allow: Vec<&str> = answer.header("allow").unwrap().split(", ").collect();
                allow.sort_unstable();
                assert_eq!(allow, spec::methods(item), "{path}");
            }
        }
    }
    for route in Route::ALL.iter().filter(|route| **route != Route::Other) {
        assert!(ROUTES.iter().any(|row| row.route == *route), "{route:?} is a label of metrics and no route");
    }
    for path in ["/v1", "/v1/", "/v1/nope", "/v2/acquire", "/v1/nodes/n1/sleep", "/v1/tenants/acme/x", "//metrics/x"] {
        assert_eq!(daemon.get(path).status, 404, "{path}");
    }
}

#[test]
fn the_document_is_served_as_it_stands() {
    let daemon = Running::start("", &[]);
    assert_eq!(daemon.get("/openapi.json").json(), *DOCUMENT);
    fits(&json!({ "$ref": "#/components/schemas/Ok" }), &json!({ "code": "ok" }), "the checker");
    let strict = spec::validator(&json!({ "$ref": "#/components/schemas/Ok" }));
    assert!(!strict.is_valid(&json!({ "code": "ok", "more": 1 })), "a canary: undocumented fields must be seen");
}

/// The names of the query parameters that an operation documents.
fn documented(operation: &Value) -> BTreeSet<&str> {
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(resolved);
    parameters.filter(|parameter| parameter["in"] == "query").map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn a_route_takes_its_documented_parameters_and_no_others() {
    let daemon = Running::start("", &[("acme", "kind = \"nfr\"\nseats = 1\n")]);
    let mut listed = 0;
    for (path, method, operation) in operations() {
        let of_nodes = operation["tags"].as_array().unwrap().iter().any(|tag| tag == "decisions" || tag == "nodes");
        if !path.starts_with("/v1/") || (of_nodes && path != "/v1/nodes") {
            continue;
        }
        let method = method.to_uppercase();
        let row = ROUTES.iter().find(|row| row.method == method.as_str() && row.path == path).unwrap();
        let known = row.parameters.unwrap_or_else(|| panic!("{method} {path} passes over what it does not know"));
        assert_eq!(known.iter().copied().collect::<BTreeSet<_>>(), documented(operation), "{method} {path}");
        assert!(operation["responses"]["400"].is_object(), "{method} {path}");
        listed += 1;
        let filled = path.replace("{tenant}", "acme").replace(['{', '}'], "");
        let answer = daemon.call(&method, &format!("{filled}?x-unknown=1&x-unknown=2"), "", "");
        assert_eq!((answer.status, answer.pointers()), (400, vec!["/x-unknown".to_owned()]), "{method} {path}");
        let mut misspelt = documented(operation).into_iter().filter(|name| name.len() > 3).take(1);
        if let Some(name) = misspelt.next() {
            let answer = daemon.call(&method, &format!("{filled}?{}=1", name.replacen(&name[1..2], "", 1)), "", "");
            assert_eq!(answer.status, 400, "{method} {path}");
            assert!(answer.body.contains(&format!("did you mean `{name}`?")), "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(listed, ROUTES.iter().filter(|row| row.parameters.is_some()).count());
    for path in ["/v1/acquire", "/v1/release", "/v1/explain"] {
        let body = "tenant=acme&subject=a&session=s&kind=phone";
        assert_eq!(daemon.form(&format!("{path}?limt=5"), body).status, 200, "{path}");
    }
}
