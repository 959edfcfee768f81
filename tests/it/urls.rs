//! verify: signatures over the URL, however the platform spells it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use harness::edge::Edge;
use harness::gateway::Gateway;
use harness::mac::{hmac_sha1, hmac_sha256, json_web_token};
use harness::provider::now_s;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const KEY: &[u8] = SECRET.as_bytes();

/// Queries of URLs that senders sign, spelled as they were entered.
const QUERIES: [&str; 9] = [
    "",
    "?n=O'Brien",
    "?n=O%27Brien",
    "?n=O'Brien&m=%22a+b%22&u=%C3%BC",
    "?n=O'Brien&m=\"<>&u=ü",
    "?a[]=1&b=1|2&c={x}&d=`^\\&e=//../",
    "?u=sip:123@192.0.2.10&e=%7e%41%c3%bc%zz",
    "?a=&&b;c=%2527",
    "?",
];

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// The header of a signature, as a provider makes it for this URL and body.
fn signed(provider: &str, url: &str, body: &str) -> (&'static str, String) {
    match provider {
        "square" => {
            ("x-square-hmacsha256-signature", BASE64.encode(hmac_sha256(KEY, &[url.as_bytes(), body.as_bytes()])))
        }
        "hubspot-v2" => ("x-hubspot-signature", sha256(&format!("{SECRET}POST{url}{body}"))),
        "trello" => ("x-trello-webhook", BASE64.encode(hmac_sha1(KEY, &[body.as_bytes(), url.as_bytes()]))),
        "messagebird" => {
            let claims = json!({"iss": "MessageBird", "nbf": now_s(), "exp": now_s() + 60, "url_hash": sha256(url),
                "payload_hash": sha256(body)});
            ("messagebird-signature-jwt", json_web_token(KEY, &claims))
        }
        "twilio" => ("x-twilio-signature", BASE64.encode(hmac_sha1(KEY, &[url.as_bytes(), b"CallSidCA1"]))),
        other => panic!("this test cannot sign for {other}"),
    }
}

/// Posts with exactly this URL in the request line. An HTTP client would normalize it.
async fn post(url: &str, (name, value): &(&str, String), body: &str) -> u16 {
    let (address, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let kind = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
    let request = format!(
        "POST /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n{name}: {value}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(address).await.expect("connects");
    connection.write_all(request.as_bytes()).await.expect("sends the request");
    let mut status = [0; 12];
    connection.read_exact(&mut status).await.expect("answers");
    String::from_utf8_lossy(&status[9..]).parse().expect("a status")
}

/// Sends requests that are signed over the URL as it was entered, and lists those that are not answered with 200.
async fn refused(edge: &Edge) -> Vec<String> {
    let mut refused = Vec::new();
    // Signatures over larger bodies are verified by the platform.
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(9_000));
    for provider in ["square", "hubspot-v2", "trello", "messagebird", "twilio"] {
        let bodies = if provider == "twilio" { vec!["CallSid=CA1"] } else { vec!["{\"id\":1}", large.as_str()] };
        let source = edge.put_source_of(&format!("{provider}-urls"), provider, &[SECRET.to_owned()], &json!({})).await;
        for query in QUERIES {
            let url = format!("{}{query}", source.url);
            for body in &bodies {
                let status = post(&url, &signed(provider, &url, body), body).await;
                if status != 200 {
                    refused.push(format!("{provider} {query}, {} bytes: {status}", body.len()));
                }
            }
        }
        // A different parameter, which is not another spelling of the same URL.
        let header = signed(provider, &format!("{}?n=O'Brien", source.url), bodies[0]);
        for query in ["?n=O%2527Brien", "?n=O'Brian", "?n=O'Brien&m=1", ""] {
            let url = format!("{}{query}", source.url);
            assert_eq!(post(&url, &header, bodies[0]).await, 401, "{provider} {query}");
        }
        // The sender signs the URL that it was given, not the one at which the request arrives.
        let settings = json!({"public_url": "https://shop.example/hook?n=O'Brien"});
        let source = edge.put_source_of(&format!("{provider}-public"), provider, &[SECRET.to_owned()], &settings).await;
        for added in ["", "&m=it's"] {
            let header = signed(provider, &format!("https://shop.example/hook?n=O'Brien{added}"), bodies[0]);
            let status = post(&format!("{}?n=O'Brien{added}", source.url), &header, bodies[0]).await;
            if status != 200 {
                refused.push(format!("{provider}, by its public URL{added}: {status}"));
            }
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_over_the_url_is_verified_however_the_platform_spells_the_url() {
    let none: Vec<String> = Vec::new();
    assert_eq!(refused(&Gateway::shared_edge().await.edge).await, none, "if the URL is rewritten on its way");
    assert_eq!(refused(&Gateway::bare_edge().await.edge).await, none, "if the URL arrives unchanged");
}
