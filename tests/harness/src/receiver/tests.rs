use super::*;
use crate::provider::Provider;

const LONG: Duration = Duration::from_secs(20);

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("builds")
}

#[tokio::test]
async fn a_destination_follows_its_script_and_then_its_default_behaviour() {
    let receiver = Receiver::start().await.expect("starts");
    receiver.next([
        Behaviour::Status(500),
        Behaviour::RetryAfter(429, "7".to_owned()),
        Behaviour::Redirect("http://127.0.0.1:1/".to_owned()),
        Behaviour::HugeBody(100_000),
    ]);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let response = client().post(receiver.url()).body("x").send().await.expect("answers");
        let retry_after = response.headers().get("retry-after").cloned();
        seen.push((response.status().as_u16(), retry_after, response.bytes().await.expect("reads").len()));
    }
    let statuses: Vec<u16> = seen.iter().map(|(status, ..)| *status).collect();
    assert_eq!(statuses, [500, 429, 302, 200, 200]);
    assert_eq!(seen[1].1.as_ref().expect("the header is present"), "7");
    assert_eq!(seen[3].2, 100_000);
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn a_destination_can_reset_close_hang_and_drip() {
    let receiver = Receiver::start().await.expect("starts");
    receiver.next([Behaviour::Reset, Behaviour::Close, Behaviour::Hang, Behaviour::SlowDrip(LONG)]);
    let post = || client().post(receiver.url()).body("x").timeout(Duration::from_millis(300)).send();
    let reset = format!("{:?}", post().await.expect_err("reset"));
    assert!(reset.contains("ConnectionReset"), "{reset}");
    let closed = format!("{:?}", post().await.expect_err("closed"));
    assert!(closed.contains("IncompleteMessage"), "{closed}");
    assert!(post().await.expect_err("hangs").is_timeout());
    let dripping = post().await.expect("answers at once");
    assert!(dripping.bytes().await.expect_err("never ends").is_timeout());
    assert_eq!(receiver.wait_for(4, LONG).await.len(), 4);
}

#[tokio::test]
async fn a_signature_verifies_only_with_its_key_and_an_unchanged_request() {
    let receiver = Receiver::start().await.expect("starts");
    for provider in [Provider::standard_webhooks(), Provider::standard_webhooks_ed25519()] {
        receiver.forget();
        let good = provider.sample("evt_1");
        let other = provider.with_another_secret().expect("signs with a secret");
        let requests = [
            good.clone(),
            good.clone().with_body("{}"),
            provider.sign("evt_1", b"{}", now() - 301),
            good.clone().and_header("webhook-id", "evt_2"),
            good.clone().without_header("webhook-signature"),
        ];
        for request in &requests {
            request.send(&client(), &receiver.url()).await.expect("answers");
        }
        let got = receiver.requests();
        let key = &provider.secrets[0];
        assert_eq!(got[0].verify(key), Ok(()));
        assert_eq!(got[0].verify(&other.secrets[0]), Err(SignatureProblem::Signature));
        assert_eq!(got[0].verify("plain"), Err(SignatureProblem::Key));
        assert_eq!(got[1].verify(key), Err(SignatureProblem::Signature));
        assert_eq!(got[2].verify(key), Err(SignatureProblem::Time));
        assert_eq!(got[3].verify(key), Err(SignatureProblem::Header("webhook-id")));
        assert_eq!(got[4].verify(key), Err(SignatureProblem::Header("webhook-signature")));
    }
}

fn now() -> u64 {
    crate::provider::now_s()
}
