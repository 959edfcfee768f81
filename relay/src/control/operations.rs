//! Operations: bulk work in the background.

use model::operation::{OperationKind, OperationState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::id::{CustomerId, OperationId};
use store::operations::{self, OperationRow};
use utoipa::ToSchema;

use super::error::Noun;
use super::page::{Page, PageRequest};
use super::record::{self, Action, Object};
use super::time::Timestamp;
use super::{Activity, Actor, Control, Error, Outcome, Saved, Scope, schema};
use crate::mint;

/// An operation and its progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct Operation {
    /// The id of the operation.
    #[schema(value_type = schema::OperationId)]
    pub id: OperationId,
    /// The customer that owns the operation; null if it belongs to the deployment.
    #[schema(value_type = Option<schema::CustomerId>, required = true)]
    pub customer_id: Option<CustomerId>,
    /// What the operation does.
    #[schema(value_type = schema::OperationKind)]
    pub kind: String,
    /// The state of the operation.
    #[schema(value_type = schema::OperationState)]
    pub state: OperationState,
    /// What the operation is about. `delete_customer` has the `customer_id` and the `name` of the customer; `reseal`
    /// has nothing.
    #[schema(value_type = Object)]
    pub parameters: Value,
    /// How many rows or values the operation has processed: with `delete_customer` the rows of history that it has
    /// deleted, with `reseal` the encrypted values that it has looked at.
    pub processed: i64,
    /// How many of them it could not process: with `reseal` the values that no key decrypts.
    pub failed: i64,
    /// How many there are in total; null if that is not known.
    #[schema(required = true)]
    pub total: Option<i64>,
    /// While the operation runs: why its last chunk failed; the relay retries it. If the operation has failed: why.
    /// Otherwise null.
    #[schema(required = true)]
    pub error: Option<String>,
    /// When the operation was created.
    pub created_at: Timestamp,
    /// When the operation last made progress or failed to.
    pub updated_at: Timestamp,
    /// When the operation ended; null while it runs.
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
}

/// The kinds of operations that have a call of their own are not created here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = NewOperationKind)]
pub enum NewKind {
    /// Encrypts every stored secret with the first key in `TIDEGATE_MASTER_KEY`.
    Reseal,
}

/// An operation to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperation {
    /// What the operation does.
    pub kind: NewKind,
}

/// Creates an operation of the deployment.
///
/// # Errors
/// Returns an error if the actor is bound to a customer, or if a query fails.
pub async fn create(control: &Control, actor: &Actor, new: NewOperation) -> Result<Saved<Operation>, Error> {
    actor.require(Scope::Admin)?;
    actor.require_unbound()?;
    let id = OperationId::from_uuid(mint::uuid());
    let row = match new.kind {
        NewKind::Reseal => {
            let entry = record::entry(actor, Action::OperationCreate, Object::of_deployment(id));
            let entry = entry.with(None, Some(json!({ "kind": OperationKind::Reseal })), []);
            let record = |row: &OperationRow| {
                actor.answers(control, Outcome::Later, &view(row.clone()));
                entry
            };
            store::sealed::create(&control.pool, id, record).await?
        }
    };
    control.wakers.operations.notify_one();
    Ok(Saved::new(view(row), true, Activity::Later))
}

/// A page of operations, newest first: those of the customer that the actor is bound to, or else all, also those of the
/// deployment.
///
/// # Errors
/// Returns an error if the limit or the cursor is invalid, or if a query fails.
pub async fn list(control: &Control, actor: &Actor, page: &PageRequest) -> Result<Page<Operation>, Error> {
    actor.require(Scope::Read)?;
    let window = page.window()?;
    let rows = operations::page(&control.pool, seen_by(actor), window.cursor, window.fetch()).await?;
    Ok(window.page(rows, |row| row.id.uuid(), view))
}

/// One of those operations.
///
/// # Errors
/// Returns an error if the operation does not exist, or if a query fails.
pub async fn show(control: &Control, actor: &Actor, id: &str) -> Result<Operation, Error> {
    actor.require(Scope::Read)?;
    let id = id.parse().map_err(|_| Error::NotFound(Noun::Operation))?;
    operations::find(&control.pool, seen_by(actor), id).await?.map(view).ok_or(Error::NotFound(Noun::Operation))
}

/// The customer whose operations the actor sees; `None` if it sees all.
fn seen_by(actor: &Actor) -> Option<CustomerId> {
    actor.bound_to().map(|owner| owner.id)
}

pub(super) fn view(row: OperationRow) -> Operation {
    Operation {
        id: row.id,
        customer_id: row.customer_id,
        kind: row.kind,
        state: row.state,
        parameters: row.parameters,
        processed: row.processed,
        failed: row.failed,
        total: row.total,
        error: row.error,
        created_at: Timestamp(row.created_at),
        updated_at: Timestamp(row.updated_at),
        finished_at: row.finished_at.map(Timestamp),
    }
}
