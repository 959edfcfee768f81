//! What one owner of a destination leaves to the next, and what a change of the address resets.

use super::tuning::{PERMIT_US, REPORT_EVERY_US};
use super::*;

const SECOND: u64 = 1_000_000;
const HOUR_US: u64 = 3_600 * SECOND;

/// Another replica that owns a destination in an epoch and has loaded its stored state, and the commands that follow.
fn next_owner(destination: &Destination, epoch: i64, learned: Option<Learned>, now_us: u64) -> (Core, Vec<Command>) {
    let mut core = Core::new(LIMITS);
    core.handle(Input::Owned { shards: HashMap::from([(destination.shard, epoch)]), until_us: u64::MAX }, now_us);
    core.handle(snapshot([clone(destination)]), now_us);
    let commands =
        core.handle(Input::HealthLoaded(vec![LoadedHealth { destination: destination.id, epoch, learned }]), now_us);
    (core, commands)
}

/// The final report of an owner whose shard is given to another replica.
fn handed_over(core: &mut Core, now_us: u64) -> Learned {
    let reported = reports(&core.handle(owned([]), now_us));
    assert_eq!(reported.len(), 1);
    assert!(reported[0].learned.is_last);
    reported[0].learned.clone()
}

/// Sends a fresh delivery in the second epoch.
fn send_fresh(core: &mut Core, destination: &Destination, number: u32, now_us: u64) -> Vec<Item> {
    for lane in Lane::ALL {
        let found = Found { items: Vec::new(), complete: true, read_us: now_us };
        core.handle(Input::Found { destination: destination.id, lane, epoch: 2, found }, now_us);
    }
    sends(&core.handle(Input::Fresh(vec![item(destination, number, now_us)]), now_us))
}

/// The result of an attempt in the second epoch.
fn answered_by_next_owner(item: Item, outcome: Outcome) -> Input {
    Input::Answered { item, epoch: 2, shard: 1, outcome, jitter: 0.5 }
}

fn rated(limit: u32, per: Duration) -> Destination {
    Destination { rate: NonZeroU32::new(limit).map(|limit| Rate { limit, per }), ..destination(1) }
}

#[test]
fn nothing_is_sent_or_read_before_the_stored_state_is_loaded_and_all_lines_load_it_together() {
    let destinations: Vec<Destination> = (1..=200).map(destination).collect();
    let mut core = Core::new(LIMITS);
    core.handle(owned(1..=200), START_US);
    let commands = core.handle(snapshot(destinations.iter().map(clone)), START_US);
    let asked = loads(&commands);
    assert_eq!((asked.len(), commands.len()), (200, 1), "with a single command");
    let fresh = Input::Fresh(vec![item(&destinations[0], 1, START_US)]);
    let commands = core.handle(fresh, START_US);
    assert!(sends(&commands).is_empty() && reads(&commands).is_empty() && reports(&commands).is_empty());
    assert!(!core.could_send(START_US));
    assert_eq!(loads(&core.handle(owned(1..=200), START_US)), [], "loaded only once");
    let commands = core.handle(Input::HealthLoaded(vec![nothing_of(destinations[0].id, 1)]), START_US);
    assert_eq!(reads(&commands), Lane::ALL);
    let commands = core.handle(Input::HealthLoaded(vec![nothing_of(destinations[1].id, 7)]), START_US);
    assert_eq!(reads(&commands), [], "that was another epoch");
}

#[test]
fn the_next_owner_keeps_a_back_off() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    let commands = core.handle(answered(sent[0].clone(), failed(429, Some(3_600_000))), START_US);
    let at_once = reports(&commands);
    assert_eq!(at_once[0].learned.back_off_until_us, Some(START_US + HOUR_US), "in case this replica is killed");
    let (mut next, commands) = next_owner(&destination, 2, Some(at_once[0].learned.clone()), START_US + SECOND);
    assert_eq!(reads(&commands), []);
    assert!(send_fresh(&mut next, &destination, 2, START_US + HOUR_US - 1).is_empty());
    assert!(reads(&next.handle(Input::Woken, START_US + HOUR_US)).contains(&Lane::Fresh));
    assert_eq!(send_fresh(&mut next, &destination, 3, START_US + HOUR_US).len(), 1);
}

