//! These tests run real Tokio tasks.

use std::time::Duration;

use tokio::sync::oneshot;

use super::*;

/// Long enough for everything that has to happen, even on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn failure(supervisor: &Supervisor) -> Failure {
    tokio::time::timeout(SOON, supervisor.failure()).await.expect("a task has failed")
}

fn soon() -> Instant {
    Instant::now() + SOON
}

#[tokio::test]
async fn a_task_that_ends_before_it_is_told_to_stop_is_reported_by_name() {
    let supervisor = Supervisor::default();
    let group = supervisor.group();
    let (end, ended) = oneshot::channel::<()>();
    group.spawn("waits", {
        let stop = group.stop_signal();
        async move { stop.cancelled().await }
    });
    group.spawn("ends", async move { ended.await.unwrap_or(()) });
    tokio::task::yield_now().await;
    assert_eq!(supervisor.failures(), []);
    end.send(()).expect("it waits");
    let expected = Failure { task: "ends", how: End::Returned };
    assert_eq!(failure(&supervisor).await, expected);
    assert!(group.stopped(soon()).await);
    assert_eq!(supervisor.failures(), [expected], "the other task was told to stop");
}

#[tokio::test]
async fn a_panic_of_a_task_or_a_job_is_a_failure_with_its_text_and_does_not_affect_other_tasks() {
    let supervisor = Supervisor::default();
    let group = supervisor.group();
    let (go_on, gone_on) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    group.spawn("goes on", {
        let stop = group.stop_signal();
        async move {
            let _ = gone_on.await;
            let _ = tell.send("is alive");
            stop.cancelled().await;
        }
    });
    group.spawn_short_task("job", async { panic!("number {}", 7) });
    assert_eq!(failure(&supervisor).await.to_string(), "the task \"job\" panicked: number 7");
    group.spawn("task", async {
        tokio::task::yield_now().await;
        panic!("constant");
    });
    go_on.send(()).expect("it waits");
    assert_eq!(told.await, Ok("is alive"));
    assert!(group.stopped(soon()).await);
    assert_eq!(supervisor.failures()[1], Failure { task: "task", how: End::Panicked("constant".to_owned()) });
}

#[tokio::test]
async fn a_finished_job_and_a_stopped_task_are_not_failures_but_a_panic_while_stopping_is() {
    let supervisor = Supervisor::default();
    let group = supervisor.group();
    group.spawn_short_task("job", async {});
    group.spawn("stops", {
        let stop = group.stop_signal();
        async move { stop.cancelled().await }
    });
    assert!(group.stopped(soon()).await);
    assert_eq!(supervisor.failures(), []);

    let group = supervisor.group();
    group.spawn("breaks", {
        let stop = group.stop_signal();
        async move {
            stop.cancelled().await;
            panic!("while it stops");
        }
    });
    assert!(group.stopped(soon()).await);
    assert_eq!(failure(&supervisor).await.task, "breaks");
}

#[tokio::test]
async fn a_task_that_does_not_stop_in_time_is_aborted() {
    struct Dropped(Option<oneshot::Sender<()>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.take().map(|sender| sender.send(()));
        }
    }
    let supervisor = Supervisor::default();
    let group = supervisor.group();
    let (dropped, was_dropped) = oneshot::channel();
    let dropped = Dropped(Some(dropped));
    group.spawn("hangs", async move {
        let _dropped = dropped;
        std::future::pending().await
    });
    assert!(!group.stopped(Instant::now()).await);
    tokio::time::timeout(SOON, was_dropped).await.expect("the task is aborted").expect("the task was dropped");
    assert_eq!(supervisor.failures(), []);
}

#[tokio::test]
async fn a_future_is_dropped_once_its_panic_has_been_caught() {
    let (held, released) = oneshot::channel::<()>();
    let panic = caught(async move {
        let _held = held;
        tokio::task::yield_now().await;
        panic!("it holds a sender");
    })
    .await
    .expect_err("the future panics");
    assert_eq!(panic_text(&*panic), "it holds a sender");
    assert!(released.await.is_err(), "the sender was dropped");
}
