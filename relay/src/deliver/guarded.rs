//! Guarantees an outcome for every attempt: a panic or the end of the lease neither leaks a slot nor ends the relay.

use std::future::Future;

use engine::outcome::Outcome;
use futures_util::FutureExt as _;
use futures_util::future::{AbortRegistration, Abortable, Aborted};
use shared::id::DeliveryId;

use super::send::Attempted;
use crate::supervise;

/// The reason given if an attempt was in flight when the lease of its replica ended.
const BROKEN_OFF: &str = "the attempt was aborted because this relay lost its lease; the delivery is sent again, and \
                          the destination may receive it twice";

/// Runs the attempt. If it panics or is aborted, it counts as not made. A panic after the start of the request is
/// caught within the attempt ([`super::answered`]): such an attempt was made.
pub(super) fn guarded(
    delivery: DeliveryId,
    attempt: impl Future<Output = Attempted>,
    registration: AbortRegistration,
) -> impl Future<Output = Attempted> {
    Abortable::new(supervise::row(attempt), registration).map(move |ended| match ended {
        Ok(Ok(attempted)) => attempted,
        Ok(Err(panic)) => {
            tracing::error!(%delivery, error = %panic, "the relay panicked before an attempt was sent; retrying");
            not_sent(panic.to_string())
        }
        Err(Aborted) => not_sent(BROKEN_OFF.to_owned()),
    })
}

fn not_sent(reason: String) -> Attempted {
    Outcome::NotSent { reason }.into()
}

#[cfg(test)]
mod tests {
    use futures_util::future::AbortHandle;

    use super::*;

    async fn reason(attempt: impl Future<Output = Attempted>, registration: AbortRegistration) -> String {
        let guarded = guarded(DeliveryId::mint(1, [1; 10]), attempt, registration);
        let Outcome::NotSent { reason } = guarded.await.outcome else { panic!("the attempt was made") };
        reason
    }

    #[tokio::test]
    async fn an_attempt_that_panics_counts_as_not_made_for_that_reason() {
        let (_abort, registration) = AbortHandle::new_pair();
        let attempt = async {
            tokio::task::yield_now().await;
            panic!("number {}", 7)
        };
        assert_eq!(reason(attempt, registration).await, "the relay panicked: number 7");
    }

    #[tokio::test]
    async fn an_attempt_that_is_aborted_counts_as_not_made() {
        let (abort, registration) = AbortHandle::new_pair();
        abort.abort();
        assert_eq!(reason(std::future::pending(), registration).await, BROKEN_OFF);
    }

    #[test]
    fn the_guard_does_not_copy_the_attempt() {
        let large = [0_u8; 4_096];
        let attempt = async move {
            tokio::task::yield_now().await;
            not_sent(large.len().to_string())
        };
        let alone = size_of_val(&attempt);
        let (_abort, registration) = AbortHandle::new_pair();
        assert!(size_of_val(&guarded(DeliveryId::mint(1, [1; 10]), attempt, registration)) < alone + 256);
    }
}