#[test]
fn the_next_owner_keeps_an_open_breaker_a_reduction_and_a_run_of_failures() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let mut reported = Vec::new();
    for number in 0..10 {
        let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, number, START_US)]), START_US));
        reported.extend(reports(&core.handle(answered(sent[0].clone(), failed(503, None)), START_US)));
    }
    let learned = reported[reported.len() - 1].learned.clone();
    let until_us = START_US + FIRST_OPEN_US;
    assert_eq!(learned.breaker, BreakerState::Open { until_us });
    assert_eq!(learned.reduced.map(|reduced| reduced.why), Some(Reason::Status(503)));
    assert_eq!(learned.failing, Some(Run { since_us: START_US, failures: 10 }));
    let (mut next, _) = next_owner(&destination, 2, Some(learned.clone()), START_US + SECOND);
    assert_eq!(next.lines[&destination.id].concurrency(), 1);
    assert!(send_fresh(&mut next, &destination, 100, until_us - 1).is_empty());
    next.handle(Input::Woken, until_us);
    let found = Found { items: vec![item(&destination, 101, START_US)], complete: true, read_us: until_us };
    let found = Input::Found { destination: destination.id, lane: Lane::Fresh, epoch: 2, found };
    let probe = sends(&next.handle(found, until_us));
    assert_eq!(probe.len(), 1);
    let answer = answered_by_next_owner(probe[0].clone(), failed(500, None));
    let again = reports(&next.handle(answer, until_us));
    let opened = again.last().map(|health| health.learned.breaker);
    assert_eq!(opened, Some(BreakerState::Open { until_us: until_us + 2 * FIRST_OPEN_US }), "twice as long");
    assert_eq!(again.last().and_then(|health| health.learned.failing).map(|run| run.failures), Some(11));

    let five_days_us = 5 * 24 * HOUR_US;
    let old = Run { since_us: START_US - five_days_us, failures: 100 };
    let learned = Learned { failing: Some(old), breaker: BreakerState::Closed, ..learned };
    let (mut next, _) = next_owner(&destination, 2, Some(learned), START_US);
    let sent = send_fresh(&mut next, &destination, 102, START_US);
    let answer = answered_by_next_owner(sent[0].clone(), failed(500, None));
    let commands = next.handle(answer, START_US);
    let is_disabled =
        |command: &Command| matches!(command, Command::Disable(_, Disabling::Failing(run)) if run.failures == 101);
    assert!(commands.iter().any(is_disabled), "{commands:?}");
}

#[test]
fn a_back_off_after_429_keeps_growing_with_the_next_owner() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    let reported = reports(&core.handle(answered(sent[0].clone(), failed(429, None)), START_US));
    let learned = reported[0].learned.clone();
    let now_us = START_US + SECOND;
    let (mut next, _) = next_owner(&destination, 2, Some(learned), now_us);
    let sent = send_fresh(&mut next, &destination, 2, now_us);
    let answer = answered_by_next_owner(sent[0].clone(), failed(429, None));
    let settled = settlements(&next.handle(answer, now_us));
    assert_eq!(settled[0].next, Next::RetryIn(seconds(2)));
}

#[test]
fn the_next_owner_receives_results_that_arrive_while_a_shard_is_handed_over() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    assert!(reports(&core.handle(owned([]), START_US)).is_empty(), "an attempt is still in flight");
    assert!(sends(&core.handle(Input::Fresh(vec![item(&destination, 2, START_US)]), START_US)).is_empty());
    let commands = core.handle(answered(sent[0].clone(), failed(503, Some(60_000))), START_US);
    assert_eq!(settlements(&commands).len(), 1);
    let last = reports(&commands);
    assert_eq!((last.len(), last[0].learned.back_off_until_us), (1, Some(START_US + 60 * SECOND)));
    assert!(last[0].learned.is_last && core.leaving.is_empty() && core.last_reports(START_US).is_empty());
}

#[test]
fn a_destination_that_returns_keeps_its_line() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let items = (1..=2).map(|number| item(&destination, number, START_US)).collect();
    let sent = sends(&core.handle(Input::Fresh(items), START_US));
    core.handle(snapshot([]), START_US);
    let failed = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), START_US));
    core.handle(written(failed, START_US), START_US);
    let commands = core.handle(snapshot([clone(&destination)]), START_US);
    assert_eq!((loads(&commands), core.leaving.len()), (Vec::new(), 0), "nothing was forgotten");
    assert_eq!((reads(&commands), core.lines[&destination.id].in_flight()), (Lane::ALL.to_vec(), 1));
    let retry = Item { attempts: 1, ..sent[0].clone() };
    let again = sends(&core.handle(found(&destination, Lane::Retry, vec![retry]), START_US));
    assert_eq!(again.len(), 1, "a delivery settled in the meantime is retried when it is due");
}

