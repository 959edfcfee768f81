//! What a wait shows of the events that ended it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use shared::id::{EventId, SourceId};
use shared::job::expose::reduced;
use store::events::SummaryRow;
use store::jobs;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use super::{Job, Mode, Viewer, Wait};
use crate::control::bodies::RESERVE_TIMEOUT;
use crate::control::events::{Event, summary};
use crate::control::record::{self, Action, Object};
use crate::control::{Actor, Control, Error, Scope, schema};

/// The size of all bodies of one answer, in bytes. A larger one is read by a call of its own.
pub const MAX_SHOWN_BODY_BYTES: usize = 1 << 20;

/// The event of a job that ended a wait.
#[derive(Debug, Serialize, ToSchema)]
pub struct AwaitedJob {
    /// The name of the source.
    pub source: String,
    /// The id of the source.
    #[schema(value_type = schema::SourceId)]
    pub source_id: SourceId,
    /// The key of the job.
    pub key: String,
    /// Whether the event ends the job. Always false if the end states of the provider are not known.
    pub terminal: bool,
    /// The state of the job, as the provider writes it; null if the event has none.
    #[schema(required = true)]
    pub state: Option<String>,
    /// Whether the job has ended well (true) or badly (false); null if it has not ended.
    #[schema(required = true)]
    pub good: Option<bool>,
    /// Where the result of the job is. Absent if the job has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub result: Option<JobResult>,
    /// The event. Absent if the caller has an await token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub event: Option<Event>,
    /// The body of the event; see `body_encoding`. For the holder of an await token it has only the fields that the
    /// source exposes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    pub body: Option<Box<RawValue>>,
    /// The form of `body`. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body_encoding: Option<BodyEncoding>,
    /// Why there is no `body`. Absent if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body_omitted: Option<BodyOmitted>,
}

/// The events of several jobs that ended a wait.
#[derive(Debug, Serialize, ToSchema)]
pub struct AwaitedJobs {
    /// With `any_of`: the index of the job that has an event, counted from 0. Null with `all_of`.
    #[schema(required = true)]
    pub won: Option<usize>,
    /// With `any_of`: the one job that has an event. With `all_of`: all jobs, in the order of the request.
    pub jobs: Vec<AwaitedJob>,
}

/// Where the result of a job is that has ended. `included`: in the event. `not_included`: the provider sends only the
/// id of the job, and the result has to be fetched from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobResult {
    /// In the event.
    Included,
    /// The provider sends only the id of the job.
    NotIncluded,
}

/// The form of a body in an answer. `json`: the JSON value. `text`: a string with the text. `base64`: a string with the
/// bytes in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyEncoding {
    /// The JSON value.
    Json,
    /// A string with the text.
    Text,
    /// A string with the bytes in base64.
    Base64,
}

/// Why an answer has no body. `scope`: the token lacks the scope `bodies`. `size`: the bodies of the answer are larger
/// than 1 MiB; read it as the body of the event. `gone`: it is no longer kept. `not_exposed`: the caller has an await
/// token, and the source exposes no field of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyOmitted {
    /// The token lacks the scope `bodies`.
    Scope,
    /// The bodies of the answer are too large.
    Size,
    /// It is no longer kept.
    Gone,
    /// The source exposes no field of it.
    NotExposed,
}

/// What the caller of a wait gets.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    One(Box<AwaitedJob>),
    Many(AwaitedJobs),
}

/// An answer, whose bytes of bodies are reserved as long as it exists.
#[derive(Debug)]
pub struct Held {
    pub answer: Answer,
    pub reserved: OwnedSemaphorePermit,
}

impl Wait {
    /// The answer to a wait that has found what it waited for.
    ///
    /// # Errors
    /// Returns an error if a query fails, or if there is no room for the bodies.
    pub async fn answer(&self, control: &Control) -> Result<Held, Error> {
        let found: Vec<(usize, EventId)> =
            self.jobs.iter().enumerate().filter_map(|(at, job)| Some((at, job.found?))).collect();
        let wanted = if self.mode == Mode::All { &found[..] } else { found.get(..1).unwrap_or_default() };
        let (mut jobs, reserved) = self.shown(control, wanted).await?;
        let answer = match (self.mode, jobs.len()) {
            (Mode::One, 1) => Answer::One(Box::new(jobs.remove(0))),
            (Mode::Any, _) => Answer::Many(AwaitedJobs { won: wanted.first().map(|(at, _)| *at), jobs }),
            (Mode::One | Mode::All, _) => Answer::Many(AwaitedJobs { won: None, jobs }),
        };
        Ok(Held { answer, reserved })
    }

