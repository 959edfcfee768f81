//! Disables a destination that answered 410 or has failed for days.

use std::future::Future;

use engine::Disabling;
use model::audit::Action;
use model::destination::DestinationState;
use model::health::Run;
use model::unix_time;
use serde_json::json;
use shared::id::{AuditEntryId, DestinationId};
use store::audit::{Author, NewEntry, Object};
use store::configuration::Version;
use store::destinations::DestinationRow;

use crate::intake::Intake;
use crate::intake::operational::{self, Cause};
use crate::{mint, supervise};

/// Stores the operational event and disables the destination. If that fails, it is retried at the next failure of the
/// destination.
pub(super) async fn disable(intake: Intake, id: DestinationId, why: Disabling) {
    let (cause, reason) = match why {
        Disabling::Gone => {
            (Cause::Gone, "the destination returned 410 Gone; resume it if it accepts webhooks again".to_owned())
        }
        Disabling::Failing(run) => (Cause::Failing, failing_reason(run)),
    };
    let disabled = async {
        let snapshot = intake.configuration.current();
        if let Some(destination) = snapshot.destinations.get(&id) {
            // An event that can never be stored must not prevent the disabling of the destination.
            let stored = operational::destination_disabled(&intake, destination, cause, &reason);
            operational::or_dropped(id, stored).await?;
        }
        store::destinations::disable(&intake.pool, id, &reason, entry).await
    };
    if let Some(version) = version_after(id, &reason, disabled).await {
        let _ = intake.configuration.after(version).await;
    }
}

/// What the audit log says of it.
fn entry(row: &DestinationRow) -> NewEntry {
    let (id, object) = (AuditEntryId::from_uuid(mint::uuid()), Object::of(row.id, row.customer_id).named(&row.name));
    let before = json!({ "state": DestinationState::Active });
    let after = json!({ "state": row.state, "state_reason": row.state_reason });
    NewEntry::new(id, Author::relay(), Action::DestinationDisable, object).with(Some(before), Some(after), [])
}

/// The version of the configuration in which the destination is disabled; `None` if this call did not disable it.
async fn version_after(
    destination: DestinationId,
    reason: &str,
    disabled: impl Future<Output = store::Result<Option<Version>>>,
) -> Option<Version> {
    match supervise::row(disabled).await {
        Ok(Ok(version)) => version.inspect(|_| {
            tracing::warn!(
                %destination,
                error = reason,
                "a destination was disabled; its deliveries are held until it is resumed"
            );
        }),
        Ok(Err(error)) => {
            tracing::warn!(%error, %destination, "a destination could not be disabled; retrying at its next failure");
            None
        }
        Err(panic) => {
            tracing::error!(
                error = %panic,
                %destination,
                "the relay panicked while disabling a destination; retrying at its next failure"
            );
            None
        }
    }
}

fn failing_reason(run: Run) -> String {
    let since = unix_time::timestamp(run.since_us / 1000);
    let since = since.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    format!("all {} attempts since {since} have failed; fix the destination, then resume it", run.failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_while_disabling_a_destination_affects_only_that_destination() {
        let destination = DestinationId::mint(1, [1; 10]);
        assert!(version_after(destination, "gone", async { panic!("its name") }).await.is_none());
        let version = Version::default();
        assert_eq!(version_after(destination, "gone", async { Ok(Some(version)) }).await, Some(version));
    }
}
