"""What schemathesis cannot know from the description: valid values of the formats that are Tidegate's own, objects that
exist, and the rules that a schema cannot express."""

import json
import os
import re
import uuid

import schemathesis
from hypothesis import strategies as st

# The ids and names of objects that exist, by the kind of object.
OBJECTS = json.loads(os.environ["TIDEGATE_OBJECTS"])

EXPRESSIONS = ["true", "event.type == 'invoice.paid'", "has(body.id) && body.id == 'a'", "headers['x-a'] != ''"]
URLS = ["https://example.com/webhooks", "http://hooks.example.org:8080/a?b=c", "https://bücher.example/"]
SECRETS = [
    "whsec_" + "A" * 32,
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
]

schemathesis.openapi.format("cel", st.sampled_from(EXPRESSIONS))
schemathesis.openapi.format("url", st.sampled_from(URLS))
schemathesis.openapi.format("signing-secret", st.sampled_from(SECRETS))
schemathesis.openapi.format("key-template", st.sampled_from(["none", "{json:id}", "{h:x-event-id}.{query:id}"]))
schemathesis.openapi.format("await-until", st.sampled_from(["any", "terminal", *EXPRESSIONS]))
schemathesis.openapi.format("source-reference", st.sampled_from(OBJECTS["sources"]))
schemathesis.openapi.format("route-reference", st.sampled_from(OBJECTS["routes"]))
schemathesis.openapi.format("destination-reference", st.sampled_from(OBJECTS["destinations"]))
# The objects belong to the default customer. `default` comes first, so that most requests find them.
CUSTOMERS = ["default", *OBJECTS["customers"]]
schemathesis.openapi.format("customer-reference", st.sampled_from(CUSTOMERS))
schemathesis.openapi.format("customer-reference-or-all", st.sampled_from(["*", *CUSTOMERS]))

ID = re.compile(r"^(src|dst|rte|evt|dlv|rpl|unr|cus|tok|opn|ses)_[0-9a-f]{32}$")


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Names an object that exists instead of every second random id, except for calls that would delete it."""
    if not path_parameters or context.operation.method.lower() == "delete":
        return path_parameters
    given = path_parameters.get("id")
    kind = context.operation.path.split("/")[2]
    if isinstance(given, str) and ID.match(given) and kind in OBJECTS and int(given[-1], 16) % 2 == 0:
        path_parameters["id"] = OBJECTS[kind][int(given[-2], 16) % len(OBJECTS[kind])]
    return path_parameters


# The values that the schemas of these headers allow.
TAG = r'(W/)?"[!#-+\--~]*"'
GOOD_HEADERS = {
    "idempotency-key": r"[ -~]{1,255}",
    "if-match": rf"\*|{TAG}( *, *{TAG}){{0,19}}",
    "if-none-match": r"\*",
}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes each idempotency key new, because the same key with another request is refused, and omits conditions, which
    no schema can know to be met. tests/it/idempotency.rs and tests/it/preconditions.rs test both."""
    for name in list(case.headers or {}):
        value, lower = case.headers[name], name.lower()
        # A value that the schema does not allow is sent as it is.
        good = GOOD_HEADERS.get(lower)
        if good is None or not isinstance(value, str) or not re.fullmatch(good, value):
            continue
        if lower == "idempotency-key":
            case.headers[name] = str(uuid.uuid4())
        else:
            del case.headers[name]


@schemathesis.hook
def map_query(context, query):
    """Lets a call that awaits a job only look, because most jobs never have an event."""
    if context.operation.path.startswith("/v1/await/"):
        query = query or {}
        if is_time(query.get("timeout_s", 55)):
            query["timeout_s"] = 0
    return query


def is_time(value):
    """Whether a call could wait for this time."""
    return type(value) is int and value in range(56)


@schemathesis.hook
def map_body(context, body):
    """Lets a call that awaits jobs only look, and gives a source a provider and a secret that go together: which secrets are good depends on the provider."""
    if context.operation.path == "/v1/await" and isinstance(body, dict):
        if body.get("timeout_s") is None or is_time(body["timeout_s"]):
            body["timeout_s"] = 0
    if context.operation.path.startswith("/v1/sources") and isinstance(body, dict) and body.get("provider") in OBJECTS["providers"]:
        secrets = body.get("secrets")
        if secrets is None or (isinstance(secrets, list) and all(isinstance(secret, str) for secret in secrets)):
            body.update(provider="github", secrets=["a secret that is long enough"])
    return body


