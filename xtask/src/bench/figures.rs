//! Reads figures from a machine's output, and refuses those that cannot be trusted.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Statistics of one figure on one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Number of values.
    pub(crate) n: u64,
    /// Smallest.
    pub(crate) min: f64,
    /// Median.
    pub(crate) p50: f64,
    /// 99th percentile.
    pub(crate) p99: f64,
    /// Largest.
    pub(crate) max: f64,
    /// The median of each run, where there were several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) medians: Vec<f64>,
}

impl Sample {
    /// One value.
    pub(crate) const fn single(value: f64) -> Self {
        Self { n: 1, min: value, p50: value, p99: value, max: value, medians: Vec::new() }
    }

    /// Values, of which each was a run; nothing if there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        Self::merged(&values.iter().copied().map(Self::single).collect::<Vec<_>>())
    }

    /// Several runs' samples as one, whose median and 99th percentile are the medians of theirs; nothing if there are none.
    pub(crate) fn merged(runs: &[Self]) -> Option<Self> {
        if let [single] = runs {
            return Some(single.clone());
        }
        let all = |value: fn(&Self) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        let medians = all(|run| run.p50);
        Some(Self {
            n: runs.iter().map(|run| run.n).sum(),
            min: all(|run| run.min).into_iter().reduce(f64::min)?,
            p50: middle(medians.clone())?,
            p99: middle(all(|run| run.p99))?,
            max: all(|run| run.max).into_iter().reduce(f64::max)?,
            medians,
        })
    }

    /// The sample with every number changed.
    pub(crate) fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            n: self.n,
            min: change(self.min),
            p50: change(self.p50),
            p99: change(self.p99),
            max: change(self.max),
            medians: self.medians.iter().copied().map(change).collect(),
        }
    }

    /// Whether these are the statistics of samples, as the measured programs take them.
    fn is_of(&self, samples: &[f64]) -> bool {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        let count = samples.len();
        let at = |place: usize| samples.get(place.min(count.saturating_sub(1))).copied();
        count as u64 == self.n
            && at(0) == Some(self.min)
            && at(count / 2) == Some(self.p50)
            && at(count * 99 / 100) == Some(self.p99)
            && at(count) == Some(self.max)
    }

    /// How far the runs' medians lie apart, as a share of the one in the middle.
    pub(crate) fn spread(&self) -> Option<f64> {
        let least = self.medians.iter().copied().reduce(f64::min)?;
        let most = self.medians.iter().copied().reduce(f64::max)?;
        Some((most - least) / self.p50)
    }
}

/// The value in the middle.
fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Everything one machine run printed: figures by (name, metric) and the names that a failed program voided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    samples: BTreeMap<(String, String), Sample>,
    values: BTreeMap<(String, String), Vec<f64>>,
    memory: BTreeMap<String, Memory>,
    failed: Vec<(String, String)>,
    repeated: Vec<(String, String)>,
    begun: Vec<String>,
    ended: Vec<String>,
    /// Why the machine's output cannot be trusted at all.
    pub(crate) fault: Option<String>,
}

/// What Linux's counters said before and after something was started several times.
#[derive(Clone, Debug, Default)]
struct Memory {
    begin: Option<f64>,
    end: Option<(u64, f64)>,
}

/// The counters of Linux that things which were started are accounted in.
const COUNTERS: [&str; 6] = ["Slab", "KernelStack", "PageTables", "Percpu", "AnonPages", "Shmem"];

/// Why a figure is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Void {
    /// The run printed no such figure.
    Missing,
    /// A program that was measured failed.
    ProgramFailed(String),
    /// Fewer samples than the figure needs.
    TooFewSamples(u64),
    /// The numbers contradict each other or are not numbers.
    Malformed,
    /// The run printed it more than once.
    Repeated,
    /// The two sides did not run under the same flags.
    DifferentFlags,
    /// The scenario that prints it began and did not end.
    Unfinished(String),
    /// The machine did not end as it should.
    Machine(String),
}

impl Void {
    /// The reason in words.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Missing => "the run printed no such figure".into(),
            Self::ProgramFailed(line) => format!("a measured program failed: {line}"),
            Self::TooFewSamples(n) => format!("only {n} samples"),
            Self::Malformed => "the numbers contradict each other".into(),
            Self::Repeated => "the run printed it more than once".into(),
            Self::DifferentFlags => "the two sides did not run under the same flags".into(),
            Self::Unfinished(name) => format!("the scenario {name} did not end"),
            Self::Machine(fault) => fault.clone(),
        }
    }
}

