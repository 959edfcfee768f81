use model::event::EventMeta;
use std::sync::Arc;
use std::time::Duration;

use engine::item::Before;
use model::destination::DestinationState;
use model::retry_policy::RetryPolicy;
use model::signing::SigningSecrets;
use model::unix_time;
use shared::header::HeaderList;
use shared::id::{DeliveryId, DestinationId, EventId, SourceId};
use shared::sign::SigningSecret;

use super::*;

fn destination(number: u8) -> Destination {
    Destination {
        id: DestinationId::mint(1, [number; 10]),
        customer_id: store::DEFAULT_CUSTOMER,
        name: format!("d{number}"),
        url: "http://example.com/".parse().expect("a url"),
        shard: i16::from(number),
        signing_secrets: SigningSecrets::new(SigningSecret::generate_hmac([7; 32])),
        headers: HeaderMap::new(),
        rate: None,
        max_concurrency: 3,
        timeout: Duration::from_secs(1),
        retry: RetryPolicy::default(),
        append_query: false,
        state: DestinationState::Active,
        state_changed_at: unix_time::timestamp(0),
        moved_at: unix_time::timestamp(0),
    }
}

fn of_request(query: &str, provided: &[(&str, &str)]) -> Item {
    let event = Event {
        meta: EventMeta {
            id: EventId::mint(1, [1; 10]),
            source_id: SourceId::mint(1, [0; 10]),
            received_at: unix_time::timestamp(1),
            event_type: None,
            provider_event_id: None,
            method: "POST".to_owned(),
            query: query.to_owned(),
            headers: HeaderList::new(provided.iter().copied()),
        },
        body: Some(Vec::new()),
        body_bytes: 0,
    };
    Item {
        id: DeliveryId::mint(1, [1; 10]),
        destination_id: destination(1).id,
        event: Arc::new(event),
        route_id: None,
        route_version: 1,
        skips: false,
        replay_id: None,
        due_us: 0,
        attempts: 0,
        schedule_start: 0,
        throttled: 0,
        order_key: None,
        before: Before::Nothing,
        not_sent: 0,
        generation: 0,
        expedited: false,
    }
}

fn appended(own: &str, query: &str) -> Result<String, UrlTooLong> {
    let destination = Destination { url: own.parse().expect("a url"), append_query: true, ..destination(1) };
    url(&destination, query).map(|url| url.as_str().to_owned())
}

/// Whether a header is passed on with this description of the body.
fn passed_on(name: &str, described: &Described) -> bool {
    let item = of_request("", &[(name, "x")]);
    headers(&item, &destination(1), described, b"{}").contains_key(name)
}

#[test]
fn headers_that_describe_the_body_are_passed_on_only_with_the_providers_body() {
    let anew = Described::Anew(Some(HeaderValue::from_static("application/json")));
    for name in OF_THE_BODY {
        assert!(passed_on(name, &Described::ByProvider), "{name}");
        assert!(!passed_on(name, &anew), "{name}");
    }
    for name in ["x-hub-signature-256", "content-disposition", "want-content-digest", "x-digest", "signature", "date"] {
        assert!(passed_on(name, &Described::ByProvider) && passed_on(name, &anew), "{name}");
    }
}

#[test]
fn the_content_type_is_that_of_the_body_that_is_sent() {
    let item = of_request("", &[("content-type", "text/x-of-provider")]);
    let sent = |described: &Described| headers(&item, &destination(1), described, b"").get(CONTENT_TYPE).cloned();
    assert_eq!(sent(&Described::ByProvider), Some(HeaderValue::from_static("text/x-of-provider")));
    let made = HeaderValue::from_static("application/json");
    assert_eq!(sent(&Described::Anew(Some(made.clone()))), Some(made));
    assert_eq!(sent(&Described::Anew(None)), None);
}

