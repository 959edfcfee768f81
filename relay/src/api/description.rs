//! Completes the description of the API with everything that follows from the shape of a call and that no declaration
//! repeats.

use serde_json::{Map, Value, json};

use super::auth::AWAIT_PATH;
use super::problem::refusals;
use crate::control::idempotency::MAX_KEY;
use crate::control::schema;

pub(super) mod values;

/// The shape of a call, which determines its responses in addition to those that it declares.
struct Shape<'a> {
    /// The call needs a token.
    guarded: bool,
    /// The path names an object that may not exist.
    names_something: bool,
    /// The call reads a request body.
    has_body: bool,
    /// The call may be made conditional.
    is_conditional: bool,
    /// The call takes an idempotency key.
    takes_key: bool,
    path: &'a str,
}

impl Shape<'_> {
    fn statuses(&self) -> Vec<u16> {
        // Every call can fail and can take too long.
        let mut statuses = vec![500, 504];
        if self.guarded {
            // An unknown parameter returns 422, and one that contains NUL returns 400. Without a scope that is needed
            // the response is 403, and so it is to the cookie of a session if the request comes from another site.
            statuses.extend([400, 401, 403, 422, 429, 503]);
        }
        if self.path == "/readyz" {
            statuses.push(503);
        }
        if self.names_something {
            statuses.push(404);
        }
        if self.is_conditional {
            statuses.push(412);
        }
        if self.takes_key {
            statuses.push(409);
        }
        if self.has_body {
            statuses.extend([408, 413]);
        }
        statuses
    }
}

/// The calls whose POST requires fields that PUT has in its path or that cannot be changed: the path of the call, the
/// schema of the settings, the name of the schema for POST, and the required fields.
const NEW: [(&str, &str, &str, &[&str]); 4] = [
    ("/v1/sources", "SourceSpec", "NewSource", &["name"]),
    ("/v1/destinations", "DestinationSpec", "NewDestination", &["name"]),
    ("/v1/routes", "RouteSpec", "NewRoute", &["source", "destination"]),
    ("/v1/customers", "CustomerSpec", "NewCustomer", &["name"]),
];

/// The header that names the customer to act for.
pub(super) const CUSTOMER_HEADER: &str = "Tidegate-Customer";

/// The query parameter that names the customer to act for.
pub(super) const CUSTOMER_PARAMETER: &str = "customer";

/// The nouns of calls that act for a customer.
const OWNED: &[&str] = &[
    "sources",
    "destinations",
    "destination-health",
    "routes",
    "events",
    "deliveries",
    "replays",
    "rejections",
    "stats",
    "stream",
    "await",
    "await-tokens",
    "overview",
];

/// The lists that can be of all customers.
const LISTS_OF_ALL: [&str; 8] = [
    "/v1/sources",
    "/v1/destinations",
    "/v1/routes",
    "/v1/events",
    "/v1/deliveries",
    "/v1/replays",
    "/v1/rejections",
    "/v1/stream",
];

/// Adds the two parameters that name a customer, if the call acts for one.
fn name_customers(path: &str, method: &str, operation: &mut Value) {
    // Other calls of operations find those of all customers, unless the token is bound to one.
    let creates_operation = path == "/v1/operations" && method == "post";
    if !OWNED.contains(&path.split('/').nth(2).unwrap_or_default()) && !creates_operation {
        return;
    }
    let of_all = method == "get" && LISTS_OF_ALL.contains(&path);
    let schema = if of_all { "CustomerReferenceOrAll" } else { "CustomerReference" };
    let all = if of_all { ", or `*` for all customers" } else { "" };
    let parameter = |place: &str, name: &str, other: &str| {
        json!({
            "name": name, "in": place, "required": false,
            "description": format!(
                "The id or name of the customer to act for{all}, like {other}. Default: the customer that the token is \
                 bound to, or else the default customer."
            ),
            "schema": { "$ref": format!("#/components/schemas/{schema}") },
        })
    };
    if operation.get("parameters").is_none() {
        operation["parameters"] = json!([]);
    }
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.push(parameter("header", CUSTOMER_HEADER, "the parameter `customer`"));
        parameters.push(parameter("query", CUSTOMER_PARAMETER, "the header `Tidegate-Customer`"));
    }
}

