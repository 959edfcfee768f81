//! doctor: settings that can lose events are reported before they do, with the command that corrects them.

use std::process::Command;

use harness::gateway::Gateway;
use harness::postgres::Server;
use harness::queue::{DEAD, EVENTS, Times};
use harness::relay::{RelaySettings, run};
use harness::tools;
use harness::wait::SOON;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::recipe;

/// Whether all checks of `tidegate doctor` pass, and its output.
async fn doctor(settings: &RelaySettings) -> (bool, String) {
    let output = run("doctor", settings.variables()).await.expect("runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The lines of one level that contain all of these texts.
fn lines<'a>(printed: &'a str, level: &str, wanted: &[&str]) -> Vec<&'a str> {
    let of_level = printed.lines().filter(|line| line.starts_with(level));
    of_level.filter(|line| wanted.iter().all(|text| line.contains(text))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_fails_for_a_queue_that_can_lose_events_and_names_the_command_that_corrects_it() {
    let gateway = Gateway::relay_only().await;
    let settings = gateway.relay.settings().clone();
    let queue = &gateway.queue;
    let (passes, printed) = doctor(&settings).await;
    assert!(passes, "{printed}");
    let commands = recipe::readme();
    let add = |name: &str| {
        let begin = format!("npx wrangler queues consumer http add {name} ");
        commands.iter().find(|command| command.starts_with(&begin)).expect("is in the README").as_str()
    };
    let fails = async |settings: &RelaySettings, problem: &str, command: &str| {
        let (passes, printed) = doctor(settings).await;
        assert!(!passes, "{printed}");
        assert_eq!(lines(&printed, "FAIL", &[problem, command]).len(), 1, "{problem}, {command}:\n{printed}");
        assert_eq!(lines(&printed, "FAIL", &[]).len(), 1, "nothing else fails:\n{printed}");
    };

    queue.configure(EVENTS, |queue| queue.settings.retention_s = 345_600);
    let command = "npx wrangler queues update tidegate-events --message-retention-period-secs 1209600";
    fails(&settings, "deleted after 4 days", command).await;
    queue.configure(EVENTS, |queue| queue.settings.retention_s = 1_209_600);

    queue.configure(DEAD, |queue| queue.has_consumer = false);
    fails(&settings, "no HTTP pull consumer", add(DEAD)).await;
    queue.configure(DEAD, |queue| queue.has_consumer = true);

    queue.configure(EVENTS, |queue| queue.settings.max_retries = 3);
    fails(&settings, "the consumer allows 3 retries", add(EVENTS)).await;
    queue.configure(EVENTS, |queue| queue.settings.max_retries = 100);

    queue.configure(EVENTS, |queue| queue.settings.visibility_timeout_ms = 30_000);
    fails(&settings, "leases last 30 s", add(EVENTS)).await;
    queue.configure(EVENTS, |queue| queue.settings.visibility_timeout_ms = 60_000);

    queue.configure(EVENTS, |queue| queue.dead_letter_queue = None);
    fails(&settings, "no dead-letter queue", add(EVENTS)).await;
    queue.configure(EVENTS, |queue| queue.dead_letter_queue = Some(DEAD.to_owned()));

    let alone = settings.clone().with("TIDEGATE_QUEUE_IDS", &queue.id_of(EVENTS));
    fails(&alone, "tidegate-dead is not in TIDEGATE_QUEUE_IDS", "npx wrangler queues info tidegate-dead").await;
    let (passes, printed) = doctor(&settings).await;
    assert!(passes, "all settings are correct again:\n{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_doctor_is_that_of_its_result_even_if_its_output_is_not_read() {
    let gateway = Gateway::relay_only().await;
    let exit_code = async |settings: &RelaySettings| {
        let variables = settings.variables();
        let ended = tools::blocking(move || {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let mut command = Command::new(tools::relay()?);
            command.arg("doctor").env_clear().envs(variables);
            command.stdout(writer.try_clone().expect("a second end")).stderr(writer);
            Ok(command.status().expect("runs"))
        });
        ended.await.expect("is built").code()
    };
    let settings = gateway.relay.settings().clone();
    assert_eq!(exit_code(&settings).await, Some(0));
    let other = settings.with("TIDEGATE_MASTER_KEY", "none");
    assert_eq!(exit_code(&other).await, Some(78));
    gateway.edge.set_missing(&["the secret SEAL_KEY is missing"]);
    assert_eq!(exit_code(gateway.relay.settings()).await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_fails_for_an_edge_that_is_not_ready_and_for_secrets_that_cannot_be_opened() {
    let gateway = Gateway::relay_only().await;
    gateway.line("sealed").await;
    let settings = gateway.relay.settings().clone();
    let (passes, printed) = doctor(&settings).await;
    assert!(passes, "{printed}");

    let missing = "the secret SEAL_KEY is missing: run `wrangler secret put SEAL_KEY`";
    gateway.edge.set_missing(&[missing]);
    let (passes, printed) = doctor(&settings).await;
    assert!(!passes, "{printed}");
    assert_eq!(lines(&printed, "FAIL", &["edge", missing]).len(), 1, "{printed}");
    gateway.edge.set_missing(&[]);

    let other = settings.clone().with("TIDEGATE_MASTER_KEY", &harness::random::key());
    let (passes, printed) = doctor(&other).await;
    assert!(!passes, "{printed}");
    assert_eq!(lines(&printed, "FAIL", &["secrets", "1 of 1 sources and 1 of 1 destinations"]).len(), 1, "{printed}");
    let both = format!("{},{}", other.value("TIDEGATE_MASTER_KEY"), settings.value("TIDEGATE_MASTER_KEY"));
    let (passes, printed) = doctor(&other.with("TIDEGATE_MASTER_KEY", &both)).await;
    assert!(passes, "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_warns_of_a_standby_that_no_commit_waits_for() {
    let server = Server::start_private().await.expect("starts");
    let gateway = Gateway::relay_only_on_server(&server).await;
    let settings = gateway.relay.settings().clone();
    let (_, printed) = doctor(&settings).await;
    assert_eq!(lines(&printed, "ok", &["standby"]).len(), 1, "{printed}");

    let standby = replicate(server.port()).await;
    let (passes, printed) = doctor(&settings).await;
    assert!(passes, "a warning is not a failure:\n{printed}");
    let warned = lines(&printed, "WARN", &["1 standby", "failover", "synchronous_standby_names"]);
    assert_eq!(warned.len(), 1, "{printed}");
    drop(standby);
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_warns_of_a_queue_that_can_lose_events_and_starts_while_the_queue_api_is_down() {
    let mut gateway = Gateway::relay_only().await;
    let line = gateway.line("warned").await;
    assert!(!gateway.relay.log().contains("settings of a queue can lose events"), "{}", gateway.relay.log());
    gateway.relay.stop().await.expect("stops");
    gateway.queue.configure(DEAD, |queue| queue.settings.retention_s = 86_400);
    gateway.relay.start_again().await.expect("starts again");
    gateway.relay.wait_for_log("messages are deleted after 1 day", SOON).await;
    gateway.relay.wait_for_log("queues update tidegate-dead --message-retention-period-secs 1209600", SOON).await;

    gateway.relay.stop().await.expect("stops");
    gateway.queue.fault(|faults| faults.dropped_connections = Times::UntilCleared);
    gateway.relay.start_again().await.expect("starts although the queue API is down");
    gateway.relay.wait_for_log("could not read the settings of a queue", SOON).await;
    gateway.queue.clear_faults();
    gateway.push(&line.source, json!({ "after": true }).to_string().as_bytes());
    line.receiver.wait_for(1, SOON).await;
}

/// A connection like a standby's, which appears in `pg_stat_replication` while it is open.
async fn replicate(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
    // Protocol 3.0 (PostgreSQL, "Message Formats"): the length, the version, pairs of strings, an empty one.
    let mut startup = 196_608_u32.to_be_bytes().to_vec();
    startup.extend_from_slice(b"user\0postgres\0replication\0true\0application_name\0standby\0\0");
    let length = u32::try_from(startup.len() + 4).expect("fits").to_be_bytes();
    stream.write_all(&[&length[..], &startup].concat()).await.expect("sends");
    loop {
        let kind = stream.read_u8().await.expect("answers");
        let length = stream.read_u32().await.expect("answers");
        let mut body = vec![0; usize::try_from(length).expect("fits") - 4];
        stream.read_exact(&mut body).await.expect("answers");
        match kind {
            b'Z' => return stream,
            b'E' => panic!("{}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}
