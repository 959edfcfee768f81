//! settings: the errors and exit codes of a relay that cannot start, and the checks of `doctor`.

use harness::gateway::Gateway;
use harness::relay::{run, run_with};

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_in_the_settings_are_reported_at_once_with_exit_code_78() {
    let output = run("serve", vec![("TIDEGATE_LISTEN".to_owned(), "nowhere".to_owned())]).await.expect("runs");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    for wanted in [
        "tidegate: invalid settings:",
        "DATABASE_URL: is not set; set it to the URL of a PostgreSQL database, version 15 or newer",
        "TIDEGATE_MASTER_KEY: is not set",
        "TIDEGATE_QUEUE_TOKEN: is not set",
        "TIDEGATE_LISTEN: must be an IP address and port, such as 127.0.0.1:8400",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_exits_with_64_and_help_and_version_exit_with_0() {
    for arguments in [&[][..], &["sarve"], &["serve", "--fast"], &["send"], &["send", "--provider", "nobody"]] {
        let output = run_with(arguments, Vec::new()).await.expect("runs");
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--help") && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
    for (arguments, wanted) in [
        (&["--help"][..], "Exit codes:"),
        (&["help", "serve"], "Usage: tidegate serve"),
        (&["send", "--help"], "tidegate send --source stripe-live"),
        (&["--version"], "tidegate 0."),
    ] {
        let output = run_with(arguments, Vec::new()).await.expect("runs");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(wanted) && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_passes_on_a_working_deployment_and_says_how_to_fix_one_that_is_not() {
    let gateway = Gateway::relay_only().await;
    let settings = gateway.relay.settings();
    let output = run("doctor", settings.variables()).await.expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for check in ["settings", "database", "migrations", "clock", "edge", "queue"] {
        assert!(
            text.lines().any(|line| line.starts_with("ok") && line.contains(check)),
            "{check} is missing in:\n{text}"
        );
    }

    let broken = settings.clone().with("TIDEGATE_QUEUE_TOKEN", "wrong").with("TIDEGATE_EDGE_ADMIN_TOKEN", "wrong");
    let output = run("doctor", broken.variables()).await.expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Queues: Read and Queues: Edit"), "{text}");
    assert!(text.contains("set TIDEGATE_EDGE_ADMIN_TOKEN to the value of the edge's secret ADMIN_TOKEN"), "{text}");
}
