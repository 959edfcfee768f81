//! Every handshake of the catalogue with the exact bytes that its provider expects back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::vectors::source;
use crate::handshake::{Handshake, Reply, answer};
use crate::header::HeaderList;
use crate::provider::catalogue;
use crate::source::{Secret, SourceConfig};
use crate::verify::RequestParts;

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:orders";
const CONFIRM: &str = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=a&Token=b";

/// learn.microsoft.com, event-grid/end-point-validation-event-grid-events-schema
const EVENT_GRID: &str = r#"[{"id":"2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
    "topic":"/subscriptions/xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx","subject":"",
    "data":{"validationCode":"512d38b6-c7b8-40c8-89fe-f46f9e9622b6","validationUrl":"https://rp-eastus2.eventgrid.azure.net:553/"},
    "eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","eventTime":"2018-01-25T22:12:19.4556811Z",
    "metadataVersion":"1","dataVersion":"1"}]"#;

/// A header that the reply must have.
type OneHeader = Option<(&'static str, &'static str)>;

/// A request to a source with the secret `secret`.
struct Ask {
    provider: &'static str,
    config: Value,
    secrets: &'static [&'static str],
    method: &'static str,
    query: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: String,
}

impl Ask {
    fn post(provider: &'static str, body: impl Into<String>) -> Self {
        let config = match provider {
            "meta" => json!({"verify_token": "mine"}),
            "vercel" => json!({"verify_token": "drain_1"}),
            "aws-sns" | "aws-sns-sha1" => json!({"topic_arn": TOPIC}),
            _ => json!({}),
        };
        let secrets: &[&str] = match provider {
            "aws-sns" | "aws-sns-sha1" | "asana" | "notion" => &[],
            "discord" => &["ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"],
            _ => &["secret"],
        };
        Self { provider, config, secrets, method: "POST", query: "", headers: &[], body: body.into() }
    }

    fn get(provider: &'static str, query: &'static str) -> Self {
        Self { method: "GET", query, ..Self::post(provider, "") }
    }

    fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    fn source(&self) -> SourceConfig {
        source(self.provider, self.secrets, &self.config).expect("resolves")
    }

    fn answer(&self) -> Option<Handshake> {
        let source = self.source();
        self.answer_of(&source, source.handshakes.len())
    }

    /// The answer of the first of the source's rules that holds.
    fn answer_of(&self, source: &SourceConfig, rules: usize) -> Option<Handshake> {
        let headers = HeaderList::new(self.headers.iter().copied());
        let request =
            RequestParts { method: self.method, url: "https://in.example/in/a", query: self.query, headers: &headers };
        answer(&source.handshakes[..rules], &source.secrets, &request, self.body.as_bytes())
    }
}

fn sns(kind: &str, url: &str) -> String {
    json!({"Type": kind, "TopicArn": TOPIC, "SubscribeURL": url, "Token": "t"}).to_string()
}

