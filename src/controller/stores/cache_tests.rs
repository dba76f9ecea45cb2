//! The cache through lists, changes and gaps of a watch.

use super::*;

/// Belongs to what it lists.
#[derive(Clone, Debug, PartialEq)]
struct Leaf(Vec<&'static str>);

impl Entry for Leaf {
    type Group = &'static str;

    fn groups(&self) -> Vec<&'static str> {
        self.0.clone()
    }
}

type Change = Event<(Name, Option<Leaf>)>;

fn listed(name: &str, groups: &[&'static str]) -> Change {
    Event::InitApply((name.into(), Some(Leaf(groups.to_vec()))))
}

fn applied(name: &str, groups: &[&'static str]) -> Change {
    Event::Apply((name.into(), Some(Leaf(groups.to_vec()))))
}

fn deleted(name: &str) -> Change {
    Event::Delete((name.into(), None))
}

/// What the events touched, as text: `name: groups`.
fn feed(cache: &Cache<Leaf>, events: impl IntoIterator<Item = Change>) -> Vec<String> {
    let touched = events.into_iter().flat_map(|event| cache.apply(event));
    let mut texts: Vec<_> = touched.map(|it| format!("{}: {}", it.name, it.groups.join(" "))).collect();
    texts.sort();
    texts
}

fn of(cache: &Cache<Leaf>, group: &'static str) -> Vec<String> {
    let mut names: Vec<_> = cache.names_of(&group).iter().map(ToString::to_string).collect();
    names.sort();
    let mut found: Vec<_> = cache.all_of(&group).iter().map(|(name, _)| name.to_string()).collect();
    found.sort();
    assert_eq!(names, found);
    names
}

fn filled() -> Cache<Leaf> {
    let cache = Cache::default();
    feed(&cache, [Event::Init, listed("a", &["x"]), listed("b", &["x", "y"]), Event::InitDone]);
    cache
}

#[test]
fn it_is_filled_when_the_first_list_has_ended() {
    let cache = Cache::default();
    feed(&cache, [Event::Init, listed("a", &["x"])]);
    assert!(!*cache.filled.borrow());
    feed(&cache, [Event::InitDone]);
    assert!(*cache.filled.borrow());
    assert_eq!(cache.get("a").as_deref(), Some(&Leaf(vec!["x"])));
}

#[test]
fn a_change_of_group_touches_the_old_one_and_the_new_one() {
    let cache = filled();
    assert_eq!(feed(&cache, [applied("b", &["y", "z"])]), ["b: x y y z"]);
    assert_eq!(
        (of(&cache, "x"), of(&cache, "y"), of(&cache, "z")),
        (vec!["a".to_owned()], vec!["b".to_owned()], vec!["b".to_owned()])
    );
}

#[test]
fn what_is_as_it_was_touches_nothing() {
    let cache = filled();
    assert!(feed(&cache, [applied("a", &["x"])]).is_empty());
    let again = [Event::Init, listed("b", &["x", "y"]), listed("a", &["x"]), Event::InitDone];
    assert!(feed(&cache, again).is_empty());
    assert_eq!(of(&cache, "x"), ["a", "b"]);
}

#[test]
fn what_went_between_two_lists_is_found_missing() {
    let cache = filled();
    assert_eq!(feed(&cache, [Event::Init, listed("a", &["x"]), Event::InitDone]), ["b: x y"]);
    assert_eq!(cache.get("b"), None);
    assert_eq!((of(&cache, "x"), of(&cache, "y")), (vec!["a".to_owned()], Vec::new()));
}

#[test]
fn a_list_that_is_broken_off_drops_nothing() {
    let cache = filled();
    feed(&cache, [Event::Init, listed("a", &["x"])]);
    assert!(cache.get("b").is_some());
    // What the broken one showed does not count for the next.
    assert_eq!(feed(&cache, [Event::Init, listed("b", &["x", "y"]), Event::InitDone]), ["a: x"]);
}

#[test]
fn what_is_deleted_or_nothing_to_keep_is_gone_from_the_index_too() {
    let cache = filled();
    assert_eq!(feed(&cache, [deleted("a"), Event::Apply(("b".into(), None))]), ["a: x", "b: x y"]);
    let inner = cache.read();
    assert!(inner.there.is_empty() && inner.groups.is_empty());
}
