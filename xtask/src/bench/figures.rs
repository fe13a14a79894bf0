//! Reads figures from a machine's output, and refuses those that cannot be trusted.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Statistics of one figure on one system.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
}

/// Everything one machine run printed: figures by (name, metric) and the names that a failed program voided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    samples: BTreeMap<(String, String), Sample>,
    failed: Vec<(String, String)>,
    begun: Vec<String>,
    ended: Vec<String>,
}

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
}

impl Void {
    /// The reason in words.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Missing => "the run printed no such figure".into(),
            Self::ProgramFailed(line) => format!("a measured program failed: {line}"),
            Self::TooFewSamples(n) => format!("only {n} samples"),
            Self::Malformed => "the numbers contradict each other".into(),
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
                    if let Some(sample) = parse_sample(words) {
                        output.samples.insert((name.to_owned(), metric.to_owned()), sample);
                    }
                }
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

    /// Scenarios that began and did not end.
    pub(crate) fn unfinished(&self) -> Vec<&str> {
        self.begun.iter().filter(|name| !self.ended.contains(name)).map(String::as_str).collect()
    }

    /// A figure, or why it is refused.
    pub(crate) fn figure(&self, name: &str, metric: &str, least: u64) -> Result<Sample, Void> {
        if let Some((_, line)) = self.failed.iter().find(|(failed, _)| failed == name) {
            return Err(Void::ProgramFailed(line.clone()));
        }
        let key = (name.to_owned(), metric.to_owned());
        let sample = *self.samples.get(&key).ok_or(Void::Missing)?;
        if sample.n < least {
            return Err(Void::TooFewSamples(sample.n));
        }
        let ordered =
            sample.min <= sample.p50 && sample.p50 <= sample.p99 && sample.p99 <= sample.max;
        let sane = ordered && sample.min >= 0.0 && sample.max.is_finite() && sample.p50 > 0.0;
        if sane { Ok(sample) } else { Err(Void::Malformed) }
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
    fn planted_faults_are_refused() {
        let void = |text: &str| Output::parse(text).figure("lb.stat", "op", 5).unwrap_err();
        assert_eq!(void(""), Void::Missing);
        assert!(matches!(
            void(&format!("{GOOD}WARN lb.stat: 2 runs had a non-zero status\n")),
            Void::ProgramFailed(_)
        ));
        assert_eq!(void(&GOOD.replace("n=11", "n=2")), Void::TooFewSamples(2));
        assert_eq!(void(&GOOD.replace("p50=12", "p50=99")), Void::Malformed);
        assert_eq!(void(&GOOD.replace("min=10", "min=x")), Void::Missing);
        let cut = GOOD.replace("S end lb\n", "");
        assert_eq!(Output::parse(&cut).unfinished(), ["lb"]);
    }
}