    /// An event of the only job, as the caller sees it.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn show(&self, control: &Control, event: EventId) -> Result<Option<Held>, Error> {
        let (mut jobs, reserved) = self.shown(control, &[(0, event)]).await?;
        Ok(jobs.pop().map(|job| Held { answer: Answer::One(Box::new(job)), reserved }))
    }

    /// The event of the only job that ended the wait.
    #[must_use]
    pub fn found(&self) -> Option<EventId> {
        self.jobs.iter().find_map(|job| job.found)
    }

    async fn shown(
        &self,
        control: &Control,
        wanted: &[(usize, EventId)],
    ) -> Result<(Vec<AwaitedJob>, OwnedSemaphorePermit), Error> {
        let ids: Vec<EventId> = wanted.iter().map(|(_, event)| *event).collect();
        let mut rows = jobs::summaries(&control.pool, &ids).await?;
        let sizes = |row: &SummaryRow| usize::try_from(row.body_size).unwrap_or(usize::MAX);
        let total = rows.iter().map(sizes).fold(0, usize::saturating_add);
        let reserved =
            control.bodies.reserve(i32::try_from(total.min(MAX_SHOWN_BODY_BYTES)).unwrap_or(0), RESERVE_TIMEOUT);
        let (reserved, mut left) = (reserved.await?, MAX_SHOWN_BODY_BYTES);
        let mut shown = Vec::new();
        for (at, event) in wanted {
            let Some(found) = rows.iter().position(|row| row.id == *event) else { continue };
            let row = rows.swap_remove(found);
            let fits = sizes(&row) <= left;
            if fits {
                left -= sizes(&row);
            }
            shown.push(self.job(control, &self.jobs[*at], row, fits).await?);
        }
        Ok((shown, reserved))
    }

    async fn job(&self, control: &Control, job: &Job, row: SummaryRow, fits: bool) -> Result<AwaitedJob, Error> {
        let body = match &self.viewer {
            Viewer::Actor(actor) => body_for_actor(control, actor, job, &row, fits).await?,
            Viewer::Grant if job.source.exposed.is_empty() => Err(BodyOmitted::NotExposed),
            Viewer::Grant => read(control, &row, fits).await?.map(|bytes| exposed(&bytes, &job.source.exposed)),
        };
        let (body, body_encoding, body_omitted) = match body {
            Ok((body, encoding)) => (Some(body), Some(encoding), None),
            Err(omitted) => (None, None, Some(omitted)),
        };
        let (state, good) = (row.job_state.clone(), row.job_good);
        let carries = job.source.job_rule().is_none_or(|rule| rule.carries_result);
        let result = if carries { JobResult::Included } else { JobResult::NotIncluded };
        Ok(AwaitedJob {
            source: job.source.name.clone(),
            source_id: job.source.id,
            key: job.key.to_string(),
            terminal: good.is_some(),
            state,
            good,
            result: good.map(|_| result),
            event: match self.viewer {
                Viewer::Actor(_) => Some(summary(row)),
                Viewer::Grant => None,
            },
            body,
            body_encoding,
            body_omitted,
        })
    }
}

type Shown = Result<(Box<RawValue>, BodyEncoding), BodyOmitted>;

async fn body_for_actor(
    control: &Control,
    actor: &Actor,
    job: &Job,
    row: &SummaryRow,
    fits: bool,
) -> Result<Shown, Error> {
    if actor.require(Scope::Bodies).is_err() {
        return Ok(Err(BodyOmitted::Scope));
    }
    let bytes = match read(control, row, fits).await? {
        Ok(bytes) => bytes,
        Err(omitted) => return Ok(Err(omitted)),
    };
    record::read(control, actor, Action::EventReadBody, Object::of(row.id, job.source.customer_id)).await?;
    Ok(Ok(encoded(bytes)))
}

async fn read(control: &Control, row: &SummaryRow, fits: bool) -> Result<Result<Vec<u8>, BodyOmitted>, Error> {
    if !fits {
        return Ok(Err(BodyOmitted::Size));
    }
    Ok(store::pending::body(&control.pool, row.id).await?.ok_or(BodyOmitted::Gone))
}

/// A body as it is if it is JSON, and otherwise as a string.
fn encoded(body: Vec<u8>) -> (Box<RawValue>, BodyEncoding) {
    if let Ok(json) = serde_json::from_slice(&body) {
        return (json, BodyEncoding::Json);
    }
    let (text, encoding) = match String::from_utf8(body) {
        Ok(text) => (text, BodyEncoding::Text),
        Err(error) => (STANDARD.encode(error.as_bytes()), BodyEncoding::Base64),
    };
    (raw(&Value::String(text)), encoding)
}

/// The exposed fields of a body; none if it is no JSON.
fn exposed(body: &[u8], pointers: &[String]) -> (Box<RawValue>, BodyEncoding) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    (raw(&reduced(&body, pointers)), BodyEncoding::Json)
}

fn raw(value: &Value) -> Box<RawValue> {
    // A value can always be written.
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_json_or_as_text_or_in_base64() {
        let of = |body: &[u8]| {
            let (shown, encoding) = encoded(body.to_vec());
            (shown.get().to_owned(), encoding)
        };
        assert_eq!(of(b"{ \"n\": 1e400 }"), ("{ \"n\": 1e400 }".to_owned(), BodyEncoding::Json), "unchanged");
        assert_eq!(of("gr\u{fc}n".as_bytes()), ("\"gr\u{fc}n\"".to_owned(), BodyEncoding::Text));
        assert_eq!(of(b"\xff\x00"), ("\"/wA=\"".to_owned(), BodyEncoding::Base64));
        assert_eq!(of(b""), ("\"\"".to_owned(), BodyEncoding::Text));
    }

    #[test]
    fn a_body_that_is_no_json_has_no_exposed_fields() {
        assert_eq!(exposed(b"status=done", &["/status".to_owned()]).0.get(), "{}");
        assert_eq!(exposed(b"{\"status\":1,\"secret\":2}", &["/status".to_owned()]).0.get(), "{\"status\":1}");
    }
}
