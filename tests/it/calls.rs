//! A request for each operation of the OpenAPI document, for the tests that call all of them.
//!
//! An operation that is added needs a line in [`body`] if it takes a body, and its noun in [`Ids::of`] if it is new.
//! Without them these tests fail.

use std::collections::BTreeMap;

use harness::api::{Api, Reply};
use serde_json::{Value, json};

/// An operation of the OpenAPI document.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// The method and the path, such as `get /v1/sources/{id}`.
    pub(crate) name: String,
    /// The scope that it needs; `None` if every token may call it.
    pub(crate) scope: Option<String>,
    pub(crate) method: reqwest::Method,
    path: String,
    takes_body: bool,
    /// The parameters of the query.
    pub(crate) parameters: Vec<String>,
}

/// What the requests name: an id for each noun of a path, and a name.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    pub(crate) by_noun: BTreeMap<&'static str, String>,
    /// The name of what PUT creates or replaces.
    pub(crate) name: String,
    /// The URL of destinations.
    pub(crate) url: String,
}

impl Ids {
    /// Well-formed ids of nothing.
    pub(crate) fn of_nothing() -> Self {
        let prefixes = [
            ("sources", "src"),
            ("destinations", "dst"),
            ("routes", "rte"),
            ("events", "evt"),
            ("deliveries", "dlv"),
            ("replays", "rpl"),
            ("unreadable-messages", "unr"),
            ("customers", "cus"),
            ("tokens", "tok"),
            ("operations", "opn"),
            ("sessions", "ses"),
        ];
        let id = |prefix| format!("{prefix}_0197f3c8d2a17c3e9b5d0a4c6f7e8b91");
        let mut by_noun: BTreeMap<_, _> = prefixes.map(|(noun, prefix)| (noun, id(prefix))).into();
        by_noun.insert("providers", "nobody".to_owned());
        Self { by_noun, name: "nobody".to_owned(), url: "http://127.0.0.1:9999/".to_owned() }
    }

    pub(crate) fn of(&self, noun: &str) -> &str {
        self.by_noun.get(noun).unwrap_or_else(|| panic!("the tests of all calls have no id of {noun}"))
    }
}

/// Every operation under `/v1` of the relay's OpenAPI document.
pub(crate) async fn operations(api: &Api) -> Vec<Operation> {
    let document = api.get("/openapi.json").await.expect_status(200);
    let paths = document["paths"].as_object().expect("paths").iter().filter(|(path, _)| path.starts_with("/v1/"));
    let operations = paths.flat_map(|(path, item)| {
        item.as_object().expect("operations").iter().map(move |(method, operation)| Operation {
            name: format!("{method} {path}"),
            scope: operation["security"][0]["token"][0].as_str().map(str::to_owned),
            method: method.to_uppercase().parse().expect("a method"),
            path: path.clone(),
            takes_body: operation["requestBody"].is_object(),
            parameters: operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "query")
                .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
                .collect(),
        })
    });
    let operations: Vec<Operation> = operations.collect();
    assert!(operations.len() > 55, "{}", operations.len());
    operations
}

impl Operation {
    /// Whether its path names an object by its id.
    pub(crate) fn names_an_object(&self) -> bool {
        self.path.contains("{id}") || self.path.contains("{key}")
    }

    /// The noun of its path, such as `sources`.
    pub(crate) fn noun(&self) -> &str {
        self.path.split('/').nth(2).unwrap_or_default()
    }

    /// Its path with these ids.
    pub(crate) fn path(&self, ids: &Ids) -> String {
        if self.path == "/v1/stream" {
            // The response to a good request does not end.
            return format!("{}?after=nothing", self.path);
        }
        let path = self.path.replace("{name}", &ids.name).replace("{key}", "job");
        let path = path.replace("{source}", ids.of("sources"));
        if path.contains("{id}") { path.replace("{id}", ids.of(self.noun())) } else { path }
    }

