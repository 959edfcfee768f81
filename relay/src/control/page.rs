//! Keyset pagination: a cursor holds the id at which a page ended, so rows that are added in the meantime cause no row
//! to be skipped or repeated.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::unix_time;
use serde::Serialize;
use shared::id::{uuid_v7_floor, uuid_v7_ms};
use store::Pool;
use store::search::{self, Limits, Order, Outcome, Range, Search};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::Error;
use super::fields::Problems;
use super::time::{Timestamp, read_ms};

/// The size of a page if the caller sets no `limit`.
pub(crate) const DEFAULT_LIMIT: u32 = 50;

/// The maximum size of a page.
pub(crate) const MAX_LIMIT: u32 = 200;

/// How far one call scans history for the rows of a page.
pub(crate) const LIST: Limits =
    Limits { first: 1_000, largest: 50_000, total: 200_000, within: Duration::from_secs(5) };

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items of the page.
    pub data: Vec<T>,
    /// The value for `cursor` to get the next page; null on the last page. A page can have fewer items than `limit`, or
    /// none, although there is a next page; see `scanned_until`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// Set if the filters match so few items that the call stopped before the page was full: everything from now (or
    /// from `cursor`) back to this time has been scanned. `next_cursor` continues from there. Otherwise null.
    #[schema(required = true)]
    pub scanned_until: Option<Timestamp>,
}

/// Selects a page of a list.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// The maximum number of rows, 1 to 200. Default: 50.
    pub limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

impl PageRequest {
    /// Reads the limit and the cursor.
    ///
    /// # Errors
    /// Returns an error if the limit or the cursor is invalid.
    pub(super) fn window(&self) -> Result<Window, Error> {
        let mut problems = Problems::default();
        let window = Window::read(self, &mut problems);
        problems.finish().map(|()| window)
    }
}

/// The requested part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    limit: usize,
    pub(super) cursor: Option<Uuid>,
}

impl Window {
    /// Reads `limit` (1 to 200, default 50) and `cursor`. Problems are noted.
    pub(super) fn read(request: &PageRequest, problems: &mut Problems) -> Self {
        let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            problems.add("limit", format!("must be from 1 to {MAX_LIMIT}, but is {limit}"));
        }
        let decoded = request.cursor.as_deref().map(decode);
        if decoded == Some(None) {
            problems.add(
                "cursor",
                "is not a valid cursor; use the next_cursor of a previous page, or omit it to get the first page",
            );
        }
        Self { limit: limit.min(MAX_LIMIT) as usize, cursor: decoded.flatten() }
    }

    /// The number of rows to fetch. It is one more than the page holds, which shows whether another page follows.
    pub(super) fn fetch(self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::from(MAX_LIMIT)) + 1
    }

    /// The page of rows that were fetched with [`Window::fetch`] as the limit.
    pub(super) fn page<R, T>(self, mut rows: Vec<R>, id: impl Fn(&R) -> Uuid, view: impl FnMut(R) -> T) -> Page<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| cursor(id(row)));
        Page { data: rows.into_iter().map(view).collect(), next_cursor, scanned_until: None }
    }

    /// Searches `range` for the rows of a page, newest first.
    ///
    /// # Errors
    /// Returns an error if a statement fails.
    pub(super) async fn search<S: Search>(self, pool: &Pool, search: &mut S, range: Range) -> Result<Ended, Error> {
        let outcome = search::run(pool, search, Order::NewestFirst, range, LIST).await?;
        Ok(match outcome {
            Outcome::Full | Outcome::End => Ended { rest: None },
            Outcome::Stopped(rest) => Ended { rest: Some(rest.until) },
        })
    }

    /// The page of the rows that a search found which has stopped before the id `stopped`; `None` if it has not.
    pub(super) fn found_until<R, T>(
        self,
        stopped: Option<Uuid>,
        rows: Vec<R>,
        id: impl Fn(&R) -> Uuid,
        view: impl FnMut(R) -> T,
    ) -> Page<T> {
        self.found(Ended { rest: stopped }, rows, id, view)
    }

    /// The page of the rows that a search found.
    pub(super) fn found<R, T>(
        self,
        ended: Ended,
        rows: Vec<R>,
        id: impl Fn(&R) -> Uuid,
        view: impl FnMut(R) -> T,
    ) -> Page<T> {
        let last = rows.last().map(&id);
        let page = self.page(rows, id, view);
        match (ended.rest, &page.next_cursor) {
            (Some(rest), None) => Page {
                next_cursor: Some(cursor(hidden(rest, last))),
                scanned_until: Some(Timestamp(unix_time::timestamp(uuid_v7_ms(rest)))),
                ..page
            },
            (Some(_), Some(_)) | (None, _) => page,
        }
    }
}

/// Where the search for a page ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// The part of the range that was not scanned ends before this id. `None` if the whole range was scanned, or if the
    /// page is full.
    rest: Option<Uuid>,
}

/// The random bits of an id that follow its time and its first 12 random bits.
const RANDOM_BITS: u128 = (1 << 62) - 1;

/// The cursor of a search that stopped before `rest`, which may be the id of a row of another customer: a caller must
/// not learn it. So the cursor has other random bits. The range that it adds is searched again. It ends at the last row
/// that was found, which the next page must not repeat, and has almost never any other row.
fn hidden(rest: Uuid, last: Option<Uuid>) -> Uuid {
    let cursor = Uuid::from_u128(rest.as_u128() | RANDOM_BITS);
    last.map_or(cursor, |last| cursor.min(last))
}

