use std::time::Duration;

use super::*;
use crate::process::{Process, Signal};
use crate::wait::until;

#[test]
fn the_peak_and_the_kills_are_read_from_the_files_of_the_kernel() {
    assert_eq!(peak_in("Name:\trelay\nVmPeak:\t  900 kB\nVmHWM:\t  1732 kB\nVmRSS:\t 100 kB\n"), Some(1732 * 1024));
    assert_eq!(peak_in("Name:\trelay\n"), None);
    assert_eq!(kills_in("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
    assert_eq!(kills_in("low 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n"), Some(1));
}

#[test]
fn a_cgroup_is_created_below_that_of_this_process_or_with_version_2_also_below_an_ancestor() {
    let one = parents("5:devices:/\n4:memory,hugetlb:/box/a\n1:name=systemd:/\n");
    assert_eq!(one, [(PathBuf::from("/sys/fs/cgroup/memory/box/a"), Version::One)]);
    let two: Vec<_> = parents("0::/user.slice/app.scope\n").into_iter().map(|(folder, _)| folder).collect();
    let wanted = ["/sys/fs/cgroup/user.slice/app.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"];
    assert_eq!(two, wanted.map(PathBuf::from));
    assert_eq!(parents("0::/\n"), [(PathBuf::from("/sys/fs/cgroup/"), Version::Two)]);
}

#[tokio::test]
async fn a_process_that_exceeds_its_memory_limit_is_killed_and_one_below_it_is_not() {
    let limit = match Limit::new(64 << 20) {
        Ok(limit) => limit,
        Err(error) => return eprintln!("not tested: {error}"),
    };
    let run = |mebibytes: u32| {
        let mut command = Command::new("sh");
        // A shell variable of `mebibytes` MiB.
        command.args(["-c", &format!("x=$(head -c {mebibytes}M /dev/zero | tr '\\0' a); echo \"got ${{#x}}\"")]);
        let mut process = Process::start("eater", &mut limit.wrap(&command), Signal::Term).expect("starts");
        process.wait().expect("ends")
    };
    assert!(run(1).success());
    assert_eq!(limit.kills().expect("kills are counted"), 0);
    assert!(!run(256).success());
    assert!(limit.kills().expect("kills are counted") >= 1);
    let folder = limit.folder.clone();
    drop(limit);
    // A killed process may take a moment to leave the cgroup. Then the next run of a harness removes it, as this loop
    // does.
    until("the cgroup to be removed", Duration::from_secs(10), async || match std::fs::remove_dir(&folder) {
        Err(error) if folder.exists() => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    })
    .await;
}
