//! Expedited deliveries, and cancellations.

use super::*;
use crate::tuning::{FAILURES_IN_A_ROW, MOST_EXPEDITED};

/// The expedited deliveries whose rows are to be read.
fn asked(commands: &[Command]) -> Vec<DeliveryId> {
    let asked = |command: &Command| {
        if let Command::ReadExpedited { deliveries, .. } = command { Some(deliveries.clone()) } else { None }
    };
    commands.iter().filter_map(asked).flatten().collect()
}

fn expedited(item: &Item) -> Item {
    Item { expedited: true, ..item.clone() }
}

/// A caller expedites a delivery, and its row is read. Returns the commands that follow.
fn expedite(core: &mut Core, item: &Item, now_us: u64) -> Vec<Command> {
    let asked = asked(&core.handle(Input::Expedite(vec![(item.destination_id, item.id)]), now_us));
    assert_eq!(asked, [item.id]);
    let (destination, items) = (item.destination_id, vec![expedited(item)]);
    core.handle(Input::Expedited { destination, epoch: 1, asked, items }, now_us)
}

/// A core whose destination backs off for an hour after its first response, with that delivery.
fn core_in_back_off(destination: &Destination) -> (Core, Item) {
    let mut core = core_with(destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(destination, 1, START_US)]), START_US));
    let commands = core.handle(answered(sent[0].clone(), failed(503, Some(3_600_000))), START_US);
    core.handle(written(settlements(&commands), START_US), START_US);
    let held = Item { attempts: 1, ..sent[0].clone() };
    (core, held)
}

fn open_core(destination: &Destination) -> Core {
    let mut core = core_with(destination);
    for number in 0..FAILURES_IN_A_ROW {
        let sent = sends(&core.handle(Input::Fresh(vec![item(destination, number, START_US)]), START_US));
        let commands = core.handle(answered(sent[0].clone(), failed(500, None)), START_US);
        core.handle(written(settlements(&commands), START_US), START_US);
    }
    assert!(matches!(core.lines[&destination.id].breaker.state(), BreakerState::Open { .. }));
    core
}

#[test]
fn an_expedited_delivery_is_sent_during_a_back_off_and_its_success_ends_it() {
    let destination = destination(1);
    let (mut core, held) = core_in_back_off(&destination);
    let other = item(&destination, 2, START_US);
    core.handle(Input::Fresh(vec![other.clone()]), START_US);
    let sent = sends(&expedite(&mut core, &held, START_US + 1));
    assert_eq!(sent.iter().map(|item| item.id).collect::<Vec<_>>(), [held.id]);
    let commands = core.handle(answered(sent[0].clone(), succeeded()), START_US + 2);
    assert_eq!(settlements(&commands)[0].next, Next::Succeeded);
    assert_eq!(
        sends(&commands).iter().map(|item| item.id).collect::<Vec<_>>(),
        [other.id],
        "other deliveries continue at once"
    );
}

#[test]
fn a_failure_of_an_expedited_delivery_leaves_the_back_off_as_it_was() {
    let destination = destination(1);
    for failure in [failed(500, None), failed(404, None), failed(429, None)] {
        let (mut core, held) = core_in_back_off(&destination);
        let sent = sends(&expedite(&mut core, &held, START_US + 1));
        let settled = settlements(&core.handle(answered(sent[0].clone(), failure), START_US + 2));
        assert!(settled[0].expedited && matches!(settled[0].next, Next::RetryIn(_)));
        core.handle(written(settled, START_US + 2), START_US + 2);
        let line = &core.lines[&destination.id];
        assert_eq!(line.back_off_until(START_US + 3), Some(START_US + 3_600_000_000));
    }
}

#[test]
fn a_back_off_after_429_is_not_extended_by_an_expedited_delivery() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    let commands = core.handle(answered(sent[0].clone(), failed(429, None)), START_US);
    core.handle(written(settlements(&commands), START_US), START_US);
    let until_us = core.lines[&destination.id].back_off_until(START_US);
    let again = Item { attempts: 1, ..sent[0].clone() };
    let sent = sends(&expedite(&mut core, &again, START_US + 1));
    core.handle(answered(sent[0].clone(), failed(429, None)), START_US + 2);
    assert_eq!(core.lines[&destination.id].back_off_until(START_US + 3), until_us);
}

#[test]
fn an_expedited_delivery_closes_an_open_breaker_or_leaves_it_as_it_is() {
    let destination = destination(1);
    for (outcome, closes) in [(succeeded(), true), (failed(500, None), false)] {
        let mut core = open_core(&destination);
        let open = core.lines[&destination.id].breaker.state();
        let sent = sends(&expedite(&mut core, &item(&destination, 100, START_US), START_US + 1));
        assert_eq!(sent.len(), 1);
        core.handle(answered(sent[0].clone(), outcome), START_US + 2);
        let then = core.lines[&destination.id].breaker.state();
        assert_eq!(then, if closes { BreakerState::Closed } else { open });
    }
}