    /// Sends the request with these ids.
    pub(crate) async fn send(&self, api: &Api, ids: &Ids) -> Reply {
        let body = self.takes_body.then(|| body(&self.name, ids));
        let sent = api.try_call(self.method.clone(), &self.path(ids), body.as_ref()).await;
        sent.unwrap_or_else(|error| panic!("{}: {error:?}", self.name))
    }
}

impl Operation {
    /// Sends the request to a relay as a page of the relay itself would, with this cookie and these ids. Returns the
    /// status.
    pub(crate) async fn send_with_cookie(&self, base: &str, cookie: &str, ids: &Ids) -> u16 {
        let request = harness::api::http_client().request(self.method.clone(), format!("{base}{}", self.path(ids)));
        let mut request = request.header("cookie", cookie).header("origin", base);
        if self.takes_body {
            request = request.json(&body(&self.name, ids));
        }
        let sent = request.send().await;
        sent.unwrap_or_else(|error| panic!("{}: {error:?}", self.name)).status().as_u16()
    }
}

/// A good body for an operation, which names these ids.
fn body(operation: &str, ids: &Ids) -> Value {
    const SECRETS: [&str; 1] = ["a secret that is long enough"];
    let Ids { name, url, .. } = ids;
    match operation {
        "post /v1/sources" => json!({ "name": format!("{name}-new"), "provider": "github", "secrets": SECRETS }),
        "put /v1/sources/by-name/{name}" => json!({ "provider": "github", "secrets": SECRETS }),
        "patch /v1/sources/{id}" => json!({ "config": { "max_body_bytes": 5_000 } }),
        "post /v1/sources/{id}/secrets" => json!({ "secret": "another secret that is long enough" }),
        "post /v1/sources/{id}/check" => json!({ "body": "{}" }),
        "post /v1/destinations" => json!({ "name": format!("{name}-new"), "url": url }),
        "put /v1/destinations/by-name/{name}" => json!({ "url": url }),
        "patch /v1/destinations/{id}" => json!({ "timeout_ms": 5_000 }),
        "post /v1/destinations/{id}/signing-secret/rotate" => json!({ "overlap_s": 0 }),
        "post /v1/routes" => json!({ "source": ids.of("sources"), "destination": ids.of("destinations") }),
        "post /v1/routes/try" => json!({ "filter": "body.n == 1", "events": [{ "body": "{\"n\":1}" }] }),
        "put /v1/routes/{id}" => json!({ "filter": "false" }),
        "put /v1/routes/by-name/{name}" => {
            json!({ "source": ids.of("sources"), "destination": ids.of("destinations") })
        }
        "patch /v1/routes/{id}" => json!({ "enabled": false }),
        "post /v1/events/{id}/deliver" => json!({ "destination": ids.of("destinations") }),
        "post /v1/deliveries/release" => json!({ "destination": ids.of("destinations") }),
        "post /v1/replays" => {
            json!({ "filter": { "source": ids.of("sources") }, "destination": ids.of("destinations") })
        }
        "post /v1/unreadable-messages/release" => json!({ "reason": "unknown_source" }),
        "post /v1/customers" => json!({ "name": format!("{name}-new") }),
        "put /v1/customers/by-name/{name}" => json!({ "max_sources": 5 }),
        "patch /v1/customers/{id}" => json!({ "max_sources": 5 }),
        // It selects all deliveries of the customer.
        "post /v1/operations" => json!({ "kind": "cancel_deliveries", "deliveries": {} }),
        "patch /v1/replays/{id}" => json!({ "rate_limit": { "limit": 5, "per": "second" } }),
        "post /v1/await" => {
            json!({ "any_of": [{ "source": ids.of("sources"), "key": "job" }], "until": "any", "timeout_s": 0 })
        }
        "post /v1/await-tokens" => json!({ "source": ids.of("sources"), "key": "job" }),
        "post /v1/tokens" => json!({ "name": "new", "scopes": ["read"] }),
        other => panic!("give {other} a body in tests/it/calls.rs"),
    }
}
