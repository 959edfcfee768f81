//! Which deliveries suffer from a destination that fails, throttles, hangs or is greedy, and what is reported of it.

use super::*;

/// A delivery of a replay.
fn replayed(destination: &Destination, number: u32) -> Item {
    let replay_id = Some(ReplayId::mint(1, [1; 10]));
    Item { replay_id, ..item(destination, number, START_US) }
}

fn lanes(items: &[Item]) -> Vec<Lane> {
    items.iter().map(Item::lane).collect()
}

#[test]
fn live_traffic_is_sent_at_once_while_a_replay_uses_all_slots_that_it_may_use() {
    let mut destination = destination(1);
    destination.max_concurrency = 10;
    let mut core = core_with(&destination);
    core.handle(Input::Rescan(destination.id), START_US);
    let replay = (0..50).map(|number| replayed(&destination, number)).collect();
    let sent = sends(&core.handle(found(&destination, Lane::Replay, replay), START_US));
    assert_eq!(sent.len(), 7, "two slots are left to live traffic and one to retries");
    core.handle(found(&destination, Lane::Fresh, Vec::new()), START_US);
    let live = (100..102).map(|number| item(&destination, number, START_US)).collect();
    assert_eq!(lanes(&sends(&core.handle(Input::Fresh(live), START_US))), [Lane::Fresh; 2]);

    // A returned slot goes to live traffic first, although the replay has waited for longer.
    let live = (200..202).map(|number| item(&destination, number, START_US)).collect();
    assert_eq!(lanes(&sends(&core.handle(Input::Fresh(live), START_US))), [Lane::Fresh], "the slot kept for retries");
    let next = sends(&core.handle(answered(sent[0].clone(), succeeded()), START_US));
    assert_eq!(lanes(&next), [Lane::Fresh]);
}

#[test]
fn a_replay_to_many_destinations_leaves_global_slots_to_live_traffic() {
    let destinations: Vec<Destination> = (1..=5).map(destination).collect();
    let (mut core, _) = core_of(Limits { in_flight: 10, ..LIMITS }, &destinations);
    let mut sent = Vec::new();
    for destination in &destinations {
        let replay = (0..3).map(|number| replayed(destination, number)).collect();
        sent.extend(sends(&core.handle(found(destination, Lane::Replay, replay), START_US)));
    }
    assert_eq!(sent.len(), 7);
    for destination in &destinations {
        core.handle(found(destination, Lane::Fresh, Vec::new()), START_US);
    }
    let live = (0..2).map(|number| item(&destinations[4], 10 + number, START_US)).collect();
    assert_eq!(lanes(&sends(&core.handle(Input::Fresh(live), START_US))), [Lane::Fresh; 2]);
    // When slots are returned, the replay continues.
    let mut continued = 0;
    for item in sent {
        let shard = i16::from(item.destination_id.uuid().as_bytes()[15]);
        let input = Input::Answered { item, epoch: 1, shard, outcome: succeeded(), jitter: 0.5 };
        continued += sends(&core.handle(input, START_US)).len();
    }
    assert_eq!(continued, 6, "two of the remaining eight wait for slots of their own destination");
}

/// A core with a hundred slots, and destinations that may use all of them.
fn core_of_greedy(destinations: &mut [Destination]) -> Core {
    destinations.iter_mut().for_each(|destination| destination.max_concurrency = 100);
    core_of(Limits { unsettled: 10_000, ..LIMITS }, &*destinations).0
}

/// Offers 500 due deliveries and returns those that are sent.
fn many(core: &mut Core, destination: &Destination) -> Vec<Item> {
    let items = (0..500)
        .map(|number| item(destination, u32::try_from(destination.shard).expect("small") * 1_000 + number, START_US));
    sends(&core.handle(found(destination, Lane::Fresh, items.collect()), START_US))
}

/// The shared slots of a hundred.
const SHARED: usize = 94;

fn count_of(items: &[Item], destination: &Destination) -> usize {
    items.iter().filter(|item| item.destination_id == destination.id).count()
}

#[test]
fn a_few_destinations_share_all_slots_except_those_that_are_kept_for_others() {
    for count in [1, 2, 5] {
        let mut destinations: Vec<Destination> = (1..=count).map(destination).collect();
        let mut core = core_of_greedy(&mut destinations);
        let mut in_flight = VecDeque::new();
        for destination in &destinations {
            in_flight.extend(many(&mut core, destination));
        }
        // The first one has all shared slots, and gives them up as its attempts are answered.
        for _ in 0..200 {
            let item = in_flight.pop_front().expect("one is in flight");
            in_flight.extend(sends(&core.handle(answered(item, succeeded()), START_US)));
            assert!(in_flight.len() >= SHARED, "{} of {count} destinations", in_flight.len());
        }
        for destination in &destinations {
            assert!(count_of(in_flight.make_contiguous(), destination) >= SHARED / usize::from(count));
        }
        assert_eq!(core.totals.wanting, usize::from(count));
    }
}

