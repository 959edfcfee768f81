//! JSON schemas of ids, names, expressions and settings, for the description of the API.
//!
//! The types here appear only in the declarations of requests and responses. The types that hold the values have no
//! schema, or their schema has keywords that a derive cannot write. Each type here has a JSON schema (2020-12) that is
//! as exact as a schema can be. A rule beyond that is described at its field, and a request that breaks it is answered
//! with 422.

use expression::MAX_SOURCE_BYTES;
use model::destination::MAX_URL_BYTES;
use model::operation::{OperationKind as KindOfOperation, OperationState as StateOfOperation};
use model::retry_policy::{MAX_ATTEMPTS, MAX_DELAY_S, MAX_MULTIPLIER};
use serde_json::{Value, json};
use shared::id::{
    AttemptId as Attempt, AuditEntryId as AuditEntry, CustomerId as Customer, DeliveryId as Delivery,
    DestinationId as Destination, EventId as Event, OperationId as Operation, RejectionId as Rejection,
    ReplayId as Replay, RouteId as Route, SessionId as Session, SourceId as Source, TokenId as Token,
    UnreadableMessageId as UnreadableMessage,
};
use shared::provider;
use shared::source::SafeMethod;
use utoipa::openapi::{Object, RefOr, Schema};

use super::event_types;
use super::name::MAX_NAME;
use super::rate::MAX_LIMIT;
use super::static_headers::{self, MAX_HEADERS, MAX_VALUE_BYTES};
use crate::intake::routing::LONGEST_NAME_BYTES;

macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident = $json:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(crate) struct $name;

            /// [`all`] has the schema. This implementation only makes the description refer to it.
            impl utoipa::PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    Object::new().into()
                }
            }

            impl utoipa::ToSchema for $name {}
        )*

        fn named() -> Vec<(&'static str, Value)> {
            vec![$((stringify!($name), $json)),*]
        }
    };
}

