//! What the audit log records.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an entry of the audit log records: a noun, and what was done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditAction)]
pub enum Action {
    #[serde(rename = "source.create")]
    SourceCreate,
    #[serde(rename = "source.update")]
    SourceUpdate,
    #[serde(rename = "source.add_secret")]
    SourceAddSecret,
    #[serde(rename = "source.send_sample")]
    SourceSendSample,
    #[serde(rename = "source.delete")]
    SourceDelete,
    #[serde(rename = "destination.create")]
    DestinationCreate,
    #[serde(rename = "destination.update")]
    DestinationUpdate,
    #[serde(rename = "destination.pause")]
    DestinationPause,
    #[serde(rename = "destination.resume")]
    DestinationResume,
    #[serde(rename = "destination.disable")]
    DestinationDisable,
    #[serde(rename = "destination.delete")]
    DestinationDelete,
    #[serde(rename = "destination.reveal_secret")]
    DestinationRevealSecret,
    #[serde(rename = "destination.rotate_secret")]
    DestinationRotateSecret,
    #[serde(rename = "route.create")]
    RouteCreate,
    #[serde(rename = "route.update")]
    RouteUpdate,
    #[serde(rename = "route.delete")]
    RouteDelete,
    #[serde(rename = "event.read_body")]
    EventReadBody,
    #[serde(rename = "events.search_bodies")]
    EventsSearchBodies,
    #[serde(rename = "event.erase_body")]
    EventEraseBody,
    #[serde(rename = "event.release")]
    EventRelease,
    #[serde(rename = "event.deliver")]
    EventDeliver,
    #[serde(rename = "delivery.retry")]
    DeliveryRetry,
    #[serde(rename = "delivery.cancel")]
    DeliveryCancel,
    #[serde(rename = "deliveries.release")]
    DeliveriesRelease,
    #[serde(rename = "replay.create")]
    ReplayCreate,
    #[serde(rename = "replay.cancel")]
    ReplayCancel,
    #[serde(rename = "replay.pause")]
    ReplayPause,
    #[serde(rename = "replay.resume")]
    ReplayResume,
    #[serde(rename = "replay.update")]
    ReplayUpdate,
    #[serde(rename = "unreadable_message.read")]
    UnreadableMessageRead,
    #[serde(rename = "unreadable_message.release")]
    UnreadableMessageRelease,
    #[serde(rename = "unreadable_messages.release")]
    UnreadableMessagesRelease,
    #[serde(rename = "customer.create")]
    CustomerCreate,
    #[serde(rename = "customer.update")]
    CustomerUpdate,
    #[serde(rename = "customer.delete")]
    CustomerDelete,
    #[serde(rename = "operation.create")]
    OperationCreate,
    #[serde(rename = "operation.cancel")]
    OperationCancel,
    #[serde(rename = "session.create")]
    SessionCreate,
    #[serde(rename = "session.end")]
    SessionEnd,
    #[serde(rename = "sessions.end")]
    SessionsEnd,
    #[serde(rename = "token.create")]
    TokenCreate,
    #[serde(rename = "token.revoke")]
    TokenRevoke,
}

crate::names! {
    Action {
        SourceCreate => "source.create",
        SourceUpdate => "source.update",
        SourceAddSecret => "source.add_secret",
        SourceSendSample => "source.send_sample",
        SourceDelete => "source.delete",
        DestinationCreate => "destination.create",
        DestinationUpdate => "destination.update",
        DestinationPause => "destination.pause",
        DestinationResume => "destination.resume",
        DestinationDisable => "destination.disable",
        DestinationDelete => "destination.delete",
        DestinationRevealSecret => "destination.reveal_secret",
        DestinationRotateSecret => "destination.rotate_secret",
        RouteCreate => "route.create",
        RouteUpdate => "route.update",
        RouteDelete => "route.delete",
        EventReadBody => "event.read_body",
        EventsSearchBodies => "events.search_bodies",
        EventEraseBody => "event.erase_body",
        EventRelease => "event.release",
        EventDeliver => "event.deliver",
        DeliveryRetry => "delivery.retry",
        DeliveryCancel => "delivery.cancel",
        DeliveriesRelease => "deliveries.release",
        ReplayCreate => "replay.create",
        ReplayCancel => "replay.cancel",
        ReplayPause => "replay.pause",
        ReplayResume => "replay.resume",
        ReplayUpdate => "replay.update",
        UnreadableMessageRead => "unreadable_message.read",
        UnreadableMessageRelease => "unreadable_message.release",
        UnreadableMessagesRelease => "unreadable_messages.release",
        CustomerCreate => "customer.create",
        CustomerUpdate => "customer.update",
        CustomerDelete => "customer.delete",
        OperationCreate => "operation.create",
        OperationCancel => "operation.cancel",
        SessionCreate => "session.create",
        SessionEnd => "session.end",
        SessionsEnd => "sessions.end",
        TokenCreate => "token.create",
        TokenRevoke => "token.revoke",
    }
}