#[test]
fn a_replica_that_ends_reports_its_unstored_state_and_its_rates() {
    let (free, rated) = (destination(2), rated(20, Duration::from_secs(1)));
    let (mut core, _) = core_of(LIMITS, [&free, &rated]);
    read_empty(&mut core, &free);
    read_empty(&mut core, &rated);
    let ids = |core: &mut Core| -> Vec<DestinationId> {
        core.last_reports(START_US).iter().map(|health| health.destination).collect()
    };
    assert_eq!(ids(&mut core), [rated.id], "nothing has happened to the other one");
    core.drain();
    assert!(sends(&core.handle(Input::Fresh(vec![item(&free, 1, START_US)]), START_US)).is_empty());
}

#[test]
fn a_rate_continues_across_owners_as_if_there_were_only_one() {
    let destination = rated(20, Duration::from_secs(1));
    let mut core = core_with(&destination);
    let items = (0..3).map(|number| item(&destination, number, START_US)).collect();
    assert_eq!(sends(&core.handle(Input::Fresh(items), START_US)).len(), 2, "the burst");
    for number in 0..2 {
        core.handle(answered(item(&destination, number, START_US), succeeded()), START_US);
    }
    let learned = handed_over(&mut core, START_US);
    let (mut next, _) = next_owner(&destination, 2, Some(learned.clone()), START_US);
    assert!(send_fresh(&mut next, &destination, 3, START_US + 49_999).is_empty());
    assert_eq!(sends(&next.handle(Input::Woken, START_US + 50_000)).len(), 1);
    // An owner that was killed may have sent more than it reported.
    let killed = Learned { is_last: false, ..learned };
    let later_us = START_US + 10 * SECOND;
    let (mut next, _) = next_owner(&destination, 2, Some(killed), later_us);
    assert!(send_fresh(&mut next, &destination, 3, later_us + 49_999).is_empty());
    assert_eq!(sends(&next.handle(Input::Woken, later_us + 50_000)).len(), 1);
}

#[test]
fn a_send_at_a_slow_rate_waits_until_it_is_stored_and_the_next_owner_waits_for_the_rest_of_the_hour() {
    let destination = rated(1, Duration::from_secs(3_600));
    let mut core = core_with(&destination);
    let commands = core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US);
    assert!(sends(&commands).is_empty());
    let stored = reports(&commands);
    let permit = Permitted { destination: destination.id, epoch: 1, asked_us: stored[0].permit_us.expect("requested") };
    let learned = stored[0].learned.clone();
    assert_eq!(learned.paced_us, Some(START_US + PERMIT_US), "the latest time at which it may be sent");
    assert_eq!(sends(&core.handle(Input::Permitted(vec![permit]), START_US + 7_000)).len(), 1);
    assert_eq!(core.wake_at_us(), Some(START_US + REPORT_EVERY_US));
    let (mut next, _) = next_owner(&destination, 2, Some(learned), START_US + 13 * SECOND);
    assert!(send_fresh(&mut next, &destination, 2, START_US + 13 * SECOND).is_empty());
    let until_us = START_US + PERMIT_US + HOUR_US;
    assert!(reports(&next.handle(Input::Woken, until_us - 1)).iter().all(|health| health.permit_us.is_none()));
    let asked = reports(&next.handle(Input::Woken, until_us));
    assert_eq!(asked.last().and_then(|health| health.permit_us), Some(until_us));

    // A permit that is stored too late is requested again.
    let late_us = until_us + PERMIT_US + 1;
    let permit = Permitted { destination: destination.id, epoch: 2, asked_us: until_us };
    let commands = next.handle(Input::Permitted(vec![permit]), late_us);
    assert!(sends(&commands).is_empty());
    assert_eq!(reports(&commands)[0].permit_us, Some(late_us));
    // Before a permit is stored, the final report has the time of the last send and not that of the permitted one.
    let learned = reports(&next.handle(Input::Owned { shards: HashMap::new(), until_us: u64::MAX }, late_us));
    assert_eq!(learned[0].learned.paced_us, Some(START_US + PERMIT_US));
}

