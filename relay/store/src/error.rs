//! Why a database operation failed.
//!
//! The text of an error is the text of its cause. How to react to it depends only on its [`Kind`].

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgDatabaseError;
use time::Date;

use crate::partitions::day_of_key;

/// The result of a function of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a database operation failed.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    is_answer: bool,
    cause: Box<dyn StdError + Send + Sync>,
}

/// The kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is no connection: none could be opened, none was free in time, or the one in use broke or stopped
    /// responding. Or the server is starting, is stopping or has no resources to spare. The operation may have been
    /// carried out.
    Unavailable,
    /// The operation exceeded its time limit.
    Timeout(Limit),
    /// Another transaction or a change of the server's state interrupted the operation, as in a deadlock or a failover.
    Interrupted,
    /// A statement did not get a lock within its lock timeout.
    Locked,
    /// The operation conflicts with stored rows.
    Conflict(Constraint),
    /// The database rejected a value.
    Data,
    /// The partition for a row is missing. Contains its day, if the database reports it. Nothing is wrong with the row.
    MissingPartition(Option<Date>),
    /// A row that the store relies on is missing, or other transactions keep changing it.
    Changed,
    /// A defect: in a statement, in the tables, or in the stored data.
    Other,
}

/// Whose time limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The relay stopped waiting. The operation may have been carried out.
    Relay,
    /// The server ended the statement.
    Server,
}

/// A constraint that an operation can violate although the operation itself is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// The customer already has a source of this name.
    SourceName,
    /// The customer already has a destination of this name.
    DestinationName,
    /// A route between this source and this destination already exists.
    Route,
    /// The customer already has a route of this name.
    RouteName,
    /// Another customer already has this name.
    CustomerName,
    /// The customer already has as many sources as it may have.
    SourceLimit,
    /// All sessions that a subject may have were made within the last minutes.
    SessionLimit,
    /// The customer already has as many destinations as it may have.
    DestinationLimit,
    /// The customer has been deleted.
    CustomerGone,
    /// A row that is referred to has been deleted.
    Reference,
}

impl Error {
    /// An error of this kind and with this text.
    #[must_use]
    pub fn new(kind: Kind, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, is_answer: false, cause: cause.into() }
    }

    /// The relay waited for `limit` and gave up.
    #[must_use]
    pub fn took_longer_than(limit: Duration) -> Self {
        Self::new(Kind::Timeout(Limit::Relay), format!("the database took longer than {} s", limit.as_secs()))
    }

    /// A row that the store relies on is missing, or other transactions keep changing it.
    pub(crate) fn changed(what: &'static str) -> Self {
        Self::new(Kind::Changed, what)
    }

    /// The kind of failure.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the server returned this error: it is reachable, and the statement is at fault or took too long.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        self.is_answer
    }

    /// Whether the database rejected a value, so that a retry with the same value would fail the same way.
    #[must_use]
    pub const fn is_data_error(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Conflict(_))
    }

    /// Whether the failure is transient, whatever the statement was: the database is unreachable, has no resources to
    /// spare, or another transaction interfered. A statement that the server ended because of its time limit is not
    /// included.
    #[must_use]
    pub const fn passes_by_itself(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Interrupted | Kind::Timeout(Limit::Relay))
    }

    /// Whether a statement gave way to other users of the same table.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        matches!(self.kind, Kind::Locked | Kind::Timeout(Limit::Server))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(formatter)
    }
}

impl StdError for Error {
    // The text of this error is already that of the cause.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let is_answer = error.as_database_error().is_some();
        Self { kind: kind_of(&error), is_answer, cause: error.into() }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};
        let (kind, is_answer) = if let Execute(failed) | ExecuteMigration(failed, _) = &error {
            (kind_of(failed), failed.as_database_error().is_some())
        } else {
            (Kind::Other, false)
        };
        Self { kind, is_answer, cause: error.into() }
    }
}

fn kind_of(error: &sqlx::Error) -> Kind {
    use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, RowNotFound, Tls, WorkerCrashed};
    if let Some(reported) = error.as_database_error() {
        let detail = reported.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::detail);
        return kind_of_server_error(reported.code().as_deref().unwrap_or_default(), reported.constraint(), detail);
    }
    if matches!(error, Io(_) | Tls(_) | PoolTimedOut | PoolClosed | WorkerCrashed) {
        Kind::Unavailable
    } else if matches!(error, Protocol(_)) {
        Kind::Interrupted
    } else if matches!(error, RowNotFound) {
        Kind::Changed
    } else {
        Kind::Other
    }
}

