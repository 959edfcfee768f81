//! The bindings and secrets that `wrangler.toml` and `wrangler secret put` provide, and which of them are missing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use shared::seal::SealingKey;
use worker::js_sys::Reflect;
use worker::wasm_bindgen::JsValue;
use worker::{Env, Queue};

use crate::body;

/// The largest accepted body in bytes, if `MAX_BODY_BYTES` is not set: GitHub's maximum.
const DEFAULT_MAX_BODY_BYTES: u64 = 25_000_000;

/// A binding or secret that the deployment lacks. The text says how to add it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A binding in `wrangler.toml`.
    Binding(&'static str),
    /// A secret.
    Secret(&'static str),
    /// A secret that is set but unusable.
    SealKey,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Binding(name) => write!(f, "the binding {name} is missing: add it to wrangler.toml and deploy again"),
            Self::Secret(name) => write!(f, "the secret {name} is missing: run `wrangler secret put {name}`"),
            Self::SealKey => f.write_str(
                "the secret SEAL_KEY is not the base64 of 32 bytes; restore its previous value. On a new edge, set it: \
                 run `openssl rand -base64 32 | wrangler secret put SEAL_KEY`",
            ),
        }
    }
}

/// The bindings of this deployment. It is cheap to make: values that were looked up are kept for the life of the
/// isolate.
#[derive(Clone)]
pub(crate) struct Bindings {
    env: Env,
}

thread_local! {
    static QUEUE: RefCell<Option<Queue>> = const { RefCell::new(None) };
    static SEAL_KEY: RefCell<Option<Rc<[SealingKey]>>> = const { RefCell::new(None) };
    static MAX_BODY_BYTES: Cell<Option<u64>> = const { Cell::new(None) };
}

/// [`Bindings::max_body_bytes`], once a request has read it.
pub(crate) fn known_max_body_bytes() -> Option<u64> {
    MAX_BODY_BYTES.get()
}

impl Bindings {
    pub(crate) fn new(env: Env) -> Self {
        Self { env }
    }

    pub(crate) fn queue(&self) -> Result<Queue, Missing> {
        if let Some(queue) = QUEUE.with_borrow(Clone::clone) {
            return Ok(queue);
        }
        let queue = self.env.queue("QUEUE").map_err(|_| Missing::Binding("QUEUE"))?;
        QUEUE.set(Some(queue.clone()));
        Ok(queue)
    }

    /// The namespace of source configurations.
    pub(crate) fn sources(&self) -> Result<worker::KvStore, Missing> {
        self.env.kv("SOURCES").map_err(|_| Missing::Binding("SOURCES"))
    }

    /// The bucket of bodies that do not fit into a message.
    pub(crate) fn bodies(&self) -> Result<worker::Bucket, Missing> {
        self.env.bucket("BODIES").map_err(|_| Missing::Binding("BODIES"))
    }

    /// The same bucket for a call that takes it as it is.
    pub(crate) fn bodies_raw(&self) -> Result<JsValue, Missing> {
        self.value("BODIES").ok_or(Missing::Binding("BODIES"))
    }

    pub(crate) fn admin_token(&self) -> Result<String, Missing> {
        let token = self.value("ADMIN_TOKEN").and_then(|value| value.as_string());
        token.filter(|token| !token.is_empty()).ok_or(Missing::Secret("ADMIN_TOKEN"))
    }

    /// The keys that open a sealed source configuration; the first one seals.
    pub(crate) fn seal_keys(&self) -> Result<Rc<[SealingKey]>, Missing> {
        if let Some(keys) = SEAL_KEY.with_borrow(Clone::clone) {
            return Ok(keys);
        }
        let text = self.value("SEAL_KEY").and_then(|value| value.as_string()).filter(|text| !text.trim().is_empty());
        let text = text.ok_or(Missing::Secret("SEAL_KEY"))?;
        let keys: Rc<[SealingKey]> = Rc::new([SealingKey::parse(text.trim()).map_err(|_| Missing::SealKey)?]);
        SEAL_KEY.set(Some(Rc::clone(&keys)));
        Ok(keys)
    }

    /// The largest body that any source may accept, in bytes.
    pub(crate) fn max_body_bytes(&self) -> u64 {
        if let Some(bytes) = MAX_BODY_BYTES.get() {
            return bytes;
        }
        let text = self.value("MAX_BODY_BYTES").and_then(|value| value.as_string());
        let bytes =
            text.and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_MAX_BODY_BYTES).min(body::LARGEST_BYTES);
        MAX_BODY_BYTES.set(Some(bytes));
        bytes
    }

    /// Everything that is missing, for `/admin/status`.
    pub(crate) fn missing(&self) -> Vec<Missing> {
        [
            self.queue().err(),
            self.sources().err(),
            self.bodies_raw().err(),
            self.admin_token().err(),
            self.seal_keys().err(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn value(&self, name: &str) -> Option<JsValue> {
        let value = Reflect::get(&self.env, &JsValue::from_str(name)).ok()?;
        (!value.is_undefined()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binding_says_how_to_add_it() {
        assert!(Missing::Secret("ADMIN_TOKEN").to_string().contains("wrangler secret put ADMIN_TOKEN"));
        assert!(Missing::SealKey.to_string().contains("openssl rand -base64 32"));
        assert!(Missing::Binding("QUEUE").to_string().contains("wrangler.toml"));
    }
}
