//! The state of a replay.

use serde::Serialize;

/// The state of a replay. `running`: it is creating deliveries. `completed`: it has created all of its deliveries.
/// `cancelled`: it was cancelled, or its destination was deleted. `failed`: Tidegate stopped it; see `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It is creating deliveries.
    Running,
    /// It has created all of its deliveries.
    Completed,
    /// It was cancelled, or its destination was deleted.
    Cancelled,
    /// Tidegate stopped it.
    Failed,
}

impl ReplayState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Running, Self::Completed, Self::Cancelled, Self::Failed];

    /// Its name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// The state with this name in the table; `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_from_its_name_and_no_other_text_is_one() {
        for value in ReplayState::ALL {
            assert_eq!(ReplayState::from_name(value.name()), Some(value));
            assert_eq!(serde_json::to_value(value).expect("writes"), value.name(), "the API and the table agree");
        }
        for text in ["", "Failed", "of a later version"] {
            assert_eq!(ReplayState::from_name(text), None, "{text}");
        }
    }
}