#[test]
fn a_quiet_destination_does_not_wait_for_one_that_uses_all_slots_that_it_may_use() {
    let mut destinations = [destination(1), destination(2)];
    let mut core = core_of_greedy(&mut destinations);
    let [greedy, quiet] = &destinations;
    let sent = many(&mut core, greedy);
    assert_eq!(sent.len(), SHARED);
    let few = (0..10).map(|number| item(quiet, number, START_US)).collect();
    assert_eq!(sends(&core.handle(found(quiet, Lane::Fresh, few), START_US)).len(), 100 - SHARED);
    // Returned slots go to it too, until it has all that it wants.
    let next: Vec<Item> = sent
        .iter()
        .take(11)
        .flat_map(|item| sends(&core.handle(answered(item.clone(), succeeded()), START_US)))
        .collect();
    let kept = 10 - (100 - SHARED);
    assert_eq!((count_of(&next[..kept], quiet), count_of(&next[kept..], greedy)), (kept, 1));

    // While slots are not short it does not wait at all.
    let mut core = core_of_greedy(&mut [destination(1), destination(2)]);
    let few = (0..60).map(|number| item(greedy, number, START_US)).collect();
    assert_eq!(sends(&core.handle(found(greedy, Lane::Fresh, few), START_US)).len(), 60);
    let few = (0..3).map(|number| item(quiet, number, START_US)).collect();
    assert_eq!(sends(&core.handle(found(quiet, Lane::Fresh, few), START_US)).len(), 3);
}

#[test]
fn a_destination_whose_shard_is_given_up_no_longer_counts_as_one_that_wants_slots() {
    let mut destinations = [destination(1), destination(2)];
    let mut core = core_of_greedy(&mut destinations);
    let [stays, leaves] = &destinations;
    many(&mut core, leaves);
    many(&mut core, stays);
    assert_eq!(core.totals.wanting, 2);
    core.handle(owned([stays.shard]), START_US);
    assert_eq!(core.totals.wanting, 1);
}

/// A core whose only destination has failed until its breaker opened.
fn core_with_open_breaker(destination: &Destination) -> Core {
    let mut core = core_with(destination);
    for number in 0..10 {
        let sent = sends(&core.handle(Input::Fresh(vec![item(destination, number, START_US)]), START_US));
        let settled = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), START_US));
        core.handle(written(settled, START_US), START_US);
    }
    core
}

#[test]
fn while_a_breaker_is_open_nothing_is_sent_read_or_kept_in_memory() {
    let destination = destination(1);
    let mut core = core_with_open_breaker(&destination);
    for number in 10..100 {
        let commands = core.handle(Input::Fresh(vec![item(&destination, number, START_US)]), START_US + 1);
        assert!(sends(&commands).is_empty() && reads(&commands).is_empty(), "{commands:?}");
    }
    assert_eq!(core.lines[&destination.id].lanes[Lane::Fresh].waiting(), 0);
    assert!(!core.could_send(START_US + 1));
    assert!(sends(&core.handle(Input::Woken, START_US + FIRST_OPEN_US - 1)).is_empty());
}

#[test]
fn one_probe_is_sent_at_its_time_and_its_success_begins_a_slow_start() {
    let mut destination = destination(1);
    destination.max_concurrency = 8;
    let mut core = core_with_open_breaker(&destination);
    let now_us = START_US + FIRST_OPEN_US;
    assert!(reads(&core.handle(Input::Woken, now_us)).contains(&Lane::Fresh));
    let waiting: Vec<Item> = (100..130).map(|number| item(&destination, number, START_US)).collect();
    let probe = sends(&core.handle(found(&destination, Lane::Fresh, waiting[..2].to_vec()), now_us));
    assert_eq!(probe.len(), 1, "a single probe");
    let commands = core.handle(answered(probe[0].clone(), succeeded()), now_us);
    assert_eq!(sends(&commands).len(), 1);
    let mut in_flight = sends(&commands);
    core.handle(Input::Rescan(destination.id), now_us);
    in_flight.extend(sends(&core.handle(found(&destination, Lane::Fresh, waiting[2..].to_vec()), now_us)));
    assert_eq!(in_flight.len(), 1, "slow start");
    let next = sends(&core.handle(answered(in_flight[0].clone(), succeeded()), now_us));
    assert_eq!(next.len(), 2, "twice as many");
}

#[test]
fn a_destination_that_answers_429_is_sent_half_as_much_and_not_cut_off() {
    let mut destination = destination(1);
    destination.max_concurrency = 8;
    let mut core = core_with(&destination);
    let items = (0..40).map(|number| item(&destination, number, START_US)).collect();
    let mut in_flight = sends(&core.handle(Input::Fresh(items), START_US));
    assert_eq!(in_flight.len(), 8);
    for round in 1..=20 {
        let now_us = START_US + round * 2_000;
        for item in std::mem::take(&mut in_flight) {
            in_flight.extend(sends(&core.handle(answered(item, failed(429, Some(1))), now_us)));
        }
        in_flight.extend(sends(&core.handle(Input::Woken, now_us + 1_000)));
        let expected = [4, 2, 1][usize::try_from(round - 1).expect("small").min(2)];
        assert_eq!(in_flight.len(), expected, "round {round}");
    }
}

