use serde_json::{Value, json};

use crate::header::HeaderList;
use crate::secret::Secret;
use crate::verify::tests::test_keys;
use crate::verify::{KeySet, Rejection, RequestParts, Verifier, verify};

const NOW_S: u64 = 1_700_000_000;
const URL: &str = "https://in.example/in/a?b=c";
const SECRET: &str = "36efdd1aace2e26cd490f0d951138253bef2f7c6d34d18981da781555cc4cebb";

/// The result for a token in the header `authorization`.
fn outcome(rule: &Value, keys: Option<&KeySet>, token: &str, body: &[u8], now_s: u64) -> Result<usize, Rejection> {
    outcome_at(URL, rule, keys, token, body, now_s)
}

fn outcome_at(
    url: &str,
    rule: &Value,
    keys: Option<&KeySet>,
    token: &str,
    body: &[u8],
    now_s: u64,
) -> Result<usize, Rejection> {
    let scheme = serde_json::from_value(rule.clone()).expect("parses");
    let secrets = if keys.is_some() { Vec::new() } else { vec![Secret::new("other"), Secret::new(SECRET)] };
    let verifier = Verifier::of(&scheme, &secrets).expect("a verifier");
    let headers = HeaderList::new([("authorization", token)]);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let request = RequestParts { method: "POST", url, query, headers: &headers };
    verify(&verifier, keys, &request, body, now_s * 1_000).map(|verified| verified.which().expect("a key"))
}