/// The cursor that continues after `id`.
fn cursor(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// The id after which a cursor continues; `None` if the cursor is invalid.
fn decode(cursor: &str) -> Option<Uuid> {
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok())
}

/// The range of `UUIDv7` ids that were minted between `after` and `before` and that follow the cursor of the window in
/// a list that begins with the newest.
pub(super) fn id_range(after: Option<&str>, before: Option<&str>, window: Window, problems: &mut Problems) -> Range {
    let from = read_ms("after", after, problems).map(uuid_v7_floor);
    let until = read_ms("before", before, problems).map(uuid_v7_floor);
    let until = [until, window.cursor].into_iter().flatten().min();
    Range { from: from.unwrap_or(Range::ALL.from), until: until.unwrap_or(Range::ALL.until) }
}

#[cfg(test)]
mod tests {
    use super::super::fields::wrong_fields;
    use super::*;

    fn window(limit: Option<u32>, cursor: Option<&str>) -> Result<Window, String> {
        let request = PageRequest { limit, cursor: cursor.map(str::to_owned) };
        let window = request.window();
        window.map_err(|error| wrong_fields::<Window>(Err(error))[0].field.clone())
    }

    #[test]
    fn a_cursor_points_to_the_last_row_of_its_page() {
        let first = window(Some(2), None).expect("a window");
        assert_eq!(first.fetch(), 3);
        let ids: Vec<Uuid> = (0..3).map(Uuid::from_u128).collect();
        let page = first.page(ids.clone(), |id| *id, |id| id);
        assert_eq!(page.data, ids[..2]);
        let next = window(None, page.next_cursor.as_deref()).expect("a window");
        assert_eq!(next.cursor, Some(ids[1]));
    }

    #[test]
    fn the_page_of_a_stopped_search_continues_where_the_search_stopped() {
        let window = window(Some(2), None).expect("a window");
        let stopped = Ended { rest: Some(Uuid::from_u128((1_764_000_000_123 << 80) + 1)) };
        let page = window.found(stopped, Vec::<Uuid>::new(), |id| *id, |id| id);
        let next = page.next_cursor.as_deref().and_then(decode);
        assert_eq!(next, Some(Uuid::from_u128((1_764_000_000_123 << 80) + (1 << 62) - 1)));
        assert_eq!(page.scanned_until.map(|at| unix_time::unix_ms(at.0)), Some(1_764_000_000_123));
        let ids: Vec<Uuid> = (0..3).map(Uuid::from_u128).collect();
        let full = window.found(Ended { rest: None }, ids, |id| *id, |id| id);
        assert_eq!(
            (full.next_cursor.as_deref().and_then(decode), full.scanned_until),
            (Some(Uuid::from_u128(1)), None)
        );
    }

    #[test]
    fn the_cursor_of_a_stopped_search_is_not_the_id_of_a_row_of_another_customer_and_skips_and_repeats_nothing() {
        let id = |random: u128| Uuid::from_u128((1_764_000_000_123 << 80) + (7 << 76) + (2 << 62) + random);
        let (rest, newer) = (id(5), Uuid::from_u128((1_764_000_000_999 << 80) + 1));
        for (last, wanted) in
            [(None, id((1 << 62) - 1)), (Some(newer), id((1 << 62) - 1)), (Some(id(9)), id(9)), (Some(rest), rest)]
        {
            let next = hidden(rest, last);
            assert_eq!(next, wanted, "{last:?}");
            assert!(next >= rest, "no row before the rest is skipped");
            assert!(last.is_none_or(|last| next <= last), "no row is repeated");
        }
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let window = window(Some(2), None).expect("a window");
        let ids: Vec<Uuid> = (0..2).map(Uuid::from_u128).collect();
        assert_eq!(window.page(ids, |id| *id, |id| id).next_cursor, None);
        assert_eq!(window.page(Vec::<Uuid>::new(), |id| *id, |id| id).next_cursor, None);
    }

    #[test]
    fn limits_out_of_range_and_invalid_cursors_are_refused() {
        assert_eq!(window(Some(0), None), Err("limit".to_owned()));
        assert_eq!(window(Some(201), None), Err("limit".to_owned()));
        assert_eq!(window(Some(200), None).map(Window::fetch), Ok(201));
        for cursor in ["", "x", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", "not base64!"] {
            assert_eq!(window(None, Some(cursor)), Err("cursor".to_owned()), "{cursor}");
        }
    }

    #[test]
    fn the_upper_bound_is_the_earlier_of_before_and_cursor() {
        let mut problems = Problems::default();
        let window = |cursor: Option<uuid::Uuid>| {
            let request = PageRequest { limit: None, cursor: cursor.map(super::cursor) };
            Window::read(&request, &mut Problems::default())
        };
        let (older, newer) = (uuid_v7_floor(1_769_846_400_500 - 1), uuid_v7_floor(1_769_846_400_500 + 1));
        let until = |cursor, problems: &mut Problems| {
            id_range(None, Some("2026-01-31T08:00:00.5Z"), window(cursor), problems).until
        };
        assert_eq!(until(None, &mut problems), uuid_v7_floor(1_769_846_400_500));
        assert_eq!(until(Some(older), &mut problems), older);
        assert_eq!(until(Some(newer), &mut problems), uuid_v7_floor(1_769_846_400_500));
        assert_eq!(
            id_range(Some("2026-01-31T08:00:00.5Z"), None, window(Some(older)), &mut problems),
            Range { from: uuid_v7_floor(1_769_846_400_500), until: older }
        );
        assert_eq!(id_range(None, None, window(None), &mut problems), Range::ALL);
        assert!(problems.finish().is_ok());
    }
}
