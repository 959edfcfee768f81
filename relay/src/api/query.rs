//! What the queries of several lists have in common.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::control::page::PageRequest;

/// Which page of a list that has no filters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl From<PageQuery> for PageRequest {
    fn from(PageQuery { limit, cursor }: PageQuery) -> Self {
        Self { limit, cursor }
    }
}
