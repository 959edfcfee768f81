//! Which event ends a wait.

use expression::Filter;

use crate::control::Error;
use crate::control::fields::{FieldError, Problems};

const ANY: &str = "any";
const TERMINAL: &str = "terminal";

/// Which event of a job ends a wait.
#[derive(Debug, Clone)]
pub(super) enum Until {
    /// Every event.
    Any,
    /// An event that ends the job.
    Terminal,
    /// An event for which the expression is true.
    Matches(Filter),
}

impl PartialEq for Until {
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Any, Self::Any) | (Self::Terminal, Self::Terminal))
    }
}

impl Until {
    /// Whether a text is one of the two words and no expression.
    pub(super) fn is_plain(text: &str) -> bool {
        matches!(text, ANY | TERMINAL)
    }

    /// Reads what a caller has given. What is wrong with an expression is noted.
    ///
    /// # Errors
    /// Returns an error if the expression cannot be compiled because of a fault of the relay.
    pub(super) async fn read(text: Option<String>, problems: &mut Problems) -> Result<Self, Error> {
        let text = match text {
            None => return Ok(Self::Terminal),
            Some(text) if text == ANY => return Ok(Self::Any),
            Some(text) if text == TERMINAL => return Ok(Self::Terminal),
            Some(text) => text,
        };
        let compile = move || Filter::check(&text).and_then(|()| Filter::compile(&text));
        match tokio::task::spawn_blocking(compile).await {
            Ok(Ok(filter)) => Ok(Self::Matches(filter)),
            Ok(Err(error)) => {
                let text = format!("is neither any nor terminal, and as an expression: {error}");
                problems.push(FieldError::with_code("until", error.code(), text));
                Ok(Self::Any)
            }
            Err(error) => Err(Error::Internal(error.to_string())),
        }
    }

    /// Whether an expression reads the body.
    pub(super) fn reads_body(&self) -> bool {
        match self {
            Self::Any | Self::Terminal => false,
            Self::Matches(filter) => filter.uses_body(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fields::wrong_fields;

    async fn read(text: Option<&str>) -> Result<Until, Error> {
        let mut problems = Problems::default();
        let until = Until::read(text.map(str::to_owned), &mut problems).await?;
        problems.finish().map(|()| until)
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_job_unless_the_caller_says_otherwise() {
        assert_eq!(read(None).await.expect("reads"), Until::Terminal);
        assert_eq!(read(Some("terminal")).await.expect("reads"), Until::Terminal);
        assert_eq!(read(Some("any")).await.expect("reads"), Until::Any);
        let body = read(Some("body.progress > 50")).await.expect("reads");
        let head = read(Some("event.type == 'a'")).await.expect("reads");
        assert!(matches!(body, Until::Matches(_)) && body.reads_body() && !head.reads_body());
    }

    #[tokio::test]
    async fn an_expression_that_does_not_compile_is_refused_with_its_code() {
        for (text, code) in
            [("", "expression_empty"), ("event.colour", "expression_unknown_field"), ("a ==", "expression_syntax")]
        {
            let wrong = wrong_fields(read(Some(text)).await);
            assert_eq!((wrong[0].field.as_str(), wrong[0].code), ("until", Some(code)), "{text}");
        }
    }
}
