//! The demo: a Stripe webhook on its way through all parts.

use std::process::Command;
use std::time::{Duration, Instant};

use harness::api::{Api, http_client};
use harness::error::{Doing as _, Error, Result};
use harness::process::{Process, Signal};
use harness::provider::Provider;
use harness::wait::try_until;
use harness::{place, tools};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::commands::Commands;
use super::secrets::write_private;
use super::stack::Stack;

/// The name of the demo's source and destination.
const NAME: &str = "demo";

/// The demo destination: a Node program that verifies deliveries with the official package.
#[derive(Debug)]
pub(super) struct Destination {
    _process: Process,
    printer: JoinHandle<()>,
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.printer.abort();
    }
}

/// Creates the source, the destination and the route if they do not exist, sends a webhook and prints its steps.
pub(super) async fn run(stack: &mut Stack) -> Result<()> {
    let secret_file = super::folder().join("demo-destination-secret");
    let script = place::repository().join("tests/dev/demo/receiver.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(&secret_file);
    let mut process = Process::start("demo-destination", &mut command, Signal::Term)?;
    let line = process.line("listening on http", Duration::from_secs(20)).await?;
    let destination_url = format!("{}/hook", line.split_whitespace().last().unwrap_or_default());

    let api = stack.relay.api();
    let provider = Provider::stripe_with(&stack.secrets.demo_stripe_secret);
    let source = json!({ "provider": provider.id, "secrets": provider.secrets, "config": provider.config });
    call(&api, Method::PUT, &format!("/v1/sources/by-name/{NAME}"), Some(&source)).await?;
    let destination = json!({ "url": destination_url });
    call(&api, Method::PUT, &format!("/v1/destinations/by-name/{NAME}"), Some(&destination)).await?;
    let secret = call(&api, Method::GET, &format!("/v1/destinations/{NAME}/signing-secret"), None).await?;
    write_private(&secret_file, secret["signing_secret"].as_str().unwrap_or_default().as_bytes())?;
    let routes = call(&api, Method::GET, &format!("/v1/routes?source={NAME}&destination={NAME}"), None).await?;
    if routes["data"].as_array().is_none_or(Vec::is_empty) {
        let route = json!({ "source": NAME, "destination": NAME });
        call(&api, Method::POST, "/v1/routes", Some(&route)).await?;
    }

    let url = format!("{}/in/{NAME}", stack.edge.url());
    let event_id = format!("evt_demo_{}", hex::encode(rand::random::<[u8; 6]>()));
    let request = provider.sample(&event_id);
    let sent = Instant::now();
    let response = request.send(&http_client(), &url).await.doing(|| format!("cannot send to {url}"))?;
    let answered = sent.elapsed();
    let status = response.status();
    let body = response.text().await.doing(|| format!("cannot read the response of {url}"))?;
    let id = serde_json::from_str::<Value>(&body).ok().and_then(|body| Some(body["id"].as_str()?.to_owned()));
    let Some(id) = id.filter(|_| status.is_success()) else {
        return Err(Error::new(format!("the edge answered {status} {body} to the demo's webhook")));
    };
    let delivery = delivered(&api, &id).await?;
    let arrived = sent.elapsed();
    process.line(&id, Duration::from_secs(10)).await?;
    stack.demo = Some(Destination { printer: print_deliveries(process.log_file().to_owned()), _process: process });

    let Commands { api, tidegate } = &stack.commands;
    println!(
        "
The path of a webhook
  request   Stripe's event {event_id} was posted to {url}
  verify    the edge, in workerd, accepted its Stripe-Signature
  queue     the edge queued the event as {id}, and then answered {status}, {answered:.0?} after the request
  pull      the relay pulled the event over Cloudflare's queue API
  store     the relay stored the event in PostgreSQL
  route     the route matched, and created a delivery to the destination \"{NAME}\"
  deliver   {delivery} was signed and delivered to {destination_url}, {arrived:.0?} after the request

Inspect it, from another terminal
  {api} /v1/events/{id}
  {api} /v1/events/{id}/body
  {api} /v1/deliveries/{delivery}/attempts

Send another one, signed as Stripe signs, and list the events
  {tidegate} send --source {NAME} --type checkout.session.completed
  {api} '/v1/events?source={NAME}'

Deliver all events of the source again
  {api} /v1/replays '{{\"filter\":{{\"source\":\"{NAME}\"}}}}'"
    );
    Ok(())
}

async fn call(api: &Api, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
    let what = format!("{method} {path}");
    let reply = api.try_call(method, path, body).await.doing(|| format!("cannot call {what}"))?;
    match reply.status {
        200 | 201 => Ok(reply.body),
        status => Err(Error::new(format!("{what} returned {status}: {}", reply.body))),
    }
}

/// Waits until the event has been delivered, and returns the id of the delivery.
async fn delivered(api: &Api, event: &str) -> Result<String> {
    let path = format!("/v1/deliveries?event={event}");
    let delivery = try_until("its delivery", Duration::from_secs(30), async || {
        let reply = api.try_call(Method::GET, &path, None).await.map_err(|error| error.to_string())?;
        let delivery = &reply.body["data"][0];
        match (delivery["state"].as_str(), delivery["id"].as_str()) {
            (Some("succeeded"), Some(id)) => Ok(id.to_owned()),
            _ => Err(reply.body.to_string()),
        }
    });
    delivery.await.map_err(|error| Error::new(format!("the demo's webhook {event} was not delivered: {error}")))
}

/// Prints the deliveries that the destination logs from here on.
fn print_deliveries(log: std::path::PathBuf) -> JoinHandle<()> {
    let read = move || std::fs::read_to_string(&log).unwrap_or_default();
    tokio::spawn(async move {
        let mut printed = 0;
        let mut interval = tokio::time::interval(Duration::from_millis(200));
        loop {
            interval.tick().await;
            let text = read();
            let end = text.rfind('\n').map_or(0, |at| at + 1);
            for line in text.get(printed..end).unwrap_or_default().lines().filter(|line| line.starts_with("delivery")) {
                tools::say(line);
            }
            printed = end;
        }
    })
}