/// Each with the status, content type, header and body of its reply, and whether it must verify.
fn table() -> Vec<(Ask, u16, &'static str, OneHeader, &'static str, bool)> {
    let text = "text/plain";
    let json_type = "application/json";
    let nosniff = Some(("x-content-type-options", "nosniff"));
    vec![
        (Ask::post("github", "{\"zen\":\"x\"}").with(&[("x-github-event", "ping")]), 200, text, None, "", true),
        (Ask::post("intercom", "{\"type\":\"notification_event\",\"topic\":\"ping\"}"), 200, text, None, "", true),
        (
            Ask::post("asana", "{}").with(&[("x-hook-secret", "0123456789abcdef")]),
            200,
            text,
            Some(("x-hook-secret", "0123456789abcdef")),
            "",
            false,
        ),
        (Ask::post("asana", "{\"events\":[]}").with(&[("x-hook-signature", "00")]), 200, text, None, "", true),
        (Ask::post("aws-sns", sns("SubscriptionConfirmation", CONFIRM)), 200, text, None, "", true),
        (Ask::post("aws-sns", sns("UnsubscribeConfirmation", CONFIRM)), 200, text, None, "", true),
        (Ask::post("aws-sns-sha1", sns("SubscriptionConfirmation", CONFIRM)), 200, text, None, "", true),
        (Ask::post("aws-sns-sha1", sns("UnsubscribeConfirmation", CONFIRM)), 200, text, None, "", true),
        (
            Ask { method: "OPTIONS", ..Ask::post("azure-event-grid", "") }
                .with(&[("webhook-request-origin", "eventgrid.azure.net"), ("webhook-request-rate", "120")]),
            200,
            text,
            Some(("webhook-allowed-origin", "eventgrid.azure.net")),
            "",
            false,
        ),
        (
            Ask::post("azure-event-grid", EVENT_GRID).with(&[("aeg-event-type", "SubscriptionValidation")]),
            200,
            json_type,
            nosniff,
            "{\"validationResponse\":\"512d38b6-c7b8-40c8-89fe-f46f9e9622b6\"}",
            false,
        ),
        (Ask::post("discord", "{\"application_id\":\"1\",\"type\":1}"), 200, json_type, None, "{\"type\":1}", true),
        (Ask::post("discord", "{\"version\":1,\"type\":0}"), 204, json_type, None, "", true),
        (
            Ask::post("discord", "{\"type\":1,\"event\":{\"type\":\"APPLICATION_AUTHORIZED\"}}"),
            204,
            json_type,
            None,
            "",
            true,
        ),
        (Ask::get("dropbox", "challenge=abc%20def"), 200, text, nosniff, "abc def", false),
        (Ask::post("line", "{\"destination\":\"U8e7\",\"events\":[]}"), 200, text, None, "", true),
        (
            Ask::get("meta", "hub.mode=subscribe&hub.verify_token=mine&hub.challenge=1158201444"),
            200,
            text,
            nosniff,
            "1158201444",
            false,
        ),
        (
            Ask {
                query: "validationToken=Validation%3A+Testing+client+application",
                ..Ask::post("microsoft-graph", "")
            },
            200,
            text,
            nosniff,
            "Validation: Testing client application",
            false,
        ),
        (
            Ask::post("monday", "{\"challenge\":\"3eZbrw1aB\"}"),
            200,
            json_type,
            nosniff,
            "{\"challenge\":\"3eZbrw1aB\"}",
            false,
        ),
        (
            Ask::post("notion", "{\"verification_token\":\"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl\"}"),
            200,
            text,
            None,
            "",
            false,
        ),
        (
            Ask::get("okta", "").with(&[("x-okta-verification-challenge", "m0EUB5ZM8tIRSmoh")]),
            200,
            json_type,
            nosniff,
            "{\"verification\":\"m0EUB5ZM8tIRSmoh\"}",
            false,
        ),
        (
            Ask::post("slack", "{\"type\":\"url_verification\",\"challenge\":\"3eZbrw1aB\"}"),
            200,
            text,
            nosniff,
            "3eZbrw1aB",
            true,
        ),
        (Ask { method: "HEAD", ..Ask::post("trello", "") }, 200, text, None, "", false),
        (
            Ask::post("twitch", "{\"challenge\":\"pogchamp-kappa-360noscope-vohiyo\"}")
                .with(&[("twitch-eventsub-message-type", "webhook_callback_verification")]),
            200,
            text,
            nosniff,
            "pogchamp-kappa-360noscope-vohiyo",
            true,
        ),
        (Ask::get("vercel", ""), 200, text, Some(("x-vercel-verify", "drain_1")), "", false),
        (Ask::post("vercel", "[]"), 200, text, Some(("x-vercel-verify", "drain_1")), "", true),
        (Ask::post("woocommerce", "webhook_id=7"), 200, text, None, "", false),
        // The token is the one of the research file, whose answer was computed with another program.
        (
            Ask { secrets: &["consumer_secret"], ..Ask::get("x", "crc_token=challenge_string") },
            200,
            json_type,
            nosniff,
            "{\"response_token\":\"sha256=v1WdiCVwy17uGTMWveHGlqQXN/qW1bQraNXXByRO2YA=\"}",
            false,
        ),
        (
            Ask::post(
                "xero",
                "{\"events\":[],\"firstEventSequence\":0,\"lastEventSequence\":0,\"entropy\":\"S0m3r4Nd0m\"}",
            )
            .with(&[("x-xero-signature", "00")]),
            200,
            text,
            None,
            "",
            true,
        ),
        (
            Ask::post(
                "zoom",
                "{\"event\":\"endpoint.url_validation\",\"payload\":{\"plainToken\":\"qgg8vlvZRS6UYooatFL8Aw\"}}",
            ),
            200,
            json_type,
            nosniff,
            "{\"plainToken\":\"qgg8vlvZRS6UYooatFL8Aw\",\"encryptedToken\":\
             \"72cef096bfd47c0b8664df30d07721641e4abd7e885ba432204260db477a9a3e\"}",
            true,
        ),
    ]
}

