//! Tampers with the catalogue's vectors: every change is refused.

use serde_json::json;

use crate::provider::tests::vectors::{Vector, fal_keys, source, vectors};
use crate::verify::{ConfigError, Rejection, Verifier};
use crate::verify::{RequestParts, verify};

fn code(vector: &Vector) -> &'static str {
    vector.verify().map_or_else(|rejection| rejection.code(), |_| "verified")
}

fn of(provider: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.provider == provider).expect("a vector")
}

#[test]
fn one_bit_of_the_body_is_enough_to_refuse() {
    for vector in vectors() {
        for at in 0..vector.body.len() * 8 {
            let mut changed = vector.clone();
            changed.body[at / 8] ^= 1 << (at % 8);
            assert_eq!(code(&changed), "signature_mismatch", "{} bit {at}", vector.provider);
        }
        for body in [&vector.body[1..], b"", &[vector.body.as_slice(), b"\n"].concat()] {
            let changed = Vector { body: body.to_vec(), ..vector.clone() };
            assert_eq!(code(&changed), "signature_mismatch", "{}", vector.provider);
        }
    }
}

#[test]
fn one_character_of_the_signature_header_is_enough_to_refuse() {
    for vector in vectors() {
        let length = vector.clone().header_mut(vector.signature).len();
        for at in 0..length {
            let mut changed = vector.clone();
            let value = changed.header_mut(vector.signature);
            let other = if value.as_bytes()[at] == b'0' { "1" } else { "0" };
            value.replace_range(at..=at, other);
            assert!(changed.verify().is_err(), "{} at {at}", vector.provider);
        }
    }
}

#[test]
fn a_truncated_signature_never_passes_and_an_empty_one_neither() {
    for vector in vectors() {
        let length = vector.clone().header_mut(vector.signature).len();
        for length in 0..length {
            let mut changed = vector.clone();
            changed.header_mut(vector.signature).truncate(length);
            let code = code(&changed);
            assert!(
                ["header_empty", "signature_malformed", "signature_version_missing"].contains(&code),
                "{} cut to {length}: {code}",
                vector.provider
            );
        }
    }
}

#[test]
fn an_empty_signature_of_the_right_version_is_refused() {
    // CVE-2024-21491: only the common prefix was compared, and so nothing at all.
    for (provider, empty) in [("svix", "v1,"), ("openai", "v1,="), ("stripe", "t=1700000000,v1=")] {
        let mut vector = of(provider);
        *vector.header_mut(vector.signature) = empty.to_owned();
        assert_eq!(code(&vector), "signature_malformed", "{provider}");
    }
}

#[test]
fn a_changed_time_is_not_the_one_that_was_signed() {
    for vector in vectors().into_iter().filter(|vector| vector.timed) {
        let mut changed = vector.clone();
        let (time, next) = (vector.signed_at_s.to_string(), (vector.signed_at_s + 1).to_string());
        for (_, value) in &mut changed.headers {
            *value = value.replace(&time, &next);
        }
        assert_eq!(code(&changed), "signature_mismatch", "{}", vector.provider);
        for (_, value) in &mut changed.headers {
            *value = value.replace(&next, &format!("0{time}"));
        }
        assert_eq!(code(&changed), "signature_mismatch", "{}: the text is signed, not the number", vector.provider);
        for (_, value) in &mut changed.headers {
            *value = value.replace(&format!("0{time}"), &format!("{time}.0"));
        }
        assert_eq!(code(&changed), "timestamp_malformed", "{}", vector.provider);
    }
}

#[test]
fn a_request_is_refused_before_and_after_its_time() {
    for vector in vectors() {
        let at = |seconds: i64| {
            let now_s = vector.signed_at_s.checked_add_signed(seconds).expect("in range");
            vector.verify_at(now_s * 1_000).map_or_else(|rejection| rejection.code(), |_| "verified")
        };
        let expected = if vector.timed { ["timestamp_old", "timestamp_future"] } else { ["verified"; 2] };
        assert_eq!([at(301), at(-301)], expected, "{}", vector.provider);
        assert_eq!([at(300), at(-300)], ["verified"; 2], "{}", vector.provider);
    }
}

#[test]
fn a_missing_header_is_named() {
    for vector in vectors() {
        for name in vector.single {
            let mut changed = vector.clone();
            changed.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
            let expected = Err(Rejection::HeaderMissing { name: (*name).to_owned() });
            assert_eq!(changed.verify(), expected, "{}", vector.provider);
        }
    }
}

