//! Samples and the lines they are printed as.

use alloc::{format, string::String, vec::Vec};
use core::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether ticks are printed as nanoseconds: not where one tick is one instruction.
static IN_NANOSECONDS: AtomicBool = AtomicBool::new(false);

/// Has times printed as nanoseconds.
pub(crate) fn print_nanoseconds() {
    IN_NANOSECONDS.store(true, Ordering::Relaxed);
}

/// Prints statistics of times in ticks, as [`report`] does.
pub(crate) fn report_times(name: &str, metric: &str, samples: &mut [u64]) {
    if IN_NANOSECONDS.load(Ordering::Relaxed) {
        for sample in samples.iter_mut() {
            *sample = rt::clock::nanoseconds(*sample);
        }
    }
    report(name, metric, samples);
}

/// Prints statistics of samples, and the samples. Statistics are those of the Linux side's `stat.h`.
pub(crate) fn report(name: &str, metric: &str, samples: &mut [u64]) {
    let count = samples.len();
    if count == 0 {
        rt::log!("WARN {name}: there are no samples");
        return;
    }
    samples.sort_unstable();
    let at = |index: usize| samples.get(index.min(count - 1)).copied().unwrap_or(0);
    let mean = samples.iter().sum::<u64>() / count as u64;
    let (min, p50, p99, max) = (at(0), at(count / 2), at(count * 99 / 100), at(count - 1));
    rt::log!("R {name} {metric} n={count} min={min} p50={p50} p99={p99} max={max} mean={mean}");
    let mut line = format!("V {name} {metric}");
    for sample in samples.iter() {
        // Writing to a string cannot fail.
        let _ = write!(line, " {sample}");
    }
    line.push('\n');
    rt::log::send(line.as_bytes());
}

/// Relays whole lines of a program's output and keeps what follows the last of them.
pub(crate) fn relay(output: &mut Vec<u8>) {
    let Some(end) = output.iter().rposition(|byte| *byte == b'\n') else { return };
    rt::log::send(output.get(..=end).unwrap_or_default());
    output.drain(..=end);
}

/// Output as text for a message, on one line.
pub(crate) fn one_line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim().replace('\n', "; ")
}
