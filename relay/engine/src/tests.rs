//! The engine's decisions, step by step, on a clock of the test's own.

use std::num::NonZeroU32;
use std::time::Duration;

use model::destination::{Destination, DestinationState, Rate};
use model::event::EventMeta;
use model::health::{BreakerState, Health, Learned, Reason, Run};
use model::retry_policy::RetryPolicy;
use model::settlement::AttemptRow;
use model::signing::SigningSecrets;
use model::unix_time::timestamp;
use shared::header::HeaderList;
use shared::id::{AttemptId, CustomerId, EventId, ReplayId, SourceId};
use shared::sign::SigningSecret;

use super::tuning::{DUE_STEP_US, FIRST_OPEN_US, READ_WHOLE_EVERY_US};
use super::*;
use crate::item::{Before, Event};
use crate::outcome::Failure;

mod clocks;
mod consequences;
mod expedited;
mod memory;
mod order;
mod ownership;
mod pacing;
mod simulator;

const START_US: u64 = 1_764_000_000_000_000;
/// Short, so that a row that a read has skipped is not found by chance.
const UNSEEN_US: u64 = 100_000;

const LIMITS: Limits = Limits {
    in_flight: 100,
    unsettled: 100,
    line: 50,
    read: 20,
    bodies: 10,
    rows: 1 << 30,
    in_flight_bytes: 1 << 30,
    unseen_us: UNSEEN_US,
};

pub(crate) fn destination(number: u8) -> Destination {
    Destination {
        id: DestinationId::mint(1, [number; 10]),
        customer_id: CustomerId::mint(1, [1; 10]),
        name: format!("d{number}"),
        url: "http://example.com/".parse().expect("parses"),
        shard: i16::from(number),
        signing_secrets: SigningSecrets::new(SigningSecret::generate_hmac([7; 32])),
        headers: http::HeaderMap::new(),
        rate: None,
        max_concurrency: 3,
        timeout: Duration::from_secs(1),
        retry: RetryPolicy::Schedule { schedule_s: vec![0, 10, 20] },
        append_query: false,
        state: DestinationState::Active,
        state_changed_at: timestamp(0),
        moved_at: timestamp(0),
    }
}

fn snapshot(destinations: impl IntoIterator<Item = Destination>) -> Input {
    let destinations = destinations.into_iter().map(|destination| (destination.id, Arc::new(destination))).collect();
    Input::Configured(Arc::new(destinations))
}

fn owned(shards: impl IntoIterator<Item = i16>) -> Input {
    Input::Owned { shards: shards.into_iter().map(|shard| (shard, 1)).collect(), until_us: u64::MAX }
}

pub(crate) fn item(destination: &Destination, number: u32, due_us: u64) -> Item {
    let mut random = [0; 10];
    random[..4].copy_from_slice(&number.to_be_bytes());
    let event = Event {
        meta: EventMeta {
            id: EventId::mint(1, random),
            source_id: SourceId::mint(1, [0; 10]),
            received_at: timestamp(1),
            event_type: None,
            provider_event_id: None,
            method: "POST".to_owned(),
            query: String::new(),
            headers: HeaderList::default(),
        },
        body: Some(Vec::new()),
        body_bytes: 0,
    };
    Item {
        id: DeliveryId::mint(1, random),
        destination_id: destination.id,
        event: Arc::new(event),
        route_id: None,
        route_version: 1,
        skips: false,
        replay_id: None,
        due_us,
        attempts: 0,
        schedule_start: 0,
        throttled: 0,
        order_key: None,
        before: Before::Nothing,
        not_sent: 0,
        generation: 0,
        expedited: false,
    }
}

fn attempt() -> AttemptRow {
    AttemptRow {
        id: AttemptId::mint(1, [0; 10]),
        started_at: timestamp(START_US / 1000),
        latency_ms: 1,
        status: Some(200),
        error: None,
        detail: None,
        response_excerpt: None,
        location: None,
    }
}

