//! Checks the configuration of the queues for settings that would lose events: `tidegate doctor` fails because of them,
//! and `tidegate serve` warns.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::api::{BATCH, Error, Queue, VISIBILITY_TIMEOUT};
use crate::supervise;

/// The minimum time for which a queue has to keep a message: an outage of the relay may last that long. It is also the
/// maximum that Cloudflare offers.
pub const RETENTION: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The minimum number of retries of a consumer. Each lease that ends without an acknowledgement uses one.
pub const RETRIES: u64 = 100;

/// The dead-letter queue that the README's recipe creates. A queue of this name needs none itself.
const DEAD_LETTERS: &str = "tidegate-dead";

/// The settings of a queue as Cloudflare's API reports them. Every field that it leaves out is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    pub id: String,
    pub name: Option<String>,
    pub retention: Option<Duration>,
    /// The HTTP pull consumer; `None` if there is none.
    pub consumer: Option<Consumer>,
}

/// An HTTP pull consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumer {
    pub retries: Option<u64>,
    pub lease: Option<Duration>,
    /// The name of the queue that receives messages that were retried too often; `None` if they are deleted.
    pub dead_letter_queue: Option<String>,
}

/// A setting that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The queue's name, or its id if the name is not known.
    pub queue: String,
    /// What is wrong, and the consequence.
    pub problem: String,
    /// The command that corrects it.
    pub command: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; run `{}`", self.queue, self.problem, self.command)
    }
}

impl Queue {
    /// Reads the settings of the queue.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn settings(&self) -> Result<QueueSettings, Error> {
        let queue: Value = self.get("").await?;
        let consumers: Value = self.get("/consumers").await?;
        Ok(read(self.id(), &queue, &consumers))
    }
}

fn read(id: &str, queue: &Value, consumers: &Value) -> QueueSettings {
    let text = |value: &Value, path: &str| {
        value.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let number = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_u64);
    let consumers = consumers.pointer("/result").and_then(Value::as_array);
    let consumer = consumers.into_iter().flatten().find(|consumer| consumer["type"] == "http_pull");
    QueueSettings {
        id: id.to_owned(),
        name: text(queue, "/result/queue_name"),
        retention: number(queue, "/result/settings/message_retention_period").map(Duration::from_secs),
        consumer: consumer.map(|consumer| Consumer {
            retries: number(consumer, "/settings/max_retries"),
            lease: number(consumer, "/settings/visibility_timeout_ms").map(Duration::from_millis),
            dead_letter_queue: text(consumer, "/dead_letter_queue"),
        }),
    }
}

/// The problems of the queues that the relay pulls, in the order of the queues.
#[must_use]
pub fn findings(queues: &[QueueSettings]) -> Vec<Finding> {
    let named = |name: &str| queues.iter().find(|queue| queue.name.as_deref() == Some(name));
    let is_dead_letter_queue = |queue: &QueueSettings| {
        let takes_from = |other: &QueueSettings| {
            other.consumer.as_ref().is_some_and(|consumer| consumer.dead_letter_queue == queue.name)
        };
        let name = queue.name.as_deref();
        name == Some(DEAD_LETTERS) || name.is_some() && queues.iter().any(takes_from)
    };
    let mut findings = Vec::new();
    for queue in queues {
        let name = queue.name.as_deref().unwrap_or(&queue.id);
        let mut find = |problem: String, command: String| {
            findings.push(Finding { queue: name.to_owned(), problem, command });
        };
        match queue.retention {
            Some(retention) if retention >= RETENTION => {}
            Some(retention) => {
                let what = format!("messages are deleted after {}, acknowledged events included", days(retention));
                find(format!("{what}, but 14 days are required"), retention_command(name));
            }
            None => {
                find("the queue API does not report how long messages are kept".to_owned(), retention_command(name))
            }
        }
        let Some(consumer) = &queue.consumer else {
            let dead_letters = (!is_dead_letter_queue(queue)).then(|| dead_letter_queue_for(queue, queues));
            find(
                "the queue has no HTTP pull consumer, so it cannot be pulled".to_owned(),
                add(name, dead_letters.as_deref()),
            );
            continue;
        };
        // Wrangler cannot change a consumer, so it is removed and added again. Messages stay in the queue in the
        // meantime.
        let make_anew = |dead_letters: Option<&str>| {
            format!("npx wrangler queues consumer http remove {name} && {}", add(name, dead_letters))
        };
        let dead_letters = consumer.dead_letter_queue.as_deref();
        if consumer.retries.is_none_or(|retries| retries < RETRIES) {
            let retries =
                consumer.retries.map_or_else(|| "an unknown number of".to_owned(), |retries| retries.to_string());
            find(format!("the consumer allows {retries} retries, but {RETRIES} are required"), make_anew(dead_letters));
        }
        if consumer.lease.is_none_or(|lease| lease < VISIBILITY_TIMEOUT) {
            let lease = consumer
                .lease
                .map_or_else(|| "an unknown time".to_owned(), |lease| format!("{} s", lease.as_secs_f64()));
            let needed = VISIBILITY_TIMEOUT.as_secs();
            find(format!("leases last {lease}, but {needed} s are required"), make_anew(dead_letters));
        }
        match dead_letters {
            None if is_dead_letter_queue(queue) => {}
            None => {
                let (other, what) = (dead_letter_queue_for(queue, queues), "the queue has no dead-letter queue");
                let mut command = make_anew(Some(&other));
                if named(&other).is_none() {
                    let (create, consume) = (create(&other), add(&other, None));
                    command = format!("{create} && {consume} && {command}");
                }
                find(format!("{what}, so messages are deleted after their last retry"), command);
            }
            Some(other) if named(other).is_none() => {
                let what = format!("the dead-letter queue {other} is not in TIDEGATE_QUEUE_IDS");
                find(
                    format!(
                        "{what}, so its messages are never stored; add to TIDEGATE_QUEUE_IDS the id that the following \
                         command shows"
                    ),
                    format!("npx wrangler queues info {other}"),
                );
            }
            Some(_) => {}
        }
    }
    findings
}

