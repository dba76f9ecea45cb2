//! What people see, as pure functions of what the cluster said, of the time and of the screen.

mod age;
mod checks;
mod decisions;
mod detail;
mod explain;
mod findings;
#[cfg(test)]
pub(crate) mod fixtures;
mod listed;
mod log;
mod metrics;
mod next;
mod plan;
mod rehearsal;
mod replay;
mod steps;
mod table;
mod text;

pub use age::age;
pub use detail::rollout;
pub use explain::explanation;
pub use findings::findings;
pub(crate) use listed::created;
pub use listed::{Listed, Unreadable};
pub use log::changes;
pub use metrics::{Examined, examined};
pub use plan::{BadCanary, Changed, ChangedObject, plan};
pub use rehearsal::{outcome, tally, timeline};
pub use replay::{instant, profile};
pub(super) use replay::{replay, replayed};
pub use table::{Columns, Table, rollouts};
pub use text::{plain, remark};

/// What the output is shown on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Its width in columns; none where it is not a terminal and every line may be as long as it wants.
    pub width: Option<usize>,
    /// Its height in lines, where it is a terminal.
    pub height: Option<usize>,
    /// Whether it shows colours.
    pub colour: bool,
    /// What people call the command by, `sluice` or `kubectl sluice`: what is advised can be typed as it stands.
    pub program: String,
}
