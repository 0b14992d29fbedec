//! A bar on stderr that shows how far the input has been read.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::batch::Position;

const TURN: Duration = Duration::from_millis(200);

/// A bar, or a spinner when the end is not known. It vanishes when it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// `shown` is false off a terminal.
    pub fn new(what: &'static str, begin: Position, shown: bool) -> Self {
        let bar = match begin.total {
            _ if !shown => ProgressBar::hidden(),
            Some(total) => ProgressBar::new(total)
                .with_style(style("{msg:>5} [{bar:40}] {percent:>3} %  {elapsed}, {eta} to go"))
                .with_message(what),
            None => waiting(),
        };
        Self(bar)
    }

    pub fn show(&self, position: Position) {
        self.0.set_position(position.done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Turns by itself, so that one who forgot to pipe anything sees what is waited for.
fn waiting() -> ProgressBar {
    let bar = ProgressBar::new_spinner()
        .with_style(style("{spinner} {msg}: {human_pos} bytes  {elapsed}"))
        .with_message("reading standard input");
    bar.enable_steady_tick(TURN);
    bar
}

fn style(template: &str) -> ProgressStyle {
    // A template that is wrong gives a plain bar, and no reason to stop.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