/// The nouns of objects that callers configure, which have the header `ETag`.
const CONFIGURED: [&str; 4] = ["sources", "destinations", "routes", "customers"];

/// Whether a path is that of an object that callers configure.
fn is_configured(path: &str) -> bool {
    let mut parts = path.split('/').skip(2);
    let (noun, name, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    CONFIGURED.contains(&noun) && matches!((name, more), (Some("{id}"), None) | (Some("by-name"), Some(_)))
}

/// Whether a call takes `If-Match`.
fn is_conditional(path: &str, method: &str) -> bool {
    matches!(method, "put" | "patch" | "delete") && is_configured(path)
}

/// Whether a call takes an idempotency key: a POST does unless its scope only lets it read. The response to a sign-in
/// sets a cookie, which is not kept.
fn takes_key(path: &str, method: &str, operation: &Value) -> bool {
    method == "post" && is_guarded(operation) && !only_reads(operation) && path != "/v1/sessions"
}

/// Whether the scope of a call only lets it read.
fn only_reads(operation: &Value) -> bool {
    ["read", "bodies"].contains(&text(&operation["security"][0]["token"][0]))
}

/// Adds the headers of requests that follow from the shape of a call.
fn take_headers(shape: &Shape<'_>, method: &str, operation: &mut Value) {
    let mut headers = Vec::new();
    if shape.takes_key {
        headers.push((
            "Idempotency-Key",
            "A key that the caller chooses for this request, such as a UUID. A repetition with the same key and the same \
             token or session gets the first response, for 24 hours.",
            json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$" }),
        ));
    }
    if shape.is_conditional {
        headers.push((
            "If-Match",
            "Changes the object only if it has this ETag, or one of several separated by commas. `*` demands that it \
             exists.",
            json!({ "type": "string", "pattern": r#"^(\*|(W/)?"[!#-+\--~]*"( *, *(W/)?"[!#-+\--~]*"){0,19})$"# }),
        ));
    }
    if shape.is_conditional && method == "put" && shape.path.contains("/by-name/") {
        headers.push((
            "If-None-Match",
            "`*` creates the object only if it does not exist.",
            // Not a constant: generators of clients take none in a header.
            json!({ "type": "string", "pattern": r"^\*$" }),
        ));
    }
    if headers.is_empty() {
        return;
    }
    if operation.get("parameters").is_none() {
        operation["parameters"] = json!([]);
    }
    let Some(parameters) = operation["parameters"].as_array_mut() else { return };
    parameters.extend(headers.into_iter().map(|(name, description, schema)| {
        json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema })
    }));
}

/// Describes the answers of calls that save something: 202 if it is not active everywhere yet, and the header `ETag`.
fn tag_responses(path: &str, method: &str, operation: &mut Value) {
    let noun = path.split('/').nth(2).unwrap_or_default();
    let changes = matches!(method, "post" | "put" | "patch" | "delete") && !only_reads(operation);
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    let saves = changes && CONFIGURED.contains(&noun) && !responses.contains_key("202");
    let saved = ["200", "201"].iter().find_map(|status| responses.get(*status)).cloned();
    let saved = saved.or_else(|| responses.get("204").cloned().filter(|_| noun != "customers"));
    if let (true, Some(mut saved)) = (saves, saved) {
        saved["description"] = "Saved, and not active everywhere yet. The relay makes it active by itself.".into();
        responses.insert("202".to_owned(), saved);
    }
    for (_, response) in responses.iter_mut().filter(|(status, _)| status.starts_with('2')) {
        let schema = text(&response["content"]["application/json"]["schema"]["$ref"]);
        let schema = schema.rsplit('/').next().unwrap_or_default();
        if ["Source", "Destination", "Route", "Customer"].contains(&schema) {
            response["headers"]["etag"] = json!({
                "description": "The version of the object, for `If-Match`.",
                "required": true, "schema": { "type": "string", "pattern": "^\"[0-9a-f]+\"$" },
            });
        }
    }
}

/// Gives the POST of a path its own schema, in which these fields are required.
fn require(description: &mut Value, (path, settings, complete, fields): &(&str, &str, &str, &[&str])) {
    let schemas = &mut description["components"]["schemas"];
    let mut schema = schemas[*settings].clone();
    for field in *fields {
        not_null(&mut schema["properties"][*field]);
    }
    let required = schema["required"].as_array().into_iter().flatten().cloned();
    schema["required"] = required.chain(fields.iter().map(|field| Value::from(*field))).collect();
    schemas[*complete] = schema;
    let body = &mut description["paths"][*path]["post"]["requestBody"]["content"]["application/json"];
    body["schema"] = json!({ "$ref": format!("#/components/schemas/{complete}") });
}

/// Completes a description that was generated from the declarations.
pub(super) fn complete(mut description: Value) -> Value {
    let schemas = &mut description["components"]["schemas"];
    for (name, schema) in schema::all() {
        schemas[name] = schema;
    }
    NEW.iter().for_each(|new| require(&mut description, new));
    description["components"]["responses"] = responses();
    values::explain(&mut description["components"]["schemas"]);
    lift_descriptions(&mut description["components"]["schemas"]);
    refer_to_items(&mut description["components"]["schemas"]);
    open_objects(&mut description["components"]["schemas"]);
    for (path, item) in description["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete_operation(path, method, operation);
        }
    }
    description
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    // An operation's id is the name of its function, which is only unique within its module.
    let id = format!("{}_{}", text(&operation["tags"][0]), text(&operation["operationId"]));
    operation["operationId"] = id.replace('-', "_").into();
    let shape = Shape {
        guarded: is_guarded(operation),
        names_something: path.contains("{id}") || path == AWAIT_PATH,
        has_body: matches!(method, "post" | "put" | "patch"),
        is_conditional: is_conditional(path, method),
        takes_key: takes_key(path, method, operation),
        path,
    };
    name_customers(path, method, operation);
    take_headers(&shape, method, operation);
    tag_responses(path, method, operation);
    accept_sessions(operation);
    if path == AWAIT_PATH
        && let Some(required) = operation["security"].as_array_mut()
    {
        required.push(json!({ "await_token": [] }));
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        if parameter["in"] == "query" || parameter["in"] == "header" {
            not_null(&mut parameter["schema"]);
        } else if parameter["in"] == "path" {
            let (thing, named_by) = match parameter["name"].as_str() {
                Some("source") => ("source", "id or name"),
                Some("key") => ("job", "key"),
                Some(_) | None => named_in(path),
            };
            let named_by = if parameter["name"] == "name" { "name" } else { named_by };
            parameter["description"] = format!("The {named_by} of the {thing}.").into();
        }
    }
    if path.ends_with("/rotate") {
        operation["requestBody"]["required"] = false.into();
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, response) in responses.iter_mut().filter(|(_, response)| response.get("$ref").is_none()) {
        if text(&response["description"]).is_empty() {
            response["description"] = meaning(method, status, response).into();
        }
        for (name, header) in common_headers(shape.guarded) {
            response["headers"][name] = header;
        }
        let content = response.get_mut("content").and_then(|content| content.get_mut("application/octet-stream"));
        if let Some(content) = content {
            *content = json!({ "schema": { "type": "string", "format": "binary" } });
        }
        for header in response["headers"].as_object_mut().into_iter().flat_map(Map::values_mut) {
            header["required"] = true.into();
        }
        if shape.takes_key && status.starts_with('2') {
            response["headers"]["idempotency-replayed"] = json!({
                "description": "Present if the response is that of an earlier request with the same `Idempotency-Key`.",
                "required": false, "schema": { "type": "string", "const": "true" },
            });
        }
    }
    for status in shape.statuses() {
        let name = refusals().into_iter().find(|refusal| refusal.status == status).map(|refusal| refusal.name);
        let reference = json!({ "$ref": format!("#/components/responses/{}", name.unwrap_or_default()) });
        responses.entry(status.to_string()).or_insert(reference);
    }
}