#[test]
fn a_repeated_header_is_refused_also_if_the_platform_has_joined_it() {
    for vector in vectors() {
        for name in vector.single {
            let value = vector.clone().header_mut(name).clone();
            let expected = Err(Rejection::HeaderRepeated { name: (*name).to_owned() });
            let mut changed = vector.clone();
            changed.headers.push(((*name).to_ascii_uppercase(), value.clone()));
            assert_eq!(changed.verify(), expected, "{} {name} twice", vector.provider);
            let mut changed = vector.clone();
            *changed.header_mut(name) = format!("{value}, {value}");
            assert_eq!(changed.verify(), expected, "{} {name} joined", vector.provider);
        }
    }
}

#[test]
fn names_of_headers_are_in_any_case() {
    for mut vector in vectors() {
        for (name, _) in &mut vector.headers {
            name.make_ascii_uppercase();
        }
        assert_eq!(code(&vector), "verified", "{}", vector.provider);
    }
}

#[test]
fn a_secret_can_be_rotated_and_a_wrong_one_alone_is_refused() {
    let wrong = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for vector in vectors().into_iter().filter(|vector| !vector.secrets.is_empty()) {
        let right = vector.secrets[0].clone();
        let both = Vector { secrets: vec![wrong.to_owned(), right], ..vector.clone() };
        assert_eq!(both.verify().map(|verified| verified.which()), Ok(Some(1)), "{}", vector.provider);
        let alone = Vector { secrets: vec![wrong.to_owned()], ..vector };
        assert!(alone.verify().is_err(), "{}", alone.provider);
    }
}

#[test]
fn one_of_several_signatures_suffices_and_unknown_versions_are_skipped() {
    let mut stripe = of("stripe");
    let value = stripe.header_mut("stripe-signature");
    let right = value.rsplit_once('=').expect("v1=").1.to_owned();
    *value = format!("t=1700000000,v1={},v0={right},v1={right},v9=x", "00".repeat(32));
    assert_eq!(code(&stripe), "verified");
    *stripe.header_mut("stripe-signature") = format!("t=1700000000,v0={right}");
    assert_eq!(code(&stripe), "signature_version_missing", "v0 is a downgrade");
    *stripe.header_mut("stripe-signature") = format!("t=1700000000,t=1700000000,v1={right}");
    assert_eq!(code(&stripe), "field_repeated");

    let mut standard = of("standard-webhooks");
    let right = standard.header_mut("webhook-signature").clone();
    *standard.header_mut("webhook-signature") = format!("v2,AAAA v1a,AAAA {right}");
    assert_eq!(code(&standard), "verified");
    *standard.header_mut("webhook-signature") = right.replace("v1,", "v2,");
    assert_eq!(code(&standard), "signature_version_missing");
}

#[test]
fn a_signature_in_another_encoding_is_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    let mut github = of("github");
    let value = github.header_mut("x-hub-signature-256");
    let raw = hex::decode(value.trim_start_matches("sha256=")).expect("hex");
    *value = format!("sha256={}", STANDARD.encode(raw));
    assert_eq!(code(&github), "signature_malformed");

    let mut shopify = of("shopify");
    let value = shopify.header_mut("x-shopify-hmac-sha256");
    let raw = STANDARD.decode(&*value).expect("base64");
    *value = hex::encode(&raw);
    assert_eq!(code(&shopify), "signature_malformed");
    *shopify.header_mut("x-shopify-hmac-sha256") = STANDARD_NO_PAD.encode(&raw);
    assert_eq!(code(&shopify), "signature_malformed");
}

#[test]
fn an_id_with_the_separator_in_it_is_refused() {
    // `a.1` at time `2` and `a` at time `1.2` would share one signed text.
    for provider in ["standard-webhooks", "svix", "replicate", "openai"] {
        let mut vector = of(provider);
        let (id, time) = (vector.single[0], vector.single[1]);
        vector.header_mut(id).push_str(".1");
        assert_eq!(code(&vector), "separator_inside", "{provider}");
        let mut vector = of(provider);
        vector.header_mut(time).push_str(".1");
        assert_eq!(code(&vector), "timestamp_malformed", "{provider}");
    }
}

