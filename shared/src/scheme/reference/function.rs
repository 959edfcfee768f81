//! The functions of the rule language, for signed content of single providers that no template can describe.

mod items;
pub(crate) mod sns;

use std::fmt;
use std::str::FromStr;

use super::Reference;
pub use items::Items;

/// A function of the request. Each variant gives its text form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// `first_item`: the first item of a body that is a list in JSON, as it is written there (Segment).
    FirstItem,
    /// `form_sorted_concat`: the parameters of a form body as Twilio signs them.
    FormSortedConcat,
    /// `hubspot_uri`: the URL with some of its percent-encoding undone, as `HubSpot` signs it.
    HubspotUri,
    /// `items(<list>[]:<field>+<field>…)`: fields of every item of a list, with a hash if there are several items.
    Items(Items),
    /// `signed_headers(<reference>)`: the values of the headers that a text names, joined with dots (Hook0).
    SignedHeaders(Box<Reference>),
    /// `sns_canonical`: the fields of a message of Amazon SNS as it signs them.
    SnsCanonical,
}

impl FromStr for Function {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "first_item" => Ok(Self::FirstItem),
            "form_sorted_concat" => Ok(Self::FormSortedConcat),
            "hubspot_uri" => Ok(Self::HubspotUri),
            "sns_canonical" => Ok(Self::SnsCanonical),
            other => {
                let (name, inner) = other.strip_suffix(')').and_then(|call| call.split_once('(')).ok_or(())?;
                match name {
                    "items" => inner.parse().map(Self::Items),
                    "signed_headers" => Ok(Self::SignedHeaders(Box::new(inner.parse().map_err(|_| ())?))),
                    _ => Err(()),
                }
            }
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstItem => f.write_str("first_item"),
            Self::FormSortedConcat => f.write_str("form_sorted_concat"),
            Self::HubspotUri => f.write_str("hubspot_uri"),
            Self::Items(items) => write!(f, "items({items})"),
            Self::SignedHeaders(place) => write!(f, "signed_headers({place})"),
            Self::SnsCanonical => f.write_str("sns_canonical"),
        }
    }
}