/// The queue to use as the dead-letter queue: the other pulled queue, if there is exactly one.
fn dead_letter_queue_for(queue: &QueueSettings, queues: &[QueueSettings]) -> String {
    let mut others = queues.iter().filter(|other| other.id != queue.id).filter_map(|other| other.name.clone());
    match (others.next(), others.next()) {
        (Some(other), None) => other,
        (_, _) => DEAD_LETTERS.to_owned(),
    }
}

fn create(name: &str) -> String {
    format!("npx wrangler queues create {name} --message-retention-period-secs {}", RETENTION.as_secs())
}

fn retention_command(name: &str) -> String {
    format!("npx wrangler queues update {name} --message-retention-period-secs {}", RETENTION.as_secs())
}

/// The command of the README's recipe.
fn add(name: &str, dead_letters: Option<&str>) -> String {
    let lease = VISIBILITY_TIMEOUT.as_secs();
    let (delay, dead_letters) = match dead_letters {
        Some(dead_letters) => (10, format!(" --dead-letter-queue {dead_letters}")),
        None => (60, String::new()),
    };
    format!(
        "npx wrangler queues consumer http add {name} --batch-size {BATCH} --message-retries {RETRIES} \
         --visibility-timeout-secs {lease} --retry-delay-secs {delay}{dead_letters}"
    )
}

fn days(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 86_400, seconds % 86_400) {
        (1, 0) => "1 day".to_owned(),
        (days, 0) => format!("{days} days"),
        (_, _) => format!("{seconds} s"),
    }
}

/// How soon the settings of the queues are read again if the API did not respond.
const CHECK_INTERVAL: Duration = Duration::from_secs(3_600);

