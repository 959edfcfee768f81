//! Checks the description of the API, which is generated from the calls.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::description;
use super::description::values::MEANINGS;
use crate::control::Scope;

fn described() -> Value {
    serde_json::to_value(description()).expect("json")
}

/// Every operation, as `method path` with its description.
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
        "delete /v1/events/{id}/body",
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
        "get /v1/stream",
        "post /v1/customers",
        "get /v1/customers",
        "get /v1/customers/{id}",
        "patch /v1/customers/{id}",
        "put /v1/customers/by-name/{name}",
        "delete /v1/customers/{id}",
        "post /v1/operations",
        "get /v1/operations",
        "get /v1/operations/{id}",
        "post /v1/tokens",
        "get /v1/tokens",
        "get /v1/tokens/{id}",
        "post /v1/tokens/{id}/revoke",
        "get /v1/whoami",
        "get /v1/audit",
        "post /v1/sessions",
        "get /v1/sessions",
        "delete /v1/sessions",
        "delete /v1/sessions/current",
        "post /v1/sessions/{id}/end",
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
        assert!(description.pointer(pointer).is_some(), "{pointer} does not resolve");
        references += 1;
    }
    assert!(references > 40, "{references}");
}

#[test]
fn every_call_names_the_one_scope_that_it_needs() {
    // What they show and change belongs to the caller itself.
    let without = [
        "get /v1/whoami",
        "post /v1/sessions",
        "get /v1/sessions",
        "delete /v1/sessions",
        "delete /v1/sessions/current",
        "post /v1/sessions/{id}/end",
    ];
    let scopes: BTreeSet<&str> = Scope::ALL.into_iter().map(Scope::name).collect();
    for (name, operation) in operations(&described()).into_iter().filter(|(name, _)| name.contains(" /v1/")) {
        let required = operation["security"][0]["token"].as_array().unwrap_or_else(|| panic!("{name} names no token"));
        let required: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
        assert_eq!(operation["security"][1]["session"], operation["security"][0]["token"], "{name}");
        // Also without a scope: a request with the cookie of a session may come from another site.
        assert!(statuses(&operation).contains(&403), "{name}");
        match required.as_slice() {
            [] => assert!(without.contains(&name.as_str()), "{name}"),
            [scope] => assert!(scopes.contains(scope) && !without.contains(&name.as_str()), "{name}: {scope}"),
            several => panic!("{name}: {several:?}"),
        }
    }
}

#[test]
fn every_call_about_what_a_customer_owns_takes_the_parameters_that_name_a_customer() {
    let elsewhere = [
        "/v1/providers",
        "/v1/unreadable-messages",
        "/v1/customers",
        "/v1/tokens",
        "/v1/audit",
        "/v1/operations",
        "/v1/sessions",
        "/v1/whoami",
        "/healthz",
        "/readyz",
    ];
    let mut of_all = 0;
    for (name, operation) in operations(&described()) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let find = |place: &str, name: &str| {
            parameters.iter().find(|parameter| parameter["in"] == place && parameter["name"] == name)
        };
        let (header, query) = (find("header", "Tidegate-Customer"), find("query", "customer"));
        // A filter of the whole log: its call acts for no customer.
        let query = query.filter(|_| name != "get /v1/audit");
        let owned = !elsewhere.iter().any(|path| name.contains(path));
        assert_eq!((header.is_some(), query.is_some()), (owned, owned), "{name}");
        let (Some(header), Some(query)) = (header, query) else { continue };
        assert_eq!(header["schema"], query["schema"], "{name}");
        let is_of_all = header["schema"]["$ref"] == "#/components/schemas/CustomerReferenceOrAll";
        of_all += usize::from(is_of_all);
        let is_list = name.starts_with("get ") && !name.contains('{') && name != "get /v1/stats";
        assert_eq!(is_of_all, is_list, "{name}");
    }
    assert_eq!(of_all, 8);
}

/// The statuses in the description of a call.
fn statuses(operation: &Value) -> BTreeSet<u16> {
    let responses = operation["responses"].as_object().expect("responses");
    responses.keys().map(|status| status.parse().expect("a numeric status")).collect()
}

