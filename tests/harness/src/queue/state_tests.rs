use super::*;
use crate::queue::message::ContentType;

const NOW: u64 = 1_764_000_000_000;

fn queue(max_retries: u32) -> State {
    State::new(Settings { visibility_timeout_ms: 1_000, max_retries, retry_delay_s: 0, ..Settings::default() })
}

fn message(body: &str) -> Message {
    Message::new(NOW, ContentType::Text, body.as_bytes().to_vec())
}

fn bodies(pulled: &[Pulled]) -> Vec<String> {
    pulled.iter().map(|p| String::from_utf8_lossy(&p.message.body).into_owned()).collect()
}

#[test]
fn messages_are_pulled_in_order_and_only_once_while_their_lease_lasts() {
    let mut queue = queue(3);
    for body in ["a", "b", "c"] {
        queue.push(NOW, message(body), 0);
    }
    assert_eq!(bodies(&queue.pull(NOW, 2, None, false)), ["a", "b"]);
    assert_eq!(bodies(&queue.pull(NOW, 2, None, false)), ["c"]);
    assert!(queue.pull(NOW + 999, 2, None, false).is_empty());
    let Counters { pulled, in_flight, backlog, .. } = queue.counters(NOW);
    assert_eq!((pulled, in_flight, backlog), (3, 3, 0));
}

#[test]
fn a_message_returns_with_one_more_attempt_when_its_lease_expires() {
    let mut queue = queue(3);
    queue.push(NOW, message("a"), 0);
    let first = queue.pull(NOW, 1, None, false);
    let second = queue.pull(NOW + 1_000, 1, None, false);
    assert_eq!((first[0].attempts, second[0].attempts), (1, 2));
    assert_eq!(first[0].message.id, second[0].message.id);
    assert_ne!(first[0].lease_id, second[0].lease_id);
}

#[test]
fn a_pull_can_set_its_own_visibility_timeout() {
    let mut queue = queue(3);
    queue.push(NOW, message("a"), 0);
    queue.pull(NOW, 1, Some(5_000), false);
    assert!(queue.pull(NOW + 4_999, 1, None, false).is_empty());
    assert_eq!(queue.pull(NOW + 5_000, 1, None, false).len(), 1);
}

#[test]
fn an_acknowledged_message_is_removed_and_its_lease_is_unknown() {
    let mut queue = queue(3);
    queue.push(NOW, message("a"), 0);
    let lease = queue.pull(NOW, 1, None, false)[0].lease_id.clone();
    assert_eq!(queue.ack(NOW, std::slice::from_ref(&lease), &[]).acked, 1);
    assert!(queue.pull(NOW + 10_000, 1, None, false).is_empty());
    assert_eq!(queue.ack(NOW, std::slice::from_ref(&lease), &[]).unknown, [lease]);
    assert_eq!(
        queue.counters(NOW),
        Counters { accepted: 1, pulled: 1, acked: 1, most_attempts: 1, ..Counters::default() }
    );
}

#[test]
fn a_late_acknowledgement_is_accepted_even_if_the_message_was_redelivered() {
    let mut queue = queue(3);
    queue.push(NOW, message("waits again"), 0);
    queue.push(NOW, message("under another lease"), 0);
    let first = queue.pull(NOW, 2, None, false);
    let second = queue.pull(NOW + 1_000, 1, None, false);
    assert_eq!(second[0].message.id, first[0].message.id);
    let leases: Vec<String> = first.iter().map(|p| p.lease_id.clone()).collect();
    assert_eq!(queue.ack(NOW + 1_500, &leases, &[]).acked, 2);
    assert!(queue.pull(NOW + 60_000, 10, None, false).is_empty());
    assert_eq!(queue.counters(NOW + 60_000).in_flight, 0);
    assert_eq!(queue.backlog_bytes(), 0);
}

#[test]
fn a_retried_message_returns_after_its_delay_and_an_outdated_lease_cannot_request_a_retry() {
    let mut queue = queue(3);
    queue.push(NOW, message("a"), 0);
    let old = queue.pull(NOW, 1, None, false)[0].lease_id.clone();
    let new = queue.pull(NOW + 1_000, 1, None, false)[0].lease_id.clone();
    let retry = |lease_id: &str, delay_s| [Retry { lease_id: lease_id.to_owned(), delay_s }];
    assert_eq!(queue.ack(NOW + 1_000, &[], &retry(&old, None)).unknown, [old]);
    assert_eq!(queue.ack(NOW + 1_000, &[], &retry(&new, Some(7))).retried, 1);
    assert!(queue.pull(NOW + 7_999, 1, None, false).is_empty());
    assert_eq!(queue.pull(NOW + 8_000, 1, None, false)[0].attempts, 3);
}

#[test]
fn a_delayed_message_cannot_be_pulled_before_its_delay_ends() {
    let mut queue = queue(3);
    queue.push(NOW, message("later"), 2);
    queue.push(NOW, message("now"), 0);
    assert_eq!(bodies(&queue.pull(NOW, 10, None, false)), ["now"]);
    assert_eq!(queue.counters(NOW).backlog, 1);
    assert_eq!(bodies(&queue.pull(NOW + 2_000, 1, None, false)), ["later"], "before the one whose lease expired");
}

#[test]
fn a_message_becomes_a_dead_letter_after_one_delivery_and_max_retries() {
    let mut queue = queue(2);
    queue.push(NOW, message("a"), 0);
    for turn in 0..3 {
        assert_eq!(queue.pull(NOW + turn * 1_000, 1, None, false).len(), 1, "delivery {turn}");
    }
    assert!(queue.pull(NOW + 3_000, 1, None, false).is_empty());
    assert_eq!(queue.take_dead()[0].body, b"a".as_slice());
    let Counters { dead_lettered, in_flight, backlog, .. } = queue.counters(NOW + 3_000);
    assert_eq!((dead_lettered, in_flight, backlog), (1, 0, 0));
}

#[test]
fn the_duplicate_fault_delivers_each_message_exactly_twice_under_one_id() {
    let mut queue = queue(3);
    queue.push(NOW, message("a"), 0);
    let first = queue.pull(NOW, 10, None, true);
    let second = queue.pull(NOW, 10, None, true);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0].message.id, second[0].message.id);
    let leases = [first[0].lease_id.clone(), second[0].lease_id.clone()];
    assert_eq!(queue.ack(NOW, &leases, &[]).acked, 2);
    assert!(queue.pull(NOW + 60_000, 10, None, true).is_empty());
}

#[test]
fn the_size_and_the_age_of_the_backlog_are_counted() {
    let mut queue = queue(3);
    assert_eq!((queue.backlog_bytes(), queue.oldest_ms()), (0, 0));
    queue.push(NOW, message("abc"), 0);
    queue.push(NOW, message("de"), 0);
    assert_eq!((queue.backlog_bytes(), queue.oldest_ms()), (5, NOW));
    queue.pull(NOW, 1, None, false);
    assert_eq!(queue.backlog_bytes(), 2);
}