#[test]
fn a_static_header_of_the_destination_is_sent_with_a_transformed_body_too() {
    let mut destination = destination(1);
    destination.headers.insert("content-language", HeaderValue::from_static("de"));
    let item = of_request("", &[("content-language", "en")]);
    let sent = headers(&item, &destination, &Described::Anew(None), b"");
    assert_eq!(sent.get_all("content-language").iter().collect::<Vec<_>>(), ["de"]);
}

#[test]
fn the_method_and_query_of_the_request_are_sent_in_separate_headers() {
    let long = format!("a={}", "x".repeat(MAX_QUERY_BYTES));
    for (query, sent) in [
        ("topic=payment&data.id=1%20%C3%A9", Some("topic=payment&data.id=1%20%C3%A9")),
        ("", Some("")),
        ("a=b c\r\nx: y\t\u{e9}", Some("a=b%20c%0D%0Ax:%20y%09%C3%A9")),
        (&long[..MAX_QUERY_BYTES], Some(&long[..MAX_QUERY_BYTES])),
        (&long, None),
    ] {
        // A provider cannot set these headers itself.
        let item = of_request(query, &[("tidegate-original-query", "theirs"), ("tidegate-original-method", "theirs")]);
        let headers = headers(&item, &destination(1), &Described::ByProvider, b"");
        let all = |name| headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect::<Vec<_>>();
        assert_eq!(all(ORIGINAL_QUERY), sent.into_iter().collect::<Vec<_>>());
        assert_eq!(all(ORIGINAL_METHOD), ["POST"]);
    }
}

#[test]
fn a_query_is_appended_only_if_the_destination_is_configured_for_it() {
    let plain = Destination { url: "http://example.com/a?b=c".parse().expect("a url"), ..destination(1) };
    assert_eq!(url(&plain, "d=e").expect("a url").as_str(), "http://example.com/a?b=c");
    for (own, query, expected) in [
        ("http://example.com/a", "d=e", "http://example.com/a?d=e"),
        ("http://example.com/a", "", "http://example.com/a"),
        ("http://example.com/a?", "d=e", "http://example.com/a?d=e"),
        ("http://example.com/a?b=c", "d=e&b=2", "http://example.com/a?b=c&d=e&b=2"),
        ("http://example.com/a?b=c", "", "http://example.com/a?b=c"),
        ("http://example.com/a?b=c&", "d=e", "http://example.com/a?b=c&d=e"),
        ("http://example.com/?b=%26", "%26=%3d+", "http://example.com/?b=%26&%26=%3d+"),
        ("http://example.com", "d", "http://example.com/?d"),
    ] {
        assert_eq!(appended(own, query).as_deref(), Ok(expected), "{own} {query}");
    }
}

#[test]
fn no_query_of_a_provider_leads_to_another_host_or_path() {
    for query in [
        "#@evil.example/",
        "/../../admin",
        "?x",
        "@evil.example",
        "\\\\evil.example\\",
        "a=b c",
        "\r\nhost: evil.example",
        "http://evil.example/",
        "\u{0}\u{7f}\u{e9}\u{1f600}",
        "%",
        "%zz%00",
        "&&&",
    ] {
        let url: Url = appended("https://example.com:8443/a/b", query).expect("short").parse().expect("a url");
        assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("example.com"), Some(8443)), "{query:?}");
        assert_eq!((url.path(), url.fragment(), url.username()), ("/a/b", None, ""), "{query:?}");
        assert!(http::Uri::try_from(url.as_str()).is_ok_and(|uri| uri.query() == url.query()), "{url}");
    }
}

#[test]
fn a_url_that_a_query_makes_too_long_is_an_error_with_its_length() {
    let room = MAX_URL_BYTES - "http://example.com/?".len();
    assert!(appended("http://example.com/", &"x".repeat(room)).is_ok());
    let error = appended("http://example.com/", &"x".repeat(room + 1)).expect_err("too long");
    assert_eq!(error, UrlTooLong(MAX_URL_BYTES + 1));
    assert!(error.to_string().contains("append_query") && error.to_string().contains("8001"), "{error}");
}