#[test]
fn a_429_without_retry_after_stops_the_line_for_a_growing_back_off_and_charges_nothing() {
    let mut destination = destination(1);
    destination.max_concurrency = 1;
    let mut core = core_with(&destination);
    let mut now_us = START_US;
    let mut next = item(&destination, 1, START_US);
    for (attempts, back_off_s) in [(1_u16, 1), (2, 2), (3, 4), (4, 8)] {
        let sent = sends(&core.handle(Input::Fresh(vec![next.clone()]), now_us));
        assert_eq!(sent.len(), 1);
        let settled = settlements(&core.handle(answered(sent[0].clone(), failed(429, None)), now_us));
        let until_us = now_us + back_off_s * 1_000_000;
        assert_eq!(settled[0].next, Next::RetryIn(seconds(back_off_s)));
        assert_eq!((settled[0].attempts, settled[0].throttled), (attempts as i16, attempts as i16));
        core.handle(written(settled, now_us), now_us);
        let other = item(&destination, 100 + u32::from(attempts), now_us);
        assert!(sends(&core.handle(Input::Fresh(vec![other.clone()]), until_us - 1)).is_empty(), "all deliveries wait");
        core.handle(Input::DeliveryCancelled(destination.id, other.id), until_us - 1);
        now_us = until_us;
        for lane in reads(&core.handle(Input::Woken, now_us)) {
            core.handle(found(&destination, lane, Vec::new()), now_us);
        }
        (next.attempts, next.throttled) = (attempts, attempts);
    }
    // The schedule of three attempts begins only now.
    let sent = sends(&core.handle(Input::Fresh(vec![next]), now_us));
    let settled = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), now_us));
    assert_eq!(settled[0].next, Next::RetryIn(seconds(10)));
    assert_eq!((settled[0].attempts, settled[0].throttled), (5, 4));
}

#[test]
fn a_delivery_that_is_always_answered_429_is_charged_in_the_end() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let mut worn = item(&destination, 1, START_US);
    let most = tuning::THROTTLED_FOR_FREE;
    (worn.attempts, worn.throttled) = (most + 2, most);
    let sent = sends(&core.handle(Input::Fresh(vec![worn]), START_US));
    let commands = core.handle(answered(sent[0].clone(), failed(429, None)), START_US);
    let settled = settlements(&commands);
    assert!(matches!(&settled[0].next, Next::Dead { reason, .. } if reason.contains("429")), "{:?}", settled[0].next);
    let fresh = Input::Fresh(vec![item(&destination, 2, START_US)]);
    assert!(sends(&core.handle(fresh, START_US + 900_000)).is_empty(), "the back-off applies nevertheless");
}

#[test]
fn refused_deliveries_use_up_their_own_attempts_and_delay_no_others() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    for (number, status) in (0..).zip([400, 404, 405, 409, 413, 415, 422].repeat(20)) {
        let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, number, START_US)]), START_US));
        assert_eq!(sent.len(), 1, "{number}");
        let settled = settlements(&core.handle(answered(sent[0].clone(), failed(status, None)), START_US));
        assert_eq!(settled[0].next, Next::RetryIn(seconds(10)));
        assert_eq!((settled[0].attempts, settled[0].throttled), (1, 0));
        core.handle(written(settled, START_US), START_US);
    }
    assert_eq!(core.lines[&destination.id].breaker.state(), BreakerState::Closed);
    // A status that concerns every delivery opens the breaker.
    for (number, status) in (1_000..).zip([401, 403, 407, 408, 500].repeat(2)) {
        let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, number, START_US)]), START_US));
        core.handle(answered(sent[0].clone(), failed(status, None)), START_US);
    }
    assert!(matches!(core.lines[&destination.id].breaker.state(), BreakerState::Open { .. }));
}

#[test]
fn changes_of_state_are_reported_at_once_and_everything_else_every_few_seconds() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    for number in 0..1_000 {
        let sent = core.handle(Input::Fresh(vec![item(&destination, number, START_US)]), START_US);
        let answer = core.handle(answered(sends(&sent)[0].clone(), succeeded()), START_US);
        let settled = written(settlements(&answer), START_US);
        let written = [sent, answer, core.handle(settled, START_US)].map(|commands| reports(&commands));
        assert_eq!(written.concat(), [], "no report per attempt");
    }
    let wake = core.wake_at_us().expect("a wake");
    assert_eq!(wake, START_US + tuning::REPORT_EVERY_US);
    let later = reports(&core.handle(Input::Woken, wake));
    assert_eq!((later.len(), later[0].recent, later[0].learned.breaker), (1, (1_000, 0), BreakerState::Closed));
    assert_eq!(core.wake_at_us(), None, "no report without an event");

    for number in 2_000..2_010 {
        let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, number, wake)]), wake));
        let changed = reports(&core.handle(answered(sent[0].clone(), failed(500, None)), wake));
        let opened = changed.first().map(|health| health.learned.breaker);
        let expected = (number == 2_009).then_some(BreakerState::Open { until_us: wake + FIRST_OPEN_US });
        assert_eq!(opened, expected);
    }
}
