//! What a figure was measured on.

use std::process::Command;

/// One line: processor, cores, memory, system, versions.
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
        "{cpu}, {cores} cores, {} GiB, {} {}, {}, node {}",
        memory_kib >> 20,
        std::env::consts::OS,
        std::env::consts::ARCH,
        output("rustc", "--version"),
        output("node", "--version"),
    )
}

/// The processor time that a process has used so far, in seconds; `None` where the system does not tell (it is read from
/// `/proc`, see `proc_pid_stat(5)`).
#[must_use]
pub fn processor_seconds(process: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program may hold anything; the fields are counted from the bracket that ends it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // Linux counts them in hundredths of a second for every program (USER_HZ).
    Some((user + system) / 100.0)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn output(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