/// Adds the cookie of a session as the other way to authenticate, with the same scopes.
fn accept_sessions(operation: &mut Value) {
    let scopes = operation["security"][0].get("token").cloned();
    if let (Some(scopes), Some(required)) = (scopes, operation["security"].as_array_mut()) {
        required.push(json!({ "session": scopes }));
    }
}

/// Whether a call needs a token. A call that needs none says so by an empty requirement.
fn is_guarded(operation: &Value) -> bool {
    operation["security"].as_array().is_some_and(|required| required.iter().any(|one| one.get("token").is_some()))
}

/// The object that the variable part of a path names, and whether the part is an id or a name.
fn named_in(path: &str) -> (&'static str, &'static str) {
    match path.split('/').nth(2).unwrap_or_default() {
        "customers" => ("customer", "id or name"),
        "deliveries" => ("delivery", "id"),
        "destinations" => ("destination", "id or name"),
        "events" => ("event", "id"),
        "operations" => ("operation", "id"),
        "providers" => ("provider", "id"),
        "replays" => ("replay", "id"),
        "routes" => ("route", "id or name"),
        "sessions" => ("session", "id"),
        "sources" => ("source", "id or name"),
        "tokens" => ("token", "id"),
        "unreadable-messages" => ("unreadable message", "id"),
        _ => ("object", "id"),
    }
}

