//! Operational events, delivered to a test.

use serde_json::json;

use super::{RelayOnly, ready};
use crate::receiver::Receiver;

impl RelayOnly {
    /// Creates a destination, `alerts`, that receives the operational events: those of a source of the provider
    /// `tidegate`.
    ///
    /// # Panics
    /// Panics if one of them cannot be created.
    pub async fn alerts(&self) -> Receiver {
        let receiver = ready(Receiver::start().await);
        let secret = format!("whsec_{}", crate::random::key());
        let source = json!({ "name": "tidegate", "provider": "tidegate", "secrets": [secret] });
        self.api.post("/v1/sources", &source).await.expect_status(201);
        let destination = self.api.create_destination("alerts", &receiver.url(), json!({})).await;
        self.api.create_route("tidegate", &destination.id, json!({})).await;
        receiver
    }
}
