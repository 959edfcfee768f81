//! Evaluating the functions of the rule language.

mod first_item;
mod form;
mod headers;
mod hubspot;
mod items;
mod sns;

use super::View;
use crate::reader;
use crate::scheme::reference::Reference;
use crate::scheme::reference::function::Function;
use crate::verify::rejection::Rejection;

impl Function {
    /// The function's value. `names` reads the reference in it, because only `mac` can read fields of the signature
    /// header.
    pub(crate) fn evaluate(
        &self,
        view: &View<'_>,
        names: impl FnOnce(&Reference) -> Result<String, Rejection>,
    ) -> Result<String, Rejection> {
        let missing = || Rejection::FieldMissing { reference: Reference::Function(self.clone()) };
        match self {
            Self::FirstItem => {
                // A body that is not JSON could be read as a form with another first item: no signature covers the
                // headers.
                let is_json = |_: &&str| reader::is_json(view.body());
                first_item::of(view.body()).filter(is_json).map(str::to_owned).ok_or_else(missing)
            }
            Self::FormSortedConcat => form::sorted_concat(&view.url(), view.body()).ok_or_else(missing),
            Self::HubspotUri => Ok(hubspot::uri(&view.url())),
            // It is used only in ids of events, which the edge does not read: see `extract`.
            Self::Items(_) => Err(missing()),
            Self::SignedHeaders(place) => headers::values(view, &names(place)?),
            Self::SnsCanonical => view.document().and_then(sns::canonical).ok_or_else(missing),
        }
    }
}
