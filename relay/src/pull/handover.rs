//! Takes over the secret that a provider hands to a source with its first request (Asana, Notion).

use std::sync::Arc;

use model::audit::Action;
use serde_json::json;
use shared::envelope::SecretHandedOver;
use shared::id::{AuditEntryId, CustomerId, SourceId};
use shared::provider::{self, NewSource, Provider};
use shared::source::Secret;
use store::Pool;
use store::audit::{Author, NewEntry, Object};
use store::sources::{self, Content, SourceRow};
use tokio::sync::Notify;

use crate::config::Config;
use crate::configuration::Configuration;
use crate::edge::{Edge, FetchError};
use crate::mint;
use crate::secrets::{self, SourceSecrets};

/// What the audit log says of a secret that was handed over.
fn entry(_: Option<&SourceRow>, after: Option<&SourceRow>) -> NewEntry {
    let id = AuditEntryId::from_uuid(mint::uuid());
    let object = after.map(|row| Object::of(row.id, row.customer_id).named(&row.name)).unwrap_or_default();
    let entry = NewEntry::new(id, Author::relay(), Action::SourceAddSecret, object);
    entry.with(None, Some(json!({})), ["secrets".to_owned()])
}

/// The components that are needed to change a source.
#[derive(Clone)]
pub struct Handover {
    pub config: Arc<Config>,
    pub pool: Pool,
    pub configuration: Arc<Configuration>,
    pub edge: Edge,
    /// Wakes [`crate::sync`], which puts the source with its secret to the edge.
    pub edge_pending: Arc<Notify>,
}

impl Handover {
    /// Makes it the secret of its source, if that has none: anyone who knows the URL can send such a request, and must
    /// not be able to plant a second secret.
    ///
    /// # Errors
    /// Returns an error if the secret cannot be taken now, or not by this relay. The message has to be kept then.
    pub async fn take(&self, handed_over: &SecretHandedOver) -> Result<(), FetchError> {
        let id = handed_over.source;
        let later = |error: store::Error| FetchError::Transient(error.to_string());
        let no_source =
            || FetchError::Permanent(format!("the source {id}, to which a secret was handed over, does not exist"));
        let customer = self.customer(id).await.map_err(later)?.ok_or_else(no_source)?;
        let found = sources::find(&self.pool, customer, Some(id), None).await.map_err(later)?;
        // Before the edge is called: anyone who knows the URL can send many such requests.
        if let Err(refused) = self.awaiting(&found.ok_or_else(no_source)?) {
            return refused.answer();
        }
        let secret = self.edge.open_secret(id, &handed_over.sealed).await?;
        let changed =
            sources::change(&self.pool, customer, Some(id), None, |row| self.content(row, secret), entry).await;
        let changed = match changed {
            Ok(changed) => changed.ok_or_else(no_source)?,
            Err(refused) => return refused.answer(),
        };
        self.configuration.after(changed.version).await.map_err(later)?;
        self.edge_pending.notify_one();
        let source = changed.row.id;
        tracing::info!(%source, name = changed.row.name, "the provider has handed over the secret of a source");
        Ok(())
    }

    async fn customer(&self, id: SourceId) -> store::Result<Option<CustomerId>> {
        if let Some(source) = self.configuration.current().sources.get(&id) {
            return Ok(Some(source.customer_id));
        }
        Ok(self.configuration.refresh().await?.sources.get(&id).map(|source| source.customer_id))
    }

    /// The content of the source with the secret.
    fn content(&self, row: &SourceRow, secret: Secret) -> Result<Content, NotTaken> {
        let (provider, before) = self.awaiting(row)?;
        let after = before.replaced_by(vec![secret]);
        let id = row.id;
        let source = NewSource {
            id,
            name: &row.name,
            revision: 1,
            secrets: &after.active,
            config: &row.config,
            max_body_bytes: self.config.max_body_bytes,
        };
        let problems =
            |found: Vec<provider::ConfigProblem>| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        provider.resolve(source).map_err(|found| gone(problems(found)))?;
        let secrets = secrets::seal_source_secrets(&self.config.master_keys, id, &after).map_err(gone)?;
        Ok(Content { provider: row.provider.clone(), config: row.config.clone(), secrets })
    }

    /// The provider and the secrets of a source that awaits a secret.
    fn awaiting(&self, row: &SourceRow) -> Result<(&'static Provider, SourceSecrets), NotTaken> {
        let before = secrets::open_source_secrets(&self.config.master_keys, row).map_err(gone)?;
        let provider = provider::find(&row.provider)
            .ok_or_else(|| gone(format!("this relay does not know the provider {}", row.provider)))?;
        match not_awaited(&before, provider) {
            Some(error) => Err(NotTaken::NotAwaited { source: row.id, name: row.name.clone(), error }),
            None => Ok((provider, before)),
        }
    }
}

/// Why a secret is not taken.
enum NotTaken {
    /// The source does not await a secret. The message needs no further handling.
    NotAwaited { source: SourceId, name: String, error: String },
    /// The secret cannot be taken now, or not by this relay.
    Failed(FetchError),
}

impl NotTaken {
    fn answer(self) -> Result<(), FetchError> {
        match self {
            Self::NotAwaited { source, name, error } => {
                tracing::warn!(%source, name, error, "a secret that a provider handed over was ignored");
                Ok(())
            }
            Self::Failed(error) => Err(error),
        }
    }
}

impl From<store::Error> for NotTaken {
    fn from(error: store::Error) -> Self {
        Self::Failed(FetchError::Transient(error.to_string()))
    }
}

fn gone(text: String) -> NotTaken {
    NotTaken::Failed(FetchError::Permanent(text))
}

/// Why a source accepts no secret that is handed over; `None` if it awaits one.
fn not_awaited(before: &SourceSecrets, provider: &Provider) -> Option<String> {
    if !before.active.is_empty() {
        return Some(
            "the source already has a secret; remove it if the provider should hand over a new one".to_owned(),
        );
    }
    (!provider.hands_over_secret()).then(|| format!("{} does not hand over secrets", provider.name))
}