schemas! {
    /// The id of a source.
    SourceId = id("a source", Source::PREFIX);
    /// The id of a destination.
    DestinationId = id("a destination", Destination::PREFIX);
    /// The id of a route.
    RouteId = id("a route", Route::PREFIX);
    /// The id of an event.
    EventId = id("an event", Event::PREFIX);
    /// The id of a delivery.
    DeliveryId = id("a delivery", Delivery::PREFIX);
    /// The id of an attempt.
    AttemptId = id("an attempt", Attempt::PREFIX);
    /// The id of a replay.
    ReplayId = id("a replay", Replay::PREFIX);
    /// The id of a rejection.
    RejectionId = id("a rejection", Rejection::PREFIX);
    /// The id of an unreadable message.
    UnreadableMessageId = id("an unreadable message", UnreadableMessage::PREFIX);
    /// The id of a customer.
    CustomerId = id("a customer", Customer::PREFIX);
    /// The id of a token.
    TokenId = id("a token", Token::PREFIX);
    /// The id of an entry of the audit log.
    AuditEntryId = id("an audit entry", AuditEntry::PREFIX);
    /// The id of an object in the audit log.
    AuditObjectId = json!({
        "type": "string", "pattern": "^[a-z]{3}_[0-9a-f]{32}$",
        "description": "The id of an object, such as that of a destination.",
    });
    /// The settings of an object in the audit log.
    AuditSettings = json!({
        "type": "object",
        "description": "The settings of an object, without secrets.",
    });
    /// The id of an operation.
    OperationId = id("an operation", Operation::PREFIX);
    /// The id of a session.
    SessionId = id("a session", Session::PREFIX);
    /// The name of a source.
    SourceName = name("stripe-live", &["src_", "dst_"]);
    /// The name of a destination.
    DestinationName = name("billing", &["src_", "dst_"]);
    /// The name of a route.
    RouteName = name("paid-invoices", &["src_", "dst_", "rte_"]);
    /// The name of a customer.
    CustomerName = name("acme", &["src_", "dst_", "cus_"]);
    /// The id or the name of a source.
    SourceReference = reference("source", "source-reference");
    /// The id or the name of a destination.
    DestinationReference = reference("destination", "destination-reference");
    /// The id or the name of a route.
    RouteReference = reference("route", "route-reference");
    /// The id or the name of a customer.
    CustomerReference = reference("customer", "customer-reference");
    /// The key of a job.
    JobKey = json!({
        "type": "string", "minLength": 1, "maxLength": LONGEST_NAME_BYTES,
        "description": "The key of a job: the provider's id of it, or the value of `job_key` in the `config` of the source.",
        "examples": ["ufawqhfynnddngldkgtslldrkq"],
    });
    /// Which event of a job ends a wait.
    AwaitUntil = json!({
        "type": "string", "format": "await-until", "minLength": 1, "maxLength": MAX_SOURCE_BYTES,
        "description": "Which event of a job ends the wait. `terminal`: one that ends the job, well or badly. `any`: any \
            event. Otherwise a CEL expression on `event`, `headers` and `body`, such as `body.progress > 50`: an event \
            for which it is true. It is evaluated for the newest 32 events of the job, and an event on which it fails \
            does not end the wait. An expression that reads `body` needs the scope `bodies`. Default: `terminal`.",
        "examples": ["terminal", "any", "body.status == 'succeeded'"],
    });
    /// The position after the last row of a page.
    PageCursor = json!({
        "type": "string", "pattern": "^[A-Za-z0-9_-]{21}[AQgw]$",
        "description": "The `next_cursor` of a page.",
    });
    /// A position in the stream of changes.
    Position = json!({
        "type": "string", "pattern": "^pos_[0-9a-f]{48}$",
        "description": "A position in the stream of changes. Its digits have no meaning for clients.",
    });
    /// Types of events.
    EventTypes = json!({
        "type": "array", "maxItems": event_types::MAX_TYPES, "uniqueItems": true,
        "description": "Types of events, compared exactly. An empty list means all types. A type with `*` returns \
            422, because there are no wildcards.",
        "items": { "type": "string", "minLength": 1, "maxLength": event_types::MAX_CHARACTERS, "pattern": "^[^*\\u0000]+$" },
        "examples": [["invoice.paid", "invoice.payment_failed"]],
    });
    /// A filter of a route.
    FilterExpression = expression("event.type == 'invoice.paid' && body.data.object.amount_paid > 0");
    /// A transform of a route.
    TransformExpression = expression("{'id': event.id, 'data': body.data}");
    /// An order key of a route.
    OrderKeyExpression = expression("body.data.object.customer");
    /// The URL of a destination.
    DestinationUrl = json!({
        "type": "string", "format": "url", "pattern": "^https?://", "maxLength": MAX_URL_BYTES,
        "description": "The URL of a destination.",
        "examples": ["https://example.com/webhooks"],
    });
    /// Static headers of a destination.
    StaticHeaders = static_headers(json!({ "type": "string" }));
    /// A patch of static headers.
    StaticHeadersPatch = static_headers(json!({ "type": ["string", "null"] }));
    /// A signing secret.
    SigningSecretText = json!({
        "type": "string", "format": "signing-secret",
        "pattern": "^(whsec_[A-Za-z0-9+/]{32,86}={0,2}|whsk_[A-Za-z0-9+/]{86}==)$",
        "description": "A Standard Webhooks secret: `whsec_` followed by 24 to 64 base64-encoded bytes (HMAC-SHA256), \
            or `whsk_` followed by the 64 base64-encoded bytes of a key pair (Ed25519).",
    });
    /// When and how often a delivery is attempted. The exponential form takes `initial_s`, `multiplier`, `max_s` and
    /// `attempts`.
    RetryPolicy = json!({
        "description": "When and how often a delivery is attempted. The exponential form takes `initial_s`, \
            `multiplier`, `max_s` and `attempts`.",
        "oneOf": [reference_to("RetrySchedule"), reference_to("RetryBackoff")],
    });
    /// A patch of a retry policy.
    RetryPatch = json!({
        "type": "object", "additionalProperties": false,
        "properties": merged(json!({ "schedule_s": nullable(schedule()) }), backoff(true)),
    });
    /// A patch of a rate limit.
    RateLimitPatch = json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "limit": {
                "type": "integer", "format": "int32", "minimum": 1, "maximum": MAX_LIMIT,
                "description": "The maximum number of deliveries per period.",
            },
            "per": { "type": "string", "enum": ["second", "minute", "hour"], "description": "The period." },
        },
    });
    /// The state of a replay.
    ReplayState = choice(
        "The state of a replay. `running`: it is creating deliveries. `paused`: it was paused by a caller. \
         `completed`: it has created all of its deliveries. `cancelled`: it was cancelled, or its destination was \
         deleted. `failed`: Tidegate stopped it; see `error`.",
        &["running", "paused", "completed", "cancelled", "failed"],
    );
    /// What an operation does.
    OperationKind = choice(
        "What an operation does.",
        &KindOfOperation::ALL.map(KindOfOperation::name),
    );
    /// The state of an operation.
    OperationState = choice(
        "The state of an operation.",
        &StateOfOperation::ALL.map(StateOfOperation::name),
    );
    /// Where the facts about a provider come from.
    ProviderConfidence = choice(
        "Where the information about a provider comes from. `A`: its documentation or SDK. `B`: several \
         secondary sources, such as client libraries and guides, or common knowledge. `C`: a single secondary source.",
        &["A", "B", "C"],
    );
    /// Whether a source of a provider needs a secret.
    ProviderSecretNeed = choice(
        "Whether a source of this provider needs a secret. `required`: yes. `handed_over`: the provider \
         sends the secret in a handshake. `none`: no.",
        &["required", "handed_over", "none"],
    );
    /// The kind of a setting of a provider.
    ProviderSettingKind = choice(
        "The kind of a setting. `text`: a value that is compared with, or signed as, a part of the \
         request. `prefix`: the text before a token. `header`: the name of a header. `url`: an https \
         URL. `own_url`: the URL that was entered at the provider, exactly as entered.",
        &["text", "prefix", "header", "url", "own_url"],
    );
    /// The id of a provider of the catalogue.
    ProviderId = json!({
        "type": "string", "examples": ["stripe"],
        "description": "The id of a provider in the catalogue.",
        "enum": provider::catalogue().iter().map(|provider| provider.id.as_str()).collect::<Vec<_>>(),
    });
    /// The settings of a source, without its provider.
    SourceConfig = source_config();
}

