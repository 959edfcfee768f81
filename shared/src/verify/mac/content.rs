//! The signed content: the pieces of a template, read from a request.

use std::borrow::Cow;

use crate::scheme::reference::{Field, Reference, Role};
use crate::scheme::template::Part;
use crate::verify::rejection::Rejection;
use crate::verify::request::{Joins, View};
use crate::verify::signature::SignatureValue;

/// Resolves references, including those to the fields of the signature header.
pub(super) struct Reader<'v, 'b> {
    pub(super) view: &'v View<'b>,
    pub(super) signature: SignatureValue<'v>,
}

impl<'v> Reader<'v, '_> {
    pub(super) fn text(&self, reference: &Reference) -> Result<Cow<'v, str>, Rejection> {
        match self.field(reference) {
            Some(field) => field,
            None => self.view.text(reference, Joins::Refused),
        }
    }

    /// The pieces of the signed content, one for each part, without concatenating them. The piece of `{secret}` is
    /// empty, because it differs for each key.
    ///
    /// A header before a literal may not contain that literal: `{id}.{time}.{body}` with a `.` in the id could be read
    /// in two ways, and a signature over one of them would be a signature over the other.
    pub(super) fn content<'r>(&self, parts: &'r [Part]) -> Result<Vec<Cow<'r, [u8]>>, Rejection>
    where
        'v: 'r,
    {
        let mut pieces = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Literal(text) => pieces.push(Cow::Borrowed(text.as_bytes())),
                Part::Reference(Reference::Secret) => pieces.push(Cow::Borrowed(&[][..])),
                Part::Reference(reference) => {
                    let piece = self.bytes(reference)?;
                    if let Some(Part::Literal(separator)) = parts.get(index + 1)
                        && is_of_a_header(reference)
                        && contains(&piece, separator.as_bytes())
                    {
                        let (reference, separator) = (reference.clone(), separator.clone());
                        return Err(Rejection::SeparatorInside { reference, separator });
                    }
                    pieces.push(piece);
                }
            }
        }
        Ok(pieces)
    }

    /// Changes the pieces of [`Reader::content`] to those of the request at another URL.
    pub(super) fn put_url(&self, url: &str, parts: &[Part], pieces: &mut [Cow<'_, [u8]>]) -> Result<(), Rejection> {
        let view = self.view.at_url(url);
        for (part, piece) in parts.iter().zip(pieces) {
            if let Part::Reference(reference) = part
                && reference.reads_url()
            {
                *piece = Cow::Owned(view.bytes(reference)?.into_owned());
            }
        }
        Ok(())
    }

    fn bytes(&self, reference: &Reference) -> Result<Cow<'v, [u8]>, Rejection> {
        match self.field(reference) {
            Some(Ok(Cow::Borrowed(text))) => Ok(Cow::Borrowed(text.as_bytes())),
            Some(Ok(Cow::Owned(text))) => Ok(Cow::Owned(text.into_bytes())),
            Some(Err(rejection)) => Err(rejection),
            None => self.view.bytes(reference),
        }
    }

    /// The value of a field of the signature header; `None` if the view resolves the reference.
    fn field(&self, reference: &Reference) -> Option<Result<Cow<'v, str>, Rejection>> {
        match reference.role() {
            Role::Field(Field::Named(name)) => Some(self.signature.field(name).map(Cow::Borrowed)),
            Role::Field(Field::Entry(index)) => Some(self.signature.entry(index).map(Cow::Borrowed)),
            Role::Function(function) => {
                Some(function.evaluate(self.view, |inner| self.text(inner).map(Cow::into_owned)).map(Cow::Owned))
            }
            Role::Place(_) | Role::Derived => None,
        }
    }
}

fn is_of_a_header(reference: &Reference) -> bool {
    matches!(reference, Reference::Header(_) | Reference::SignatureField(_) | Reference::SignatureEntry(_))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
