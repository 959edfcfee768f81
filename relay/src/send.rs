//! `tidegate send`: sends a sample event to a source, signed as its provider signs. It tests webhooks offline, without
//! a tunnel and without an account at the provider.

mod print;
mod secret;
mod stored;
mod target;

use std::io::Read as _;
use std::time::{Duration, Instant};

use clap::Args;
use shared::provider::{self, Provider};
use shared::sample::{self, Moment, SampleRequest, SignError, Wanted};
use shared::scheme::Scheme;
use shared::source::Secret;

use self::target::{Relay, Target};
use crate::terminal::{error_line, line};
use crate::{mint, operator_client};

/// How long the edge may take to respond.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

const HELP: &str = "\
Examples:
  tidegate send --source stripe-live --type checkout.session.completed
  tidegate send --source github --type pull_request.opened --dry-run
  tidegate send --source shop --body order.json --id my-id-1
  tidegate send --provider slack --url http://127.0.0.1:8787/in/slack --secret ...

Environment:
  TIDEGATE_URL            the URL of the relay's REST API [default: http://127.0.0.1:8400]
  TIDEGATE_ADMIN_TOKEN    the relay's admin token; required with --source
  TIDEGATE_SOURCE_SECRET  the source's secret; unlike --secret, not visible to other users
  DATABASE_URL, TIDEGATE_MASTER_KEY  as for `tidegate serve`; with --source and without a secret, the command reads the
                                     source's secret from this database

Every sample gets a new id, so that it is not counted as a copy of an earlier one. A body from --body keeps its own id
unless --id is given.
With --source, the command waits up to 20 seconds until the relay has stored the event, if the response contains the
event's id. If the relay has not stored the event by then, the command says so and exits with 0.";

/// The arguments of `tidegate send`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// Name or id of the source (required unless --provider and --url are given)
    #[arg(long, value_name = "NAME|ID", required_unless_present = "url")]
    pub source: Option<String>,
    /// Provider to sign as, for example stripe (default: the provider of the source)
    #[arg(long, value_name = "ID", required_unless_present = "source", value_parser = provider_id)]
    pub provider: Option<String>,
    /// Event type (default: the type of the provider's first sample)
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    #[arg(
        long,
        value_name = "FILE|-",
        help = "File with the body to send, or - for standard input (default: a sample of the provider). The body is \
                sent unchanged, except that --type, --id, and times and signatures that the provider puts into the \
                body are written into it"
    )]
    pub body: Option<String>,
    /// Event id (default: a new one)
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    #[arg(
        long,
        value_name = "SECRET",
        help = "Secret to sign with. Prefer TIDEGATE_SOURCE_SECRET, because other users can see command lines"
    )]
    pub secret: Option<String>,
    /// URL to send the event to (default: the source's ingest URL)
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Send nothing; print an equivalent curl command instead. The edge accepts its request until the signed
    /// timestamp expires
    #[arg(long)]
    pub dry_run: bool,
}

/// Makes, signs and sends the event, waits until the relay has stored it, and prints the request and the response.
/// `var` returns the value of an environment variable.
///
/// # Errors
/// Returns which input is missing or wrong, or why the event was refused, and how to fix it.
pub async fn send(arguments: &Arguments, var: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let relay = Relay::new(&var)?;
    let target = Target::find(arguments, &relay).await?;
    let body = arguments.body.as_deref().map(read_body).transpose()?;
    let wanted =
        Wanted { event_type: arguments.event_type.as_deref(), id: arguments.id.as_deref(), body: body.as_deref() };
    let moment = Moment { now_ms: mint::now_ms(), random: mint::random() };
    let request = sample::compose(target.provider, &target.config, &target.url, wanted, moment)
        .map_err(|error| error.to_string())?;
    let scheme = target.scheme()?;
    let secrets = match sample::sign(&scheme, &[], request.clone(), moment) {
        Ok(_) => Vec::new(),
        Err(SignError::PrivateKey) => return Err(private_key(target.provider)),
        Err(_) => secret::find(arguments.secret.as_deref(), &target, &var).await?,
    };
    let request = sign(&scheme, &secrets, request, moment, target.provider)?;
    let note = of_another_type(target.provider, wanted);
    if arguments.dry_run {
        // Standard output has the command alone, so that it can be piped into a shell.
        note.iter().for_each(|note| error_line(note));
        line(&print::curl(&request, arguments.body.as_deref())?);
        return Ok(());
    }
    note.iter().for_each(|note| line(note));
    line(&print::sent(&request, &secrets));
    let client = operator_client(ANSWERS_WITHIN).map_err(|error| error.to_string())?;
    let started = Instant::now();
    let answer = post(&client, &request).await?;
    line(&print::answered(answer.0, started.elapsed(), &answer.1));
    let accepted = print::accepted(answer.0, &answer.1, &target, relay.url())?;
    let stored = match (&accepted.event, target.source) {
        (Some(event), Some(_)) => Some(stored::wait(&client, &relay, event).await),
        _ => None,
    };
    line(&accepted.describe(stored.as_ref()));
    Ok(())
}

