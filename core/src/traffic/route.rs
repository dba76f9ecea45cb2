//! Editing the destinations of one http route, for the route itself and for those that are put before it.

use serde_json::Value;

use super::{
    destination::{self, DestinationView, point_at},
    error::{RouteError, Trouble},
    select::{Place, Selected, Selection},
    setting::{Cluster, Role, Setting},
    share::{part, share, sum},
};
use crate::Predictor;

/// What became of a route.
pub(super) enum Edited {
    /// Its destinations now.
    Managed(Destinations),
    /// It was not named and lists nobody of the setting's: left alone. What it lists.
    NothingManaged(Vec<DestinationView>),
}

/// The destinations of a route, for all its requests and for those of one arm.
pub(super) struct Destinations {
    entries: Vec<Entry>,
    /// What the pair has of the route, 0 to 100.
    share: u32,
}

/// A destination on its way from the old list to the new one.
#[derive(Clone)]
struct Entry {
    role: Role,
    value: Value,
    written: Option<u32>,
    /// What counts as its weight now.
    weight: u32,
}

impl Destinations {
    /// The list for the route itself.
    pub(super) fn divided(&self, setting: &Setting) -> Vec<Value> {
        let mut entries = self.entries.clone();
        weigh(&mut entries, setting, setting.weight, self.share);
        entries.into_iter().map(|entry| entry.value).collect()
    }

    /// The list for requests of which one arm has all that the pair has; the other arm is not on it.
    pub(super) fn all_to(&self, arm: Role, setting: &Setting) -> Vec<Value> {
        let mut entries = self.entries.clone();
        weigh(&mut entries, setting, if arm == Role::Canary { 100 } else { 0 }, self.share);
        entries.retain(|entry| entry.role == arm || entry.role == Role::Foreign);
        entries.into_iter().map(|entry| entry.value).collect()
    }

    /// Indexes of an arm in the list of the route itself.
    pub(super) fn indexes(&self, arm: Role) -> impl Iterator<Item = usize> {
        self.entries.iter().enumerate().filter(move |(_, entry)| entry.role == arm).map(|(index, _)| index)
    }

    /// The canary's destination.
    pub(super) fn canary(&self) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.role == Role::Canary)?.value.get("destination")
    }
}

pub(super) fn edit(
    selected: &Selected<'_>,
    setting: &Setting,
    cluster: &Cluster<'_>,
) -> Result<Edited, RouteError> {
    let views = destination::read_all(&selected.place, selected.entries, cluster)?;
    let roles: Vec<_> = views.iter().map(|view| setting.role(view)).collect();
    if roles.iter().all(|role| *role == Role::Foreign) {
        return if selected.place.selection.is_every_http() {
            Ok(Edited::NothingManaged(views))
        } else {
            Err(nothing_managed(&selected.place, setting, &views))
        };
    }
    if !setting.takes_away() {
        fit_to_grow(&selected.place, setting, &views, &roles)?;
    }
    let share = share(&views, &roles);
    let entries = selected.entries.iter().zip(views).zip(roles);
    let mut entries: Vec<_> = entries
        .map(|((value, view), role)| Entry {
            role,
            value: value.clone(),
            written: view.written,
            weight: view.weight,
        })
        .collect();
    let point = |value: &mut Value, predictor: &Predictor| {
        point_at(value, predictor, &selected.place.selection.namespace, cluster);
    };
    list_stable(&mut entries, &setting.stable, point);
    if let Some(canary) = setting.other_arm() {
        list_canary(&mut entries, canary, point);
    }
    entries.retain(|entry| entry.role != Role::Known);
    Ok(Edited::Managed(Destinations { entries, share }))
}

/// Puts stable on the list if it is not there: in the place of a predictor of the past, else before the other arm
/// or one that is retiring, in either case with that one's headers and unknown fields.
fn list_stable(entries: &mut Vec<Entry>, stable: &Predictor, point: impl Fn(&mut Value, &Predictor)) {
    if entries.iter().any(|entry| entry.role == Role::Stable) {
        return;
    }
    let replaced = entries.iter_mut().find(|entry| entry.role == Role::Known);
    if let Some(entry) = replaced {
        point(&mut entry.value, stable);
        entry.role = Role::Stable;
        return;
    }
    if let Some(index) = entries.iter().position(|entry| entry.role != Role::Foreign) {
        let entry = copy(&entries[index], Role::Stable, |value| point(value, stable));
        entries.insert(index, entry);
    }
}

