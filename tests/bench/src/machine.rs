//! The machine of a measurement, and the resources of its processes.

use std::process::Command;

/// Describes the machine in one line: processor, cores, memory, system, versions.
#[must_use]
pub fn describe() -> String {
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(':')))
        .map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.trim().to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    format!(
        "{cpu}, {cores} cores, {} GiB, {} {}, {}, node {}, commit {}",
        memory_kib >> 20,
        std::env::consts::OS,
        std::env::consts::ARCH,
        output("rustc", &["--version"]),
        output("node", &["--version"]),
        output("git", &["-C", &harness::place::repository().to_string_lossy(), "describe", "--always", "--dirty"]),
    )
}

/// The processor time that a process has used so far, in seconds; `None` if the system does not report it (it is read
/// from `/proc`, see `proc_pid_stat(5)`).
#[must_use]
pub fn processor_seconds(process: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program may contain any character, so the fields are counted from the last bracket, which ends
    // it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // Linux reports them in hundredths of a second to every program (USER_HZ).
    Some((user + system) / 100.0)
}

/// Like [`processor_seconds`], for a process such as PostgreSQL's postmaster, its children, and those of them that have
/// ended.
#[must_use]
pub fn processor_seconds_with_children(process: u32) -> f64 {
    let parent = process.to_string();
    let mut seconds = 0.0;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stat = read(&format!("/proc/{name}/stat"));
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let time = |range: std::ops::Range<usize>| -> f64 {
            fields.get(range).into_iter().flatten().filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
        };
        if name == parent {
            // Its own time, and the time of children that it has waited for.
            seconds += time(11..15);
        } else if fields.get(1) == Some(&parent.as_str()) {
            seconds += time(11..13);
        }
    }
    seconds
}

/// The resident memory of a process in KiB; `None` if the system does not report it.
#[must_use]
pub fn memory_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
