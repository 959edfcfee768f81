//! The names of enumerations in the tables. The API uses the names of those that it shows.

/// Gives the values of an enumeration names: the constant `ALL`, and the functions `name` and `from_name`.
#[macro_export]
macro_rules! names {
    ($type:ident { $($value:ident => $name:literal,)* }) => {
        impl $type {
            /// All values.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$value),*];

            /// Its name in the tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)*
                }
            }

            /// The value with this name in the tables; `None` if there is none.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$value),)*
                    _ => None,
                }
            }
        }
    };
}
#[cfg(test)]
mod tests {
    use crate::audit::Action;
    use crate::delivery::DeliveryState;
    use crate::destination::DestinationState;
    use crate::event::Verification;
    use crate::health::BreakerName;
    use crate::held_by::HeldBy;
    use crate::operation::{OperationKind, OperationState};
    use crate::poison::Poison;
    use crate::replay::ReplayState;
    use crate::scope::Scope;
    use crate::session::MadeOf;
    use crate::unreadable::Reason;

    #[test]
    fn every_value_is_read_from_its_name_which_the_api_uses_too_and_no_other_text_is_one() {
        macro_rules! check {
            ($($type:ident),*) => {$(
                for value in $type::ALL {
                    assert_eq!($type::from_name(value.name()), Some(value));
                    assert_eq!(
                        serde_json::to_value(value).expect("writes"),
                        value.name(),
                        "the API and the table use the same name"
                    );
                }
                for text in ["", "Active", "Failed", "of a later version"] {
                    assert_eq!($type::from_name(text), None, "{text}");
                }
            )*};
        }
        check!(Action, BreakerName, DeliveryState, DestinationState, HeldBy, MadeOf, OperationKind, OperationState);
        check!(Poison, Reason, ReplayState, Scope, Verification);
    }
}