# Rules across fields, which a schema cannot express: the calls, the fields that 422 then names, and the rule.
RULES = [
    (r"^(POST|PUT|PATCH) /v1/sources", r"^(secrets|config(\..*)?|provider)$",
     "each provider has settings and forms of secrets of its own"),
    (r"^PUT /v1/(sources|destinations)/by-name", r"^name$", "the name in the body is the one in the path"),
    (r"^PUT /v1/routes", r"^(source|destination)$", "a route keeps its source and its destination, and a new one needs both"),
    (r"^PUT /v1/routes/by-name", r"^name$", "the name in the body is the one in the path"),
    (r"^PATCH /v1/destinations", r"^(rate_limit\.(limit|per)|retry)$", "a merged object has all of its fields"),
    (r"^(POST|PUT) /v1/destinations", r"^retry$", "max_s is not less than initial_s"),
    (r"^POST /v1/deliveries/release", r"^$", "one of destination, route and source is given, or held_by"),
    (r"^POST /v1/replays", r"^(filter\.(before|error|verifies_now|state|destination|events)|destination|cursor)$",
     "some fields need or exclude each other"),
    (r"^POST /v1/operations$", r"^(deliveries(\.(state|error|ids))?|events|dry_run)$",
     "each kind takes fields of its own, and states in which it has an effect"),
    (r"^PATCH /v1/replays", r"^rate_limit\.(limit|per)$", "a merged object has all of its fields"),
    (r"^POST /v1/events/\{id\}/deliver$", r"^(destination|edit(\..*)?)$",
     "a destination or an edit is given, and an edit changes something"),
    (r"^GET /v1/stats/(sources|destinations)$", r"^(ids|to|step)$",
     "ids are of one kind, and a span has an order and at most 200 steps"),
    (r"^POST /v1/sources/\{id\}/check$", r"^(raw|curl|url|received_at|body_base64|headers\[\d+\]\..*|)$",
     "a request is given in one form, it can be parsed, and its source can verify"),
    (r"^POST /v1/routes/try$", r"^(route|events|recent(\..*)?|events\[\d+\]\.(headers\[\d+\]\..*|body_base64))$",
     "a route exists, either events or recent is given, recent names a source, and a body is given once"),
    (r"^GET /v1/deliveries$", r"^error$", "only settled deliveries have an error"),
    (r"^GET /v1/stats", r"^(to|step|destination)$", "a span has an order and at most 1,500 steps"),
    (r"^POST /v1/tokens$", r"^(customer|scopes|expires_at)$",
     "a customer exists, its token has no scope admin, and a time is in the future"),
    (r"^PUT /v1/customers/by-name", r"^name$", "the name in the body is the one in the path"),
    (r"^(POST|PUT|PATCH) /v1/customers", r"^body_retention_days$",
     "bodies are kept for no longer than those of the deployment"),
    (r"^(GET|POST) /v1/await", r"^(|until|source|key|(any_of|all_of)(\[\d+\]\.(source|key))?)$",
     "one of any_of and all_of is given; the source has a job key, and end states for until=terminal"),
    (r"^(PUT|PATCH|DELETE) ", r"^If-(None-)?Match$", "a list of entity tags"),
    (r"^POST ", r"^Idempotency-Key$", "a key belongs to one request"),
    (r"", r"^customer$", "the header and the parameter name the same customer"),
    (r"^GET ", r"^(source|destination|route)$", "a list of all customers takes ids, because a name belongs to one customer"),
]

# Rules about one text, which a pattern cannot express: the fields, and the rule. Values of the lists above keep them.
TEXTS = [
    (r"^(filter|transform|order_key)$", "an expression compiles"),
    (r"^signing_secret$", "the two halves of a key pair belong together"),
    (r"^url$", "a URL can be parsed and its address is not blocked"),
]
GOOD = {*EXPRESSIONS, *URLS, *SECRETS}


def sent(case, field):
    """The value of a field such as `filter.source`, wherever it was sent."""
    value = case.body if isinstance(case.body, dict) else case.query
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def is_beyond_the_schema(case, error):
    field = error["field"]
    if re.search(r"^((filter|deliveries|events)\.)?(source|destination|route)$", field) and error["message"].startswith("there is no "):
        # A reference names something that exists; another call may have deleted it.
        return True
    call = f"{case.method} {case.operation.path}"
    if any(re.search(calls, call) and re.search(fields, field) for calls, fields, _ in RULES):
        return True
    value = sent(case, field)
    is_good = isinstance(value, str) and value in GOOD
    return not is_good and any(re.search(fields, field) for fields, _ in TEXTS)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Keeps every failure but a 422 of a good request that names nothing but fields with a rule beyond the schema."""
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 422:
        return True
    errors = json.loads(response.content)["errors"]
    return not (errors and all(is_beyond_the_schema(case, error) for error in errors))
