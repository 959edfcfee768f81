//! The API's description, which is made of the calls themselves.

use std::collections::BTreeSet;

use serde_json::Value;

use super::description;

fn described() -> Value {
    serde_json::to_value(description()).expect("json")
}

/// Every operation as `method path`, with what is said of it.
fn operations(description: &Value) -> Vec<(String, Value)> {
    let paths = description["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let item = item.as_object().expect("a path").clone();
        item.into_iter().map(move |(method, operation)| (format!("{method} {path}"), operation)).collect::<Vec<_>>()
    };
    paths.iter().map(|(path, item)| of_path((path, item))).collect::<Vec<_>>().concat()
}

#[test]
fn every_call_is_described() {
    let expected: BTreeSet<&str> = BTreeSet::from([
        "get /healthz",
        "get /readyz",
        "get /v1/providers",
        "get /v1/providers/{id}",
        "post /v1/sources",
        "get /v1/sources",
        "get /v1/sources/{id}",
        "patch /v1/sources/{id}",
        "delete /v1/sources/{id}",
        "put /v1/sources/by-name/{name}",
        "post /v1/sources/{id}/secrets",
        "post /v1/destinations",
        "get /v1/destinations",
        "get /v1/destinations/{id}",
        "patch /v1/destinations/{id}",
        "delete /v1/destinations/{id}",
        "put /v1/destinations/by-name/{name}",
        "post /v1/destinations/{id}/pause",
        "post /v1/destinations/{id}/resume",
        "get /v1/destinations/{id}/health",
        "get /v1/destinations/{id}/signing-secret",
        "post /v1/destinations/{id}/signing-secret/rotate",
        "post /v1/routes",
        "get /v1/routes",
        "get /v1/routes/{id}",
        "put /v1/routes/{id}",
        "patch /v1/routes/{id}",
        "delete /v1/routes/{id}",
        "get /v1/events",
        "get /v1/events/{id}",
        "get /v1/events/{id}/body",
        "get /v1/events/{id}/changed-copy/body",
        "post /v1/events/{id}/release",
        "get /v1/deliveries",
        "post /v1/deliveries/release",
        "get /v1/deliveries/{id}",
        "get /v1/deliveries/{id}/attempts",
        "post /v1/deliveries/{id}/retry",
        "post /v1/deliveries/{id}/cancel",
        "post /v1/replays",
        "get /v1/replays",
        "get /v1/replays/{id}",
        "post /v1/replays/{id}/cancel",
        "get /v1/rejections",
        "get /v1/unreadable-messages",
        "post /v1/unreadable-messages/release",
        "get /v1/unreadable-messages/{id}",
        "get /v1/unreadable-messages/{id}/message",
        "post /v1/unreadable-messages/{id}/release",
        "get /v1/stats",
    ]);
    let described = described();
    let operations = operations(&described);
    let names: BTreeSet<&str> = operations.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, expected);
}

#[test]
fn the_description_is_openapi_3_1_and_its_references_resolve() {
    let description = described();
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
    let text = description.to_string();
    let mut references = 0;
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().expect("a reference");
        assert!(description.pointer(pointer).is_some(), "{pointer} is not there");
        references += 1;
    }
    assert!(references > 40, "{references}");
}

#[test]
fn every_guarded_call_can_answer_with_a_problem_and_needs_the_token() {
    let description = described();
    assert_eq!(description["security"], serde_json::json!([{"token": []}]));
    assert_eq!(description["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    for (name, operation) in operations(&description) {
        let open = operation.get("security").is_some();
        assert_eq!(open, !name.contains(" /v1/"), "{name}");
        if !open {
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{name}");
        }
    }
}

#[test]
fn the_path_of_every_call_has_its_parameters_described() {
    for (name, operation) in operations(&described()) {
        let described: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let wanted: BTreeSet<&str> =
            name.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(parameter, _)| parameter).collect();
        assert_eq!(described, wanted, "{name}");
    }
}

#[test]
fn patch_changes_each_field_that_put_sets_but_what_a_thing_is_called_and_joins() {
    let description = described();
    let fields = |schema: &str| -> BTreeSet<String> {
        let properties = description.pointer(&format!("/components/schemas/{schema}/properties"));
        properties.and_then(Value::as_object).expect("properties").keys().cloned().collect()
    };
    for thing in ["Source", "Destination", "Route"] {
        let mut settings = fields(&format!("{thing}Settings"));
        settings.retain(|field| !["name", "source", "destination"].contains(&field.as_str()));
        assert_eq!(settings, fields(&format!("{thing}Change")), "{thing}");
    }
}

#[test]
fn no_two_calls_have_the_same_operation_id() {
    let description = described();
    let operations = operations(&description);
    let ids: BTreeSet<&str> =
        operations.iter().filter_map(|(_, operation)| operation["operationId"].as_str()).collect();
    assert_eq!(ids.len(), operations.len(), "{ids:?}");
}