/// The description of a response whose call declares none. OpenAPI requires one.
fn meaning(method: &str, status: &str, response: &Value) -> String {
    match status {
        "201" => "Created.".to_owned(),
        "202" => "Accepted. The relay retries the messages in the background.".to_owned(),
        "204" => "Deleted.".to_owned(),
        _ => {
            let schema = text(&response["content"]["application/json"]["schema"]["$ref"]);
            returned(method, schema.rsplit('/').next().unwrap_or_default())
        }
    }
}

/// Describes the result of a call by the name of its schema.
fn returned(method: &str, schema: &str) -> String {
    let Some(item) = schema.strip_prefix("Page_") else {
        let updated = if matches!(method, "put" | "patch") { "updated " } else { "" };
        let thing = match schema {
            "EndedSessions" => "number of ended sessions".to_owned(),
            "DestinationHealth" => "health of the destination".to_owned(),
            "EventDetail" => "event".to_owned(),
            "EventSearch" => "found events".to_owned(),
            "Health" => "version of the relay".to_owned(),
            "Ready" => "state of the relay".to_owned(),
            "ReleasedOfHeld" => "number of released deliveries".to_owned(),
            "DestinationsHealth" => "health of the destinations".to_owned(),
            "DestinationsStats" => "counts of the destinations".to_owned(),
            "SourcesStats" => "counts of the sources".to_owned(),
            "SourceCheck" => "result of the check".to_owned(),
            "TrialReport" => "results of the trial".to_owned(),
            "SigningSecret" => "signing secret of the destination".to_owned(),
            "Stats" => "counts".to_owned(),
            "ShownActor" => "caller".to_owned(),
            "UnreadableMessage" => "unreadable message".to_owned(),
            "" => "result".to_owned(),
            one_word => one_word.to_ascii_lowercase(),
        };
        return format!("Returns the {updated}{thing}.");
    };
    let items = match item {
        "Delivery" => "deliveries".to_owned(),
        "UnreadableMessage" => "unreadable messages".to_owned(),
        one_word => format!("{}s", one_word.to_ascii_lowercase()),
    };
    format!("Returns a page of {items}.")
}

