//! Rules that sign the URL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use sha2::Sha256;

use super::Case;
use crate::scheme::url_form::MAX_RESPELLED_BYTES;

const TWILIO: &str = r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{url}{fn:form_sorted_concat}",
    "sig":{"in":"h:x-twilio-signature","enc":"base64"},"urls":["as_is","without_port","with_default_port"],
    "queries":["escaped","rewritten"],"settings":SETTINGS}"#;
const TWILIO_JSON: &str = r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{url}",
    "sig":{"in":"h:x-twilio-signature","enc":"base64"},"require":[{"query:bodySHA256":"sha256hex:body"}],
    "settings":SETTINGS}"#;
const TWILIO_URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
const TWILIO_BODY: &str =
    "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";

/// Signed by `getExpectedTwilioSignature` of the npm package `twilio`; the first is the example of Twilio's documentation.
fn twilio(signature: &'static str) -> Case {
    let case = Case::new(TWILIO, &["12345"], &[("x-twilio-signature", signature)]);
    Case { url: TWILIO_URL, body: TWILIO_BODY, ..case }
}

#[test]
fn twilio_signs_the_url_and_the_sorted_form() {
    assert_eq!(twilio("RSOYDt4T1cUTdK1PDd93/VVr8B8=").code(), "verified");
    let repeated = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212&\
                    MediaUrl=b&MediaUrl=a&MediaUrl=b&Body=a%20b%26%C3%A9%F0%90%80%80&%EF%BD%9E=1&%F0%90%80%80=2&Empty=";
    assert_eq!(Case { body: repeated, ..twilio("uQgbyxtbrikwaPRKX/CsUxWzftw=") }.code(), "verified");
    for body in ["", "CallSid=CA1234567890ABCDE", "{}"] {
        assert_eq!(Case { body, ..twilio("RSOYDt4T1cUTdK1PDd93/VVr8B8=") }.code(), "signature_mismatch", "{body}");
    }
}

#[test]
fn twilio_may_have_signed_the_url_with_another_port() {
    let with_port = "https://mycompany.com:443/myapp.php?foo=1&bar=2";
    for (signed, url) in [
        ("RSOYDt4T1cUTdK1PDd93/VVr8B8=", with_port),
        ("kvajT1Ptam85bY51eRf/AJRuM3w=", TWILIO_URL),
        ("kvajT1Ptam85bY51eRf/AJRuM3w=", with_port),
    ] {
        assert_eq!(Case { url, ..twilio(signed) }.code(), "verified", "{url}");
    }
    let elsewhere = "https://mycompany.com:8443/myapp.php?foo=1&bar=2";
    assert_eq!(Case { url: elsewhere, ..twilio("kvajT1Ptam85bY51eRf/AJRuM3w=") }.code(), "signature_mismatch");
}

#[test]
fn the_forms_of_a_url_are_tried_in_any_order() {
    let with_port = "https://mycompany.com:443/myapp.php?foo=1&bar=2";
    for ports in ["without_port\",\"as_is", "as_is\",\"without_port", "without_port\",\"with_default_port"] {
        let rule: &str = TWILIO.replace("as_is\",\"without_port\",\"with_default_port", ports).leak();
        for signature in ["RSOYDt4T1cUTdK1PDd93/VVr8B8=", "kvajT1Ptam85bY51eRf/AJRuM3w="] {
            let case = Case { rule, url: with_port, ..twilio(signature) };
            assert_eq!(case.code(), "verified", "{ports}: {signature}");
        }
    }
}

#[test]
fn twilio_binds_other_bodies_by_their_hash_in_the_url() {
    let case = Case {
        url: "https://mycompany.com/myapp.php?foo=1&bar=2&bodySHA256=\
              0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
        body: r#"{"property": "value", "boolean": true}"#,
        ..Case::new(TWILIO_JSON, &["12345"], &[("x-twilio-signature", "a9nBmqA0ju/hNViExpshrM61xv4=")])
    };
    assert_eq!(case.code(), "verified");
    assert_eq!(Case { body: "{}", ..case.clone() }.code(), "requirement_failed");
    let forms = Case { rule: TWILIO, body: "", ..case };
    assert_eq!(forms.code(), "field_missing", "the signed url alone is no form without parameters");
}