#[test]
fn every_handshake_gets_back_the_bytes_that_its_provider_expects() {
    let mut answered = BTreeSet::new();
    for (ask, status, content_type, header, body, must_verify) in table() {
        let provider = ask.provider;
        let handshake = ask.answer().unwrap_or_else(|| panic!("{provider} asks: {}", ask.body));
        let Reply { status: got, content_type: got_type, headers, body: got_body } = handshake.reply;
        assert_eq!((got, got_type.as_str()), (status, content_type), "{provider}");
        assert_eq!(String::from_utf8(got_body).expect("text"), body, "{provider}");
        if let Some((name, value)) = header {
            assert!(headers.contains(&(name.to_owned(), value.to_owned())), "{provider}: {headers:?}");
        }
        assert_eq!(handshake.must_verify, must_verify, "{provider}");
        let source = ask.source();
        let rule = (1..=source.handshakes.len()).find(|rules| ask.answer_of(&source, *rules).is_some());
        answered.insert((provider, rule.expect("a rule")));
    }
    let all: BTreeSet<_> = catalogue()
        .iter()
        .flat_map(|provider| (1..=provider.handshakes.len()).map(|rule| (provider.id.as_str(), rule)))
        .collect();
    let missing: Vec<_> = all.difference(&answered).collect();
    assert!(missing.is_empty(), "handshakes without a test: {missing:?}");
    println!("{} handshakes of {} providers", all.len(), all.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len());
}

#[test]
fn an_event_is_no_handshake() {
    for (provider, body, headers) in [
        ("github", "{}", &[("x-github-event", "push")][..]),
        ("intercom", "{\"topic\":\"user.created\"}", &[]),
        ("asana", "{\"events\":[{\"action\":\"added\"}]}", &[("x-hook-signature", "00")]),
        ("azure-event-grid", "[{\"eventType\":\"order.paid\"}]", &[("aeg-event-type", "Notification")]),
        ("azure-event-grid", EVENT_GRID, &[("aeg-event-type", "Notification")]),
        ("azure-event-grid", "[]", &[("webhook-request-origin", "eventgrid.azure.net")]),
        ("aws-sns", "{\"Type\":\"Notification\",\"SubscribeURL\":\"https://sns.eu-west-1.amazonaws.com/\"}", &[]),
        ("discord", "{\"type\":2,\"data\":{\"name\":\"ask\"}}", &[]),
        ("dropbox", "{\"challenge\":\"x\"}", &[]),
        ("line", "{\"destination\":\"U8e7\",\"events\":[{\"type\":\"message\"}]}", &[]),
        ("meta", "{\"object\":\"page\"}", &[]),
        ("microsoft-graph", "{\"value\":[{\"clientState\":\"secret\"}]}", &[]),
        ("monday", "{\"event\":{\"challenge\":\"x\"}}", &[]),
        ("notion", "{\"id\":\"1\",\"type\":\"page.created\"}", &[]),
        ("okta", "{}", &[("authorization", "secret")]),
        ("trello", "{\"action\":{}}", &[]),
        ("twitch", "{\"challenge\":\"x\"}", &[("twitch-eventsub-message-type", "notification")]),
        ("woocommerce", "webhook_id=7", &[("x-wc-webhook-signature", "x")]),
        ("x", "{\"for_user_id\":\"1\"}", &[]),
        ("xero", "{\"events\":[{\"eventType\":\"UPDATE\"}],\"entropy\":\"x\"}", &[("x-xero-signature", "00")]),
        ("zoom", "{\"event\":\"meeting.started\"}", &[]),
    ] {
        let ask = Ask { headers, ..Ask::post(provider, body) };
        assert_eq!(ask.answer(), None, "{provider}: {body}");
    }
    let event = Ask::post("discord", "{\"type\":1,\"event\":{\"type\":\"ENTITLEMENT_CREATE\"}}").answer();
    assert!(
        event.is_some_and(|handshake| handshake.forward),
        "an event of Discord is answered in its own way and kept"
    );
    assert!(Ask::post("vercel", "{}").answer().is_some_and(|handshake| handshake.forward));
}

#[test]
fn a_confirmation_is_only_asked_for_at_amazons_own_hosts() {
    let ask = |url: &str| Ask::post("aws-sns", sns("SubscriptionConfirmation", url)).answer();
    assert_eq!(ask(CONFIRM).expect("a handshake").confirm.as_deref(), Some(CONFIRM));
    for url in [
        "http://sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com.evil.example/",
        "https://sns.s3.amazonaws.com/",
        "https://evil.example/?sns.eu-west-1.amazonaws.com/",
        "https://sns.eu-west-1.amazonaws.com:8443/",
        "https://sns.eu-west-1.amazonaws.com@evil.example/",
        "https://169.254.169.254/latest/meta-data",
    ] {
        assert_eq!(ask(url), None, "{url}");
    }
}

#[test]
fn a_secret_is_handed_over_only_to_a_source_that_has_none() {
    let token = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl";
    let body = format!("{{\"verification_token\":\"{token}\"}}");
    let first = Ask::post("notion", body.as_str()).answer().expect("a handshake");
    assert_eq!(first.secret, Some(Secret::new(token)));
    let again =
        Ask { secrets: &["secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"], ..Ask::post("notion", body.as_str()) };
    assert_eq!(again.answer().expect("answered again").secret, None, "it has it already");
    let planted = Ask { secrets: &["secret_of_the_owner"], ..Ask::post("notion", body.as_str()) };
    assert_eq!(planted.answer(), None);
    assert_eq!(Ask::post("notion", "{\"verification_token\":\"short\"}").answer(), None, "too short to be a secret");
}