#[test]
fn every_call_except_the_health_checks_needs_a_token_and_every_status_is_described() {
    let description = described();
    assert_eq!(description["security"], serde_json::json!([{"token": []}]));
    assert_eq!(description["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert_eq!(description["components"]["securitySchemes"]["session"]["in"], "cookie");
    for (name, operation) in operations(&description) {
        let open = operation["security"] == serde_json::json!([{}]);
        assert_eq!(open, !name.contains(" /v1/"), "{name}");
        let statuses = statuses(&operation);
        let has = |wanted: &[u16]| wanted.iter().all(|status| statuses.contains(status));
        assert!(has(&[500, 504]) && (open || has(&[400, 401, 422, 429, 503])), "{name}: {statuses:?}");
        assert_eq!(has(&[404]), name.contains("{id}"), "{name}: {statuses:?}");
        assert!(operation.get("requestBody").is_none() || has(&[408, 413]), "{name}: {statuses:?}");
    }
    let conflicts = ["post /v1/sources", "delete /v1/sources/{id}", "post /v1/deliveries/{id}/retry"];
    for (name, operation) in operations(&description).iter().filter(|(name, _)| conflicts.contains(&name.as_str())) {
        assert!(statuses(operation).contains(&409), "{name}");
    }
}

#[test]
fn problem_documents_are_described_with_their_schema_and_headers() {
    let description = described();
    let responses = description["components"]["responses"].as_object().expect("responses");
    for (name, response) in responses {
        let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
        assert_eq!(problem, "#/components/schemas/Problem", "{name}");
        assert_eq!(response["headers"]["x-request-id"]["required"], true, "{name}");
    }
    for (name, header) in [("Unauthorized", "www-authenticate"), ("Unavailable", "retry-after")] {
        assert_eq!(responses[name]["headers"][header]["required"], true, "{name}");
    }
}

/// The names of the schemas to which a part of the description refers, directly or through other schemas.
fn schemas_in(part: &Value, description: &Value, found: &mut BTreeSet<String>) {
    for reference in part.to_string().split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        if found.insert(name.to_owned()) {
            schemas_in(&description["components"]["schemas"][name], description, found);
        }
    }
}

#[test]
fn requests_have_no_unknown_fields_and_no_field_of_a_response_is_both_optional_and_nullable() {
    let description = described();
    let (mut in_requests, mut in_responses) = (BTreeSet::new(), BTreeSet::new());
    for (_, operation) in operations(&description) {
        schemas_in(&operation["requestBody"], &description, &mut in_requests);
        schemas_in(&operation["responses"], &description, &mut in_responses);
    }
    let objects = |names: &BTreeSet<String>| -> Vec<(String, Value)> {
        let schemas = names.iter().map(|name| (name.clone(), description["components"]["schemas"][name].clone()));
        schemas.filter(|(_, schema)| schema["properties"].is_object()).collect()
    };
    assert!(objects(&in_requests).len() > 10 && objects(&in_responses).len() > 20);
    for (name, schema) in objects(&in_requests) {
        // The config also contains the settings of the provider.
        assert!(schema["additionalProperties"] == false || name == "SourceConfig", "{name}");
        // Client generators treat a field with a default as required.
        for (field, property) in schema["properties"].as_object().expect("properties") {
            assert!(property.get("default").is_none(), "{name}.{field}: write the default into its description");
        }
    }
    for (name, schema) in objects(&in_responses).into_iter().filter(|(name, _)| !in_requests.contains(name)) {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (field, property) in schema["properties"].as_object().expect("properties") {
            let may_be_null = property["type"].as_array().is_some_and(|kinds| kinds.contains(&"null".into()))
                || property["oneOf"].as_array().is_some_and(|one| one.iter().any(|schema| schema["type"] == "null"));
            assert!(required.contains(&field.as_str()) || !may_be_null, "{name}.{field} is both optional and nullable");
        }
    }
}

#[test]
fn post_requires_the_fields_that_put_has_in_its_path_or_cannot_change() {
    let description = described();
    let required = |schema: &str| description["components"]["schemas"][schema]["required"].clone();
    assert_eq!(required("NewSource"), serde_json::json!(["provider", "name"]));
    assert_eq!(required("NewDestination"), serde_json::json!(["url", "name"]));
    assert_eq!(required("NewRoute"), serde_json::json!(["source", "destination"]));
    let of = |method: &str, path: &str| {
        let body = &description["paths"][path][method]["requestBody"]["content"]["application/json"];
        body["schema"]["$ref"].as_str().expect("a reference").rsplit('/').next().expect("a name").to_owned()
    };
    assert_eq!((of("post", "/v1/sources"), of("post", "/v1/routes")), ("NewSource".to_owned(), "NewRoute".to_owned()));
    assert_eq!(of("put", "/v1/sources/by-name/{name}"), "SourceSpec");
}

#[test]
fn every_response_has_the_description_that_openapi_requires() {
    for (name, operation) in operations(&described()) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let is_described = response["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(is_described || response.get("$ref").is_some(), "{name}: {status}");
        }
    }
}