fn succeeded() -> Outcome {
    Outcome::Succeeded { attempt: attempt() }
}

fn failed(status: u16, retry_after_ms: Option<u64>) -> Outcome {
    let failure = if status == 410 { Failure::Gone } else { Failure::Status(status) };
    Outcome::Failed { attempt: attempt(), failure, retry_after_ms }
}

fn answered(item: Item, outcome: Outcome) -> Input {
    let shard = i16::from(item.destination_id.uuid().as_bytes()[15]);
    Input::Answered { item, epoch: 1, shard, outcome, jitter: 0.5 }
}

/// Settlements that were written at a time of the database's clock.
fn written(settlements: Vec<Settlement>, at_us: u64) -> Input {
    Input::Settled { settlements, at_us }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sends(commands: &[Command]) -> Vec<Item> {
    let sent = |command: &Command| if let Command::Send { item, .. } = command { Some(item.clone()) } else { None };
    commands.iter().filter_map(sent).collect()
}

fn settlements(commands: &[Command]) -> Vec<Settlement> {
    let settled = |command: &Command| if let Command::Settle(settled) = command { Some(settled.clone()) } else { None };
    commands.iter().filter_map(settled).collect()
}

fn reads(commands: &[Command]) -> Vec<Lane> {
    let read = |command: &Command| if let Command::Read { lane, .. } = command { Some(*lane) } else { None };
    commands.iter().filter_map(read).collect()
}

/// Where the first read of a lane among these commands begins.
fn begin_of(commands: &[Command], lane: Lane) -> Option<u64> {
    commands.iter().find_map(|command| {
        if let Command::Read { lane: read, begin_us, .. } = command {
            (*read == lane).then_some(*begin_us)
        } else {
            None
        }
    })
}

fn reports(commands: &[Command]) -> Vec<Health> {
    let reported =
        |command: &Command| if let Command::Report(health) = command { Some((**health).clone()) } else { None };
    commands.iter().filter_map(reported).collect()
}

/// A complete read of a lane.
fn found(destination: &Destination, lane: Lane, items: Vec<Item>) -> Input {
    found_at(destination, lane, items, START_US)
}

/// A complete read of a lane at a time of the database's clock.
fn found_at(destination: &Destination, lane: Lane, items: Vec<Item>, read_us: u64) -> Input {
    let found = Found { items, complete: true, read_us };
    Input::Found { destination: destination.id, lane, epoch: 1, found }
}

fn read_empty(core: &mut Core, destination: &Destination) {
    for lane in Lane::ALL {
        assert_eq!(reads(&core.handle(found(destination, lane, Vec::new()), START_US)), []);
    }
}

/// A core that owns these destinations, for which nothing is stored, and the commands that follow.
fn core_of<'a>(limits: Limits, destinations: impl IntoIterator<Item = &'a Destination>) -> (Core, Vec<Command>) {
    let mut core = Core::new(limits);
    let destinations: Vec<Destination> = destinations.into_iter().map(clone).collect();
    core.handle(owned(destinations.iter().map(|destination| destination.shard)), START_US);
    let commands = core.handle(snapshot(destinations), START_US);
    let loaded = loads(&commands).into_iter().map(|(destination, epoch)| nothing_of(destination, epoch));
    let commands = core.handle(Input::HealthLoaded(loaded.collect()), START_US);
    (core, commands)
}

/// The lines whose stored state is to be loaded.
fn loads(commands: &[Command]) -> Vec<(DestinationId, i64)> {
    let loaded = |command: &Command| if let Command::LoadHealth(lines) = command { Some(lines.clone()) } else { None };
    commands.iter().filter_map(loaded).flatten().collect()
}

fn nothing_of(destination: DestinationId, epoch: i64) -> LoadedHealth {
    LoadedHealth { destination, epoch, learned: None }
}

/// A core that owns one destination without due rows in the table.
fn core_with(destination: &Destination) -> Core {
    let (mut core, commands) = core_of(LIMITS, [destination]);
    assert_eq!(reads(&commands), Lane::ALL, "a new line reads its table");
    read_empty(&mut core, destination);
    core
}