/// Puts the canary on the list if it is not there: a copy of stable's entry, right after it.
fn list_canary(entries: &mut Vec<Entry>, canary: &Predictor, point: impl Fn(&mut Value, &Predictor)) {
    if entries.iter().any(|entry| entry.role == Role::Canary) {
        return;
    }
    if let Some(index) = entries.iter().position(|entry| entry.role == Role::Stable) {
        let entry = copy(&entries[index], Role::Canary, |value| point(value, canary));
        entries.insert(index + 1, entry);
    }
}

fn copy(entry: &Entry, role: Role, point: impl Fn(&mut Value)) -> Entry {
    let mut value = entry.value.clone();
    point(&mut value);
    Entry { role, value, written: entry.written, weight: 0 }
}

/// Divides the pair's share, `weight` percent of it to the canary. Only what has to change is written.
fn weigh(entries: &mut [Entry], setting: &Setting, weight: u8, share: u32) {
    let canary = setting.other_arm().map_or(0, |_| part(share, weight));
    let alone = entries.len() == 1;
    let mut rest = share.saturating_sub(canary);
    let mut canary = canary;
    // Should stable be listed twice, the first entry gives and takes, the others keep what they have.
    let first_stable = entries.iter().position(|entry| entry.role == Role::Stable);
    for (index, entry) in entries.iter().enumerate() {
        if entry.role == Role::Stable && Some(index) != first_stable {
            rest = rest.saturating_sub(entry.weight);
        }
    }
    for (index, entry) in entries.iter_mut().enumerate() {
        let target = match entry.role {
            Role::Stable if Some(index) == first_stable => rest,
            Role::Canary => std::mem::take(&mut canary),
            Role::Retiring | Role::Known => 0,
            Role::Stable | Role::Foreign => continue,
        };
        let explicit = setting.other_arm().is_some() && entry.role != Role::Retiring;
        let understood = entry.written.is_none() && !explicit && target == if alone { 100 } else { 0 };
        if entry.written == Some(target) || understood {
            continue;
        }
        if let Some(fields) = entry.value.as_object_mut() {
            fields.insert("weight".to_owned(), target.into());
        }
    }
}

/// Refuses a route on which the canary must not be given weight.
pub(super) fn fit_to_grow(
    place: &Place<'_>,
    setting: &Setting,
    views: &[DestinationView],
    roles: &[Role],
) -> Result<(), RouteError> {
    let arms = [(Role::Stable, Some(&setting.stable)), (Role::Canary, setting.other_arm())];
    for (arm, predictor) in arms {
        let mut indexes = (0..roles.len()).filter(|index| roles[*index] == arm);
        if let (Some(first), Some(second), Some(predictor)) = (indexes.next(), indexes.next(), predictor) {
            let first = format!("{}.route[{first}]", place.path);
            let trouble = Trouble::Duplicate { predictor: predictor.revision(), first };
            return Err(place.at(&format!("route[{second}]")).trouble(trouble));
        }
    }
    match sum(views.iter()) {
        0..=100 => Ok(()),
        sum => Err(place.at("route").trouble(Trouble::TooMuchWeight { sum })),
    }
}

pub(super) fn nothing_managed(place: &Place<'_>, setting: &Setting, views: &[DestinationView]) -> RouteError {
    let arms = std::iter::once(&setting.stable).chain(setting.other_arm());
    let expected = arms.map(Predictor::revision).collect();
    let mut found: Vec<_> = views.iter().map(described).collect();
    found.sort_unstable();
    found.dedup();
    place.at("route").trouble(Trouble::NothingManaged { expected, found })
}

/// No route of the `VirtualService` lists anybody of the setting's.
pub(super) fn nothing_managed_at_all(
    selection: &Selection,
    setting: &Setting,
    views: &[DestinationView],
) -> RouteError {
    nothing_managed(&Place { selection, path: "spec.http[*]".to_owned() }, setting, views)
}

/// The predictor where it is one, else the host: the port may be all that differs.
fn described(view: &DestinationView) -> String {
    view.predictor.as_ref().map_or_else(|| view.host.clone(), Predictor::revision)
}