#[test]
fn the_summary_of_every_call_is_one_short_sentence() {
    for (name, operation) in operations(&described()) {
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(summary.ends_with('.') && summary.len() <= 110, "{name}: {summary}");
    }
}

#[test]
fn the_path_parameters_of_every_call_are_described() {
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
fn patch_changes_every_field_that_put_sets_except_names_and_references() {
    let description = described();
    let fields = |schema: &str| -> BTreeSet<String> {
        let properties = description.pointer(&format!("/components/schemas/{schema}/properties"));
        properties.and_then(Value::as_object).expect("properties").keys().cloned().collect()
    };
    for thing in ["Source", "Destination", "Route"] {
        let mut settings = fields(&format!("{thing}Spec"));
        settings.retain(|field| !["name", "source", "destination"].contains(&field.as_str()));
        assert_eq!(settings, fields(&format!("{thing}Patch")), "{thing}");
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

#[test]
fn every_value_of_an_enumeration_is_explained_unless_its_name_suffices() {
    let description = described();
    let schemas = description["components"]["schemas"].as_object().expect("schemas");
    let plain = ["AuditAction", "EdgeState", "Period", "ProviderId", "ReplayFilterState", "Step"];
    let enumerations = schemas.iter().filter_map(|(name, schema)| {
        let values: BTreeSet<&str> = schema["enum"].as_array()?.iter().filter_map(Value::as_str).collect();
        (values.len() > 1 && !plain.contains(&name.as_str())).then_some((name.as_str(), values))
    });
    let meanings = MEANINGS.map(|(name, _, values)| {
        let values: BTreeSet<&str> = values.iter().map(|(value, _)| *value).collect();
        (name, values)
    });
    assert_eq!(enumerations.collect::<BTreeMap<&str, BTreeSet<&str>>>(), BTreeMap::from(meanings));
    for (name, _, values) in MEANINGS {
        let text = schemas[name]["description"].as_str().expect("a text");
        assert!(values.iter().all(|(value, _)| text.contains(&format!("\n- `{value}`: "))), "{name}: {text}");
    }
}

#[test]
fn every_parameter_and_tag_is_described_and_a_nullable_field_has_its_own_description() {
    let description = described();
    let tags = description["tags"].as_array().expect("tags");
    for (name, operation) in operations(&description) {
        let tagged = |tag: &Value| tag["name"] == operation["tags"][0] && tag["description"].is_string();
        assert!(tags.iter().any(tagged), "{name}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name}: {parameter}");
        }
    }
    for (name, schema) in description["components"]["schemas"].as_object().expect("schemas") {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let variants = property["oneOf"].as_array().into_iter().flatten();
            let mut hidden = variants.filter(|variant| variant.get("$ref").is_some());
            assert!(!hidden.any(|variant| variant.get("description").is_some()), "{name}.{field}");
        }
    }
}