fn clone(destination: &Destination) -> Destination {
    Destination {
        name: destination.name.clone(),
        rate: destination.rate,
        max_concurrency: destination.max_concurrency,
        state: destination.state,
        moved_at: destination.moved_at,
        retry: destination.retry.clone(),
        ..self::destination(u8::try_from(destination.shard).expect("small"))
    }
}

#[test]
fn fresh_deliveries_are_sent_up_to_the_concurrency_and_the_next_one_when_one_is_answered() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let items = (0..5).map(|number| item(&destination, number, START_US)).collect();
    let sent = sends(&core.handle(Input::Fresh(items), START_US));
    assert_eq!(sent.len(), 3);
    let commands = core.handle(answered(sent[0].clone(), succeeded()), START_US);
    assert_eq!(sends(&commands).len(), 1);
    assert_eq!(settlements(&commands)[0].next, Next::Succeeded);
}

#[test]
fn a_known_delivery_is_not_taken_from_a_read_again() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let first = item(&destination, 1, START_US);
    assert_eq!(sends(&core.handle(Input::Fresh(vec![first.clone()]), START_US)).len(), 1);
    assert_eq!(reads(&core.handle(Input::Rescan(destination.id), START_US)), Lane::ALL);
    assert!(sends(&core.handle(found(&destination, Lane::Fresh, vec![first.clone()]), START_US)).is_empty());

    // A read that began before the settlement was written still shows the row.
    assert_eq!(reads(&core.handle(Input::Rescan(destination.id), START_US)), [Lane::Fresh]);
    let settled = settlements(&core.handle(answered(first.clone(), succeeded()), START_US));
    core.handle(written(settled, START_US), START_US);
    assert!(sends(&core.handle(found(&destination, Lane::Fresh, vec![first]), START_US)).is_empty());
    assert!(core.is_idle());
}

#[test]
fn a_rate_makes_a_line_wait_and_wakes_it() {
    let mut destination = destination(1);
    destination.rate = NonZeroU32::new(1).map(|limit| Rate { limit, per: Duration::from_secs(1) });
    let mut core = core_with(&destination);
    let items = (0..3).map(|number| item(&destination, number, START_US)).collect();
    assert_eq!(sends(&core.handle(Input::Fresh(items), START_US)).len(), 1);
    let wake = core.wake_at_us().expect("a wake");
    assert_eq!(wake, START_US + 1_000_000);
    assert!(sends(&core.handle(Input::Woken, wake - 1)).is_empty());
    assert_eq!(sends(&core.handle(Input::Woken, wake)).len(), 1);
}

#[test]
fn retry_after_on_429_stops_the_whole_line_and_costs_no_reads() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    core.handle(answered(sent[0].clone(), failed(429, Some(5_000))), START_US);
    let commands = core.handle(Input::Fresh(vec![item(&destination, 2, START_US)]), START_US);
    assert!(sends(&commands).is_empty());
    assert_eq!(reads(&core.handle(Input::Rescan(destination.id), START_US + 1)), []);
    assert_eq!(core.wake_at_us(), Some(START_US + 5_000_000));
    assert_eq!(sends(&core.handle(Input::Woken, START_US + 5_000_000)).len(), 1);
}