impl Output {
    /// Reads the lines of a run.
    pub(crate) fn parse(text: &str) -> Self {
        let mut output = Self::default();
        for line in text.lines().map(str::trim_end) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("R"), Some(name)) => {
                    let Some(metric) = words.next() else { continue };
                    let key = (name.to_owned(), metric.to_owned());
                    if let Some(sample) = parse_sample(words)
                        && output.samples.insert(key.clone(), sample).is_some()
                    {
                        output.repeated.push(key);
                    }
                }
                (Some("V"), Some(name)) => {
                    let Some(metric) = words.next() else { continue };
                    let values = words.map(|word| word.parse().unwrap_or(f64::NAN)).collect();
                    output.values.insert((name.to_owned(), metric.to_owned()), values);
                }
                // The probe of a Linux that has just booted: `BOOT tsc=N ...`.
                (Some("BOOT"), Some(first)) => {
                    if let Some(Ok(at)) = first.strip_prefix("tsc=").map(str::parse::<f64>) {
                        output
                            .samples
                            .insert(("boot.linux".into(), "ticks".into()), Sample::single(at));
                    }
                }
                (Some("M"), Some(name)) => output.read_memory(name, words),
                (Some("WARN"), Some(name)) => {
                    output.failed.push((name.trim_end_matches(':').to_owned(), line.to_owned()));
                }
                (Some("S"), Some("begin")) => output.begun.extend(words.next().map(str::to_owned)),
                (Some("S"), Some("end")) => output.ended.extend(words.next().map(str::to_owned)),
                _ => {}
            }
        }
        output
    }

    /// `M NAME begin|end COUNT Counter:KIB ...`.
    fn read_memory<'a>(&mut self, name: &str, mut words: impl Iterator<Item = &'a str>) {
        let (stage, count) = (words.next(), words.next().and_then(|word| word.parse().ok()));
        let mut bytes = 0.0;
        for word in words {
            if let Some((counter, value)) = word.split_once(':')
                && COUNTERS.contains(&counter)
            {
                bytes += value.parse::<f64>().unwrap_or(f64::NAN) * 1024.0;
            }
        }
        let memory = self.memory.entry(name.to_owned()).or_default();
        match (stage, count) {
            (Some("begin"), _) => memory.begin = Some(bytes),
            (Some("end"), Some(count)) => memory.end = Some((count, bytes)),
            _ => {}
        }
        if let (Some(begin), Some((count @ 1.., end))) = (memory.begin, memory.end) {
            let each = (end - begin) / count as f64;
            self.samples.insert((name.to_owned(), "bytes".to_owned()), Sample::single(each));
        }
    }

    /// The samples behind a figure, where the run printed them.
    pub(crate) fn values(&self, name: &str, metric: &str) -> Option<&[f64]> {
        self.values.get(&(name.to_owned(), metric.to_owned())).map(Vec::as_slice)
    }

    /// Scenarios that began and did not end.
    pub(crate) fn unfinished(&self) -> Vec<&str> {
        self.begun.iter().filter(|name| !self.ended.contains(name)).map(String::as_str).collect()
    }

    /// A figure, or why it is refused.
    pub(crate) fn figure(&self, name: &str, metric: &str, least: u64) -> Result<Sample, Void> {
        if let Some(fault) = &self.fault {
            return Err(Void::Machine(fault.clone()));
        }
        if let Some((_, line)) = self.failed.iter().find(|(failed, _)| failed == name) {
            return Err(Void::ProgramFailed(line.clone()));
        }
        if let Some(scenario) = self.unfinished().first() {
            return Err(Void::Unfinished((*scenario).to_owned()));
        }
        let key = (name.to_owned(), metric.to_owned());
        let sample = self.samples.get(&key).ok_or(Void::Missing)?.clone();
        if self.repeated.contains(&key) {
            return Err(Void::Repeated);
        }
        if sample.n < least {
            return Err(Void::TooFewSamples(sample.n));
        }
        let ordered =
            sample.min <= sample.p50 && sample.p50 <= sample.p99 && sample.p99 <= sample.max;
        // Only what is counted may not have happened at all.
        let is_possible = sample.p50 > 0.0 || metric == "count";
        let sane = ordered && sample.min >= 0.0 && sample.max.is_finite() && is_possible;
        let values = self.values.get(&key);
        if sane && values.is_none_or(|values| sample.is_of(values)) {
            Ok(sample)
        } else {
            Err(Void::Malformed)
        }
    }
}

fn parse_sample<'a>(words: impl Iterator<Item = &'a str>) -> Option<Sample> {
    let mut values = BTreeMap::new();
    for word in words {
        let (key, value) = word.split_once('=')?;
        values.insert(key, value.parse::<f64>().ok()?);
    }
    Some(Sample {
        n: *values.get("n")? as u64,
        min: *values.get("min")?,
        p50: *values.get("p50")?,
        p99: *values.get("p99")?,
        max: *values.get("max")?,
        medians: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "S begin lb\nR lb.stat op n=11 min=10 p50=12 p99=14 max=14 mean=12\r\nS end lb\n";

    #[test]
    fn a_good_figure_is_read() {
        let output = Output::parse(GOOD);
        assert_eq!(output.figure("lb.stat", "op", 5).unwrap().p50, 12.0);
        assert!(output.unfinished().is_empty());
    }

    #[test]
    fn memory_is_what_each_started_thing_added() {
        let text = "M memory.crun begin 0 MemFree:900 Slab:100 AnonPages:4\nM memory.crun end 4 MemFree:1 Slab:300 AnonPages:12\n";
        let figure = Output::parse(text).figure("memory.crun", "bytes", 1).unwrap();
        assert_eq!(figure.p50, 208.0 / 4.0 * 1024.0);
    }

    #[test]
    fn statistics_that_are_not_of_the_samples_are_refused() {
        let line = "R a start n=3 min=1 p50=2 p99=3 max=3 mean=2\n";
        let figure =
            |samples: &str| Output::parse(&format!("{line}{samples}")).figure("a", "start", 1);
        assert!(figure("").is_ok() && figure("V a start 1 2 3\n").is_ok());
        for samples in ["V a start 1 2\n", "V a start 1 3 3\n", "V a start 1 x 3\n", "V a start\n"]
        {
            assert_eq!(figure(samples), Err(Void::Malformed), "{samples}");
        }
        assert_eq!(figure(line), Err(Void::Repeated));
    }

    #[test]
    fn samples_are_kept() {
        let output = Output::parse("V a start 1 2 3\n");
        assert_eq!(output.values("a", "start"), Some(&[1.0, 2.0, 3.0][..]));
    }
}