/// Makes the schema of each page refer to the schema of its items. The declarations repeat that schema, and a generated
/// client would have a second type of the same object: one for the list and one for the object itself.
fn refer_to_items(schemas: &mut Value) {
    let names: Vec<String> = schemas.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    for name in &names {
        let Some(item) = name.strip_prefix("Page_").filter(|item| names.iter().any(|name| name == item)) else {
            continue;
        };
        schemas[name]["properties"]["data"]["items"] = json!({ "$ref": format!("#/components/schemas/{item}") });
    }
}

/// Says of each object without described fields that it may have any. That is the default of JSON schemas, but generated
/// TypeScript has an object without fields otherwise.
fn open_objects(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(open_objects),
        Value::Object(fields) => {
            fields.values_mut().for_each(open_objects);
            let is_bare = fields.get("type").is_some_and(|kind| kind == "object")
                && !["properties", "additionalProperties", "allOf", "oneOf"]
                    .iter()
                    .any(|key| fields.contains_key(*key));
            if is_bare {
                fields.insert("additionalProperties".to_owned(), true.into());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Moves the description of each nullable field from its reference to a schema up to the field itself: most renderers
/// show only the description of the field.
fn lift_descriptions(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(lift_descriptions),
        Value::Object(fields) => {
            fields.values_mut().for_each(lift_descriptions);
            let variants = fields.get_mut("oneOf").and_then(Value::as_array_mut);
            let Some(variants) = variants.filter(|variants| variants.iter().any(|variant| variant["type"] == "null"))
            else {
                return;
            };
            let mut references =
                variants.iter_mut().filter_map(Value::as_object_mut).filter(|variant| variant.contains_key("$ref"));
            if let Some(lifted) = references.find_map(|reference| reference.remove("description")) {
                fields.entry("description").or_insert(lifted);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Removes null from the values that a schema allows: a query parameter or a header is omitted or has a value.
fn not_null(schema: &mut Value) {
    if let Some(variants) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        variants.retain(|variant| variant["type"] != "null");
        if let [only] = variants.as_mut_slice() {
            *schema = only.take();
        }
    } else if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_mut_slice() {
            schema["type"] = only.take();
        }
    }
}

/// The headers of every response.
fn common_headers(guarded: bool) -> Vec<(&'static str, Value)> {
    let id = json!({
        "description": "The id of the request. It also appears in the relay's log.",
        "required": true, "schema": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" },
    });
    let stored = json!({
        "description": "The response must not be cached.",
        "required": true, "schema": { "type": "string", "const": "no-store" },
    });
    let mut headers = vec![("x-request-id", id)];
    if guarded {
        headers.push(("cache-control", stored));
        for (name, description) in [
            ("ratelimit-policy", "The number of requests (`q`) that the caller may make in a number of seconds (`w`)."),
            (
                "ratelimit",
                "How many more requests the caller may make (`r`), and after how many seconds all of them (`t`).",
            ),
        ] {
            let header = json!({ "description": description, "required": true, "schema": { "type": "string" } });
            headers.push((name, header));
        }
    }
    headers
}

/// The problem documents, by the names with which the calls refer to them.
fn responses() -> Value {
    let responses = refusals().into_iter().map(|refusal| {
        let mut headers = Map::new();
        headers.extend(common_headers(false).into_iter().map(|(name, header)| (name.to_owned(), header)));
        for (name, description) in refusal.headers {
            let header = json!({ "description": description, "required": true, "schema": { "type": "string" } });
            headers.insert((*name).to_owned(), header);
        }
        for (name, description) in refusal.optional_headers {
            let header = json!({ "description": description, "required": false, "schema": { "type": "string" } });
            headers.insert((*name).to_owned(), header);
        }
        let response = json!({
            "description": refusal.description,
            "headers": headers,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
        (refusal.name.to_owned(), response)
    });
    Value::Object(responses.collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
