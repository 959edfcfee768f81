//! Published test vectors. If the harness signed wrongly, a verifier with the same mistake would pass the tests.

use super::*;

fn header(scheme: &Scheme, id: &str, body: &[u8], at_s: u64) -> String {
    let request = sign::sign(scheme, id, body, at_s);
    request.header(request.signature_header).to_owned()
}

#[test]
fn github_signs_as_its_documentation_shows() {
    let scheme = Scheme::Github { secret: "It's a Secret to Everybody".to_owned() };
    let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(header(&scheme, "1", b"Hello, World!", 0), expected);
}

#[test]
fn slack_signs_as_its_documentation_shows() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
                96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let scheme = Scheme::Slack { secret: "8f742231b10e8888abcd99yyyzzz85a5".to_owned() };
    let expected = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    assert_eq!(header(&scheme, "1", body.as_bytes(), 1_531_420_618), expected);
}

#[test]
fn standard_webhooks_signs_as_the_reference_library_does() {
    let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
    let scheme = Scheme::StandardHmac { prefix: "webhook", key };
    let signature = header(&scheme, "msg_p5jXN8AQM9LWM0D4loKWxJek", b"{\"test\": 2432232314}", 1_614_265_330);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn standard_webhooks_with_ed25519_signs_as_svix_does() {
    let pair = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let pair = BASE64.decode(pair).expect("base64");
    let key = SigningKey::from_bytes(pair[..32].try_into().expect("32 bytes"));
    let scheme = Scheme::StandardEd25519 { key };
    let signature = header(&scheme, "msg_p5jXN8AQM9LWM0D4loKWxJek", b"{\"test\": 2432232314}", 1_614_265_330);
    let expected = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    assert_eq!(signature, expected);
}

#[test]
fn stripe_and_fal_sign_as_other_implementations_do() {
    let scheme = Scheme::Stripe { secret: "whsec_test_secret".to_owned() };
    let signature = header(&scheme, "", b"{\"id\":\"evt_test\",\"type\":\"example.event\"}", 1_700_000_000);
    assert_eq!(signature, "t=1700000000,v1=0d196e3df9b9cad0e904fe0b11e2bb446ec74e54a0cb22fa2ac9b39d85f08274");

    let scheme = Scheme::Fal { key: SigningKey::from_bytes(&[7; 32]), user_id: "user_456".to_owned() };
    let body = b"{\"request_id\":\"req_123\",\"status\":\"OK\"}";
    let expected = "c724c64a306f3affd04f52603e8174175cf27ad6487b34d0b650dcd37d550f9a\
                    ee8f4f931c364c294d459e178fa55c0b1c3570df967f5d02a0e5fcd657e2a402";
    assert_eq!(header(&scheme, "req_123", body, 1_700_000_000), expected);
}

#[test]
fn a_curl_command_escapes_quotes_in_the_body() {
    let request = Provider::stripe().sample("evt_1").with_body("it's");
    assert!(request.curl("http://127.0.0.1/in/x").ends_with(r"--data-binary 'it'\''s'"));
}
