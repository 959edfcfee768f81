//! How soon a revoked token is refused: two relays on one database, and a caller of each that uses the token all the
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::api::{Api, id};
use harness::error::{Doing as _, Error, Result};
use reqwest::Method;
use serde_json::json;

use crate::calls::send;
use crate::figure::{Figure, Limit, Report};
use crate::options::Options;
use crate::run::{count, quantile_ms};
use crate::sink::histogram;
use crate::stack::Stack;

/// The number of tokens. Each relay remembers so many accepted ones that none of them has to wait.
const TOKENS: usize = 200;

/// How long each token is used before it is revoked.
const USED_FOR: u64 = 20;

/// How long a caller goes on if its token is not refused.
const GIVE_UP: Duration = Duration::from_secs(30);

/// Measures the time until each relay refuses the token.
///
/// # Errors
/// Returns an error if a part does not start, or if a token is not refused within 30 seconds.
pub async fn run(options: Options) -> Result<Report> {
    let stack = Stack::start(2).await?;
    let root = &stack.gateway.api;
    let relays = [root.clone(), root.at(stack.others[0].url())];
    let tokens = options.pick(TOKENS, 20);
    let mut made = Vec::new();
    for _ in 0..tokens {
        let token = root.create_token(&["read"], None, json!({})).await;
        let text = token["token"].as_str().unwrap_or_default().to_owned();
        // Each relay has accepted every token before one of them is wrong. Otherwise the wrong ones of this address
        // would slow down the others.
        for relay in &relays {
            relay.with_token(&text).get("/v1/whoami").await.expect_status(200);
        }
        made.push((id(&token).to_owned(), text));
    }
    let mut times = [histogram(), histogram()];
    let mut accepted_late = 0;
    for (id, text) in made {
        let uses = relays.each_ref().map(|relay| Arc::new(Use::new(relay.with_token(&text))));
        let callers = uses.each_ref().map(|using| tokio::spawn(Arc::clone(using).until_refused()));
        for using in &uses {
            using.wait_for(USED_FOR).await;
        }
        let revoked_at = Instant::now();
        root.post(&format!("/v1/tokens/{id}/revoke"), &json!({})).await.expect_status(200);
        let answered_at = Instant::now();
        for (caller, times) in callers.into_iter().zip(&mut times) {
            let refused = caller.await.doing(|| "a caller ended".to_owned())??;
            let took = refused.at.saturating_duration_since(revoked_at);
            times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
            accepted_late += u64::from(refused.last_accepted > answered_at);
        }
    }

    let mut report = Report::new(format!("{tokens} tokens revoked through one of two relays"));
    for (name, times) in ["the relay that revokes", "the other relay"].into_iter().zip(&times) {
        for (quantile, of) in [("p50", 0.5), ("p99", 0.99)] {
            let what = format!("{quantile} from the call that revokes to the first 401 of {name}");
            report.figure(Figure::new(what, quantile_ms(times, of), "ms"));
        }
        let what = format!("the longest time of {name}");
        report.figure(Figure::new(what, count(times.max()) / 1_000.0, "ms").must(Limit::AtMost(5_000.0)));
    }
    let what = "tokens accepted by a call that began after the response to the call that revokes";
    report.figure(Figure::new(what, count(accepted_late), ""));
    report.note("each caller waits for its response before it calls again; the time includes the call that revokes");
    Ok(report)
}

/// A caller that uses a token.
struct Use {
    api: Api,
    accepted: AtomicU64,
}

/// The end of a use.
struct Refused {
    /// When the response 401 had arrived.
    at: Instant,
    /// When the last call that was accepted began.
    last_accepted: Instant,
}

impl Use {
    fn new(api: Api) -> Self {
        Self { api, accepted: AtomicU64::new(0) }
    }

    async fn until_refused(self: Arc<Self>) -> Result<Refused> {
        let started = Instant::now();
        let mut last_accepted = started;
        while started.elapsed() < GIVE_UP {
            let begun = Instant::now();
            let reply = send(&self.api, Method::GET, "/v1/whoami", None).await?;
            match reply.status {
                200 => last_accepted = begun,
                401 => return Ok(Refused { at: Instant::now(), last_accepted }),
                status => return Err(Error::new(format!("whoami answered {status}: {}", reply.body))),
            }
            self.accepted.fetch_add(1, Ordering::Relaxed);
        }
        Err(Error::new(format!("a revoked token was still accepted after {} s", GIVE_UP.as_secs())))
    }

    /// Waits until the token has been accepted so often, or the caller has ended.
    async fn wait_for(&self, times: u64) {
        let begun = Instant::now();
        while self.accepted.load(Ordering::Relaxed) < times && begun.elapsed() < GIVE_UP {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
