//! The bodies of requests: read up to a cap, within a time, and held once, in the memory of the Worker.
//!
//! The isolate owns the bytes, not the future of the request: the platform drops a future silently when a client
//! disconnects. [`budget`] frees the bytes that such a request leaves behind.

mod budget;

use std::cell::RefCell;
use std::time::Duration;

use worker::js_sys::Uint8Array;
use worker::{Delay, web_sys};

use crate::host::{self, Piece};
pub(crate) use budget::LARGEST_BYTES;
use budget::{Budget, SMALL_BYTES, step};
use shared::decision::Head;

/// How long a body may take to arrive, and how long any piece of it, in milliseconds.
const READ_WITHIN_MS: u64 = 30_000;
const PIECE_WITHIN_MS: u64 = 10_000;

/// How often a request looks for room, and how long it waits in between, in milliseconds.
const TRIES: u32 = 12;
const TRY_AFTER_MS: u64 = 250;

/// The pieces in which a body is given to the host, in bytes.
const PIECE_BYTES: usize = 262_144;

/// A body that was read. Its bytes are freed when it is dropped.
#[derive(Debug)]
pub(crate) struct Body {
    id: u64,
    len: usize,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    /// The sender disconnected, or sent less than it announced.
    Broken,
    /// It did not arrive in time.
    TooSlow,
    /// This isolate holds as much as it may.
    TooBusy,
}

thread_local! {
    static BUDGET: RefCell<Budget> = RefCell::new(Budget::default());
}

impl Body {
    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Calls a function with the bytes. `None` if they are no longer held, because the request has taken minutes.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        BUDGET.with_borrow(|budget| budget.bytes(self.id).map(look))
    }

    /// A function that gives the host a copy of the piece that begins at a byte; `None` if the bytes are no longer
    /// held.
    pub(crate) fn pieces(&self) -> impl Fn(usize) -> Option<Uint8Array> + use<> {
        let id = self.id;
        move |at| {
            BUDGET.with_borrow(|budget| {
                let rest = budget.bytes(id)?.get(at..)?;
                rest.get(..rest.len().min(PIECE_BYTES)).map(Uint8Array::from)
            })
        }
    }

    /// Room for a body of up to `size` bytes, for which it waits a while.
    async fn admit(size: usize) -> Result<Self, BodyError> {
        for tries in 0..TRIES {
            if tries > 0 {
                Delay::from(Duration::from_millis(TRY_AFTER_MS)).await;
            }
            if let Some(id) = BUDGET.with_borrow_mut(|budget| budget.admit(size, host::now_ms())) {
                return Ok(Self { id, len: 0 });
            }
        }
        Err(BodyError::TooBusy)
    }

    /// Appends a piece. `size` is the size that has been charged so far.
    fn take(&mut self, piece: &Uint8Array, size: &mut usize, cap: usize) -> Result<(), BodyError> {
        let count = piece.length() as usize;
        let after = self.len + count;
        if after > cap {
            return Err(BodyError::TooLarge);
        }
        BUDGET.with_borrow_mut(|budget| {
            if after > *size {
                *size = step(after, cap);
                if !budget.grow(self.id, *size, host::now_ms()) {
                    return Err(BodyError::TooBusy);
                }
            }
            let room = budget.extend(self.id, count).ok_or(BodyError::TooBusy)?;
            piece.copy_to(room);
            Ok(())
        })?;
        self.len = after;
        Ok(())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        BUDGET.with_borrow_mut(|budget| budget.release(self.id));
    }
}

/// Reads a body of at most `cap` bytes. Its announced size is charged before it is read; a body without one is charged
/// step by step.
///
/// # Errors
/// Returns an error if the body cannot be read, see [`BodyError`].
pub(crate) async fn read_body(request: &web_sys::Request, head: &Head, cap: u64) -> Result<Body, BodyError> {
    let declared = head.declared();
    if declared.is_some_and(|bytes| bytes > cap) {
        return Err(BodyError::TooLarge);
    }
    let cap = usize::try_from(cap).unwrap_or(usize::MAX);
    let declared = declared.and_then(|bytes| usize::try_from(bytes).ok());
    let mut size = declared.unwrap_or_else(|| step(1, cap));
    let mut body = Body::admit(size).await?;
    let began = host::now_ms();
    if declared.is_some_and(|bytes| bytes <= SMALL_BYTES) {
        match host::whole_body(request, PIECE_WITHIN_MS).await.map_err(|_| BodyError::Broken)? {
            Piece::Bytes(whole) => body.take(&whole, &mut size, cap)?,
            Piece::End => {}
            Piece::Late => return Err(BodyError::TooSlow),
        }
        return Ok(body);
    }
    let reader = host::reader(request);
    loop {
        let left = READ_WITHIN_MS.saturating_sub(host::now_ms().saturating_sub(began));
        match host::next_piece(&reader, left.min(PIECE_WITHIN_MS)).await.map_err(|_| BodyError::Broken)? {
            Piece::Bytes(piece) => body.take(&piece, &mut size, cap)?,
            Piece::End => return Ok(body),
            Piece::Late => return Err(BodyError::TooSlow),
        }
    }
}
