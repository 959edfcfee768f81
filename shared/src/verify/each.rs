//! Verifying every item of a list in the body, for providers that sign their items one by one.

use super::Verified;
use super::rejection::Rejection;
use super::request::View;
use crate::reader::Json;
use crate::scheme::each::Each;
use crate::scheme::reference::Reference;

/// Verifies the whole request or, with `each`, every one of its items. A missing or empty list is refused: a rule that
/// holds for no item verifies nothing.
///
/// Of several items, the result is the secret of the first, and stale if one of them is.
pub(super) fn verify_each(
    each: Option<&Each>,
    view: &View<'_>,
    verify: impl Fn(&View<'_>) -> Result<Verified, Rejection>,
) -> Result<Verified, Rejection> {
    let Some(each) = each else { return verify(view) };
    let mut whole = None;
    for item in each.items(view)? {
        let one = verify(&view.of_item(item))?;
        whole = Some(whole.map_or(one, |before: Verified| before.and(one)));
    }
    whole.ok_or_else(|| each.missing())
}

impl Each {
    /// The JSON pointers of the items in a document.
    ///
    /// # Errors
    /// Returns a rejection if the document has no such list, or an empty one.
    pub(crate) fn pointers(&self, document: Json<'_>) -> Result<Vec<String>, Rejection> {
        let entries = document.pointer(self.list()).and_then(|list| list.items()).map_or(0, Iterator::count);
        if entries == 0 {
            return Err(self.missing());
        }
        Ok((0..entries).map(|index| self.pointer_of(index)).collect())
    }

    /// The rejection of a request that has no such list.
    pub(crate) fn missing(&self) -> Rejection {
        missing(self.list())
    }

    /// The items of a request. There may be none.
    pub(super) fn items<'v>(&self, view: &'v View<'_>) -> Result<Vec<Json<'v>>, Rejection> {
        let list = view.document().and_then(|document| document.pointer(self.list())).and_then(|list| list.items());
        let item = |entry: Json<'v>| {
            entry.pointer(self.item()).ok_or_else(|| missing(&format!("{}/…{}", self.list(), self.item())))
        };
        list.ok_or_else(|| self.missing())?.map(item).collect()
    }
}

fn missing(pointer: &str) -> Rejection {
    Rejection::FieldMissing { reference: Reference::Json { pointer: pointer.to_owned(), optional: false } }
}