fn hs256(message: &[u8]) -> Vec<u8> {
    use hmac::Mac as _;
    let mac = <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn symmetric(claims: &Value) -> Value {
    json!({"kind": "jwt", "token": {"in": "h:authorization", "strip": "Bearer "}, "alg": ["HS256", "HS512"],
        "key": "utf8", "claims": claims, "leeway": 5})
}

fn published(algorithms: &[&str]) -> Value {
    json!({"kind": "jwt", "token": {"in": "h:authorization", "strip": "Bearer "}, "alg": algorithms,
        "key": "jwks:https://keys.example/jwks", "claims": {"iss": "cfg:issuer"}, "settings": {"issuer": "joe"}})
}

fn of_claims(claims: &Value) -> String {
    format!("Bearer {}", test_keys::token(&json!({"alg": "HS256", "typ": "JWT"}), claims, hs256))
}

fn mismatch(name: &str) -> Result<usize, Rejection> {
    Err(Rejection::JwtClaimMismatch { name: name.to_owned() })
}

fn missing(name: &str) -> Result<usize, Rejection> {
    Err(Rejection::JwtClaimMissing { name: name.to_owned() })
}

#[test]
fn the_examples_of_rfc_7515_verify() {
    // Appendices A.2 and A.3.
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    let p256 = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let keys = KeySet::parse_jwks(&test_keys::jwks(&[rsa, p256])).expect("keys");
    let rs256 = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let es256 = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let rule = published(&["RS256", "ES256"]);
    for (place, header, signature) in [(0, "eyJhbGciOiJSUzI1NiJ9", rs256), (1, "eyJhbGciOiJFUzI1NiJ9", es256)] {
        let token = format!("Bearer {header}.{claims}.{signature}");
        assert_eq!(outcome(&rule, Some(&keys), &token, b"", 1_300_819_379), Ok(place));
        let later = outcome(&rule, Some(&keys), &token, b"", 1_300_819_380 + 100);
        assert_eq!(later, Err(Rejection::JwtExpired { ago_s: 100 }));
    }
}

#[test]
fn a_prefix_is_required_if_the_rule_has_one() {
    let token = of_claims(&json!({"iss": "a"}));
    let rule = symmetric(&json!({"iss": "a"}));
    assert_eq!(outcome(&rule, None, &token, b"", NOW_S), Ok(1));
    assert_eq!(outcome(&rule, None, &token.replace("Bearer", "bearer"), b"", NOW_S), Ok(1));
    let place = || "h:authorization".parse().expect("parses");
    for token in [token.replace("Bearer ", ""), token.replace("Bearer", "Basic"), "Bearer ".to_owned()] {
        assert_eq!(
            outcome(&rule, None, &token, b"", NOW_S),
            Err(Rejection::JwtMalformed { place: place() }),
            "{token}"
        );
    }
}

#[test]
fn every_claim_must_have_its_value() {
    let mut rule = symmetric(&json!({"iss": ["a", "b"], "aud": "cfg:audience", "n": 7, "ok": true}));
    rule["settings"] = json!({"audience": "me"});
    let good = json!({"iss": "b", "aud": "me", "n": 7, "ok": true});
    assert_eq!(outcome(&rule, None, &of_claims(&good), b"", NOW_S), Ok(1));
    for (name, value, expected) in [
        ("aud", json!(["you", "me"]), Ok(1)),
        ("aud", json!(["you"]), mismatch("aud")),
        ("aud", json!([["me"]]), mismatch("aud")),
        ("aud", json!("me "), mismatch("aud")),
        ("iss", json!(["a"]), mismatch("iss")),
        ("iss", json!("c"), mismatch("iss")),
        ("iss", json!(["a", "b"]), mismatch("iss")),
        ("n", json!("7"), mismatch("n")),
        ("n", json!(null), mismatch("n")),
        ("ok", json!("true"), mismatch("ok")),
        ("ok", json!(false), mismatch("ok")),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(outcome(&rule, None, &of_claims(&claims), b"", NOW_S), expected, "{claims}");
    }
    for name in ["iss", "aud", "n", "ok"] {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(name);
        assert_eq!(outcome(&rule, None, &of_claims(&claims), b"", NOW_S), missing(name));
    }
}

#[test]
fn a_hash_in_a_claim_is_that_of_the_body_or_the_url() {
    let sha256 = |bytes: &[u8]| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
    let of = |rule: &str, claims: Value, body: &[u8]| {
        outcome(&symmetric(&json!({"iss": "a", "hash": rule})), None, &of_claims(&claims), body, NOW_S)
    };
    let with = |hash: String| json!({"iss": "a", "hash": hash});
    for rule in ["sha256hex:body", "sha256hex:body?"] {
        assert_eq!(of(rule, with(sha256(b"x")), b"x"), Ok(1));
        assert_eq!(of(rule, with(sha256(b"x")), b"y"), mismatch("hash"));
        assert_eq!(of(rule, with(sha256(b"x").to_uppercase()), b"x"), mismatch("hash"), "it is written in one way");
        assert_eq!(of(rule, with(sha256(b"")), b""), Ok(1));
        assert_eq!(of(rule, with(sha256(b"x")), b""), mismatch("hash"));
        assert_eq!(of(rule, json!({"iss": "a"}), b"x"), missing("hash"), "{rule}");
    }
    assert_eq!(of("sha256hex:body?", json!({"iss": "a"}), b""), Ok(1));
    assert_eq!(of("sha256hex:body", json!({"iss": "a"}), b""), missing("hash"));
    assert_eq!(of("sha256hex:url", with(sha256(URL.as_bytes())), b""), Ok(1));
    assert_eq!(of("sha256hex:url", with(sha256(b"https://in.example/in/a")), b""), mismatch("hash"));
    let at = |url: &str, signed: &str| {
        let rule = symmetric(&json!({"iss": "a", "hash": "sha256hex:url"}));
        outcome_at(url, &rule, None, &of_claims(&with(sha256(signed.as_bytes()))), b"", NOW_S)
    };
    assert_eq!(at("https://in.example/in/a?n=O%27Brien", "https://in.example/in/a?n=O'Brien"), Ok(1));
    assert_eq!(at("https://in.example/in/a?n=O%2527Brien", "https://in.example/in/a?n=O'Brien"), mismatch("hash"));
}

#[test]
fn now_is_between_nbf_and_exp_with_some_leeway() {
    let at = |claims: Value| outcome(&symmetric(&json!({"iss": "a"})), None, &of_claims(&claims), b"", NOW_S);
    assert_eq!(at(json!({"iss": "a", "exp": NOW_S - 4})), Ok(1));
    assert_eq!(at(json!({"iss": "a", "exp": NOW_S - 5})), Err(Rejection::JwtExpired { ago_s: 5 }));
    assert_eq!(at(json!({"iss": "a", "nbf": NOW_S + 5})), Ok(1));
    assert_eq!(at(json!({"iss": "a", "nbf": NOW_S + 6})), Err(Rejection::JwtNotYetValid { ahead_s: 6 }));
    assert_eq!(at(json!({"iss": "a", "exp": NOW_S as f64 + 0.5})), Ok(1));
    assert_eq!(at(json!({"iss": "a", "exp": u64::MAX, "nbf": 0})), Ok(1));
    assert_eq!(at(json!({"iss": "a", "iat": 1})), Ok(1), "an old token counts by its exp alone");
    for wrong in [json!("1700000000"), json!(-1), json!(null), json!([NOW_S])] {
        assert_eq!(at(json!({"iss": "a", "exp": wrong})), mismatch("exp"));
        assert_eq!(at(json!({"iss": "a", "nbf": wrong})), mismatch("nbf"));
    }
}

#[test]
fn a_token_may_be_so_old_and_not_from_the_future() {
    let mut rule = symmetric(&json!({}));
    rule["max_age"] = 300.into();
    let at = |claims: Value| outcome(&rule, None, &of_claims(&claims), b"", NOW_S);
    assert_eq!(at(json!({"iat": NOW_S - 305})), Ok(1));
    let old = Rejection::TimestampOld { age_s: 306, tolerance_s: 300 };
    assert_eq!(at(json!({"iat": NOW_S - 306})), Err(old));
    assert_eq!(at(json!({"iat": NOW_S + 5})), Ok(1));
    let future = Rejection::TimestampFuture { ahead_s: 6, tolerance_s: 5 };
    assert_eq!(at(json!({"iat": NOW_S + 6})), Err(future));
    assert_eq!(at(json!({})), missing("iat"));
    assert_eq!(at(json!({"iat": "now"})), mismatch("iat"));
}

#[test]
fn a_token_chooses_among_the_algorithms_of_the_rule_and_never_the_kind_of_key() {
    let rule = symmetric(&json!({"iss": "a"}));
    let with = |algorithm: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let token = test_keys::token(&json!({ "alg": algorithm }), &json!({"iss": "a"}), sign);
        outcome(&rule, None, &format!("Bearer {token}"), b"", NOW_S)
    };
    assert_eq!(with("HS256", &hs256), Ok(1));
    assert_eq!(with("HS512", &hs256), Err(Rejection::SignatureMismatch { secrets: 2 }));
    for algorithm in ["none", "None", "hs256", "HS384", "RS256", "ES256", ""] {
        assert_eq!(with(algorithm, &hs256), Err(Rejection::JwtAlgorithm), "{algorithm}");
    }
    let cut = |message: &[u8]| hs256(message)[..16].to_vec();
    assert_eq!(with("HS256", &cut), Err(Rejection::SignatureMismatch { secrets: 2 }), "half a tag");

    let keys =
        KeySet::parse_jwks(&test_keys::jwks(&[test_keys::rsa_jwk("a"), test_keys::p256_jwk("b")])).expect("keys");
    let with = |header: Value, algorithms: &[&str], sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let token = test_keys::token(&header, &json!({"iss": "joe"}), sign);
        outcome(&published(algorithms), Some(&keys), &format!("Bearer {token}"), b"", NOW_S)
    };
    assert_eq!(with(json!({"alg": "RS256"}), &["RS256", "ES256"], &test_keys::rsa_sha256), Ok(0));
    assert_eq!(with(json!({"alg": "ES256", "kid": "b"}), &["RS256", "ES256"], &test_keys::p256_raw), Ok(1));
    let mismatch = Err(Rejection::SignatureMismatch { secrets: 1 });
    assert_eq!(with(json!({"alg": "ES256"}), &["RS256", "ES256"], &test_keys::rsa_sha256), mismatch);
    assert_eq!(with(json!({"alg": "RS256"}), &["RS256", "ES256"], &test_keys::p256_raw), mismatch);
    let unknown = Err(Rejection::KeyUnknown);
    assert_eq!(with(json!({"alg": "RS256", "kid": "b"}), &["RS256", "ES256"], &test_keys::rsa_sha256), unknown);
    assert_eq!(with(json!({"alg": "ES256"}), &["RS256"], &test_keys::p256_raw), Err(Rejection::JwtAlgorithm));
    // The public key as the secret of an HMAC: the confusion of RFC 8725 section 2.1.
    let modulus = test_keys::rsa_jwk("a")["n"].as_str().expect("text").to_owned();
    let confused = |message: &[u8]| {
        use hmac::Mac as _;
        let mac = <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(modulus.as_bytes()).expect("a key");
        mac.chain_update(message).finalize().into_bytes().to_vec()
    };
    assert_eq!(with(json!({"alg": "HS256"}), &["RS256"], &confused), Err(Rejection::JwtAlgorithm));
    assert!(with(json!({"alg": "RS256"}), &["RS256"], &confused).is_err());
}

#[test]
fn keys_in_the_token_are_not_looked_at() {
    let keys = KeySet::parse_jwks(&test_keys::jwks(&[test_keys::rsa_jwk("a")])).expect("keys");
    let header = json!({"alg": "ES256", "jwk": test_keys::p256_jwk("a"), "jku": "https://evil.example/jwks"});
    let token = test_keys::token(&header, &json!({"iss": "joe"}), test_keys::p256_raw);
    let of = |algorithms: &[&str]| outcome(&published(algorithms), Some(&keys), &format!("Bearer {token}"), b"", NOW_S);
    assert_eq!(of(&["RS256", "ES256"]), Err(Rejection::KeyUnknown));
    assert_eq!(of(&["RS256"]), Err(Rejection::JwtAlgorithm));
}