fn sign(
    scheme: &Scheme,
    secrets: &[Secret],
    request: SampleRequest,
    moment: Moment,
    provider: &Provider,
) -> Result<SampleRequest, String> {
    sample::sign(scheme, secrets, request, moment).map_err(|error| match error {
        SignError::PrivateKey => private_key(provider),
        SignError::NoSecret
        | SignError::Secret(_)
        | SignError::NotWritable { .. }
        | SignError::Unreadable(_)
        | SignError::NotAForm
        | SignError::NoRule => format!("cannot sign the request the way {} does: {error}", provider.name),
    })
}

/// Returns a note if the content of a sample is not of the type that it names.
fn of_another_type(provider: &Provider, wanted: Wanted<'_>) -> Option<String> {
    let event_type = wanted.event_type.filter(|_| wanted.body.is_none())?;
    let known: Vec<_> = sample::example_types(&provider.id).collect();
    let is_other = !known.is_empty() && !known.contains(&event_type);
    is_other.then(|| {
        format!(
            "note: no sample of type {event_type} exists, so the content of a different type is sent (available: {}); \
             use --body to send your own",
            known.join(", ")
        )
    })
}

/// Suggests a generic provider in place of one whose signature only the provider can make.
fn private_key(provider: &Provider) -> String {
    format!(
        "{name} signs with a private key that only {name} has; to test your routes, create a second source with the \
         provider standard-webhooks, token or none",
        name = provider.name
    )
}

fn read_body(file: &str) -> Result<Vec<u8>, String> {
    if file != "-" {
        return std::fs::read(file).map_err(|error| format!("cannot read --body {file}: {error}"));
    }
    let mut body = Vec::new();
    let read = std::io::stdin().read_to_end(&mut body);
    read.map(|_| body).map_err(|error| format!("cannot read the body from standard input: {error}"))
}

/// Sends the request. Returns the status and the body of the response.
async fn post(client: &reqwest::Client, request: &SampleRequest) -> Result<(u16, String), String> {
    let failed = |error: reqwest::Error| {
        format!(
            "cannot reach {}: {}; check that the edge is running there, or pass its address with --url",
            request.url,
            root_cause(&error)
        )
    };
    let mut builder = client.post(&request.url).body(request.body.clone());
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let response = builder.send().await.map_err(failed)?;
    Ok((response.status().as_u16(), response.text().await.map_err(failed)?))
}

/// The innermost cause of an error, which is the one that an operator can fix.
fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

/// Accepts an id from the catalogue, for the command line.
fn provider_id(id: &str) -> Result<String, String> {
    known_provider(id).map(|provider| provider.id.clone())
}

/// The provider with this id.
fn known_provider(id: &str) -> Result<&'static Provider, String> {
    provider::find(id).ok_or_else(|| {
        let known: Vec<_> = provider::catalogue().iter().map(|provider| provider.id.as_str()).collect();
        format!("\"{id}\" is not a known provider; known providers: {}", known.join(", "))
    })
}