#[test]
fn a_late_transform_is_tried_at_growing_intervals_and_then_held_and_other_faults_of_the_relay_never_hold_a_delivery() {
    let destination = destination(1);
    let answer = |outcome: fn(String) -> Outcome, not_sent| {
        let mut core = core_with(&destination);
        let item = Item { not_sent, ..item(&destination, 1, START_US) };
        let sent = sends(&core.handle(Input::Fresh(vec![item]), START_US));
        let settled = settlements(&core.handle(answered(sent[0].clone(), outcome("why\0".to_owned())), START_US));
        assert_eq!((settled[0].attempts, settled[0].attempt.is_some()), (0, false), "no attempt is counted");
        settled[0].next.clone()
    };
    let late = |reason| Outcome::TransformLate { reason };
    let not_sent = |reason| Outcome::NotSent { reason };
    for (before, wait_s) in [(0, 5), (1, 10), (2, 20), (6, 300)] {
        let wait = seconds(wait_s);
        let next = Next::NotSent { wait, times: before + 1, reason: "why\u{fffd}".to_owned() };
        assert_eq!((answer(late, before), answer(not_sent, before)), (next.clone(), next));
    }
    let Next::Held { reason, .. } = answer(late, 7) else { panic!("it is held in the end") };
    assert_eq!(reason, "why\u{fffd}; after 8 tries the delivery is held");
    assert!(matches!(answer(not_sent, 1_000), Next::NotSent { times: 1_001, .. }));
}

#[test]
fn a_failed_delivery_is_retried_on_its_schedule_and_dead_after_the_last_attempt() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let mut next = item(&destination, 1, START_US);
    let mut now_us = START_US;
    for (attempts, wait_s) in [(1, 10), (2, 20)] {
        let sent = sends(&core.handle(Input::Fresh(vec![next.clone()]), now_us));
        assert_eq!(sent.len(), 1);
        let settled = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), now_us));
        assert_eq!(settled[0].next, Next::RetryIn(seconds(wait_s)), "a jitter of 0.5 has no effect");
        assert_eq!(settled[0].attempts, attempts);
        core.handle(written(settled, now_us), now_us);
        let due_us = (now_us + wait_s * 1_000_000).next_multiple_of(DUE_STEP_US);
        assert_eq!(reads(&core.handle(Input::Woken, due_us - 1)), [], "the table is read when it is due");
        now_us += wait_s * 1_000_000;
        assert_eq!(reads(&core.handle(Input::Woken, now_us)), [Lane::Retry]);
        core.handle(found(&destination, Lane::Retry, Vec::new()), now_us);
        next.attempts += 1;
    }
    let sent = sends(&core.handle(Input::Fresh(vec![next]), now_us));
    let settled = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), now_us));
    assert!(matches!(&settled[0].next, Next::Dead { error: "http_status", reason } if reason.contains("500")));
}

#[test]
fn a_paused_line_drops_its_deliveries_and_reads_them_again_when_it_is_resumed() {
    let mut destination = destination(1);
    let mut core = core_with(&destination);
    let items = (0..5).map(|number| item(&destination, number, START_US)).collect();
    core.handle(Input::Fresh(items), START_US);
    destination.state = DestinationState::Paused;
    core.handle(snapshot([clone(&destination)]), START_US);
    assert!(sends(&core.handle(Input::Fresh(vec![item(&destination, 9, START_US)]), START_US)).is_empty());
    destination.state = DestinationState::Active;
    assert_eq!(reads(&core.handle(snapshot([clone(&destination)]), START_US)), Lane::ALL);
}

#[test]
fn a_read_begins_where_the_last_one_ended_and_sometimes_covers_the_whole_lane() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    // The database's clock is an hour behind the engine's.
    let behind_us = 3_600_000_000;
    let begin = |core: &mut Core, now_us| {
        let commands = core.handle(Input::Rescan(destination.id), now_us);
        let begin = begin_of(&commands, Lane::Fresh);
        core.handle(found_at(&destination, Lane::Fresh, Vec::new(), now_us - behind_us), now_us);
        begin
    };
    assert_eq!(begin(&mut core, START_US + 1), Some(START_US - UNSEEN_US), "late commits are still seen");
    assert_eq!(begin(&mut core, START_US + 2), Some(START_US + 1 - behind_us - UNSEEN_US));
    let due_us = START_US - behind_us - 7_000_000;
    let due = Input::NextDue { destination: destination.id, lane: Lane::Fresh, due_us, wait: Duration::ZERO };
    let commands = core.handle(due, START_US + 3);
    let of_due = |command: &Command| matches!(command, Command::Read { begin_us, .. } if *begin_us == due_us);
    assert!(commands.iter().any(of_due), "a row before the expected beginning is found");
    core.handle(found_at(&destination, Lane::Fresh, Vec::new(), START_US - behind_us), START_US + 3);
    assert_eq!(begin(&mut core, START_US + READ_WHOLE_EVERY_US), Some(0));
}