/// Reads the settings of the queues and logs a warning for each finding. If the API did not respond for all of them, it
/// tries again after an hour. The start of the relay does not wait for it, and nothing depends on it.
pub async fn warn(queues: Vec<Queue>, stop: CancellationToken) {
    let check = async {
        while !is_done(check_once(&queues)).await {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    };
    tokio::select! {
        () = check => {}
        () = stop.cancelled() => {}
    }
}

/// Whether the settings of all queues are known. The API's response may contain anything, so a panic counts as a failed
/// check.
async fn is_done(check: impl Future<Output = Result<(), Vec<(String, Error)>>>) -> bool {
    match supervise::row(check).await {
        Ok(Ok(())) => return true,
        Ok(Err(unknown)) => {
            for (queue, error) in unknown {
                tracing::warn!(
                    queue,
                    %error,
                    "could not read the settings of a queue; run `tidegate doctor` to check them"
                );
            }
        }
        Err(panic) => tracing::error!(error = %panic, "the relay panicked while checking the settings of the queues"),
    }
    false
}

/// Returns the queues whose settings could not be read, with the errors.
async fn check_once(queues: &[Queue]) -> Result<(), Vec<(String, Error)>> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for queue in queues {
        match queue.settings().await {
            Ok(settings) => found.push(settings),
            Err(error) => unknown.push((queue.id().to_owned(), error)),
        }
    }
    // Whether a dead-letter queue is pulled is known only if the settings of all queues are.
    if !unknown.is_empty() {
        return Err(unknown);
    }
    for finding in findings(&found) {
        let (queue, command, error) = (finding.queue, finding.command, finding.problem);
        tracing::warn!(queue, command, error, "the settings of a queue can lose events; run the command in this entry");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_check_that_panics_is_repeated() {
        assert!(!is_done(async { panic!("an answer") }).await);
        assert!(is_done(async { Ok(()) }).await);
    }

    const ADD_EVENTS: &str = "npx wrangler queues consumer http add tidegate-events --batch-size 100 --message-retries 100 \
                              --visibility-timeout-secs 60 --retry-delay-secs 10 --dead-letter-queue tidegate-dead";
    const ADD_DEAD: &str = "npx wrangler queues consumer http add tidegate-dead --batch-size 100 --message-retries 100 \
                            --visibility-timeout-secs 60 --retry-delay-secs 60";

    fn consumer(dead_letters: Option<&str>) -> Option<Consumer> {
        Some(Consumer {
            retries: Some(100),
            lease: Some(Duration::from_secs(60)),
            dead_letter_queue: dead_letters.map(str::to_owned),
        })
    }

    fn recipe() -> [QueueSettings; 2] {
        [("q1", "tidegate-events", Some("tidegate-dead")), ("q2", "tidegate-dead", None)].map(
            |(id, name, dead_letters)| QueueSettings {
                id: id.to_owned(),
                name: Some(name.to_owned()),
                retention: Some(RETENTION),
                consumer: consumer(dead_letters),
            },
        )
    }

    fn commands(queues: &[QueueSettings]) -> Vec<String> {
        findings(queues).into_iter().map(|finding| finding.command).collect()
    }

    fn with(change: impl FnOnce(&mut [QueueSettings; 2])) -> Vec<String> {
        let mut queues = recipe();
        change(&mut queues);
        commands(&queues)
    }

    #[test]
    fn the_readmes_recipe_has_no_findings() {
        assert_eq!(findings(&recipe()), []);
    }

    #[test]
    fn a_short_retention_is_reported_with_its_consequence() {
        let mut queues = recipe();
        queues[0].retention = Some(Duration::from_secs(345_600));
        let found = findings(&queues);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["tidegate-events: messages are deleted after 4 days, acknowledged events included, but 14 days are \
              required; run `npx wrangler queues update tidegate-events --message-retention-period-secs 1209600`"]
        );
        assert_eq!(
            with(|queues| queues[1].retention = None),
            ["npx wrangler queues update tidegate-dead --message-retention-period-secs 1209600"]
        );
    }

    #[test]
    fn a_queue_without_a_pull_consumer_is_reported() {
        assert_eq!(with(|queues| queues[1].consumer = None), [ADD_DEAD]);
        assert_eq!(with(|queues| queues[0].consumer = None), [ADD_EVENTS]);
    }

    #[test]
    fn too_few_retries_and_a_short_lease_are_reported() {
        let anew = format!("npx wrangler queues consumer http remove tidegate-events && {ADD_EVENTS}");
        for (retries, lease) in [(Some(99), Some(60)), (None, Some(60)), (Some(100), Some(30)), (Some(100), None)] {
            let found = with(|queues| {
                let lease = lease.map(Duration::from_secs);
                queues[0].consumer = Some(Consumer { retries, lease, ..consumer(Some("tidegate-dead")).expect("one") });
            });
            assert_eq!(found, [anew.as_str()], "{retries:?}, {lease:?}");
        }
    }

    #[test]
    fn a_queue_needs_a_dead_letter_queue_unless_it_is_one() {
        let [events, dead] = recipe();
        let without = QueueSettings { consumer: consumer(None), ..events };
        let anew = format!("npx wrangler queues consumer http remove tidegate-events && {ADD_EVENTS}");
        assert_eq!(commands(&[without.clone(), dead.clone()]), [anew.as_str()]);
        assert_eq!(commands(&[dead, without.clone()]), [anew.as_str()], "in either order");
        let create = "npx wrangler queues create tidegate-dead --message-retention-period-secs 1209600";
        assert_eq!(commands(&[without]), [format!("{create} && {ADD_DEAD} && {anew}")]);
    }

    #[test]
    fn a_dead_letter_queue_has_to_be_pulled() {
        let [events, _] = recipe();
        let found = findings(&[events]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].problem.contains("tidegate-dead is not in TIDEGATE_QUEUE_IDS"), "{found:?}");
        assert_eq!(found[0].command, "npx wrangler queues info tidegate-dead");
    }

    #[test]
    fn fields_that_the_api_leaves_out_are_not_known() {
        let queue = json!({ "success": true, "result": {
            "queue_id": "q1", "queue_name": "tidegate-events", "settings": { "message_retention_period": 1_209_600 },
        }});
        let consumers = json!({ "success": true, "result": [
            { "type": "worker", "script": "other" },
            { "type": "http_pull", "dead_letter_queue": "tidegate-dead", "settings": {
                "batch_size": 100, "max_retries": 100, "visibility_timeout_ms": 60_000, "retry_delay": 10,
            }},
        ]});
        assert_eq!(read("q1", &queue, &consumers), recipe()[0]);
        let nothing = QueueSettings { id: "q1".to_owned(), name: None, retention: None, consumer: None };
        assert_eq!(read("q1", &json!({}), &json!({ "result": null })), nothing);
        let bare = json!({ "result": [{ "type": "http_pull", "dead_letter_queue": null }] });
        assert_eq!(read("q1", &json!({}), &bare), QueueSettings { consumer: Some(Consumer::default()), ..nothing });
    }
}
