//! Rejections: counts of requests that were not stored as events, by source and cause.

use serde::Serialize;
use shared::id::{RejectionId, SourceId};
use store::rejections::{self, RejectionRow};
use utoipa::ToSchema;

use super::fields::Problems;
use super::owners::Owners;
use super::page::{Page, PageRequest, Window, id_range};
use super::time::Timestamp;
use super::{Actor, Control, Error, Scope, schema, sources};

/// A count of requests to a source that were not stored as events, for the same cause.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rejection {
    /// The id of the rejection.
    #[schema(value_type = schema::RejectionId)]
    pub id: RejectionId,
    /// The name of the customer that owns the source. Only present in a list of all customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub customer: Option<String>,
    /// The source that the requests were sent to.
    #[schema(value_type = schema::SourceId)]
    pub source_id: SourceId,
    /// The source's name.
    pub source: String,
    /// A machine-readable code that does not change between versions, such as `signature_mismatch`.
    pub cause: String,
    /// What is wrong, in words. It is never sent to the provider.
    pub detail: String,
    /// The number of these requests.
    pub count: i64,
    /// When the first of these requests arrived.
    pub first_at: Timestamp,
    /// When the last of these requests arrived.
    pub last_at: Timestamp,
    /// The body size of one of the requests, in bytes, as an example.
    pub size: i64,
    /// The kind of IP address that one of the requests came from, as an example: `ipv4`, `ipv6` or `unknown`. The
    /// address itself is not stored.
    pub remote: String,
}

/// Selects rejections.
#[derive(Debug, Default)]
pub struct RejectionFilter {
    /// The id or name of a source.
    pub source: Option<String>,
    /// Stored at or after this time (RFC 3339).
    pub after: Option<String>,
    /// Stored before this time (RFC 3339).
    pub before: Option<String>,
}

/// A page of rejections, newest first.
///
/// # Errors
/// Returns an error if the filter, the limit or the cursor is invalid, or if a query fails.
pub async fn list(
    control: &Control,
    actor: &Actor,
    filter: &RejectionFilter,
    page: &PageRequest,
) -> Result<Page<Rejection>, Error> {
    actor.require(Scope::Read)?;
    let mut problems = Problems::default();
    let window = Window::read(page, &mut problems);
    let range = id_range(filter.after.as_deref(), filter.before.as_deref(), window, &mut problems);
    let source = sources::id_of(control, actor, "source", filter.source.as_deref(), &mut problems).await?;
    problems.finish()?;
    let mut search = rejections::Page::begin(&control.pool, actor.listed(), source, window.fetch()).await?;
    let ended = window.search(&control.pool, &mut search, range).await?;
    let owners = Owners::of_sources(control, actor, search.found.iter().map(|row| row.source_id)).await?;
    let view = |row: RejectionRow| Rejection { customer: owners.of(row.source_id), ..view(row) };
    Ok(window.found(ended, search.found, |row| row.id.uuid(), view))
}

fn view(row: RejectionRow) -> Rejection {
    Rejection {
        id: row.id,
        customer: None,
        source_id: row.source_id,
        source: row.source_name,
        cause: row.cause,
        detail: row.detail,
        count: row.count,
        first_at: Timestamp(row.first_at),
        last_at: Timestamp(row.last_at),
        size: row.size,
        remote: row.remote,
    }
}