#[test]
fn a_wrong_handshake_gets_the_status_that_its_provider_tests_for() {
    let meta =
        Ask::get("meta", "hub.mode=subscribe&hub.verify_token=other&hub.challenge=1").answer().expect("an answer");
    assert_eq!((meta.reply.status, meta.reply.body.as_slice(), meta.must_verify), (403, b"".as_slice(), false));
    for (provider, body) in [("xero", "{\"events\":[],\"entropy\":\"x\"}"), ("discord", "{\"type\":1}")] {
        let ask = Ask::post(provider, body).with(&[("x-xero-signature", "00")]);
        let refusal = ask.answer().expect("a handshake").refusal.expect("a refusal of its own");
        assert_eq!((refusal.status, refusal.body.as_slice()), (401, b"".as_slice()), "{provider}");
    }
}

#[test]
fn senders_that_read_the_answer_get_one_unless_the_owner_says_otherwise() {
    for (provider, secrets, status, body, content_type) in [
        (
            "discord",
            &["ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"][..],
            200,
            "{\"type\":5}",
            "application/json",
        ),
        ("slack", &["s"], 200, "", "text/plain"),
        ("twilio", &["s"], 200, "<Response/>", "text/xml"),
        ("adyen", &["00"], 200, "[accepted]", "text/plain"),
        ("xero", &["s"], 200, "", "text/plain"),
        ("microsoft-graph", &["s"], 202, "", "text/plain"),
    ] {
        let given = source(provider, secrets, &json!({})).expect("resolves").acknowledgement;
        assert_eq!(
            (given.status, given.body.as_deref(), given.content_type.as_deref()),
            (status, Some(body), Some(content_type))
        );
        let own = json!({"acknowledgement": {"status": 204}});
        let own = source(provider, secrets, &own).expect("resolves").acknowledgement;
        assert_eq!((own.status, own.body, own.content_type), (204, None, None), "{provider}");
    }
}

#[test]
fn the_handshake_of_cloudevents_is_answered_if_the_owner_enables_it() {
    let rules = |provider: &str, secrets: &[&str], handshake: Value| {
        source(provider, secrets, &json!({ "handshake": handshake })).expect("resolves").handshakes
    };
    let ask = |rules: &[_], method, origins: &[&str]| {
        let headers = HeaderList::new(origins.iter().map(|origin| ("webhook-request-origin", *origin)));
        let request = RequestParts { method, url: "https://in.example/in/a", query: "", headers: &headers };
        answer(rules, &[], &request, b"")
    };
    for (provider, secrets) in
        [("token", &["s"][..]), ("basic", &["a:b"]), ("none", &[]), ("github", &["s"]), ("azure-event-grid", &["s"])]
    {
        let rules = rules(provider, secrets, "cloudevents".into());
        let handshake = ask(&rules, "OPTIONS", &["eventemitter.example.com"]).expect("a handshake");
        assert!(!handshake.must_verify && !handshake.forward, "{provider}");
        assert_eq!((handshake.reply.status, handshake.reply.body.len()), (200, 0), "{provider}");
        for (name, value) in
            [("webhook-allowed-origin", "eventemitter.example.com"), ("webhook-allowed-rate", "*"), ("allow", "POST")]
        {
            assert!(handshake.reply.headers.contains(&(name.to_owned(), value.to_owned())), "{provider}: {name}");
        }
        assert_eq!(ask(&rules, "POST", &["eventemitter.example.com"]), None, "{provider}: an event carries it too");
        assert_eq!(ask(&rules, "OPTIONS", &[]), None, "{provider}");
        let (longest, longer) = ("a".repeat(512), "a".repeat(513));
        assert!(ask(&rules, "OPTIONS", &[&longest]).is_some(), "{provider}");
        for origins in [&["a.example", "b.example"][..], &["a\r\nset-cookie: b"], &["\u{1f512}.example"], &[&longer]] {
            assert_eq!(ask(&rules, "OPTIONS", origins), None, "{provider}: {origins:?}");
        }
    }
    let silent = rules("token", &["s"], Value::Null);
    assert_eq!(ask(&silent, "OPTIONS", &["eventemitter.example.com"]), None);
    let problems = source("token", &["s"], &json!({ "handshake": "webhook" })).expect_err("refused");
    assert_eq!(problems[0].field, "handshake");
    assert!(problems[0].problem.contains("is not one of cloudevents"), "{}", problems[0]);
}
