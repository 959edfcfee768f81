//! The meanings of the values of enumerations. The schema of a type lists the values but has no place for their
//! meanings.

use serde_json::Value;

/// The name of a schema, its description if the schema has none, and the meaning of each of its values.
type Meanings = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Every enumeration whose values need an explanation.
pub(in crate::api) const MEANINGS: &[Meanings] = &[
    (
        "FindingKind",
        "",
        &[
            ("destination_disabled", "nothing is sent to the destination until it is resumed"),
            ("destination_paused", "deliveries wait at a paused destination"),
            ("destination_failing", "attempts to the destination fail"),
            ("destination_backing_off", "the destination asked to wait"),
            ("backlog", "deliveries are due and not sent, because more events come than the limits let through"),
            ("source_rejecting", "requests to the source are refused"),
            ("source_not_active", "the edge has not confirmed the newest configuration of the source"),
            ("deliveries_dead", "deliveries have ended without success"),
            ("deliveries_held", "deliveries wait for a release"),
            ("events_quarantined", "events that failed verification are kept"),
        ],
    ),
    (
        "CheckOutcome",
        "",
        &[
            ("accepted", "it would be an event"),
            ("quarantined", "verification fails, and the source would keep the request in quarantine"),
            ("refused", "it would not become an event"),
            ("handshake", "it would be answered, and is not an event"),
            ("page", "it only reads, and would get the page of the source"),
            ("try_again", "the edge could not verify it now, and would ask for another try"),
            ("unknown", "only the edge has the keys to verify it"),
        ],
    ),
    (
        "CheckStepKind",
        "",
        &[
            ("signature_form", "the signatures of the request can be read"),
            ("timestamp", "the signed time is near to the time of receipt"),
            ("requirement", "a signed value equals a setting of the source"),
            ("signed_content", "the content that is signed is there"),
            ("signature", "a signature matches a secret or a key"),
            ("credential", "the request carries a secret of the source"),
            ("token", "the request carries a JSON Web Token that the scheme accepts"),
            ("nothing", "the source does not verify"),
        ],
    ),
    (
        "CheckStepState",
        "",
        &[
            ("passed", "the step holds"),
            ("failed", "the step does not hold"),
            ("unknown", "the step needs what an earlier step did not find, or what only the edge has"),
        ],
    ),
    (
        "ChangeKind",
        "",
        &[
            ("event_stored", "a new event"),
            ("event_state_changed", "an event was released from quarantine, or its body was erased"),
            ("attempt_made", "a request of a delivery, with its outcome"),
            ("delivery_state_changed", "a delivery was made, held, released, retried, or has ended"),
        ],
    ),
    (
        "DeliveryState",
        "",
        &[
            ("pending", "waiting for its next attempt, or being sent"),
            (
                "held",
                "not sent, because its destination is paused, disabled or unusable, because the delivery is held \
                 individually (`held_by`), or because its destination was deleted and the delivery is about to be \
                 cancelled",
            ),
            ("succeeded", "the destination returned 2xx"),
            (
                "dead",
                "no further attempt is made, because the retry schedule or the retention of metadata has ended, or \
                 because the destination returned 410; the delivery can be retried or replayed",
            ),
            (
                "cancelled",
                "cancelled by an operator or by the deletion of its destination, or not sent because its filter did \
                 not match",
            ),
        ],
    ),
    (
        "EventDeliveries",
        "What has become of the deliveries of an event.",
        &[
            ("unmatched", "the event was routed and has no delivery: no route matched it"),
            ("any_dead", "at least one delivery of the event is dead"),
        ],
    ),
    (
        "WaitsFor",
        "",
        &[
            (
                "turn",
                "the delivery is due, and is being sent or is sent as soon as the rate limit and concurrency of its \
                 destination permit",
            ),
            ("schedule", "the next attempt, at `next_attempt_at`"),
            ("back_off", "the end of the destination's back-off, at `waits_until`"),
            (
                "breaker",
                "the open breaker of the destination; until `waits_until`, only manual retries are sent, and then one \
                 delivery as a probe",
            ),
            ("order", "an earlier delivery with the same order key"),
            ("destination", "the destination, which is paused, disabled, unusable or deleted (see `held_reason`)"),
            ("release", "the release of the delivery (see `held_by` and `held_reason`)"),
        ],
    ),
    (
        "HeldBy",
        "",
        &[
            (
                "filter",
                "the filter of the route could not be evaluated, so it is unknown whether the delivery should be sent",
            ),
            ("order_key", "the order key of the route could not be evaluated"),
            ("transform", "the transform of the route fails, or could not be evaluated in time on several tries"),
            ("url", "the URL of the destination cannot be requested"),
            ("body", "the body of the event is no longer available"),
            ("attempt", "the outcome of the last attempt could not be stored"),
            (
                "route",
                "the route was deleted or changed, and the transform that was current when the delivery was created \
                 is no longer known",
            ),
        ],
    ),
    (
        "JobResult",
        "",
        &[
            ("included", "the result is in the event"),
            (
                "not_included",
                "the provider sends only the id of the job, and the result has to be fetched from the provider",
            ),
        ],
    ),
    (
        "BodyEncoding",
        "",
        &[
            ("json", "`body` is the JSON value"),
            ("text", "`body` is a string with the text"),
            ("base64", "`body` is a string with the bytes in base64"),
        ],
    ),
    (
        "BodyOmitted",
        "",
        &[
            ("scope", "the token lacks the scope `bodies`"),
            ("size", "the bodies of the response are larger than 1 MiB; read this one with `GET /v1/events/{id}/body`"),
            ("gone", "the body is no longer kept"),
            ("not_exposed", "the caller has an await token, and the source exposes no field of the body"),
        ],
    ),
    (
        "DestinationState",
        "",
        &[
            ("active", "deliveries are sent"),
            ("paused", "paused by an operator; deliveries are held until the destination is resumed"),
            (
                "disabled",
                "disabled by Tidegate, because the destination returned 410 or because all attempts have failed for \
                 five days (at least ten); deliveries are held until the destination is resumed",
            ),
        ],
    ),
    (
        "BreakerState",
        "",
        &[
            ("closed", "deliveries are sent normally"),
            ("open", "nothing but manual retries is sent until `next_probe_at`"),
            (
                "half_open",
                "one delivery is sent as a probe; if it succeeds, the breaker closes, and if it fails, the breaker \
                 opens again for twice as long, up to five minutes",
            ),
        ],
    ),
    (
        "Poison",
        "",
        &[
            ("block", "later deliveries wait until the earlier one is succeeded, dead or cancelled"),
            ("skip", "later deliveries are sent while the earlier one is retried"),
        ],
    ),
    (
        "Verification",
        "",
        &[
            ("verified", "the signature or credentials are valid"),
            (
                "stale",
                "the signature is valid, but its timestamp is outside the tolerance, and `on_stale` is \
                 `accept_flagged`",
            ),
            ("unsigned", "the source requires no signature"),
            ("failed", "verification failed, and the event is in quarantine"),
            ("released", "verification failed, and the event has been released from quarantine"),
            ("edited", "the event is an edited copy of another one, which a caller has sent"),
        ],
    ),
    (
        "DecisionOutcome",
        "",
        &[
            ("routed", "at least one route matched, or could not be evaluated, so that its delivery is held"),
            ("no_route_matched", "no delivery was created, because no enabled route of the source matched"),
            ("quarantined", "verification failed, and the event was not routed"),
            (
                "released",
                "verification failed, and the event has since been released; `deliveries` lists those of a manual \
                 release, not those of a replay",
            ),
        ],
    ),
    (
        "RouteOutcome",
        "",
        &[
            ("matched", "the route matches"),
            ("off", "the route is disabled"),
            ("type_not_matched", "the event's type is not one of the route's `types`; the filter is not evaluated"),
            ("not_matched", "the filter returned false"),
            ("filter_failed", "the filter cannot be evaluated for this event"),
            (
                "undecided",
                "the filter could not be evaluated for now; a delivery would be created and held until it can be",
            ),
            (
                "unordered",
                "the filter matches, but the order key cannot be evaluated for this event; the delivery would be held \
                 until the route is changed",
            ),
        ],
    ),
    (
        "Reason",
        "",
        &[
            ("not_decodable", "the message does not have the edge's message format"),
            ("unknown_version", "the message was written by an edge newer than this relay"),
            ("answer_not_readable", "the response of the queue API with this message could not be parsed"),
            (
                "leased_too_often",
                "the queue had leased the message more than 20 times, so the relay stored it before parsing it",
            ),
            ("body_missing", "the body is not in the edge's storage, or differs from the one stored there"),
            ("secret_not_openable", "the secret that a provider handed over cannot be decrypted with the edge's key"),
            ("unknown_source", "the source does not exist"),
            (
                "implausible_time",
                "the timestamp in the event id is more than a day in the future, or more than 20 days old",
            ),
            ("past_retention", "the event is past the retention period of bodies; no delivery is created"),
            ("refused_by_database", "the database rejected a value of the message"),
        ],
    ),
    (
        "UnreadableState",
        "",
        &[
            ("waiting", "the message is stored as unreadable, and the relay retries it"),
            (
                "released",
                "the relay has stored the event, the counts of rejections or the secret that the message contains",
            ),
        ],
    ),
    (
        "RecheckOutcome",
        "",
        &[
            (
                "verifies",
                "with the current secrets and settings of its source, the event would have been accepted on arrival",
            ),
            ("fails", "the event would not have been accepted"),
            ("unknown", "the stored data is not sufficient to tell"),
        ],
    ),
    (
        "UpstreamStatus",
        "",
        &[("working", "calls succeed"), ("failing", "all calls have failed for at least 15 seconds")],
    ),
    (
        "ReplayState",
        "The state of a replay.",
        &[
            ("running", "the replay is creating deliveries"),
            ("paused", "the replay was paused by a caller, and creates no deliveries until it is resumed"),
            ("completed", "the replay has created all of its deliveries"),
            ("cancelled", "the replay was cancelled, or its destination was deleted"),
            ("failed", "Tidegate stopped the replay; see `error`"),
        ],
    ),
    (
        "OperationKind",
        "",
        &[
            ("delete_customer", "deletes what a customer owned"),
            ("reseal", "encrypts every stored secret with the first key in `TIDEGATE_MASTER_KEY`"),
            ("retry_deliveries", "makes succeeded, dead or cancelled deliveries pending again"),
            ("cancel_deliveries", "cancels pending and held deliveries"),
            ("release_deliveries", "releases deliveries that are held individually"),
            ("release_events", "releases events from quarantine, as a replay"),
            ("replay", "a replay"),
        ],
    ),
    (
        "NewOperationKind",
        "",
        &[
            ("reseal", "encrypts every stored secret with the first key in `TIDEGATE_MASTER_KEY`"),
            (
                "retry_deliveries",
                "makes succeeded, dead or cancelled deliveries pending again, with the same ids and a fresh retry \
                 schedule",
            ),
            ("cancel_deliveries", "cancels pending and held deliveries; attempts in flight are not aborted"),
            ("release_deliveries", "releases deliveries that are held individually (`held_by`)"),
            ("release_events", "releases events from quarantine: creates a replay that delivers them"),
        ],
    ),
    (
        "OperationState",
        "",
        &[
            ("running", "being worked on"),
            ("paused", "a replay that was paused by a caller"),
            ("completed", "all of the work is done"),
            ("cancelled", "cancelled by a caller; what was done before is kept"),
            ("failed", "the operation has ended and could not do all of its work; see `error`"),
        ],
    ),
    (
        "ProviderConfidence",
        "Where the information about a provider comes from.",
        &[
            ("A", "documentation or SDK of the provider"),
            ("B", "several secondary sources, such as client libraries and guides, or common knowledge"),
            ("C", "a single secondary source"),
        ],
    ),
    (
        "ProviderSecretNeed",
        "Whether a source of this provider needs a secret.",
        &[
            ("required", "the source needs a secret"),
            ("handed_over", "the provider sends the secret in a handshake"),
            ("none", "the source needs no secret"),
        ],
    ),
    (
        "ProviderSettingKind",
        "The kind of a setting.",
        &[
            ("text", "a value that is compared with, or signed as, a part of the request"),
            ("prefix", "the text before a token"),
            ("header", "the name of a header"),
            ("url", "an `https` URL"),
            ("own_url", "the URL that was entered at the provider, exactly as entered"),
        ],
    ),
    (
        "Scope",
        "",
        &[
            ("read", "see everything but bodies of events and secrets"),
            ("bodies", "see the bodies of events and the bytes of unreadable messages"),
            ("write", "create, change, delete, pause and resume sources, destinations and routes"),
            ("replay", "retry, release, replay and cancel"),
            ("secrets", "see and rotate the signing secrets of destinations"),
            ("admin", "manage customers, tokens and operations, and erase the bodies of events"),
        ],
    ),
    (
        "ActorKind",
        "",
        &[
            ("root", "the bearer of the relay's setting `TIDEGATE_ADMIN_TOKEN`"),
            ("token", "the bearer of a token that the API has created"),
            ("session", "a browser after a sign-in"),
        ],
    ),
    (
        "SessionMadeOf",
        "With what the caller signed in.",
        &[
            ("root", "the relay's setting `TIDEGATE_ADMIN_TOKEN`"),
            ("token", "a token that the API has created"),
            ("openid_connect", "the OpenID Connect provider of the relay's settings"),
        ],
    ),
];

/// Adds the meanings of the values to the description of each schema.
pub(super) fn explain(schemas: &mut Value) {
    for (name, about, values) in MEANINGS {
        let schema = &mut schemas[name];
        let about = schema["description"].as_str().unwrap_or(about);
        let list: Vec<String> = values.iter().map(|(value, meaning)| format!("- `{value}`: {meaning}")).collect();
        schema["description"] = format!("{about}\n\n{}", list.join("\n")).into();
    }
}
