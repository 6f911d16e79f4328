//! How a run is shown: a bar in a terminal, lines in a file.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use learn::train::{Event, Line, StepPhases};

/// Steps between two lines where there is no terminal.
const LINE_EVERY: u64 = 20;

/// Shows what happens.
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    /// A run of so many steps, of which some are done.
    pub fn of_steps(n_steps: u64, n_done: u64) -> Self {
        let bar = ProgressBar::new(n_steps).with_position(n_done);
        let template = "{bar:30} {pos}/{len} steps, {msg}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, is_terminal: std::io::stderr().is_terminal() }
    }

    /// Shows one event.
    pub fn tell(&self, event: &Event) {
        match event {
            Event::Step { line: Line::Step { step, loss, rate, grad_norm }, tokens_per_s, .. } => {
                let words = format!("loss {loss:.3}, rate {rate:.2e}, norm {grad_norm:.2}, {tokens_per_s:.0} tokens/s");
                if self.is_terminal {
                    self.bar.set_message(words);
                    self.bar.set_position(*step);
                } else if step % LINE_EVERY == 0 {
                    eprintln!("step {step}: {words}");
                }
            }
            Event::Step { .. } => {}
            Event::HeldOut { step, loss, is_best } => {
                let mark = if *is_best { ", the best so far" } else { "" };
                self.line(&format!("step {step}: held-out loss {loss:.4} nats per token{mark}"));
            }
            Event::Sample(text) => self.line(&format!("  | {}", text.replace('\n', "\n  | "))),
        }
    }

    fn line(&self, words: &str) {
        if self.is_terminal {
            self.bar.println(words);
        } else {
            eprintln!("{words}");
        }
    }

    /// Leaves the bar as it is.
    pub fn end(&self) {
        self.bar.abandon();
    }
}

/// Shows that something of unknown length goes on.
pub fn spinner(words: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(words);
    spinner.enable_steady_tick(Duration::from_millis(200));
    if !std::io::stderr().is_terminal() {
        eprintln!("{words}");
    }
    spinner
}

/// Where a run's time went, in one line, and what memory it took.
pub fn profile(phases: &StepPhases, whole: Duration) -> String {
    let share = |part: Duration| 100.0 * part.as_secs_f64() / whole.as_secs_f64();
    let StepPhases { pass, rows, update, devices } = *phases;
    let steps = pass.forward + pass.head + pass.backward + rows + update + devices;
    let mut line = format!(
        "time: forward {:.0} %, head {:.0} %, backward {:.0} %, update {:.0} %, devices {:.0} %, waiting for rows \
         {:.1} %, the rest (held-out text, samples, saving) {:.0} %",
        share(pass.forward),
        share(pass.head),
        share(pass.backward),
        share(update),
        share(devices),
        share(rows),
        share(whole.saturating_sub(steps)),
    );
    if let Some(n_bytes) = peak_memory() {
        line += &format!("; peak memory {:.0} MB", n_bytes as f64 / 1e6);
    }
    line
}

/// The most memory that this process has had, where the system tells it in a file.
fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|n| n * 1024)
}
