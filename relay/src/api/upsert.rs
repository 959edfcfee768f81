//! PUT by name, which several callers may do at the same time.

use super::problem::{ApiError, Conflict};

/// How often it is tried. Every time that it has to be tried again, somebody else's change has gone through.
const TRIES: usize = 20;

/// Makes or changes something by its name, again where somebody else has made, changed or deleted it in the meantime:
/// whoever is last wins, and nobody is refused for having come at the same time.
///
/// # Errors
/// Those of `put`; a conflict only where it is met every time.
pub(super) async fn upsert<T, Put>(mut put: impl FnMut() -> Put) -> Result<T, ApiError>
where
    Put: Future<Output = Result<T, ApiError>>,
{
    for _ in 1..TRIES {
        match put().await {
            Err(ApiError::Conflict(Conflict::NameTaken | Conflict::ChangedMeanwhile)) => {}
            answer => return answer,
        }
    }
    put().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_conflict_with_somebody_else_is_tried_again() {
        let mut answers = vec![
            Ok(()),
            Err(ApiError::Conflict(Conflict::ChangedMeanwhile)),
            Err(ApiError::Conflict(Conflict::NameTaken)),
        ];
        let put = upsert(|| std::future::ready(answers.pop().expect("tried too often"))).await;
        assert!(put.is_ok(), "{put:?}");
    }

    #[tokio::test]
    async fn other_refusals_and_endless_conflicts_are_answered() {
        let mut tries = 0;
        let refused = upsert(|| {
            tries += 1;
            std::future::ready(Err::<(), _>(ApiError::NotFound("source")))
        })
        .await;
        assert!(matches!(refused, Err(ApiError::NotFound(_))), "{refused:?}");
        assert_eq!(tries, 1);
        let refused = upsert(|| std::future::ready(Err::<(), _>(ApiError::Conflict(Conflict::NameTaken)))).await;
        assert!(matches!(refused, Err(ApiError::Conflict(Conflict::NameTaken))), "{refused:?}");
    }
}
