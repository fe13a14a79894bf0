//! Progress of long work on the terminal: a bar where the end is known, a count where it is not, a clock where there is nothing to count.
//! Nothing at all when standard error is no terminal.

use daemon::api::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{io::IsTerminal as _, time::Duration};

/// How often a clock is drawn.
const TICK: Duration = Duration::from_millis(100);

/// A line on the terminal that is gone when the work is done.
#[derive(Debug, Default)]
pub(crate) struct Line {
    shown: Option<(ProgressBar, Progress)>,
}

impl Line {
    /// Shows how far something is.
    pub(crate) fn show(&mut self, progress: &Progress) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let is_same = |shown: &Progress| {
            (&shown.what, shown.total, shown.done > 0)
                == (&progress.what, progress.total, progress.done > 0)
        };
        if self.shown.as_ref().is_none_or(|(_, shown)| !is_same(shown)) {
            self.clear();
            self.shown = Some((bar(progress), progress.clone()));
        }
        if let Some((bar, _)) = &self.shown {
            bar.set_position(progress.done);
        }
    }

    /// Takes the line from the terminal.
    pub(crate) fn clear(&mut self) {
        if let Some((bar, _)) = self.shown.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(progress: &Progress) -> ProgressBar {
    let template = match (progress.total, progress.done) {
        (0, 0) => "{spinner} {msg} {elapsed}",
        (0, _) => "{spinner} {msg} {bytes} ({bytes_per_sec})",
        _ => "{msg} [{bar:30}] {bytes}/{total_bytes} {eta}",
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let length = (progress.total > 0).then_some(progress.total);
    // Hidden until it knows what it is about.
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
    bar.set_style(style);
    bar.set_message(progress.what.clone());
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if progress.total == 0 && progress.done == 0 {
        bar.enable_steady_tick(TICK);
    }
    bar
}