#[test]
fn a_fenced_replica_sends_nothing_until_it_owns_its_shards_again() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    core.handle(Input::Fenced, START_US);
    assert!(sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US)).is_empty());
    assert_eq!(sends(&core.handle(owned([1]), START_US)).len(), 1);
}

#[test]
fn a_replica_whose_lease_has_expired_sends_nothing_even_without_an_input_that_says_so() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let shards = HashMap::from([(1, 1)]);
    core.handle(Input::Owned { shards, until_us: START_US + 8_000_000 }, START_US);
    let late = START_US + 8_000_000;
    assert!(sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), late)).is_empty());
}

#[test]
fn the_memory_of_a_line_that_is_paused_or_backs_off_does_not_grow_with_new_deliveries() {
    let mut destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 0, START_US)]), START_US));
    core.handle(answered(sent[0].clone(), failed(503, Some(3_600_000))), START_US);
    for number in 1..1_000 {
        let now_us = START_US + u64::from(number);
        core.handle(Input::Fresh(vec![item(&destination, number, now_us)]), now_us);
    }
    assert!(core.wakes.len() < 5, "{}", core.wakes.len());
    destination.state = DestinationState::Paused;
    core.handle(snapshot([clone(&destination)]), START_US + 1_000);
    for number in 1_000..2_000 {
        let now_us = START_US + u64::from(number);
        core.handle(Input::Fresh(vec![item(&destination, number, now_us)]), now_us);
    }
    let remembered = core.lines[&destination.id].lanes[Lane::Fresh].remembered();
    assert!(remembered < 5, "{remembered}");
}

#[test]
fn a_410_disables_the_destination() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    let commands = core.handle(answered(sent[0].clone(), failed(410, None)), START_US);
    assert!(
        commands
            .iter()
            .any(|command| matches!(command, Command::Disable(id, Disabling::Gone) if *id == destination.id))
    );
}

#[test]
fn only_the_first_410_ends_its_delivery_and_the_others_in_flight_are_held() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let items = (1..=3).map(|number| item(&destination, number, START_US)).collect();
    let sent = sends(&core.handle(Input::Fresh(items), START_US));
    let first = settlements(&core.handle(answered(sent[0].clone(), failed(410, None)), START_US));
    assert!(matches!(&first[0].next, Next::Dead { error: "gone", .. }), "{:?}", first[0].next);

    let commands = core.handle(answered(sent[1].clone(), failed(410, None)), START_US + 1_000_000);
    let second = settlements(&commands);
    assert_eq!(second[0].next, Next::RetryIn(Duration::ZERO), "due when it is resumed");
    assert_eq!(second[0].attempts, 1, "the attempt was made and is kept");
    assert!(commands.iter().all(|command| !matches!(command, Command::Disable(..))), "once is enough");
    core.handle(written(first.into_iter().chain(second).collect(), START_US + 1_000_000), START_US + 1_000_000);

    // The last one ends after an operator has resumed the destination: it was sent before that.
    let long_after = START_US + 60_000_000;
    let third = settlements(&core.handle(answered(sent[2].clone(), failed(410, None)), long_after));
    assert!(matches!(third[0].next, Next::RetryIn(_)), "{:?}", third[0].next);
    core.handle(written(third, long_after), long_after);

    // An attempt that is sent after that counts again.
    let again = sends(&core.handle(found(&destination, Lane::Fresh, vec![sent[1].clone()]), long_after));
    assert_eq!(again.len(), 1);
    let again = settlements(&core.handle(answered(again[0].clone(), failed(410, None)), long_after));
    assert!(matches!(&again[0].next, Next::Dead { error: "gone", .. }), "{:?}", again[0].next);
}
