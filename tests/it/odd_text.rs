//! `odd_text`: no text in a path, a query or a body makes the API fail. The calls come from the API's own description.

use std::collections::BTreeSet;

use harness::api::{Api, Reply, id};
use harness::gateway::Gateway;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

/// Texts that some component cannot store or reads in a special way, percent-encoded: invalid UTF-8, the largest
/// character, pattern and quote characters, escaped NULs, control characters, times and numbers at and beyond the ends
/// of their ranges, an id that no object has, and the empty text.
const ODD: [&str; 16] = [
    "%ff",
    "%c0%80",
    "%ed%a0%80",
    "%f4%8f%bf%bf",
    "%5c",
    "%25",
    "%27%22",
    "%5cu0000",
    "%2500",
    "%01%7f",
    "-1",
    "9999-12-31T23:59:59.999999999Z",
    "0000-01-01T00:00:00Z",
    "18446744073709551616",
    "src_00000000000000000000000000000000",
    "",
];

/// A call of the API.
#[derive(Debug, Clone)]
struct Operation {
    method: reqwest::Method,
    path: String,
    /// The names of its parameters in the query.
    query: Vec<String>,
    /// The name of the parameter in its path.
    segment: Option<String>,
    /// The schema of its body.
    body: Option<Value>,
}

fn operations(description: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path") {
            let named = |place: &str| -> Vec<String> {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let parameters = parameters.filter(|parameter| parameter["in"] == place);
                parameters.filter_map(|parameter| parameter["name"].as_str()).map(str::to_owned).collect()
            };
            operations.push(Operation {
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                query: named("query"),
                segment: named("path").pop(),
                body: operation.pointer("/requestBody/content/application~1json/schema").cloned(),
            });
        }
    }
    operations
}

impl Operation {
    /// Its path with this segment in place of the parameter.
    fn path_with(&self, segment: &str) -> String {
        match &self.segment {
            Some(name) => self.path.replace(&format!("{{{name}}}"), segment),
            None => self.path.clone(),
        }
    }
}

/// A schema, or the one that it refers to. Of alternatives, the first that is not null.
fn resolved<'a>(description: &'a Value, schema: &'a Value) -> &'a Value {
    let alternatives = schema["oneOf"].as_array().into_iter().flatten().find(|one| one["type"] != "null");
    let schema = alternatives.unwrap_or(schema);
    match schema["$ref"].as_str().and_then(|reference| description.pointer(reference.trim_start_matches('#'))) {
        Some(schema) => schema,
        None => schema,
    }
}

/// The paths of all fields of a body, including those of nested objects.
fn field_paths(description: &Value, schema: &Value) -> Vec<String> {
    let mut fields = Vec::new();
    let properties = resolved(description, schema)["properties"].as_object().cloned().unwrap_or_default();
    for (name, schema) in &properties {
        let inner = field_paths(description, schema);
        fields.push(name.clone());
        fields.extend(inner.into_iter().map(|inner| format!("{name}.{inner}")));
    }
    fields
}

/// A body with a text at the path of a field.
fn body_with(field: &str, text: &str) -> Value {
    match field.split_once('.') {
        Some((outer, inner)) => Value::Object(Map::from_iter([(outer.to_owned(), body_with(inner, text))])),
        None => json!({ field: text }),
    }
}

/// Makes calls, 32 at a time. Returns each reply with the call and the field that had the odd text.
async fn replies(api: &Api, calls: Vec<(Operation, String, Option<Value>, String)>) -> Vec<(String, String, Reply)> {
    let mut all = Vec::new();
    for some in calls.chunks(32) {
        let mut tasks = JoinSet::new();
        for (operation, path, body, field) in some.iter().cloned() {
            let api = api.clone();
            tasks.spawn(async move {
                let call = format!("{} {path} {}", operation.method, body.clone().unwrap_or_default());
                let reply = api.try_call(operation.method, &path, body.as_ref()).await;
                (call.clone(), field, reply.unwrap_or_else(|error| panic!("{call}: {error:?}")))
            });
        }
        all.extend(tasks.join_all().await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nul_in_a_path_a_query_or_a_body_is_refused_with_400_and_the_field_is_named() {
    let gateway = Gateway::relay_only().await;
    let description = gateway.api.get("/openapi.json").await.expect_status(200);
    let mut calls = Vec::new();
    for operation in operations(&description) {
        if let Some(segment) = operation.segment.clone() {
            for odd in ["%00", "a%00b"] {
                calls.push((operation.clone(), operation.path_with(odd), None, segment.clone()));
            }
        }
        for parameter in &operation.query {
            let path = format!("{}?{parameter}=a%00", operation.path_with("any"));
            calls.push((operation.clone(), path, None, parameter.clone()));
        }
        for field in operation.body.iter().flat_map(|schema| field_paths(&description, schema)) {
            let body = Some(body_with(&field, "a\0b"));
            calls.push((operation.clone(), operation.path_with("any"), body, field));
        }
    }
    let places: BTreeSet<&str> = calls.iter().map(|(operation, ..)| operation.path.as_str()).collect();
    assert!(places.len() > 30 && calls.len() > 100, "{} calls of {places:?}", calls.len());
    for (call, field, reply) in replies(&gateway.api, calls).await {
        assert_eq!(reply.status, 400, "{call}: {reply:?}");
        assert_eq!(reply.body["code"], "nul_character", "{call}: {reply:?}");
        assert_eq!(reply.body["errors"][0]["field"], field, "{call}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_odd_text_in_a_path_a_query_or_a_body_causes_a_server_error() {
    let gateway = Gateway::relay_only().await;
    let description = gateway.api.get("/openapi.json").await.expect_status(200);
    let mut calls = Vec::new();
    for operation in operations(&description) {
        for odd in ODD {
            if operation.segment.is_some() {
                calls.push((operation.clone(), operation.path_with(odd), None, String::new()));
            }
            for parameter in &operation.query {
                // The response to a good request for a stream does not end.
                let is_endless = operation.path == "/v1/stream" && parameter != "after";
                let more = if is_endless { "&after=nothing" } else { "" };
                let path = format!("{}?{parameter}={odd}{more}", operation.path_with("any"));
                calls.push((operation.clone(), path, None, String::new()));
            }
        }
        for field in operation.body.iter().flat_map(|schema| field_paths(&description, schema)) {
            for odd in ["", "\u{1}", "\\u0000", "\u{10ffff}", "%00", "'\"\\"] {
                let body = Some(body_with(&field, odd));
                calls.push((operation.clone(), operation.path_with("any"), body, String::new()));
            }
        }
    }
    for (call, _, reply) in replies(&gateway.api, calls).await {
        assert!(reply.status < 500, "{call}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_six_characters_of_an_escaped_nul_are_ordinary_text() {
    let gateway = Gateway::relay_only().await;
    gateway.line("line").await;
    let route = gateway.api.all("/v1/routes").await.remove(0);
    let filter = r#"event.type != "\\u0000""#;
    let path = format!("/v1/routes/{}", id(&route));
    let changed = gateway.api.patch(&path, &json!({ "filter": filter })).await.expect_status(200);
    assert_eq!(changed["filter"], filter);
}
