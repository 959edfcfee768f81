//! The memory that the engine uses over all destinations.

use super::*;

/// A delivery from the table with a body of this size, which is not in memory.
fn large(destination: &Destination, number: u32, body_bytes: usize) -> Item {
    let mut item = item(destination, number, START_US);
    item.event = Arc::new(Event { body_bytes, ..item.event.without_body() });
    item
}

fn limits_of_reads(commands: &[Command]) -> Vec<usize> {
    let limit = |command: &Command| if let Command::Read { limit, .. } = command { Some(*limit) } else { None };
    commands.iter().filter_map(limit).collect()
}

#[test]
fn bodies_beyond_the_budget_are_not_kept_until_others_have_been_sent() {
    let (mut one, mut other) = (destination(1), destination(2));
    (one.max_concurrency, other.max_concurrency) = (1, 1);
    let (mut core, _) = core_of(LIMITS, [&one, &other]);
    read_empty(&mut core, &one);
    read_empty(&mut core, &other);
    let with_body = |destination: &Destination, number| {
        let mut item = item(destination, number, START_US);
        let event = Event { body: Some(vec![7; 6]), ..item.event.without_body() };
        item.event = Arc::new(event);
        item
    };
    let bodies = |items: &[Item]| items.iter().map(|item| item.event.body.is_some()).collect::<Vec<_>>();

    let first = sends(&core.handle(Input::Fresh(vec![with_body(&one, 1)]), START_US));
    assert_eq!((bodies(&first), core.budget.held()), (vec![true], 0), "a sent delivery no longer counts");
    core.handle(Input::Fresh(vec![with_body(&one, 2), with_body(&one, 3)]), START_US);
    assert_eq!(core.budget.held(), 6, "a second six bytes do not fit into ten");
    let second = sends(&core.handle(Input::Fresh(vec![with_body(&other, 4)]), START_US));
    assert_eq!(bodies(&second), [false], "all lines share the budget");
    assert_eq!(bodies(&sends(&core.handle(answered(first[0].clone(), succeeded()), START_US))), [true]);
    assert_eq!(core.budget.held(), 0);
    core.handle(Input::Fresh(vec![with_body(&other, 5)]), START_US);
    assert_eq!(core.budget.held(), 6, "there is room again");

    other.state = DestinationState::Paused;
    core.handle(snapshot([clone(&one), clone(&other)]), START_US);
    assert_eq!(core.budget.held(), 0, "dropped deliveries return their memory");
}

#[test]
fn the_more_memory_is_used_the_fewer_deliveries_are_read_and_each_lane_gets_some() {
    const ROWS: usize = 1_000 * 4_096;
    let destinations: Vec<Destination> = (1..=200).map(destination).collect();
    let (mut core, commands) = core_of(Limits { read: 500, rows: ROWS, ..LIMITS }, &destinations);
    let limits = limits_of_reads(&commands);
    assert_eq!(limits.len(), 3 * destinations.len(), "each lane of each destination is read");
    assert_eq!(limits[0], 1_000 / 16, "the first takes its part of what is free");
    assert_eq!(limits.iter().min(), Some(&1), "the last takes one at least");
    let all: usize = limits.iter().sum();
    assert!(all <= 1_000 + limits.len(), "{all}");

    // Found rows take the memory they need, and the rest of the reserved memory is returned.
    for destination in &destinations {
        read_empty(&mut core, destination);
    }
    assert_eq!(core.budget.held_rows(), 0);
}

#[test]
fn a_lane_is_read_again_if_an_incomplete_read_has_returned_nothing() {
    let destination = destination(1);
    let (mut core, _) = core_of(LIMITS, [&destination]);
    let found = Found { items: Vec::new(), complete: false, read_us: START_US };
    let again = core.handle(Input::Found { destination: destination.id, lane: Lane::Fresh, epoch: 1, found }, START_US);
    assert_eq!(limits_of_reads(&again).len(), 1);
}

#[test]
fn large_bodies_in_flight_are_limited_and_one_destination_leaves_room_for_others() {
    const MB: usize = 1_000_000;
    let (mut one, mut other) = (destination(1), destination(2));
    (one.max_concurrency, other.max_concurrency) = (50, 50);
    let (mut core, _) = core_of(Limits { in_flight_bytes: 10 * MB, ..LIMITS }, [&one, &other]);
    let read = |core: &mut Core, destination: &Destination, numbers: std::ops::Range<u32>, bytes| {
        let items = numbers.map(|number| large(destination, number, bytes)).collect();
        sends(&core.handle(found(destination, Lane::Fresh, items), START_US))
    };
    let first = read(&mut core, &one, 0..20, MB);
    assert_eq!(first.len(), 5, "half of the memory");
    assert_eq!(read(&mut core, &other, 20..40, MB).len(), 3, "what is then left allows three");
    let next = first[..2].iter().flat_map(|item| sends(&core.handle(answered(item.clone(), succeeded()), START_US)));
    assert_eq!(next.count(), 1, "two have ended, and there is room for one more");
}

#[test]
fn a_body_larger_than_the_whole_limit_is_sent_on_its_own() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    core.limits.in_flight_bytes = 100_000;
    let items = (0..2).map(|number| large(&destination, number, 1_000_000)).collect();
    let sent = sends(&core.handle(found(&destination, Lane::Fresh, items), START_US));
    assert_eq!(sent.len(), 1);
    assert_eq!(sends(&core.handle(answered(sent[0].clone(), succeeded()), START_US)).len(), 1);
}

#[test]
fn a_lane_remembers_the_earliest_of_many_retries_and_leaves_the_others_to_the_scan() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    for number in (0..10_000_u64).rev() {
        let (due_us, wait) = (START_US + 1_000_000 + number * 1_000_000, seconds(1 + number));
        core.handle(Input::NextDue { destination: destination.id, lane: Lane::Retry, due_us, wait }, START_US);
    }
    let lane = &core.lines[&destination.id].lanes[Lane::Retry];
    assert_eq!(lane.remembered(), tuning::MOST_DUE);
    assert_eq!(core.wake_at_us(), Some(START_US + 1_000_000), "the earliest");
}
