//! Rules that sign the URL.

use super::Case;

const TWILIO: &str = r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{url}{fn:form_sorted_concat}",
    "sig":{"in":"h:x-twilio-signature","enc":"base64"},"urls":["as_is","without_port","with_default_port"],
    "settings":SETTINGS}"#;
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
fn a_parameter_counts_only_where_it_was_signed() {
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
    // The signature of the bare URL, with a hash that nobody signed.
    let (settings, headers) = (r#"{"public_url":"https://mycompany.com/a?x=1"}"#, vec![("x-twilio-signature", EMPTY)]);
    assert_eq!(Case { settings, headers, ..case }.code(), "field_missing");
}
