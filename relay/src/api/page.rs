//! Pages by key: a cursor names the last row that was shown, so that no page is missed or repeated while rows come in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::problem::{ApiError, Problems};

/// The size of a page that is not asked for another one.
const DEFAULT_LIMIT: u32 = 50;

/// The largest page.
const MAX_LIMIT: u32 = 200;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// What to pass as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Which page of a list that has no filters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl PageQuery {
    /// The window that is asked for.
    ///
    /// # Errors
    /// Where the limit or the cursor is wrong.
    pub(crate) fn window(&self) -> Result<Window, ApiError> {
        let mut problems = Problems::default();
        let window = Window::read(self.limit, self.cursor.as_deref(), &mut problems);
        problems.finish().map(|()| window)
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    limit: usize,
    pub(crate) cursor: Option<Uuid>,
}

impl Window {
    /// Reads `limit` (1 to 200, else 50) and `cursor`.
    pub(crate) fn read(limit: Option<u32>, cursor: Option<&str>, problems: &mut Problems) -> Self {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            problems.add("limit", format!("is {limit}; give 1 to {MAX_LIMIT}"));
        }
        let decoded = cursor.map(decode);
        if decoded == Some(None) {
            problems.add("cursor", "is not a next_cursor of this api; leave it out to begin at the first page");
        }
        Self { limit: limit.min(MAX_LIMIT) as usize, cursor: decoded.flatten() }
    }

    /// How many rows to ask for: one more than the page holds shows whether another page follows.
    pub(crate) fn fetch(self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::from(MAX_LIMIT)) + 1
    }

    /// The page of rows that were asked for with [`Window::fetch`].
    pub(crate) fn page<R, T>(self, mut rows: Vec<R>, id: impl Fn(&R) -> Uuid, view: impl FnMut(R) -> T) -> Page<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| URL_SAFE_NO_PAD.encode(id(row)));
        Page { data: rows.into_iter().map(view).collect(), next_cursor }
    }
}

fn decode(cursor: &str) -> Option<Uuid> {
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(limit: Option<u32>, cursor: Option<&str>) -> Result<Window, String> {
        let query = PageQuery { limit, cursor: cursor.map(str::to_owned) };
        query.window().map_err(|error| error.problem().errors[0].field.clone())
    }

    #[test]
    fn a_cursor_leads_to_the_row_it_was_made_of() {
        let first = window(Some(2), None).expect("a window");
        assert_eq!(first.fetch(), 3);
        let ids: Vec<Uuid> = (0..3).map(Uuid::from_u128).collect();
        let page = first.page(ids.clone(), |id| *id, |id| id);
        assert_eq!(page.data, ids[..2]);
        let next = window(None, page.next_cursor.as_deref()).expect("a window");
        assert_eq!(next.cursor, Some(ids[1]));
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let window = window(Some(2), None).expect("a window");
        let ids: Vec<Uuid> = (0..2).map(Uuid::from_u128).collect();
        assert_eq!(window.page(ids, |id| *id, |id| id).next_cursor, None);
        assert_eq!(window.page(Vec::<Uuid>::new(), |id| *id, |id| id).next_cursor, None);
    }

    #[test]
    fn limits_out_of_range_and_foreign_cursors_are_refused() {
        assert_eq!(window(Some(0), None), Err("limit".to_owned()));
        assert_eq!(window(Some(201), None), Err("limit".to_owned()));
        assert_eq!(window(Some(200), None).map(Window::fetch), Ok(201));
        for cursor in ["", "x", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", "not base64!"] {
            assert_eq!(window(None, Some(cursor)), Err("cursor".to_owned()), "{cursor}");
        }
    }
}