#[test]
fn a_new_address_resets_the_learned_state_and_late_results_of_the_old_one_are_ignored() {
    let mut destination = rated(1, Duration::from_secs(4));
    let mut core = core_with(&destination);
    let items: Vec<Item> = (1..=2).map(|number| item(&destination, number, START_US)).collect();
    let first = sends(&core.handle(Input::Fresh(items), START_US));
    let second = sends(&core.handle(Input::Woken, START_US + 4 * SECOND));
    let now_us = START_US + 4 * SECOND;
    core.handle(answered(first[0].clone(), failed(503, Some(3_600_000))), now_us);
    assert!(!core.could_send(now_us));

    destination.moved_at = timestamp(now_us / 1_000);
    let commands = core.handle(snapshot([clone(&destination)]), now_us);
    assert!(core.could_send(now_us));
    let learned = reports(&commands)[0].learned.clone();
    assert_eq!((learned.back_off_until_us, learned.failing, learned.since_us), (None, None, now_us));
    let late = core.handle(answered(second[0].clone(), failed(410, None)), now_us);
    assert!(late.iter().all(|command| !matches!(command, Command::Disable(..))), "{late:?}");
    assert_eq!(settlements(&late)[0].next, Next::RetryIn(Duration::ZERO), "it goes to the new address");
    assert!(core.could_send(now_us) && core.lines[&destination.id].failing.run().is_none());
    core.handle(Input::Fresh(vec![item(&destination, 3, now_us)]), now_us);
    assert!(sends(&core.handle(Input::Woken, now_us + 4 * SECOND - 1)).is_empty(), "the rate continues");
    assert_eq!(sends(&core.handle(Input::Woken, now_us + 4 * SECOND)).len(), 1);
}

#[test]
fn the_stored_state_of_an_earlier_address_is_ignored_except_for_the_rate() {
    let mut destination = rated(1, Duration::from_secs(3_600));
    let mut core = core_with(&destination);
    let asked = reports(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
    let permit = Permitted { destination: destination.id, epoch: 1, asked_us: asked[0].permit_us.expect("requested") };
    let sent = sends(&core.handle(Input::Permitted(vec![permit]), START_US));
    core.handle(answered(sent[0].clone(), failed(503, Some(24 * 3_600_000))), START_US);
    let learned = handed_over(&mut core, START_US);
    assert!(learned.back_off_until_us.is_some() && learned.failing.is_some());

    destination.moved_at = timestamp(START_US / 1_000);
    let (moved, _) = next_owner(&destination, 2, Some(learned.clone()), START_US);
    let line = &moved.lines[&destination.id];
    assert_eq!((line.back_off_until(START_US), line.failing.run()), (None, None));
    assert_eq!(line.pace.as_ref().and_then(|pace| pace.wait_us(START_US)), Some(HOUR_US));

    // The configuration of a replica may be older than the stored state.
    let newer = Learned { since_us: START_US + 10, ..learned };
    let (mut behind, _) = next_owner(&destination, 2, Some(newer), START_US);
    assert!(behind.lines[&destination.id].back_off_until(START_US).is_some());
    destination.moved_at = model::unix_time::timestamp_us(START_US + 10);
    behind.handle(snapshot([clone(&destination)]), START_US);
    assert!(behind.lines[&destination.id].back_off_until(START_US).is_some(), "learned at the present address");
}

#[test]
fn when_a_lease_ends_attempts_in_flight_are_aborted_once_whichever_input_reveals_it() {
    let destination = destination(1);
    let until_us = START_US + 8 * SECOND;
    let in_flight = || {
        let mut core = core_with(&destination);
        core.handle(Input::Owned { shards: HashMap::from([(1, 1)]), until_us }, START_US);
        assert_eq!(core.wake_at_us(), None, "nothing is in flight");
        let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, START_US)]), START_US));
        (core, sent)
    };
    let aborts = |commands: Vec<Command>| commands.iter().any(|command| matches!(command, Command::BreakOff));
    let (mut core, sent) = in_flight();
    core.handle(Input::Woken, core.wake_at_us().expect("a report"));
    assert_eq!(core.wake_at_us(), Some(until_us));
    assert!(!aborts(core.handle(Input::Woken, until_us - 1)));
    assert!(aborts(core.handle(Input::Woken, until_us)), "at the end of the lease");
    assert!(!aborts(core.handle(Input::Fenced, until_us)), "only once");
    let settled = settlements(
        &core.handle(answered(sent[0].clone(), Outcome::NotSent { reason: "a test".to_owned() }), until_us),
    );
    assert!(matches!(settled[0].next, Next::NotSent { .. }), "if the lease is renewed after all, it is sent again");

    let (mut core, _) = in_flight();
    assert!(aborts(core.handle(Input::Fenced, START_US + SECOND)), "by a failed renewal of the lease");
    let (mut core, _) = in_flight();
    // A process that was suspended first receives the lease that it has now.
    assert!(
        aborts(core.handle(owned([1]), until_us + SECOND)),
        "by a new lease that begins after the end of the old one"
    );
    let (mut core, _) = in_flight();
    assert!(!aborts(core.handle(owned([1]), until_us - 1)));
}