#[test]
fn a_sha1_signature_is_not_looked_at_where_sha256_is_asked_for() {
    let mut github = of("github");
    github.headers = vec![("X-Hub-Signature".to_owned(), format!("sha1={}", "00".repeat(20)))];
    assert_eq!(github.verify(), Err(Rejection::HeaderMissing { name: "x-hub-signature-256".to_owned() }));
    let sha1 = r#"{"kind":"mac","alg":"hmac-sha1","key":"utf8","content":"{body}","sig":{"in":"h:a","enc":"hex"}}"#;
    let both = format!(r#"{{"kind":"any_of","rules":[{sha1},{}]}}"#, sha1.replace("sha1", "sha256"));
    let scheme = serde_json::from_str(&both).expect("parses");
    assert!(matches!(Verifier::of(&scheme, &[crate::source::Secret::new("a")]), Err(ConfigError::Rule { .. })));
}

#[test]
fn a_public_key_is_never_used_as_an_hmac_secret() {
    // Signed with HMAC-SHA256 under the text and under the bytes of the public key, which anyone can know.
    let whpk = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    use base64::Engine as _;
    let point = base64::engine::general_purpose::STANDARD.decode(&whpk[5..]).expect("base64");
    for key in [whpk.as_bytes(), &point] {
        use hmac::{KeyInit as _, Mac as _};
        let mut vector = of("standard-webhooks");
        vector.secrets = vec![whpk.to_owned()];
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("a key");
        mac.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.");
        mac.update(&vector.body);
        let tag = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        for version in ["v1", "v1a"] {
            *vector.header_mut("webhook-signature") = format!("{version},{tag}");
            assert!(vector.verify().is_err(), "{version}");
        }
    }
    for provider in ["stripe", "github", "openai", "slack"] {
        let problems = source(provider, &[whpk], &json!(null)).expect_err("refused");
        assert_eq!(problems[0].field, "secrets", "{provider}");
    }
}

#[test]
fn a_signature_of_fal_for_another_of_its_users_is_refused() {
    let mut vector = of("fal");
    vector.config = json!({"user_id": "user_457"});
    assert_eq!(code(&vector), "requirement_failed");
    *vector.header_mut("x-fal-webhook-user-id") = "user_457".to_owned();
    assert_eq!(code(&vector), "signature_mismatch", "the user is signed");
}

#[test]
fn without_fals_keys_nothing_is_known_and_the_fault_is_ours() {
    let vector = of("fal");
    let verifier = Verifier::new(&source("fal", &[], &vector.config).expect("resolves")).expect("a verifier");
    let headers = crate::header::HeaderList::new(vector.headers);
    let request = RequestParts { method: "POST", url: "", query: "", headers: &headers };
    let location =
        verifier.key_location(&request, &vector.body).expect("a location").expect("fal's keys are published");
    assert_eq!(location.url, "https://rest.fal.ai/.well-known/jwks.json");
    let now_ms = vector.signed_at_s * 1_000;
    assert_eq!(verify(&verifier, None, &request, &vector.body, now_ms), Err(Rejection::KeysUnavailable));
    assert!(verify(&verifier, Some(&fal_keys()), &request, &vector.body, now_ms).is_ok());
}

#[test]
fn several_kinds_of_keys_can_be_in_force_at_once() {
    let secrets = vectors().into_iter().filter(|v| v.provider == "standard-webhooks").flat_map(|v| v.secrets);
    let secrets: Vec<_> = secrets.collect();
    let which: Vec<_> = vectors()
        .into_iter()
        .filter(|vector| vector.provider == "standard-webhooks")
        .map(|vector| Vector { secrets: secrets.clone(), ..vector }.verify().map(|verified| verified.which()))
        .collect();
    assert_eq!(which, [Ok(Some(0)), Ok(Some(1)), Ok(Some(2))]);
}

#[test]
fn a_source_without_verification_says_so() {
    let verifier = Verifier::new(&source("none", &[], &json!(null)).expect("resolves")).expect("a verifier");
    let headers = crate::header::HeaderList::default();
    let request = RequestParts { method: "GET", url: "", query: "", headers: &headers };
    let verified = verify(&verifier, None, &request, b"", 0).expect("accepted");
    assert!(verified.unsigned());
    assert!(!of("github").verify().expect("verifies").unsigned());
}
