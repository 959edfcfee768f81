//! Two clocks: the engine's, which jumps when the machine was suspended, and the database's, which may be any other.

use super::*;

const HOUR_US: u64 = 3_600_000_000;

#[test]
fn a_retry_is_read_after_its_wait_however_far_the_clocks_differ() {
    for database_us in [START_US - HOUR_US, START_US, START_US + HOUR_US] {
        let destination = destination(1);
        let mut core = Core::new(LIMITS);
        core.handle(owned([destination.shard]), START_US);
        core.handle(snapshot([clone(&destination)]), START_US);
        core.handle(Input::HealthLoaded(vec![nothing_of(destination.id, 1)]), START_US);
        for lane in Lane::ALL {
            core.handle(found_at(&destination, lane, Vec::new(), database_us), START_US);
        }
        let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, 0)]), START_US));
        let settled = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), START_US));
        assert_eq!(settled[0].next, Next::RetryIn(seconds(10)));
        core.handle(written(settled, database_us), START_US);
        let due_us = START_US + 10_000_000;
        assert_eq!(reads(&core.handle(Input::Woken, due_us - 1)), []);
        let begin_us = begin_of(&core.handle(Input::Woken, due_us), Lane::Retry).expect("it is read");
        assert!(begin_us <= database_us + 10_000_000, "the read covers the row");
    }
}

#[test]
fn due_rows_are_found_however_far_the_clocks_differ() {
    for database_us in [START_US - HOUR_US, START_US + HOUR_US] {
        let destination = destination(1);
        let mut core = core_with(&destination);
        let next = |wait_s: u64| Input::NextDue {
            destination: destination.id,
            lane: Lane::Retry,
            due_us: database_us + wait_s * 1_000_000,
            wait: seconds(wait_s),
        };
        assert_eq!(reads(&core.handle(next(0), START_US)), [Lane::Retry], "due now");
        core.handle(found_at(&destination, Lane::Retry, Vec::new(), database_us), START_US);
        assert_eq!(reads(&core.handle(next(30), START_US)), [], "due in 30 s");
        assert_eq!(reads(&core.handle(Input::Woken, START_US + 29_900_000)), []);
        assert_eq!(reads(&core.handle(Input::Woken, START_US + 30_000_000)), [Lane::Retry]);
    }
}

#[test]
fn a_delivery_that_waits_for_its_first_attempt_is_read_when_its_wait_is_over() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let later = Input::Later { destination: destination.id, wait: seconds(30) };
    assert_eq!(reads(&core.handle(later, START_US)), []);
    assert_eq!(reads(&core.handle(Input::Woken, START_US + 29_900_000)), []);
    let fresh = core.handle(Input::Fresh(vec![item(&destination, 2, 0)]), START_US + 29_900_000);
    assert_eq!(sends(&fresh).len(), 1, "it delays no others");
    assert_eq!(reads(&core.handle(Input::Woken, START_US + 30_000_000)), [Lane::Fresh]);
}

#[test]
fn a_suspension_of_eight_hours_ends_the_lease_and_uses_up_no_schedule() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    let lease = |until_us| Input::Owned { shards: HashMap::from([(1, 1)]), until_us };
    core.handle(lease(START_US + 8_000_000), START_US);
    let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, 1, 0)]), START_US));
    let settled = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), START_US));
    core.handle(written(settled, START_US), START_US);

    // The retry became due while the machine was suspended. Both clocks have advanced.
    let resumed_us = START_US + 8 * HOUR_US;
    let commands = core.handle(Input::Woken, resumed_us);
    assert_eq!((sends(&commands).len(), reads(&commands)), (0, vec![]), "another replica may own it");
    let commands = core.handle(lease(resumed_us + 8_000_000), resumed_us);
    assert_eq!(reads(&commands), [Lane::Retry]);
    let due = Item { attempts: 1, ..item(&destination, 1, START_US + 10_000_000) };
    let found = found_at(&destination, Lane::Retry, vec![due], resumed_us);
    let sent = sends(&core.handle(found, resumed_us));
    assert_eq!(sent.len(), 1, "it is tried once");
    let settled = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), resumed_us));
    assert_eq!(settled[0].next, Next::RetryIn(seconds(20)), "and waits its next interval from then on");
    core.handle(written(settled, resumed_us), resumed_us);
    assert_eq!(reads(&core.handle(Input::Woken, resumed_us + 19_900_000)), []);
    core.handle(lease(resumed_us + 28_000_000), resumed_us + 19_900_000);
    assert_eq!(reads(&core.handle(Input::Woken, resumed_us + 20_000_000)), [Lane::Retry]);
}
