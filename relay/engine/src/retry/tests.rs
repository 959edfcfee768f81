use proptest::prelude::*;
use serde_json::json;

use model::retry_policy::PolicyError;

use super::*;

const NOW: u64 = 1_764_000_000_000;
const FAILED: Outcome = Outcome::Failed { retry_after_ms: None };

fn policy(json: serde_json::Value) -> Result<RetryPolicy, String> {
    serde_json::from_value(json).map_err(|error| error.to_string())
}

fn exponential() -> RetryPolicy {
    policy(json!({"initial_s": 2, "multiplier": 3, "max_s": 100, "attempts": 7})).expect("good")
}

/// The wait before every attempt in seconds, as `next` decides it with a jitter that has no effect.
fn waits_s(policy: &RetryPolicy) -> Vec<u64> {
    let first = milliseconds(first_wait(policy));
    let later = (1..).map_while(|made| match next(policy, made, &FAILED, 0.5) {
        Next::In { wait_ms } => Some(wait_ms),
        Next::Dead { reason: DeadReason::AttemptsExhausted } => None,
        Next::Dead { reason: DeadReason::Gone } => panic!("a failure was taken for a 410"),
    });
    std::iter::once(first).chain(later).map(|wait_ms| wait_ms / 1000).collect()
}

#[test]
fn the_default_is_the_schedule_of_standard_webhooks() {
    let expected = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
    assert_eq!(waits_s(&RetryPolicy::default()), expected);
    assert_eq!(RetryPolicy::default().attempts(), 10);
    assert_eq!(expected.iter().sum::<u64>(), 75 * 3600 + 35 * 60 + 5, "75 h 35 min, as the specification says");
}

#[test]
fn the_exponential_form_grows_up_to_its_maximum() {
    assert_eq!(waits_s(&exponential()), [0, 2, 6, 18, 54, 100, 100]);
    let constant = policy(json!({"initial_s": 60, "multiplier": 1.0, "max_s": 60, "attempts": 4})).expect("good");
    assert_eq!(waits_s(&constant), [0, 60, 60, 60]);
    let once = policy(json!({"initial_s": 60, "multiplier": 2, "max_s": 60, "attempts": 1})).expect("good");
    assert_eq!(waits_s(&once), [0]);
}

#[test]
fn a_delivery_is_dead_after_its_last_attempt_and_after_410() {
    let exhausted = Next::Dead { reason: DeadReason::AttemptsExhausted };
    assert_eq!(next(&RetryPolicy::default(), 10, &FAILED, 0.5), exhausted);
    assert_eq!(next(&exponential(), 7, &FAILED, 0.5), exhausted);
    let patient = Outcome::Failed { retry_after_ms: Some(1_000) };
    assert_eq!(next(&exponential(), 7, &patient, 0.5), exhausted);
    let gone = Next::Dead { reason: DeadReason::Gone };
    assert_eq!(next(&RetryPolicy::default(), 1, &Outcome::Gone, 0.5), gone);
}

#[test]
fn retry_after_is_parsed_in_all_of_its_forms() {
    // The dates are the examples of RFC 9110 section 5.6.7.
    let date_ms = 784_111_777_000;
    let cases = [
        ("120", NOW, Some(120_000)),
        (" 0 ", NOW, Some(0)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", date_ms - 5_000, Some(5_000)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", date_ms - 5_000, Some(5_000)),
        ("Sun Nov  6 08:49:37 1994", date_ms - 5_000, Some(5_000)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", NOW, Some(0)),
        ("99999999999999999999999", NOW, Some(u64::MAX)),
        ("", NOW, None),
        ("-5", NOW, None),
        ("1.5", NOW, None),
        ("soon", NOW, None),
    ];
    for (value, now_ms, expected) in cases {
        assert_eq!(parse_retry_after(value, now_ms), expected, "{value:?}");
    }
}

#[test]
fn a_date_in_retry_after_is_a_wait_from_the_date_of_the_response() {
    let answered_ms = parse_date("Sun, 06 Nov 1994 08:49:07 GMT").expect("a date");
    assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", answered_ms), Some(30_000));
    assert_eq!(parse_date("yesterday"), None);
}

#[test]
fn retry_after_is_followed_up_to_a_day() {
    let asks = |retry_after_ms| next(&RetryPolicy::default(), 1, &Outcome::Failed { retry_after_ms }, 0.5);
    assert_eq!(asks(Some(60_000)), Next::In { wait_ms: 60_000 });
    assert_eq!(asks(Some(1_000)), Next::In { wait_ms: 5_000 }, "never shorter than the policy");
    assert_eq!(asks(Some(u64::MAX)), Next::In { wait_ms: 86_400_000 });
}

#[test]
fn a_policy_round_trips_through_json_in_both_forms() {
    for text in [r#"{"schedule_s":[0,1,60]}"#, r#"{"initial_s":5,"multiplier":1.5,"max_s":600,"attempts":8}"#] {
        let policy: RetryPolicy = serde_json::from_str(text).expect(text);
        assert_eq!(serde_json::to_string(&policy).expect("serialises"), text);
    }
}

#[test]
fn an_invalid_policy_is_rejected_with_the_name_of_its_field() {
    let good = json!({"initial_s": 5, "multiplier": 2, "max_s": 600, "attempts": 8});
    let with = |field: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        changed[field] = value;
        changed
    };
    let cases = [
        (json!({}), "set either schedule_s"),
        (with("schedule_s", json!([0])), "set either schedule_s"),
        (json!({"schedule_s": []}), "schedule_s has 0 entries"),
        (json!({"schedule_s": vec![1; 51]}), "schedule_s has 51 entries"),
        (json!({"schedule_s": [0, 604_801]}), "schedule_s[1] is 604801"),
        (json!({"schedule_s": [-1]}), "-1"),
        (json!({"schedule": [1]}), "unknown field `schedule`"),
        (json!({"initial_s": 5}), "multiplier is missing"),
        (with("initial_s", json!(0)), "initial_s is 0"),
        (with("multiplier", json!(0.5)), "multiplier is 0.5"),
        (with("multiplier", json!(11)), "multiplier is 11"),
        (with("max_s", json!(4)), "max_s is 4"),
        (with("attempts", json!(0)), "attempts is 0"),
        (with("attempts", json!(51)), "attempts is 51"),
    ];
    for (json, expected) in cases {
        let error = policy(json.clone()).expect_err("rejected");
        assert!(error.contains(expected), "{json}: {error}");
    }
    assert_eq!(PolicyError::ScheduleEntry(1, 604_801).field(), "schedule_s");
}

