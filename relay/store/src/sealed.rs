//! All columns that are sealed with the master key, page by page.

use shared::id::{DestinationId, SourceId};

use crate::column::As;
use crate::{Error, Pool, Result};

/// The sealed columns of a source.
#[derive(Debug)]
pub struct SealedSource {
    pub id: SourceId,
    pub secrets_sealed: String,
    pub retired_secrets_sealed: Option<String>,
}

/// The sealed columns of a destination.
#[derive(Debug)]
pub struct SealedDestination {
    pub id: DestinationId,
    pub signing_secrets_sealed: String,
    pub headers_sealed: Option<String>,
}

/// At most 1,000 sources of all customers after the id `after`, in the order of their ids.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn sources(pool: &Pool, after: Option<SourceId>) -> Result<Vec<SealedSource>> {
    sqlx::query_as!(
        SealedSource,
        r#"select id as "id!: As<SourceId>", secrets_sealed, retired_secrets_sealed from sources
           where $1::uuid is null or id > $1 order by id limit 1000"#,
        after.map(SourceId::uuid)
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}

/// At most 1,000 destinations of all customers after the id `after`, in the order of their ids.
///
/// # Errors
/// Returns an error if the query fails.
pub async fn destinations(pool: &Pool, after: Option<DestinationId>) -> Result<Vec<SealedDestination>> {
    sqlx::query_as!(
        SealedDestination,
        r#"select id as "id!: As<DestinationId>", signing_secrets_sealed, headers_sealed from destinations
           where $1::uuid is null or id > $1 order by id limit 1000"#,
        after.map(DestinationId::uuid)
    )
    .fetch_all(pool)
    .await
    .map_err(Error::from)
}
