//! The configuration of one source at the edge: written, deleted, read back.

use http::StatusCode;
use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::id::SourceId;
use shared::source::SourceConfig;

use super::{Edge, describe};

/// The largest response about a source that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 16_384;

/// What the edge did with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It was written. Contains the digest of the sealed text, if the edge returns one.
    Written { digest: Option<String> },
    /// It was not written: the edge holds this revision, or has deleted the source at it.
    OlderRevision { held: u64 },
    /// It was not written: another source at the edge has its name.
    NameTaken,
}

/// What the edge did with a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    Done,
    /// Nothing was deleted: the edge holds a newer revision.
    OlderRevision {
        held: u64,
    },
}

/// What the edge holds for a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    Source(HeldSource),
    /// The source was deleted at this revision.
    Deleted {
        revision: u64,
    },
    /// Data that the edge cannot open or read.
    Damaged,
    Nothing,
}

/// A configuration that the edge holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HeldSource {
    pub revision: u64,
    pub name: String,
    /// The digest of the sealed text, if the edge returns one.
    #[serde(default)]
    pub digest: Option<String>,
    /// Whether requests to the name reach this source.
    #[serde(default = "yes")]
    pub name_leads_here: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Code,
    /// The revision that the edge holds.
    revision: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Code {
    OlderRevision,
    NameTaken,
    UnknownSource,
    SourceDeleted,
    SourceDamaged,
    #[serde(other)]
    Other,
}

impl Edge {
    /// Puts a source's configuration.
    ///
    /// # Errors
    /// Returns why the edge neither accepted nor refused it, as a text.
    pub async fn put_source(&self, config: &SourceConfig) -> Result<Put, String> {
        let request = self.client.put(self.source_url(config.id)).json(config);
        let answer = Answer::read(self.call(request).await?).await?;
        if answer.status.is_success() {
            let Written { digest } = answer.json().unwrap_or(Written { digest: None });
            return Ok(Put::Written { digest });
        }
        match answer.json() {
            Some(Refusal { error: Code::OlderRevision, revision: Some(held) }) => Ok(Put::OlderRevision { held }),
            Some(Refusal { error: Code::NameTaken, .. }) => Ok(Put::NameTaken),
            Some(Refusal { .. }) | None => Err(answer.problem()),
        }
    }

    /// Deletes a source at a revision; requests to it are answered 404 from then on.
    ///
    /// # Errors
    /// Returns why the edge neither deleted nor refused it, as a text.
    pub async fn delete_source(&self, source: SourceId, revision: u64) -> Result<Deletion, String> {
        let url = format!("{}?revision={revision}", self.source_url(source));
        let answer = Answer::read(self.call(self.client.delete(url)).await?).await?;
        if answer.status.is_success() {
            return Ok(Deletion::Done);
        }
        match answer.json() {
            Some(Refusal { error: Code::UnknownSource, .. }) => Ok(Deletion::Done),
            Some(Refusal { error: Code::OlderRevision, revision: Some(held) }) => Ok(Deletion::OlderRevision { held }),
            Some(Refusal { .. }) | None => Err(answer.problem()),
        }
    }

    /// Reads back what the edge holds for a source.
    ///
    /// # Errors
    /// Returns why it could not be read, as a text.
    pub async fn held_source(&self, source: SourceId) -> Result<Held, String> {
        let answer = Answer::read(self.call(self.client.get(self.source_url(source))).await?).await?;
        if answer.status.is_success() {
            return answer.json().map(Held::Source).ok_or_else(|| answer.problem());
        }
        match answer.json() {
            Some(Refusal { error: Code::UnknownSource, .. }) => Ok(Held::Nothing),
            Some(Refusal { error: Code::SourceDamaged, .. }) => Ok(Held::Damaged),
            Some(Refusal { error: Code::SourceDeleted, revision: Some(revision) }) => Ok(Held::Deleted { revision }),
            Some(Refusal { .. }) | None => Err(answer.problem()),
        }
    }

    fn source_url(&self, source: SourceId) -> String {
        format!("{}/admin/sources/{source}", self.base)
    }
}

/// A response whose body has been read.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    async fn read(mut response: Response) -> Result<Self, String> {
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| format!("the edge's response was cut off: {error}"))?
        {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(format!("the edge's response ({status}) is larger than {MAX_ANSWER_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, body })
    }

    fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    fn problem(&self) -> String {
        describe(self.status, &String::from_utf8_lossy(&self.body))
    }
}
