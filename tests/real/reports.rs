//! What the controllers of these tests say in their logs about rights that they have not.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

static REPORTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Begins to listen, for the life of the process; with `RUST_LOG` the log is printed too.
pub fn listen() {
    let filter = std::env::var("RUST_LOG").is_ok().then(EnvFilter::from_default_env);
    let printed = filter.map(|filter| tracing_subscriber::fmt::layer().with_filter(filter));
    // A log that is there already stays, and then nothing is heard: the tests that need it fail.
    let _ = Registry::default().with(printed).with(Listener).try_init();
}

/// What was said so far that has all of these in it.
pub fn with(expected: &[&str]) -> Vec<String> {
    let reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    reports.iter().filter(|report| expected.iter().all(|part| report.contains(part))).cloned().collect()
}

struct Listener;

impl<S: Subscriber> Layer<S> for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // As an installation that nobody has told anything shows it.
        *metadata.level() <= Level::WARN
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        if text.0.contains("forbidden") {
            REPORTS.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A text cannot take too much.
        let _ = write!(self.0, "{field}={value:?} ");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, "{field}={value} ");
    }
}
