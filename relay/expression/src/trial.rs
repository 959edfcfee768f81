//! Tries the expressions of a route against one event, and measures what they cost.
//!
//! A trial has the limits of routing and runs on the same threads. Its evaluations take the turns of a source of their
//! own, so that trials delay each other and not the events of a source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::evaluator::{Evaluator, Turn};
use super::program::{Evaluated, Limits};
use super::{ExpressionError, Filter, Input, MAX_STEPS, OrderKey, Transform, Transformed, value};

/// The expressions of a route, compiled.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    pub filter: Option<Filter>,
    pub order_key: Option<OrderKey>,
    pub transform: Option<Transform>,
}

/// The result of one expression and what it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured<T> {
    pub result: Result<T, ExpressionError>,
    /// The steps that the evaluation took, at most [`MAX_STEPS`].
    pub steps: u64,
    /// The time that the evaluation took, without its wait for a thread.
    pub took: Duration,
}

/// The results of the expressions for one event. An expression that was not evaluated has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    pub filter: Option<Measured<bool>>,
    /// The value as JSON; `None` if it means no order.
    pub order_key: Option<Measured<Option<String>>>,
    pub transform: Option<Measured<Transformed>>,
}

impl Evaluator {
    /// Evaluates the filter, and the order key and the transform only if the filter matches.
    pub async fn try_out(&self, turn: Turn, trial: &Trial, input: &Arc<Input>) -> Tried {
        let filter = match trial.filter.clone() {
            Some(filter) => {
                let input = Arc::clone(input);
                let evaluated = self.decide(turn, move || measure(|| filter.evaluate(&input, MAX_STEPS)));
                Some(evaluated.await.unwrap_or_else(Measured::without))
            }
            None => None,
        };
        if filter.as_ref().is_some_and(|filter| filter.result != Ok(true)) {
            return Tried { filter, ..Tried::default() };
        }
        let order_key = match trial.order_key.clone() {
            Some(key) => {
                let input = Arc::clone(input);
                let evaluated = self.decide(turn, move || measure(|| key.show(&input)));
                Some(evaluated.await.unwrap_or_else(Measured::without))
            }
            None => None,
        };
        let transform = match trial.transform.clone() {
            Some(transform) => {
                let input = Arc::clone(input);
                let evaluated = self.transform(turn, move || measure(|| transform.evaluate(&input)));
                Some(evaluated.await.unwrap_or_else(Measured::without))
            }
            None => None,
        };
        Tried { filter, order_key, transform }
    }
}

impl<T> Measured<T> {
    /// An evaluation that did not run.
    fn without(error: ExpressionError) -> Self {
        Self { result: Err(error), steps: 0, took: Duration::ZERO }
    }
}

impl OrderKey {
    fn show(&self, input: &Input) -> Evaluated<Option<String>> {
        self.program().evaluate(input, Limits::default(), value::key_text)
    }
}

fn measure<T>(evaluate: impl FnOnce() -> Evaluated<T>) -> Measured<T> {
    let began = Instant::now();
    let Evaluated { result, steps } = evaluate();
    Measured { result, steps, took: began.elapsed() }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use shared::header::HeaderList;
    use shared::id::SourceId;

    use super::*;
    use crate::EventFields;

    async fn tried(filter: &str, order_key: &str, transform: &str, body: &str) -> Tried {
        let evaluator = Evaluator::start(NonZeroUsize::MIN, 10).expect("threads");
        let trial = Trial {
            filter: Some(Filter::compile(filter).expect("a filter")),
            order_key: Some(OrderKey::compile(order_key).expect("an order key")),
            transform: Some(Transform::compile(transform).expect("a transform")),
        };
        let headers = HeaderList::new(Vec::<(&str, &str)>::new());
        let input = Arc::new(Input::new(EventFields::default(), headers, body.as_bytes().to_vec()));
        let turn = Turn::within(SourceId::mint(1, [1; 10]), Duration::from_secs(10));
        evaluator.try_out(turn, &trial, &input).await
    }

    #[tokio::test]
    async fn a_trial_returns_the_result_and_the_steps_of_each_expression() {
        let Tried { filter, order_key, transform } =
            tried("body.n == 1", "body.customer", "{'id': body.n}", r#"{"n":1,"customer":["a",1]}"#).await;
        let (filter, order_key) = (filter.expect("a filter"), order_key.expect("an order key"));
        assert_eq!(filter.result, Ok(true));
        assert!(filter.steps > 0 && order_key.steps > 0);
        assert_eq!(order_key.result, Ok(Some(r#"["a",1]"#.to_owned())));
        let transformed = transform.expect("a transform").result.expect("a body");
        assert_eq!((transformed.body.as_slice(), transformed.content_type), (&br#"{"id":1}"#[..], "application/json"));
    }

    #[tokio::test]
    async fn what_follows_a_filter_that_does_not_match_is_not_evaluated() {
        let refused = tried("body.n == 2", "body.customer", "body.n", r#"{"n":1}"#).await;
        assert_eq!(refused.filter.map(|filter| filter.result), Some(Ok(false)));
        assert_eq!((refused.order_key, refused.transform), (None, None));
        let failed = tried("body.missing == 2", "body.customer", "body.n", r#"{"n":1}"#).await;
        let error = failed.filter.expect("a filter").result.expect_err("the field is missing");
        assert_eq!(error.code(), "expression_missing_field");
        assert_eq!((failed.order_key, failed.transform), (None, None));
    }

    #[tokio::test]
    async fn an_order_key_without_a_value_means_no_order_and_an_error_leaves_the_rest() {
        let none = tried("true", "body.?customer.orValue('')", "body.missing", r#"{"n":1}"#).await;
        assert_eq!(none.order_key.map(|key| key.result), Some(Ok(None)));
        let error = none.transform.expect("a transform").result.expect_err("the field is missing");
        assert_eq!(error.code(), "expression_missing_field");
    }
}