#[test]
fn the_waits_of_the_pull_loop_grow_and_are_reset() {
    let mut backoff = pull_backoff();
    let pauses: Vec<u128> = (0..10).map(|_| backoff.next_pause(0.5).as_millis()).collect();
    assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    backoff.reset();
    assert_eq!(backoff.next_pause(0.0).as_millis(), 160);
}

#[test]
fn a_database_that_has_recovered_is_used_within_a_second() {
    let mut backoff = database_backoff();
    let pauses: Vec<u128> = (0..7).map(|_| backoff.next_pause(0.5).as_millis()).collect();
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000]);
}

fn any_policy() -> impl Strategy<Value = RetryPolicy> {
    let schedule =
        prop::collection::vec(0..=604_800_u32, 1..=50).prop_map(|schedule_s| RetryPolicy::Schedule { schedule_s });
    let exponential = (1..=604_800_u32, 4..=40_u8, 0..=604_800_u32, 1..=50_u32).prop_map(
        |(initial_s, quarters, more_s, attempts)| {
            // Multiples of a quarter survive decimal notation exactly.
            let multiplier = f64::from(quarters) / 4.0;
            let max_s = (initial_s + more_s).min(604_800);
            RetryPolicy::Exponential { initial_s, multiplier, max_s, attempts }
        },
    );
    prop_oneof![schedule, exponential]
}

proptest! {
    #[test]
    fn the_next_attempt_is_within_a_fifth_of_the_policy_or_as_late_as_retry_after_asks(
        policy in any_policy(), made in 1..60_u32, jitter in 0.0..1.0, asked: Option<u64>,
    ) {
        let outcome = Outcome::Failed { retry_after_ms: asked };
        match (next(&policy, made, &outcome, jitter), delay_before(&policy, made + 1)) {
            (Next::In { wait_ms }, Some(delay_ms)) => {
                let asked_ms = asked.unwrap_or(0).min(MAX_RETRY_AFTER_MS);
                prop_assert!(wait_ms >= asked_ms);
                prop_assert!(wait_ms + 1 >= delay_ms / 5 * 4);
                prop_assert!(wait_ms <= (delay_ms / 5 * 6 + 6).max(asked_ms));
                prop_assert!(made < policy.attempts());
            }
            (Next::Dead { reason: DeadReason::AttemptsExhausted }, None) => prop_assert!(made >= policy.attempts()),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn exponential_waits_never_shrink_and_stay_within_their_bounds(
        initial_s in 1..1_000_u32, multiplier in 1.0..10.0_f64, more_s in 0..100_000_u32,
    ) {
        let max_s = initial_s + more_s;
        let policy = RetryPolicy::Exponential { initial_s, multiplier, max_s, attempts: 50 };
        let waits: Vec<u64> = (2..=50).filter_map(|attempt| delay_before(&policy, attempt)).collect();
        prop_assert_eq!(waits.len(), 49);
        prop_assert_eq!(waits[0], u64::from(initial_s) * 1000);
        prop_assert!(waits.is_sorted());
        prop_assert!(waits.iter().all(|wait| *wait <= u64::from(max_s) * 1000));
    }

    #[test]
    fn a_valid_policy_round_trips_through_json(policy in any_policy()) {
        let text = serde_json::to_string(&policy).expect("serialises");
        prop_assert_eq!(serde_json::from_str::<RetryPolicy>(&text).expect("reads"), policy);
    }
}
