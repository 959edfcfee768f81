//! What a delivery waits for, as the API shows it.

use model::delivery::DeliveryState;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use store::deliveries::DeliveryRow;

/// What a pending or held delivery waits for. `turn`: it is due, and is being sent or is sent as soon as the rate limit
/// and concurrency of its destination permit. `schedule`: its next attempt, at `next_attempt_at`. `back_off`: the end
/// of the destination's back-off, at `waits_until`. `breaker`: the open breaker of the destination; until
/// `waits_until`, only manual retries are sent, and then one delivery as a probe. `order`: an earlier delivery with the
/// same order key. `destination`: its destination, which is paused, disabled, unusable or deleted (see `held_reason`).
/// `release`: its release (see `held_by` and `held_reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Nothing but its turn: it is due, and is being sent or is sent as soon as the rate limit and the concurrency of
    /// its destination permit.
    Turn,
    /// The time of its next attempt, `next_attempt_at`.
    Schedule,
    /// The back-off of the destination (429, or 503 with `Retry-After`), until `waits_until`.
    BackOff,
    /// The open breaker of the destination; until `waits_until`, only manual retries are sent, and then one delivery as
    /// a probe.
    Breaker,
    /// An earlier delivery with the same order key.
    Order,
    /// The destination, which is paused, disabled, unusable or deleted (see `held_reason`).
    Destination,
    /// Its release: it is held individually (see `held_by` and `held_reason`).
    Release,
}

/// A delivery whose attempt started a back-off is due again when the back-off ends, plus the time that it took to store
/// the outcome. Up to this difference, the delivery is shown as waiting for the back-off.
const WRITTEN_WITHIN: time::Duration = time::Duration::seconds(2);

/// What a delivery waits for, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) on: WaitsFor,
    pub(super) until: Option<OffsetDateTime>,
    pub(super) next_attempt_at: Option<OffsetDateTime>,
}

/// What a delivery waits for; `None` if it has ended.
pub(super) fn of(row: &DeliveryRow) -> Option<Waits> {
    let waits = |on| Waits { on, until: None, next_attempt_at: None };
    match row.state {
        DeliveryState::Held if row.held_by.is_some() => return Some(waits(WaitsFor::Release)),
        DeliveryState::Held => return Some(waits(WaitsFor::Destination)),
        DeliveryState::Pending => {}
        DeliveryState::Succeeded | DeliveryState::Dead | DeliveryState::Cancelled => return None,
    }
    if row.is_behind {
        // `due_at` is only a safety net: the delivery is read again at that time if the delivery in front of it has not
        // made it due.
        return Some(waits(WaitsFor::Order));
    }
    let due =
        Waits { next_attempt_at: row.due_at, ..waits(if row.is_due { WaitsFor::Turn } else { WaitsFor::Schedule }) };
    let blocks = [(WaitsFor::BackOff, row.back_off_until), (WaitsFor::Breaker, row.open_until)];
    let longest = blocks.into_iter().filter_map(|(on, until)| Some((on, until?))).max_by_key(|(_, until)| *until);
    Some(match longest {
        // Expedited deliveries are sent in spite of both.
        Some((on, until)) if !row.expedited && row.due_at.is_none_or(|due_at| due_at < until + WRITTEN_WITHIN) => {
            Waits { on, until: Some(until), next_attempt_at: row.due_at.max(Some(until)) }
        }
        Some(_) | None => due,
    })
}

#[cfg(test)]
mod tests {
    use model::held_by::HeldBy;
    use shared::id::{DeliveryId, DestinationId, EventId, SourceId};
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-06-30 12:00 UTC);

    fn in_s(seconds: i64) -> OffsetDateTime {
        NOW + time::Duration::seconds(seconds)
    }

    /// A pending delivery that has been due for ten seconds.
    fn due() -> DeliveryRow {
        DeliveryRow {
            id: DeliveryId::mint(1, [1; 10]),
            event_id: EventId::mint(1, [1; 10]),
            source_id: SourceId::mint(1, [1; 10]),
            destination_id: DestinationId::mint(1, [1; 10]),
            destination_name: None,
            route_id: None,
            replay_id: None,
            state: DeliveryState::Pending,
            held_reason: None,
            held_by: None,
            due_at: Some(in_s(-10)),
            is_due: true,
            expedited: false,
            is_behind: false,
            back_off_until: None,
            open_until: None,
            attempts: 1,
            error: None,
            reason: None,
            settled_at: None,
        }
    }

    fn scheduled() -> DeliveryRow {
        DeliveryRow { due_at: Some(in_s(60)), is_due: false, ..due() }
    }

    #[test]
    fn a_due_delivery_waits_for_its_turn_and_a_scheduled_one_for_its_time() {
        let turn = Waits { on: WaitsFor::Turn, until: None, next_attempt_at: Some(in_s(-10)) };
        assert_eq!(of(&due()), Some(turn));
        let schedule = Waits { on: WaitsFor::Schedule, until: None, next_attempt_at: Some(in_s(60)) };
        assert_eq!(of(&scheduled()), Some(schedule));
    }

    #[test]
    fn a_delivery_waits_for_a_longer_back_off_or_open_breaker_unless_it_is_expedited() {
        let both = DeliveryRow { back_off_until: Some(in_s(90)), open_until: Some(in_s(30)), ..scheduled() };
        let until = |on, seconds| Waits { on, until: Some(in_s(seconds)), next_attempt_at: Some(in_s(seconds)) };
        assert_eq!(of(&both), Some(until(WaitsFor::BackOff, 90)));
        let open = DeliveryRow { open_until: Some(in_s(120)), ..both };
        assert_eq!(of(&open), Some(until(WaitsFor::Breaker, 120)));
        let stored_late = DeliveryRow { back_off_until: Some(in_s(59)), ..scheduled() };
        let back_off = Waits { on: WaitsFor::BackOff, until: Some(in_s(59)), next_attempt_at: Some(in_s(60)) };
        assert_eq!(of(&stored_late), Some(back_off), "the outcome was stored a second after the response");
        let shorter = DeliveryRow { back_off_until: Some(in_s(30)), ..scheduled() };
        assert_eq!(of(&shorter).map(|waits| waits.on), Some(WaitsFor::Schedule));
        let expedited = DeliveryRow { expedited: true, back_off_until: Some(in_s(90)), ..due() };
        assert_eq!(of(&expedited).map(|waits| waits.on), Some(WaitsFor::Turn));
    }

    #[test]
    fn held_and_ordered_deliveries_have_no_time_and_ended_ones_wait_for_nothing() {
        let nothing_known = |on| Some(Waits { on, until: None, next_attempt_at: None });
        let held = DeliveryRow { state: DeliveryState::Held, ..due() };
        assert_eq!(of(&held), nothing_known(WaitsFor::Destination));
        let held = DeliveryRow { held_by: Some(HeldBy::Transform), due_at: None, ..held };
        assert_eq!(of(&held), nothing_known(WaitsFor::Release));
        let behind = DeliveryRow { is_behind: true, expedited: true, ..due() };
        assert_eq!(of(&behind), nothing_known(WaitsFor::Order));
        let dead = DeliveryRow { state: DeliveryState::Dead, due_at: None, is_due: false, ..due() };
        assert_eq!(of(&dead), None);
    }
}
