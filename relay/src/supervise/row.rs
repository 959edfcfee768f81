//! The work of one row: one event, delivery, destination, source, replay, message or row of the configuration.
//!
//! A panic caused by the data of a row recurs each time the relay works on that row. If it ended the task, it would end
//! the relay after each restart, and nothing would be delivered. So it is a failure of that row only: it is logged with
//! the id of the row, the row backs off as after its other failures, and the other rows are processed as usual.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt as _;

use super::panic_text;

/// The work of a row panicked; contains the text of the panic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the relay panicked: {0}")]
pub struct RowPanic(String);

/// Runs the work of one row; returns an error if it panics. It is made of combinators, because each async block around
/// the work would hold a copy of it. The work is not polled again after a panic, so nothing observes a half-finished
/// state.
pub fn row<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, RowPanic>> {
    AssertUnwindSafe(work).catch_unwind().map(|ended| ended.map_err(|panic| RowPanic(panic_text(&*panic))))
}

/// Like [`row`], for work that does not await anything.
///
/// # Errors
/// Returns an error if the work panics.
pub fn row_now<T>(work: impl FnOnce() -> T) -> Result<T, RowPanic> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| RowPanic(panic_text(&*panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_the_work_of_a_row_becomes_an_error_with_its_text() {
        let work = async {
            tokio::task::yield_now().await;
            panic!("row {}", 7)
        };
        let ended: Result<(), RowPanic> = row(work).await;
        assert_eq!(ended.expect_err("it panicked").to_string(), "the relay panicked: row 7");
        let ended: Result<(), RowPanic> = row_now(|| panic!("at once"));
        assert_eq!(ended.expect_err("it panicked").to_string(), "the relay panicked: at once");
    }

    #[tokio::test]
    async fn the_result_of_work_that_does_not_panic_is_returned() {
        assert_eq!(row(async { 7 }).await, Ok(7));
        assert_eq!(row_now(|| 7), Ok(7));
    }

    #[test]
    fn the_guard_does_not_copy_the_work() {
        let large = [0_u8; 4_096];
        let work = async move {
            tokio::task::yield_now().await;
            large.len()
        };
        let alone = size_of_val(&work);
        assert!(size_of_val(&row(work)) < alone + 64);
    }
}
