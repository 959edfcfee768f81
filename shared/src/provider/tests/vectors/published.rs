//! Requests that a provider publishes itself, in its documentation or with its SDK. A comment gives the origin.

use super::sample::{Encoding, Sample};
use Encoding::{Base64, Hex};

/// The time at which a request without a time was received.
const ANY_TIME_S: u64 = 1_700_000_000;

/// Requests whose signature is published.
pub(super) fn published() -> Vec<Sample> {
    let mut samples = vec![
        // support.atlassian.com, manage webhooks
        of_the_body(
            "bitbucket",
            ["It's a Secret to Everybody", "Hello World!"],
            ["x-hub-signature", "sha256="],
            "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
            Hex,
        ),
        // developers.line.biz, verify webhook signature
        of_the_body(
            "line",
            ["8c570fa6dd201bb328f1c1eac23a96d8", r#"{"destination":"U8e742f61d673b39c7fff3cecb7536ef0","events":[]}"#],
            ["x-line-signature", ""],
            "GhRKmvmHys4Pi8DxkF4+EayaH0OqtJtaZxgTD9fMDLs=",
            Base64,
        ),
        messagebird(),
    ];
    // circleci-docs: outbound-webhooks.adoc
    samples.extend(
        [
            ("secret", "hello world", "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a"),
            ("another-secret", "lalala", "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00"),
            (
                "hunter123",
                "an-important-request-payload",
                "9be2242094a9a8c00c64306f382a7f9d691de910b4a266f67bd314ef18ac49fa",
            ),
            ("secret", "foo", "773ba44693c7553d6ee20f61ea5d2757a9a4f4a44d2841ae4e95b52e4cd62db4"),
        ]
        .map(|(secret, body, tag)| of_the_body("circleci", [secret, body], ["circleci-signature", "v1="], tag, Hex)),
    );
    samples
}

fn of_the_body(
    provider: &str,
    [secret, body]: [&str; 2],
    [header, prefix]: [&str; 2],
    tag: &str,
    encoding: Encoding,
) -> Sample {
    let value = format!("{prefix}{tag}");
    let mut sample = Sample::bearing(provider, secret, &[(header, &value)], body, ANY_TIME_S);
    sample.signature = tag.to_owned();
    sample.encoding = Some(encoding);
    sample.fields_only = false;
    sample
}

/// messagebird-nodejs: lib/testdata/webhook-signature-jwt-reference.json, "Valid JWT with URL parameters and payload - POST"
fn messagebird() -> Sample {
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3OTIwMCwiZXhwIjoxNjI1NDc\
                 5MjYwLCJqdGkiOiI5M2U1NTAwNi1hMGU4LTQ1MjYtYTE5MC1mYTVmZjAwZWExMTYiLCJ1cmxfaGFzaCI6IjQxZjA1ZjBkZGQwYTIyYWIy\
                 MDlhYzQ2ZjQ3YzQ1NzJkOWNlZmEyNTdlZDc0YjI0MDA0YmFlNzUzZWNlNmMyNjAiLCJwYXlsb2FkX2hhc2giOiJkZmZkNjAyMWJiMmJkN\
                 WIwYWY2NzYyOTA4MDllYzNhNTMxOTFkZDgxYzdmNzBhNGIyODY4OGEzNjIxODI5ODZmIn0._H--TOuYFLpeEH39-rg5E3IHVkjHozBcaK\
                 VWPRC5m9I";
    let secret = "36efdd1aace2e26cd490f0d951138253bef2f7c6d34d18981da781555cc4cebb";
    let headers = [("messagebird-signature-jwt", token)];
    // 2021-07-05T12:00:00+02:00
    let mut sample = Sample::bearing("messagebird", secret, &headers, "Hello, World!", 1_625_479_200);
    sample.url = "https://example.com/path?bar=1&foo=2".to_owned();
    sample.signature = token.to_owned();
    sample.fields_only = false;
    sample.expires_s = Some(65);
    sample
}
