//! The ids and the types that the SDKs and `shared` read from the same requests.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use shared::extract::Extracted;
use shared::sample::{Wanted, example_types};

use super::case::{Case, Request};
use super::node::{self, Job, Names, Reading};
use super::{keys, sign};

/// The SDKs that provide neither an id nor a type: they verify, and leave the body to their caller.
const ONLY_VERIFY: [&str; 14] = [
    "discord",
    "gcp-pubsub",
    "hubspot",
    "hubspot-v1",
    "hubspot-v2",
    "messagebird",
    "notion",
    "razorpay",
    "replicate",
    "retell",
    "sendgrid",
    "twilio",
    "vonage",
    "webflow",
];

/// The SDKs that provide a type but no id: the id of the message is in a header that they do not pass on.
const ONLY_TYPES: [&str; 7] = ["anthropic", "clerk", "openai", "polar", "resend", "standard-webhooks", "svix"];

/// A body in which the id or the type is in a different place than in the examples of `tidegate send`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    provider: String,
    json: Option<Value>,
    form: Option<String>,
}

fn bodies(provider: &str) -> Vec<String> {
    let bodies: Vec<Body> = serde_json::from_str(include_str!("bodies.json")).expect("bodies");
    let of_provider = bodies.into_iter().filter(|body| body.provider == provider);
    of_provider.map(|body| body.form.unwrap_or_else(|| body.json.expect("a body").to_string())).collect()
}

/// The requests of a case: an event of each type that has an example, and the other bodies of its provider.
fn requests(case: &Case) -> Vec<Request> {
    let types: Vec<_> = example_types(case.provider).collect();
    let bodies = bodies(case.provider);
    let of_types = types.iter().map(|name| Wanted { event_type: Some(name), ..Wanted::default() });
    let of_bodies = bodies.iter().map(|body| Wanted { body: Some(body.as_bytes()), ..Wanted::default() });
    let samples: Vec<_> = of_types.chain(of_bodies).filter_map(|wanted| case.sample(wanted)).collect();
    if samples.is_empty() { vec![case.request.clone()] } else { samples }
}

#[test]
fn every_sdk_that_reads_events_reads_the_same_ids_and_types_as_shared() {
    let cases: Vec<_> = sign::cases().into_iter().chain(keys::cases()).collect();
    let events: Vec<_> =
        cases.iter().flat_map(|case| requests(case).into_iter().map(move |request| (case, request))).collect();
    let jobs: Vec<_> = events.iter().map(|(case, request)| Job::read(case, request)).collect();
    let answers = node::read(&jobs);

    let (mut types, mut ids, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for ((case, request), answer) in events.iter().zip(answers) {
        let (provider, ours) = (case.provider, case.extract(request));
        match answer {
            Reading::Read { read: None } => {}
            Reading::Read { read: Some(names) } => {
                types.extend(names.r#type.is_some().then_some(provider));
                ids.extend(names.id.is_some().then_some(provider));
                if !agree(&ours, &names) {
                    wrong.push(format!("{provider}: {names:?}, and we read {ours:?} out of {}", request.body));
                }
            }
            Reading::Refused { why } => wrong.push(format!("{provider}: {why}: {}", request.body)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<_> = cases.iter().map(|case| case.provider).collect();
    assert_eq!(&all - &types, BTreeSet::from(ONLY_VERIFY), "the SDKs that only verify");
    assert_eq!(&types - &ids, BTreeSet::from(ONLY_TYPES), "the SDKs that give no id");
    println!(
        "of {} events {} SDKs give the type and {} the id that we read, {} only verify",
        events.len(),
        types.len(),
        ids.len(),
        ONLY_VERIFY.len(),
    );
}

/// Whether the fields of an SDK are those that we read. No SDK provides the hash with which some of our ids end.
fn agree(ours: &Extracted, names: &Names) -> bool {
    let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_id = |parts: &Vec<String>| {
        let rest = ours.provider_event_id.as_deref().and_then(|id| id.strip_prefix(&parts.join(".")));
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(is_hash))
    };
    let is_type = |parts: &Vec<String>| ours.event_type.as_deref() == Some(&parts.join("."));
    names.id.as_ref().is_none_or(is_id) && names.r#type.as_ref().is_none_or(is_type)
}