/// The kind of an error that the server returned, by its code (PostgreSQL, appendix A), its constraint and its detail.
fn kind_of_server_error(code: &str, constraint: Option<&str>, detail: Option<&str>) -> Kind {
    match (code, constraint) {
        ("57014", _) => return Kind::Timeout(Limit::Server),
        ("55P03", _) => return Kind::Locked,
        ("23503", _) => return Kind::Conflict(Constraint::Reference),
        // PostgreSQL reports a missing partition as a check violation without a constraint name.
        ("23514", None) => return Kind::MissingPartition(detail.and_then(day_of_key)),
        (_, Some("source_name_is_unique_for_its_customer")) => return Kind::Conflict(Constraint::SourceName),
        (_, Some("destination_name_is_unique_for_its_customer")) => return Kind::Conflict(Constraint::DestinationName),
        (_, Some("one_route_joins_a_source_and_a_destination")) => return Kind::Conflict(Constraint::Route),
        (_, Some("route_name_is_unique_for_its_customer")) => return Kind::Conflict(Constraint::RouteName),
        (_, Some("customers_name_key")) => return Kind::Conflict(Constraint::CustomerName),
        (_, Some(_) | None) => {}
    }
    match code.get(..2) {
        // Connection exception, insufficient resources, operator intervention.
        Some("08" | "53" | "57") => Kind::Unavailable,
        // Invalid transaction state (such as a server that became a standby), transaction rollback (such as a
        // deadlock).
        Some("25" | "40") => Kind::Interrupted,
        // Data exception, integrity constraint violation, program limit exceeded (such as a row that is too large for
        // its index).
        Some("22" | "23" | "54") => Kind::Data,
        Some(_) | None => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_server_error_is_classified_by_its_code_constraint_and_detail() {
        const DAY: &str = "Partition key of the failing row contains (day) = (2026-01-09).";
        let missing = Kind::MissingPartition(Some(date!(2026 - 01 - 09)));
        // Code, constraint, detail; kind, whether it is a data error, whether it is transient.
        for (code, constraint, detail, kind, is_data, passes) in [
            ("08006", None, None, Kind::Unavailable, false, true),
            ("53100", None, None, Kind::Unavailable, false, true),
            ("53300", None, None, Kind::Unavailable, false, true),
            ("57P01", None, None, Kind::Unavailable, false, true),
            ("57P03", None, None, Kind::Unavailable, false, true),
            ("57014", None, None, Kind::Timeout(Limit::Server), false, false),
            ("25006", None, None, Kind::Interrupted, false, true),
            ("25P03", None, None, Kind::Interrupted, false, true),
            ("40001", None, None, Kind::Interrupted, false, true),
            ("40P01", None, None, Kind::Interrupted, false, true),
            ("55P03", None, None, Kind::Locked, false, false),
            ("22021", None, None, Kind::Data, true, false),
            ("22P05", None, None, Kind::Data, true, false),
            ("54000", None, None, Kind::Data, true, false),
            ("23502", None, None, Kind::Data, true, false),
            ("23505", Some("events_pkey"), None, Kind::Data, true, false),
            ("23514", Some("a_rate_has_a_period"), None, Kind::Data, true, false),
            ("23514", None, Some(DAY), missing, false, false),
            ("23514", None, None, Kind::MissingPartition(None), false, false),
            ("23503", Some("routes_source_id_fkey"), None, Kind::Conflict(Constraint::Reference), true, false),
            (
                "23505",
                Some("source_name_is_unique_for_its_customer"),
                None,
                Kind::Conflict(Constraint::SourceName),
                true,
                false,
            ),
            (
                "23505",
                Some("destination_name_is_unique_for_its_customer"),
                None,
                Kind::Conflict(Constraint::DestinationName),
                true,
                false,
            ),
            (
                "23505",
                Some("one_route_joins_a_source_and_a_destination"),
                None,
                Kind::Conflict(Constraint::Route),
                true,
                false,
            ),
            ("23505", Some("customers_name_key"), None, Kind::Conflict(Constraint::CustomerName), true, false),
            ("42P01", None, None, Kind::Other, false, false),
            ("XX000", None, None, Kind::Other, false, false),
            ("", None, None, Kind::Other, false, false),
        ] {
            assert_eq!(kind_of_server_error(code, constraint, detail), kind, "{code} {constraint:?}");
            let error = Error::new(kind, code);
            assert_eq!((error.is_data_error(), error.passes_by_itself()), (is_data, passes), "{code} {constraint:?}");
            assert_eq!(error.is_in_use(), ["57014", "55P03"].contains(&code), "{code}");
        }
    }

    #[test]
    fn an_error_that_the_server_did_not_return_is_classified_by_its_variant() {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        for (error, kind, passes) in [
            (sqlx::Error::Io(broken()), Kind::Unavailable, true),
            (sqlx::Error::Tls(broken().into()), Kind::Unavailable, true),
            (sqlx::Error::PoolTimedOut, Kind::Unavailable, true),
            (sqlx::Error::PoolClosed, Kind::Unavailable, true),
            (sqlx::Error::WorkerCrashed, Kind::Unavailable, true),
            (sqlx::Error::Protocol("odd".to_owned()), Kind::Interrupted, true),
            (sqlx::Error::RowNotFound, Kind::Changed, false),
            (sqlx::Error::ColumnNotFound("name".to_owned()), Kind::Other, false),
        ] {
            let text = error.to_string();
            let error = Error::from(error);
            assert_eq!((error.kind(), error.passes_by_itself(), error.is_answer()), (kind, passes, false), "{text}");
            assert_eq!(error.to_string(), text, "the text is that of the cause");
        }
        assert!(Error::took_longer_than(Duration::from_secs(10)).passes_by_itself());
    }
}
