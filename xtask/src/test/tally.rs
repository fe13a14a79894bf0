//! Counts what passed and failed, from lines `test NAME ... ok` and `test NAME ... FAILED`.

use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader},
    process::Child,
};

/// The count.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: u64,
    failures: Vec<String>,
}

impl Tally {
    /// Counts one case and prints its line.
    pub(crate) fn case(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({error:#})");
                self.failures.push(name.to_owned());
            }
        }
    }

    /// Counts cases that were printed already.
    pub(crate) fn add(&mut self, passed: u64, failures: impl IntoIterator<Item = String>) {
        self.passed += passed;
        self.failures.extend(failures);
    }

    /// Counts one failure.
    pub(crate) fn fail(&mut self, what: String) {
        println!("FAILED {what}");
        self.failures.push(what);
    }

    /// Counts the line of a case, if it is one.
    pub(crate) fn line(&mut self, suite: &str, line: &str) {
        let Some((name, result)) =
            line.trim_end().strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return;
        };
        if result == "ok" {
            self.passed += 1;
        } else if result.starts_with("FAILED") {
            self.failures.push(format!("{suite}: {name}"));
        }
    }

    /// Shows and counts a program's output; gives whether it succeeded.
    pub(crate) fn read_lines(&mut self, mut child: Child, suite: &str) -> Result<bool> {
        let stdout = child.stdout.take().context("the program has no output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            self.line(suite, &line);
        }
        Ok(child.wait()?.success())
    }

    /// Cases counted so far.
    pub(crate) fn total(&self) -> u64 {
        self.passed + self.failures.len() as u64
    }

    /// Whether something passed and nothing failed.
    pub(crate) fn is_success(&self) -> bool {
        self.failures.is_empty() && self.passed > 0
    }

    /// Prints what failed, and the closing line.
    pub(crate) fn print(&self) {
        println!();
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        println!("{} passed, {} failed", self.passed, self.failures.len());
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn lines_are_counted_by_their_result() {
        let mut tally = Tally::default();
        for line in [
            "test a ... ok",
            "test b ... FAILED (why)",
            "noise",
            "test c - should panic ... ok",
            "test d ... ignored",
        ] {
            tally.line("s", line);
        }
        assert_eq!((tally.passed, tally.failures.len(), tally.is_success()), (2, 1, false));
    }

    #[test]
    fn nothing_at_all_is_no_success() {
        assert!(!Tally::default().is_success());
    }
}