#[test]
fn the_url_that_the_sender_was_given_takes_the_place_of_the_one_that_arrived() {
    let behind_a_proxy = Case {
        url: "https://in.example/in/a?foo=1&bar=2",
        settings: r#"{"public_url":"https://mycompany.com/myapp.php"}"#,
        ..twilio("RSOYDt4T1cUTdK1PDd93/VVr8B8=")
    };
    assert_eq!(behind_a_proxy.code(), "verified", "its own parameters are kept");
    let exact = r#"{"public_url":"https://mycompany.com/myapp.php?foo=1&bar=2#rc=1"}"#;
    for url in ["https://in.example/in/a", "https://in.example/in/a?x=y", "https://in.example/in/a?foo=1&bar=2"] {
        assert_eq!(Case { url, settings: exact, ..behind_a_proxy.clone() }.code(), "verified", "{url}");
    }
    let more = "https://in.example/in/a?foo=1&bar=2&baz=3";
    assert_eq!(Case { url: more, settings: exact, ..behind_a_proxy }.code(), "signature_mismatch");
}

#[test]
fn a_parameter_counts_only_if_it_was_signed() {
    const EMPTY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const HASH: &str = "bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let case = Case {
        url: "https://in.example/in/a?foo=1&bar=2&\
              bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
        settings: r#"{"public_url":"https://mycompany.com/myapp.php?foo=1&bar=2"}"#,
        body: r#"{"property": "value", "boolean": true}"#,
        ..Case::new(TWILIO_JSON, &["12345"], &[("x-twilio-signature", "a9nBmqA0ju/hNViExpshrM61xv4=")])
    };
    assert!(case.url.ends_with(HASH));
    assert_eq!(case.code(), "verified");
    // The signature of the bare URL, with a hash that is not signed.
    let (settings, headers) = (r#"{"public_url":"https://mycompany.com/a?x=1"}"#, vec![("x-twilio-signature", EMPTY)]);
    assert_eq!(Case { settings, headers, ..case }.code(), "field_missing");
}

/// A rule that signs the URL and then the body, with HMAC-SHA256 in hex.
const SQUARE: &str = r#"{"kind":"mac","alg":"hmac-sha256","key":"utf8","content":"{url}{body}",
    "sig":{"in":"h:x-signature","enc":"hex"},"settings":SETTINGS}"#;

/// A request whose body is `{}` and whose URL was signed as another one than it arrives as.
fn signed_as(signed: &str, arrives: &'static str) -> Case {
    let tag = hmac_sha256(b"s", &[signed.as_bytes(), b"{}"]);
    let headers = [("x-signature", &*Box::leak(hex::encode(tag).into_boxed_str()))];
    Case { url: arrives, body: "{}", ..Case::new(SQUARE, &["s"], &headers) }
}

fn hmac_sha256(key: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("a key");
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().to_vec()
}

#[test]
fn a_query_that_the_platform_escapes_may_have_been_signed_as_entered() {
    for (signed, arrives) in [
        ("https://in.example/in/a?n=O'Brien", "https://in.example/in/a?n=O%27Brien"),
        ("https://in.example/in/a?n=O%27Brien", "https://in.example/in/a?n=O%27Brien"),
        ("https://in.example/in/a?n=O'Brien", "https://in.example/in/a?n=O'Brien"),
        ("https://in.example/in/a?n=O'B&m=%22+%3C&u=%C3%BC", "https://in.example/in/a?n=O%27B&m=%22+%3C&u=%C3%BC"),
        ("https://in.example/in/a?n=O'B&m=\"<>&u=ü", "https://in.example/in/a?n=O%27B&m=%22%3C%3E&u=%C3%BC"),
    ] {
        assert_eq!(signed_as(signed, arrives).code(), "verified", "{signed} as {arrives}");
    }
    for (signed, arrives) in [
        ("https://in.example/in/a?n=O'Brien", "https://in.example/in/a?n=O%2527Brien"),
        ("https://in.example/in/a?n=O'Brien", "https://in.example/in/a?n=O%27brien"),
        ("https://in.example/in/a?n=1&m=2", "https://in.example/in/a?n=1%26m=2"),
        ("https://in.example/in/a?n=1&m=2", "https://in.example/in/a?m=2&n=1"),
        ("https://in.example/in/a?n=a+b", "https://in.example/in/a?n=a%20b"),
        ("https://in.example/in/a?n=a%2fb", "https://in.example/in/a?n=a%2Fb"),
        ("https://in.example/in/a'?n", "https://in.example/in/a%27?n"),
        ("https://in.example:443/in/a?n='", "https://in.example/in/a?n=%27"),
    ] {
        assert_eq!(signed_as(signed, arrives).code(), "signature_mismatch", "{signed} as {arrives}");
    }
}