/// Every schema with its name.
pub(crate) fn all() -> Vec<(&'static str, Value)> {
    let mut all = named();
    all.extend(nested());
    all
}

/// The schemas that only others refer to.
fn nested() -> [(&'static str, Value); 6] {
    [
        (
            "CustomerReferenceOrAll",
            json!({
                "type": "string", "format": "customer-reference-or-all",
                "pattern": format!("^(\\*|[a-z0-9][a-z0-9_-]{{0,{}}})$", MAX_NAME - 1),
                "description": "The id or name of a customer, or `*` for all customers.",
            }),
        ),
        (
            "RetrySchedule",
            json!({
                "type": "object", "required": ["schedule_s"], "additionalProperties": false,
                "properties": { "schedule_s": schedule() },
            }),
        ),
        (
            "RetryBackoff",
            json!({
                "type": "object", "required": ["initial_s", "multiplier", "max_s", "attempts"], "additionalProperties": false,
                "description": "An exponential retry policy. The first attempt is immediate. `max_s` must not be less \
                    than `initial_s`.",
                "properties": backoff(false),
            }),
        ),
        ("QuarantineLimits", quarantine_limits()),
        (
            "AcknowledgementSettings",
            json!({
                "type": "object", "additionalProperties": false,
                "description": "The response with which the edge acknowledges an event. `body` cannot be combined \
                    with status 204 or 205.",
                "properties": {
                    "status": nullable(json!({
                        "type": "integer", "minimum": 200, "maximum": 299,
                        "description": "The status code. Default: 200.",
                    })),
                    "body": nullable(json!({
                        "type": "string", "maxLength": 16_384,
                        "description": "The response body. Default: the id of the event as JSON.",
                    })),
                    "content_type": nullable(json!({
                        "type": "string", "pattern": "^[ -.0-~]*/[ -~]*$",
                        "description": "The content type of `body`. Default: `text/plain; charset=utf-8`.",
                    })),
                },
            }),
        ),
        (
            "EventPlace",
            json!({
                "description": "Where a value is in a request: in a header, in the JSON body, or in the query string.",
                "oneOf": [
                    place(
                        "EventPlaceHeader",
                        "header",
                        json!({ "type": "string", "pattern": HEADER_NAME, "description": "The name of a header." }),
                    ),
                    place(
                        "EventPlacePointer",
                        "pointer",
                        json!({
                            "type": "string", "pattern": "^/",
                            "description": "A JSON pointer (RFC 6901) into the body, such as `/data/id`.",
                        }),
                    ),
                    place(
                        "EventPlaceQuery",
                        "query",
                        json!({ "type": "string", "minLength": 1, "description": "The name of a query parameter." }),
                    ),
                ],
            }),
        ),
    ]
}

/// The pattern of a header name: a token of RFC 9110.
const HEADER_NAME: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

fn choice(description: &str, values: &[&str]) -> Value {
    json!({ "type": "string", "enum": values, "description": description })
}

fn id(of: &str, prefix: &str) -> Value {
    json!({
        "type": "string", "pattern": format!("^{prefix}_[0-9a-f]{{32}}$"),
        "description": format!("The id of {of}."),
        "examples": [format!("{prefix}_0197f3c8d2a17c3e9b5d0a4c6f7e8b91")],
    })
}

/// A name cannot be an id, because either is accepted wherever an object is named.
fn name(example: &str, reserved: &[&str]) -> Value {
    let listed = reserved.iter().map(|prefix| format!("`{prefix}`")).collect::<Vec<_>>();
    let (last, first) =
        listed.split_last().map_or(("", String::new()), |(last, first)| (last.as_str(), first.join(", ")));
    json!({
        "type": "string", "pattern": format!("^(?!{})[a-z0-9][a-z0-9_-]{{0,{}}}$", reserved.join("|"), MAX_NAME - 1),
        "description": format!("A name. It must not begin with {first} or {last}, which are reserved for ids."),
        "examples": [example],
    })
}

fn reference(noun: &str, format: &str) -> Value {
    json!({
        "type": "string", "format": format, "pattern": format!("^[a-z0-9][a-z0-9_-]{{0,{}}}$", MAX_NAME - 1),
        "description": format!("The id or name of a {noun}."),
    })
}

fn reference_to(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn expression(example: &str) -> Value {
    json!({
        "type": "string", "format": "cel", "minLength": 1, "maxLength": MAX_SOURCE_BYTES,
        "description": "A CEL expression on `event`, `headers` and `body`. An expression that does not compile \
            returns 422.",
        "examples": [example],
    })
}

/// A pattern of the names that a static header cannot have, in any case.
fn set_by_tidegate() -> String {
    let any_case = |text: &str| {
        let letter = |letter: char| match letter.is_ascii_alphabetic() {
            true => format!("[{}{letter}]", letter.to_ascii_uppercase()),
            false => letter.to_string(),
        };
        text.chars().map(letter).collect::<String>()
    };
    let whole = static_headers::set_by_tidegate().map(|name| any_case(name) + "$");
    let begun = static_headers::OURS.iter().map(|prefix| any_case(prefix));
    format!("^({})", whole.chain(begun).collect::<Vec<_>>().join("|"))
}

fn static_headers(value: Value) -> Value {
    let text = json!({ "pattern": "^[^\\u0000-\\u0008\\u000A-\\u001F\\u007F]*$", "maxLength": MAX_VALUE_BYTES });
    json!({
        "type": "object", "maxProperties": MAX_HEADERS,
        "description": "Static headers, by name. Connection headers, `content-type`, `webhook-…` and `tidegate-…` are \
            set by Tidegate and cannot be overridden. Names that differ only in case return 422.",
        "propertyNames": { "pattern": HEADER_NAME, "not": { "pattern": set_by_tidegate() } },
        "additionalProperties": merged(value, text),
    })
}

fn schedule() -> Value {
    json!({
        "type": "array", "minItems": 1, "maxItems": MAX_ATTEMPTS,
        "description": "The delay before each attempt, in seconds. The number of entries is the number of attempts.",
        "items": { "type": "integer", "format": "int32", "minimum": 0, "maximum": MAX_DELAY_S },
    })
}

fn backoff(may_be_null: bool) -> Value {
    let field = |schema: Value| if may_be_null { nullable(schema) } else { schema };
    let seconds = |what: &str| {
        field(json!({
            "type": "integer", "format": "int32", "minimum": 1, "maximum": MAX_DELAY_S, "description": what,
        }))
    };
    json!({
        "initial_s": seconds("The delay before the second attempt, in seconds."),
        "multiplier": field(json!({
            "type": "number", "format": "double", "minimum": 1, "maximum": MAX_MULTIPLIER,
            "description": "The factor by which the delay grows after each attempt.",
        })),
        "max_s": seconds("The maximum delay, in seconds."),
        "attempts": field(json!({
            "type": "integer", "format": "int32", "minimum": 1, "maximum": MAX_ATTEMPTS,
            "description": "The number of attempts, including the first one.",
        })),
    })
}

fn source_config() -> Value {
    // Null is a variant of its own, not one of the values: generated clients have an enumeration of texts. The title
    // becomes a part of its name.
    let text = |title: &str, description: &str, values: &[&str]| {
        let schemas = [json!({ "type": "null" }), json!({ "type": "string", "enum": values, "title": title })];
        json!({ "description": description, "oneOf": schemas })
    };
    let of = |description: &str, name: &str| {
        let schemas = [json!({ "type": "null" }), reference_to(name)];
        json!({ "description": description, "oneOf": schemas })
    };
    json!({
        "type": "object",
        "description": "Options that every source has, plus the `settings` of its provider. A field that is null has \
            its default. Unknown or conflicting settings return 422.",
        "properties": {
            "methods": nullable(json!({
                "type": "array", "items": { "type": "string", "const": SafeMethod::Get },
                "description": "Safe methods whose requests are events too. Requests with a method that is not safe \
                    are always events; HEAD and OPTIONS requests never are.",
            })),
            "handshake": text(
                "Handshake",
                "An additional handshake to answer. `cloudevents`: the validation request of CloudEvents \
                 (OPTIONS with `WebHook-Request-Origin`).",
                &["cloudevents"],
            ),
            "tolerance_s": nullable(json!({
                "type": "integer", "minimum": 1, "maximum": 604_800,
                "description": "The tolerance for the signed timestamp, in seconds. Only for schemes with a signed \
                    timestamp.",
            })),
            "on_failure": text(
                "OnFailure",
                "What to do with requests whose verification fails. `reject`: reject them with 401. \
                 `quarantine`: acknowledge them and store them as events in quarantine. Default: \
                 `reject`.",
                &["reject", "quarantine"],
            ),
            "quarantine": of("The limits of the quarantine.", "QuarantineLimits"),
            "on_stale": text(
                "OnStale",
                "What to do with requests whose signature is valid but whose timestamp is outside the \
                 tolerance. `reject`: treat them as failed. `accept_flagged`: accept them with \
                 `verification` `stale`. Default: `reject`.",
                &["reject", "accept_flagged"],
            ),
            "acknowledgement": of("The response with which the edge acknowledges an event.", "AcknowledgementSettings"),
            "max_body_bytes": nullable(json!({
                "type": "integer", "minimum": 1,
                "description": "The maximum body size in bytes. At most `TIDEGATE_MAX_BODY_BYTES`, which is also the \
                    default.",
            })),
            "key": {
                "description": "What identifies an event, so that copies are recognised: a template such as \
                    `{json:id}`, a place in the request, or `none` to treat every request as a new event.",
                "oneOf": [
                    { "type": "null" },
                    { "type": "string", "format": "key-template", "maxLength": 1_024 },
                    reference_to("EventPlace"),
                ],
            },
            "resend_changes_body": {
                "type": ["boolean", "null"],
                "description": "Whether a request with a known key but a different body is a copy. If null, the value \
                    of the provider is used.",
            },
            "job_key": {
                "description": "What identifies the job that an event is about, so that calls can await it: a template such as \
                    `{json:id}`, a place in the request, or `none` if events are about no job. If null, the place that \
                    the provider defines is used.",
                "oneOf": [
                    { "type": "null" },
                    { "type": "string", "format": "key-template", "maxLength": 1_024 },
                    reference_to("EventPlace"),
                ],
            },
            "expose": {
                "type": ["array", "null"], "maxItems": provider::MAX_EXPOSED,
                "description": "The fields of the body that the holder of an await token sees, as JSON pointers \
                    (RFC 6901). A field inside an array is left out.",
                "items": { "type": "string", "pattern": "^/[^\\u0000]*$", "maxLength": provider::MAX_POINTER_BYTES },
            },
            "type": of(
                "Where to read the event type from. If null, the place that the provider defines is used.",
                "EventPlace",
            ),
        },
        "additionalProperties": { "type": ["string", "number", "null"] },
        "examples": [{ "on_failure": "quarantine" }],
    })
}

fn quarantine_limits() -> Value {
    let limit = |most: u64, what: &str| {
        nullable(json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": most, "description": what }))
    };
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "events_per_hour": limit(1_000_000, "The maximum number of events stored in quarantine per hour (UTC)."),
            "bytes_per_hour": limit(
                100_000_000_000,
                "The maximum total size of bodies stored in quarantine per hour (UTC), in bytes.",
            ),
            "body_bytes": limit(25_000_000, "The maximum body size of a quarantined event, in bytes."),
        },
    })
}

fn place(title: &str, name: &str, schema: Value) -> Value {
    json!({
        "type": "object", "title": title, "required": [name], "additionalProperties": false,
        "properties": { name: schema },
    })
}

/// A schema of one type that allows null too.
fn nullable(mut schema: Value) -> Value {
    if let Some(kind) = schema.get_mut("type") {
        *kind = json!([kind.take(), "null"]);
    }
    schema
}

fn merged(mut one: Value, mut other: Value) -> Value {
    if let (Some(one), Some(other)) = (one.as_object_mut(), other.as_object_mut()) {
        one.append(other);
    }
    one
}