#[test]
fn expedited_deliveries_are_sent_one_at_a_time_during_a_back_off() {
    let destination = destination(1);
    let (mut core, first) = core_in_back_off(&destination);
    let second = item(&destination, 2, START_US);
    let sent = sends(&expedite(&mut core, &first, START_US + 1));
    assert_eq!(sent.len(), 1);
    assert_eq!(sends(&expedite(&mut core, &second, START_US + 1)).len(), 0);
    let commands = core.handle(answered(sent[0].clone(), failed(500, None)), START_US + 2);
    assert_eq!(sends(&commands).iter().map(|item| item.id).collect::<Vec<_>>(), [second.id]);
}

#[test]
fn expedited_deliveries_go_first_and_keep_to_the_rate() {
    let mut destination = destination(1);
    destination.rate = NonZeroU32::new(1).map(|limit| Rate { limit, per: Duration::from_secs(1) });
    let mut core = core_with(&destination);
    let items: Vec<Item> = (0..3).map(|number| item(&destination, number, START_US)).collect();
    let last = items[2].clone();
    assert_eq!(sends(&core.handle(Input::Fresh(items), START_US)).len(), 1);
    assert_eq!(sends(&expedite(&mut core, &last, START_US + 1)).len(), 0, "the rate allows none now");
    let wake_us = core.wake_at_us().expect("a wake");
    let sent = sends(&core.handle(Input::Woken, wake_us));
    assert_eq!(sent.iter().map(|item| (item.id, item.expedited)).collect::<Vec<_>>(), [(last.id, true)]);
}

#[test]
fn a_paused_destination_or_an_earlier_delivery_of_the_key_keeps_an_expedited_delivery_waiting() {
    let mut paused = destination(1);
    let mut core = core_with(&paused);
    paused.state = DestinationState::Paused;
    core.handle(snapshot([clone(&paused)]), START_US);
    let ask = Input::Expedite(vec![(paused.id, item(&paused, 1, START_US).id)]);
    assert_eq!(asked(&core.handle(ask, START_US)), []);

    let destination = destination(2);
    let mut core = core_with(&destination);
    let behind = Item { order_key: Some(7), before: Before::Untried, ..item(&destination, 1, START_US) };
    assert_eq!(sends(&expedite(&mut core, &behind, START_US)).len(), 0);
    let first = Item { before: Before::Nothing, ..behind };
    assert_eq!(sends(&expedite(&mut core, &first, START_US)).len(), 1, "once the other one has ended");
}

#[test]
fn deliveries_in_flight_or_being_read_are_not_requested_again_and_their_number_is_limited() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    let mut ask = |ids: Vec<DeliveryId>| {
        let ids = ids.into_iter().map(|id| (destination.id, id)).collect();
        asked(&core.handle(Input::Expedite(ids), START_US)).len()
    };
    assert_eq!(ask(vec![sent[0].id]), 0);
    let ids: Vec<DeliveryId> = (10..60).map(|number| item(&destination, number, START_US).id).collect();
    assert_eq!(ask(ids[..1].to_vec()), 1);
    assert_eq!(ask(ids[..1].to_vec()), 0);
    assert_eq!(ask(ids), MOST_EXPEDITED - 1);
}

#[test]
fn cancelled_deliveries_are_dropped_from_memory_and_from_reads_in_flight() {
    let mut destination = destination(1);
    destination.max_concurrency = 1;
    let mut core = core_with(&destination);
    let replay_id = Some(ReplayId::mint(1, [9; 10]));
    let items: Vec<Item> = (0..4).map(|number| item(&destination, number, START_US)).collect();
    let sent = sends(&core.handle(Input::Fresh(items.clone()), START_US));
    core.handle(Input::DeliveryCancelled(destination.id, items[1].id), START_US);
    // The scan that follows has begun to read: these rows are from before the cancellations.
    core.handle(Input::DeliveryCancelled(destination.id, items[2].id), START_US);
    core.handle(found(&destination, Lane::Fresh, vec![items[2].clone(), items[3].clone()]), START_US);
    let replayed: Vec<Item> = (5..8).map(|number| Item { replay_id, ..item(&destination, number, START_US) }).collect();
    core.handle(Input::ReplayCancelled(ReplayId::mint(1, [9; 10])), START_US);
    let commands = core.handle(found(&destination, Lane::Replay, replayed), START_US);
    assert_eq!(reads(&commands), [Lane::Replay], "it is read again");

    let mut sent_ids = Vec::new();
    let mut next = sent;
    while let Some(item) = next.pop() {
        sent_ids.push(item.id);
        let commands = core.handle(answered(item, succeeded()), START_US + 1);
        core.handle(written(settlements(&commands), START_US + 1), START_US + 1);
        next = sends(&commands);
    }
    assert_eq!(sent_ids, [items[0].id, items[3].id]);
}

#[test]
fn a_row_whose_settlement_was_not_written_is_read_again() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    let settled = settlements(&core.handle(answered(sent[0].clone(), succeeded()), START_US));
    assert_eq!((settled[0].attempts_before, settled[0].generation), (0, 0));
    let commands = core.handle(Input::NotSettled(settled), START_US);
    assert!(reads(&commands).contains(&Lane::Fresh));
    let again = Item { generation: 7, ..sent[0].clone() };
    let sent = sends(&core.handle(found(&destination, Lane::Fresh, vec![again]), START_US));
    assert_eq!(sent.iter().map(|item| item.generation).collect::<Vec<_>>(), [7]);
    assert_eq!(core.in_flight(), 1);
}
