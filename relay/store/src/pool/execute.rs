//! Runs sqlx queries within the time limit of their connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, Postgres, SqlStr};
use tokio::time::Instant;

use super::{Connection, Pool, silence};

/// A statement that is about to run on a connection.
pub(super) struct Statement<'c> {
    /// See `until` of [`Connection`].
    until: &'c mut Option<Instant>,
    limit: Duration,
}

impl<'c> Statement<'c> {
    pub(super) fn new(until: &'c mut Option<Instant>, limit: Duration) -> Self {
        Self { until, limit }
    }

    /// Runs the statement until it ends or its limit is reached.
    pub(super) async fn within<T>(self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let until = Instant::now() + self.limit;
        *self.until = Some(until);
        let result = tokio::time::timeout_at(until, work).await.unwrap_or_else(|_| Err(silence(self.limit)));
        // After these errors it is unknown which responses the server still owes.
        if !matches!(result, Err(Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed)) {
            *self.until = None;
        }
        result
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let slot = Slot::default();
        let work = fetch(self, query, slot.clone());
        Box::pin(Rows { work: Some(Box::pin(work)), slot })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let (connection, statement) = self.parts()?;
            statement.within(connection.fetch_optional(query)).await
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (connection, statement) = self.parts()?;
            statement.within(connection.prepare_with(sql, parameters)).await
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (connection, statement) = self.parts()?;
            statement.within(connection.describe(sql)).await
        })
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let slot = Slot::default();
        let work = {
            let slot = slot.clone();
            async move { fetch(&mut self.connection().await?, query, slot).await }
        };
        Box::pin(Rows { work: Some(Box::pin(work)), slot })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move { self.connection().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.connection().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.connection().await?.describe(sql).await })
    }
}

/// Runs a query and hands its results over through the slot, one by one.
async fn fetch<'q, E: 'q + Execute<'q, Postgres>>(
    connection: &mut Connection,
    query: E,
    slot: Slot,
) -> Result<(), Error> {
    let (connection, statement) = connection.parts()?;
    let mut response = connection.fetch_many(query);
    let pieces = async {
        while let Some(piece) = poll_fn(|context| response.as_mut().poll_next(context)).await {
            slot.hand_over(piece?).await;
        }
        Ok(())
    };
    statement.within(pieces).await
}

type Piece = Either<PgQueryResult, PgRow>;

/// Holds one piece of a response until it is taken.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<Piece>>>);

impl Slot {
    async fn hand_over(&self, piece: Piece) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(piece);
        // Pending once, so that the stream takes the piece; the next poll continues.
        let mut taken = false;
        poll_fn(|_| if std::mem::replace(&mut taken, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn take(&self) -> Option<Piece> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The response to a query, as a stream that owns everything it needs.
struct Rows<'e> {
    /// `None` after the response has ended.
    work: Option<BoxFuture<'e, Result<(), Error>>>,
    slot: Slot,
}

impl Stream for Rows<'_> {
    type Item = Result<Piece, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(work) = &mut self.work else { return Poll::Ready(None) };
        let ended = work.as_mut().poll(context);
        if let Some(piece) = self.slot.take() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match ended {
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => {
                self.work = None;
                Poll::Ready(ended.err().map(Err))
            }
        }
    }
}