#[test]
fn the_entered_query_is_distinguished_from_added_parameters_also_if_the_platform_escapes_it() {
    let settings = r#"{"public_url":"https://shop.example/hook?n=O'Brien"}"#;
    let signed = "https://shop.example/hook?n=O'Brien&m=it's";
    for arrives in [
        "https://in.example/in/a?n=O'Brien&m=it's",
        "https://in.example/in/a?n=O%27Brien&m=it%27s",
        "https://in.example/in/a?n=O%27Brien&m=it's",
    ] {
        assert_eq!(Case { settings, ..signed_as(signed, arrives) }.code(), "verified", "{arrives}");
    }
    let bare = r#"{"public_url":"https://shop.example/hook"}"#;
    assert_eq!(
        Case { settings: bare, ..signed_as(signed, "https://in.example/in/a?n=O%27Brien&m=it%27s") }.code(),
        "verified"
    );
    let unsigned = signed_as("https://shop.example/hook?n=O'Brien", "https://in.example/in/a?n=O%27Brien&m=2");
    assert_eq!(Case { settings, ..unsigned }.code(), "signature_mismatch");
}

#[test]
fn twilio_may_have_signed_a_query_that_was_written_anew() {
    const ARRIVES: &str = "https://a.example/x?n=O'B&c=sip:1@b&s=a+b";
    let of = |signed: &str, arrives: &'static str| {
        let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(b"12345").expect("a key");
        mac.update(signed.as_bytes());
        mac.update(b"a1");
        let signature = BASE64.encode(mac.finalize().into_bytes());
        Case { url: arrives, body: "a=1", ..twilio(Box::leak(signature.into_boxed_str())) }.code()
    };
    for signed in [
        ARRIVES,
        "https://a.example/x?n=O%27B&c=sip:1@b&s=a+b",
        "https://a.example/x?n=O'B&c=sip%3A1%40b&s=a%20b",
        "https://a.example:443/x?n=O'B&c=sip%3A1%40b&s=a%20b",
        "https://a.example:443/x?n=O%27B&c=sip:1@b&s=a+b",
    ] {
        assert_eq!(of(signed, ARRIVES), "verified", "{signed}");
    }
    for signed in [
        "https://a.example/x?c=sip:1@b&n=O'B&s=a+b",
        "https://a.example/x?n=O'B&c=sip:1@b",
        "https://a.example/x?n=O'B&c=sip:1@b&s=a%2Bb",
        "https://a.example/y?n=O'B&c=sip:1@b&s=a+b",
        "https://b.example/x?n=O'B&c=sip:1@b&s=a+b",
    ] {
        assert_eq!(of(signed, ARRIVES), "signature_mismatch", "{signed}");
    }
}

#[test]
fn only_the_url_as_it_arrives_is_tried_with_a_body_that_is_larger_than_such_senders_send() {
    let small = signed_as("https://in.example/in/a?n=O'Brien", "https://in.example/in/a?n=O%27Brien");
    assert_eq!(small.code(), "verified");
    let body: &str = Box::leak("x".repeat(MAX_RESPELLED_BYTES).into_boxed_str());
    let sign = |signed: &str| {
        let tag = hmac_sha256(b"s", &[signed.as_bytes(), body.as_bytes()]);
        vec![("x-signature", &*Box::leak(hex::encode(tag).into_boxed_str()))]
    };
    let headers = sign("https://in.example/in/a?n=O'Brien");
    assert_eq!(Case { body, headers, ..small }.code(), "signature_mismatch");
    let headers = sign("https://in.example/in/a?n=O%27Brien");
    assert_eq!(Case { body, headers, ..small }.code(), "verified");
}
