//! The callers of calls that last: streams of changes, and calls that wait for a job. Such a call ends when what its
//! caller authenticates with ends. One task checks all callers with at most three statements, however many calls they
//! have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::id::{CustomerId, SessionId, TokenId};
use store::Pool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the relay checks whether the callers of calls that last are still accepted.
pub const CHECKED_EVERY: Duration = Duration::from_secs(2);

/// With what the caller of a call authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    Root,
    Token(TokenId),
    Session(SessionId),
    /// With an await token for a job of this customer, which was made with this token; `None` for a root token.
    AwaitToken(CustomerId, Option<TokenId>),
}

/// The callers of the calls that last.
#[derive(Debug, Default)]
pub struct Callers {
    present: Mutex<HashMap<Caller, Present>>,
}

/// The calls of one caller.
#[derive(Debug, Default)]
struct Present {
    calls: usize,
    /// Ends them.
    end: CancellationToken,
}

/// A call that lasts.
#[derive(Debug)]
pub struct Call {
    callers: Arc<Callers>,
    caller: Caller,
    end: CancellationToken,
}

impl Callers {
    /// Begins a call that lasts. Its caller has been accepted.
    pub fn begin(self: &Arc<Self>, caller: Caller) -> Call {
        let mut present = self.present();
        let of = present.entry(caller).or_default();
        of.calls += 1;
        Call { callers: Arc::clone(self), caller, end: of.end.clone() }
    }

    fn present(&self) -> MutexGuard<'_, HashMap<Caller, Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the calls of the callers that are no longer accepted.
    async fn check(&self, pool: &Pool) -> store::Result<()> {
        let (mut tokens, mut sessions, mut await_tokens) = (Vec::new(), Vec::new(), Vec::new());
        for caller in self.present().keys() {
            match caller {
                Caller::Root => {}
                Caller::Token(id) => tokens.push(*id),
                Caller::Session(id) => sessions.push(*id),
                Caller::AwaitToken(customer, maker) => await_tokens.push((*customer, *maker)),
            }
        }
        if !tokens.is_empty() {
            self.end(store::tokens::ended(pool, &tokens).await?.into_iter().map(Caller::Token));
        }
        if !sessions.is_empty() {
            self.end(store::sessions::ended(pool, &sessions).await?.into_iter().map(Caller::Session));
        }
        if !await_tokens.is_empty() {
            let ended = store::jobs::ended(pool, &await_tokens).await?;
            self.end(ended.into_iter().map(|(customer, maker)| Caller::AwaitToken(customer, maker)));
        }
        Ok(())
    }

    fn end(&self, ended: impl Iterator<Item = Caller>) {
        let present = self.present();
        for of in ended.filter_map(|caller| present.get(&caller)) {
            of.end.cancel();
        }
    }
}

impl Call {
    /// Waits until the caller is no longer accepted.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut present = self.callers.present();
        if let Some(of) = present.get_mut(&self.caller) {
            of.calls -= 1;
            if of.calls == 0 {
                present.remove(&self.caller);
            }
        }
    }
}

/// Checks until `stop` whether the callers of calls that last are still accepted. While the database is away, the calls
/// go on: it would accept no other caller either, and there is nothing to send.
pub async fn run(pool: Pool, callers: Arc<Callers>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = sleep(CHECKED_EVERY) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = callers.check(&pool).await {
            tracing::warn!(%error, "could not check the callers of streams and of waiting calls; retrying");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_calls_of_a_caller_end_together_and_leave_nothing_behind() {
        let callers = Arc::new(Callers::default());
        let token = |number| Caller::Token(TokenId::mint(1, [number; 10]));
        let (first, second, other) = (callers.begin(token(1)), callers.begin(token(1)), callers.begin(token(2)));
        callers.end([token(1), token(3)].into_iter());
        let has_ended = |call: &Call| call.ended().now_or_never().is_some();
        assert!(has_ended(&first) && has_ended(&second) && !has_ended(&other));
        // A request that was accepted just before.
        assert!(has_ended(&callers.begin(token(1))));
        drop((first, second, other));
        assert!(callers.present().is_empty());
    }
}
