//! Query parameters that several lists share.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::control::page::PageRequest;
use crate::control::schema;

/// Query parameters of a list without filters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The maximum number of items on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<schema::PageCursor>)]
    cursor: Option<String>,
}

impl From<PageQuery> for PageRequest {
    fn from(PageQuery { limit, cursor }: PageQuery) -> Self {
        Self { limit, cursor }
    }
}
