//! The audit log, as callers read it. [`super::record`] makes its entries.

use serde::Serialize;
use serde_json::Value;
use shared::id::{AuditEntryId, CustomerId};
use store::audit::{self, EntryRow, Selection};
use utoipa::ToSchema;

use super::fields::Problems;
use super::name;
use super::page::{Page, PageRequest, Window, id_range};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, customers, schema};

pub use model::audit::Action;

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// The id of the entry.
    #[schema(value_type = schema::AuditEntryId)]
    pub id: AuditEntryId,
    /// When it was done.
    pub at: Timestamp,
    /// Who did it.
    pub actor: AuditActor,
    /// The `x-request-id` of the request; null if the relay did it by itself.
    #[schema(required = true)]
    pub request_id: Option<String>,
    /// What was done, such as `destination.update`. Later versions add actions.
    #[schema(example = "destination.update")]
    pub action: String,
    /// The id of the object; null if the action has no single object.
    #[schema(required = true)]
    pub object_id: Option<String>,
    /// The name of the object at that time; null if it has none.
    #[schema(required = true)]
    pub object_name: Option<String>,
    /// The id of the customer that owns the object, or that is the object; null if the object belongs to the
    /// deployment.
    #[schema(value_type = Option<schema::CustomerId>, required = true)]
    pub customer_id: Option<CustomerId>,
    /// The settings of the object before, without secrets; null if there were none.
    #[schema(value_type = Option<schema::AuditSettings>, required = true)]
    pub before: Option<Value>,
    /// The settings of the object after, without secrets; null if there are none. `secrets_changed` lists the secrets
    /// that have another value than before.
    #[schema(value_type = Option<schema::AuditSettings>, required = true)]
    pub after: Option<Value>,
}

/// Who did what an entry of the audit log records.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditActor {
    /// `root`: the bearer of a root token. `token`: the bearer of another token. `session`: a browser after a sign-in.
    /// `relay`: the relay itself. Later versions add kinds.
    #[schema(example = "token")]
    pub kind: String,
    /// The id of the token; for a session the id of its token, `root`, or the issuer and the subject of its user; null
    /// for a root token and for the relay.
    #[schema(required = true)]
    pub id: Option<String>,
    /// The name of the actor at that time.
    pub name: String,
    /// The id of the session with which the actor authenticated; null if it had none.
    #[schema(value_type = Option<schema::SessionId>, required = true)]
    pub session_id: Option<String>,
}

/// Selects entries of the audit log.
#[derive(Debug, Default)]
pub struct AuditFilter {
    /// The id or name of a customer.
    pub customer: Option<String>,
    /// The id of a token, or `root` or `relay`.
    pub actor: Option<String>,
    pub action: Option<Action>,
    /// The id of an object.
    pub object: Option<String>,
    pub request_id: Option<String>,
    /// At or after this time (RFC 3339).
    pub after: Option<String>,
    /// Before this time (RFC 3339).
    pub before: Option<String>,
}

/// The most characters of the id of an actor: the issuer and the subject of a user may be long.
const MAX_ACTOR: usize = 1_000;

/// The most characters of the id of a request.
const MAX_REQUEST_ID: usize = 100;

/// A page of the audit log, newest first.
///
/// # Errors Returns an error if the actor is bound to a customer, if the filter, the limit or the cursor is invalid, or
/// if a query fails.
pub async fn list(
    control: &Control,
    actor: &Actor,
    filter: AuditFilter,
    page: &PageRequest,
) -> Result<Page<AuditEntry>, Error> {
    actor.require(Scope::Read)?;
    actor.require_unbound()?;
    let mut problems = Problems::default();
    let window = Window::read(page, &mut problems);
    let range = id_range(filter.after.as_deref(), filter.before.as_deref(), window, &mut problems);
    let customer = match filter.customer.as_deref() {
        None => None,
        // An id is not looked up, because entries outlive their customer.
        Some(text) => match name::id_or_name(text) {
            (Some(id), _) => Some(id),
            (None, _) => problems.named("customer", text, customers::find(control, text).await.map(|row| row.id))?,
        },
    };
    for (field, text, most) in [("actor", &filter.actor, MAX_ACTOR), ("request_id", &filter.request_id, MAX_REQUEST_ID)]
    {
        if text.as_ref().is_some_and(|text| text.chars().count() > most) {
            problems.add(field, format!("must be at most {most} characters long"));
        }
    }
    if filter.object.as_deref().is_some_and(|text| shared::id::parts(text).is_none()) {
        problems.add("object", "must be the id of an object, such as that of a destination");
    }
    problems.finish()?;
    let AuditFilter { actor, action, object, request_id, .. } = filter;
    let selection = Selection { customer, actor, action, object_id: object, request_id };
    let mut search = audit::Page { selection, limit: window.fetch(), found: Vec::new() };
    let ended = window.search(&control.pool, &mut search, range).await?;
    Ok(window.found(ended, search.found, |row| row.id.uuid(), view))
}

fn view(row: EntryRow) -> AuditEntry {
    AuditEntry {
        id: row.id,
        at: Timestamp(row.at),
        actor: AuditActor { kind: row.actor_kind, id: row.actor_id, name: row.actor_name, session_id: row.session_id },
        request_id: row.request_id,
        action: row.action,
        object_id: row.object_id,
        object_name: row.object_name,
        customer_id: row.customer_id,
        before: row.before,
        after: row.after,
    }
}
