use super::*;
use crate::wait::until;

const LONG: Duration = Duration::from_secs(20);

/// A shell that starts a child, prints both ids and waits.
fn family() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 300 & echo \"family $$ $!\"; wait"]);
    command
}

async fn ids(process: &mut Process) -> Vec<String> {
    let line = process.line("family", LONG).await.expect("starts");
    line.split(' ').skip(1).map(str::to_owned).collect()
}

async fn all_are_gone(ids: &[String]) {
    until("the processes to be gone", LONG, async || {
        let alive: Vec<_> = ids.iter().filter(|id| is_running(id)).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("alive: {alive:?}")) }
    })
    .await;
}

/// Whether a process is running. `kill -0` also finds a process that has ended but has not been reaped. If the
/// machine's first process does not reap orphans, only the state of the process shows that it has ended.
fn is_running(id: &str) -> bool {
    let state = if Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned()).unwrap_or_default()
    } else {
        let output = Command::new("ps").args(["-o", "stat=", "-p", id]).output().expect("ps is there");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    !state.is_empty() && !state.starts_with('Z')
}

#[tokio::test]
async fn dropping_a_process_also_ends_its_children() {
    let mut process = Process::start("family", &mut family(), Signal::Term).expect("starts");
    let ids = ids(&mut process).await;
    assert!(ids.len() == 2 && ids.iter().all(|id| is_running(id)), "{ids:?}");
    drop(process);
    all_are_gone(&ids).await;
}

#[tokio::test]
async fn the_wait_for_a_line_stops_when_the_process_ends() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo some words; exit 3"]);
    let mut process = Process::start("short", &mut command, Signal::Term).expect("starts");
    let error = process.line("never written", LONG).await.expect_err("ended").to_string();
    assert!(error.contains("exit status: 3") && error.contains("some words"), "{error}");
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_its_grace_period() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
    let mut process = Process::start("stubborn", &mut command, Signal::Term).expect("starts");
    process.line("ready", LONG).await.expect("starts");
    let error = process.stop(Duration::from_millis(200)).await.expect_err("ignores it").to_string();
    assert!(error.contains("was killed"), "{error}");
    assert!(process.ended().is_some());
}

/// The test program runs itself: this "test" starts a family and is then killed by the next one.
#[tokio::test]
#[ignore = "run only by the next test, which kills it"]
#[expect(clippy::disallowed_methods, reason = "the next test passes the folder in a variable")]
async fn a_parent_that_is_killed() {
    let folder = std::env::var("TIDEGATE_TEST_FOLDER").expect("is set by the next test");
    let folder = Path::new(&folder);
    let process = Process::start_with_folder("family", &mut family(), Signal::Term, Some(folder));
    let mut process = process.expect("starts");
    println!("family {}", ids(&mut process).await.join(" "));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn when_the_parent_is_killed_the_child_its_children_and_its_folder_are_removed() {
    let folder = place::temporary("watchdog").expect("is created");
    let mut command = Command::new(std::env::current_exe().expect("is known"));
    command.args(["--ignored", "--exact", "--nocapture", "process::tests::a_parent_that_is_killed"]);
    command.env("TIDEGATE_TEST_FOLDER", &folder);
    let mut parent = Process::start("parent", &mut command, Signal::Term).expect("starts");
    let ids = ids(&mut parent).await;
    assert!(ids.len() == 2 && ids.iter().all(|id| is_running(id)), "{ids:?}");
    parent.kill().await.expect("dies");
    all_are_gone(&ids).await;
    until(
        "the folder to be removed",
        LONG,
        async || {
            if folder.exists() { Err("it exists".to_owned()) } else { Ok(()) }
        },
    )
    .await;
}
