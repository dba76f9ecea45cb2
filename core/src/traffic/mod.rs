//! Moves the traffic of one pair of predictors inside a `VirtualService`, as a pure function: the object as read
//! and the wanted [`Setting`] in, the edited object out, and the [`patch()`] between the two.
//!
//! The object stays a [`serde_json::Value`] from end to end, because the owner of a `VirtualService` may use fields
//! that this version of Sluice has never heard of, and all of them must survive. What is managed is exactly this:
//! the destinations of the pair in the selected http routes, their weights, the routes, copies and cookies that are
//! Sluice's own, and the [`stamp`].
//!
//! **Refusal stops starts and increases, never decreases.** [`edit`] is strict while the canary is given weight: a
//! route that is missing, that lists an arm twice or whose weights exceed 100 is an error. When the canary is taken
//! away ([`Setting::takes_away`]) every selected route that can be edited is edited, whatever is wrong beside it.

mod conjunction;
mod destination;
mod edit;
mod error;
mod hashed;
mod mirror;
mod own;
mod patch;
mod route;
mod select;
mod setting;
mod share;
mod shown;
pub mod stamp;
mod unnoted;

pub(crate) use conjunction::takes_all;
pub use destination::DestinationView;
pub use edit::{Edit, edit, edit_what_can_be};
pub use error::{RouteError, Trouble};
pub(crate) use own::is_own;
pub use patch::patch;
pub use select::{RouteView, Selection, read};
pub use setting::{Cluster, Cookie, Setting, Sticky, StickyBy};
pub use share::{PairShare, require_share, share_of_pair};
pub use shown::{Shown, shown};

#[cfg(test)]
mod beside_tests;
#[cfg(test)]
mod edit_tests;
#[cfg(test)]
mod patch_tests;
#[cfg(test)]
mod stamp_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod view_tests;
