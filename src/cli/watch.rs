//! `sluice get --watch`: the same, kept up to date until the person has seen enough.
//!
//! A terminal is drawn anew, a pipe gets a line for each change.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Session,
    exit::Failure,
    get::{GetArgs, name_of},
    output::{self, Format, write},
    view::{self, Columns, Listed, Table},
};

/// Changes that come together are drawn together.
const FRAME: Duration = Duration::from_millis(100);
/// Ages are drawn anew at least this often.
const TICK: Duration = Duration::from_secs(1);

type Key = (String, String);

/// Follows what `api` holds, starting with `objects`, until `stop` is ready.
pub(super) async fn watch(
    session: &mut Session<'_>,
    args: &GetArgs,
    api: Api<DynamicObject>,
    objects: Vec<DynamicObject>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let config = match &args.name {
        Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        None => watcher::Config::default(),
    };
    let lean = |object: &mut DynamicObject| object.managed_fields_mut().clear();
    let mut events = pin!(watcher(api, config).default_backoff().modify(lean));
    let mut stop = pin!(stop);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = Shown::new(args, session, objects);
    shown.begin(session)?;
    loop {
        tokio::select! {
            () = &mut stop => return shown.end(session),
            event = events.next() => match event {
                Some(Ok(event)) => shown.apply(event, session)?,
                Some(Err(error)) => shown.trouble(&error, session)?,
                None => return shown.end(session),
            },
            _ = frames.tick() => shown.draw(session)?,
        }
    }
}

/// What was shown so far.
struct Shown<'a> {
    args: &'a GetArgs,
    objects: BTreeMap<Key, DynamicObject>,
    /// What a list that is under way has brought so far.
    relisted: Option<BTreeMap<Key, DynamicObject>>,
    /// Lines up with what the pipe has got already.
    table: Table,
    /// Whether the screen is drawn anew instead of added to.
    redraws: bool,
    /// Lines that the last drawing took.
    lines: usize,
    dirty: bool,
    drawn: Instant,
    trouble: Option<String>,
}

impl<'a> Shown<'a> {
    fn new(args: &'a GetArgs, session: &Session<'_>, objects: Vec<DynamicObject>) -> Self {
        let listed: Vec<Listed> = objects.iter().map(Listed::from).collect();
        let mut table = Table::fit(&listed, columns(args), Utc::now(), &session.screen);
        listed.iter().for_each(|one| table.widen(one, Utc::now()));
        let for_people = matches!(args.output, Format::Table | Format::Wide);
        Self {
            args,
            objects: objects.into_iter().map(|object| (key(&object), object)).collect(),
            relisted: None,
            table,
            redraws: for_people && session.screen.width.is_some(),
            lines: 0,
            dirty: true,
            drawn: Instant::now(),
            trouble: None,
        }
    }

    fn begin(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        if self.redraws {
            return Ok(());
        }
        if self.args.name.is_none() && matches!(self.args.output, Format::Table | Format::Wide) {
            write(session.out, &self.table.header())?;
        }
        let objects: Vec<DynamicObject> = self.objects.values().cloned().collect();
        objects.iter().try_for_each(|object| write(session.out, &self.change(None, object)?))
    }

    fn apply(&mut self, event: Event<DynamicObject>, session: &mut Session<'_>) -> Result<(), Failure> {
        match event {
            Event::Init => self.relisted = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                self.relisted.get_or_insert_default().insert(key(&object), object);
            }
            Event::InitDone => {
                let listed = self.relisted.take().unwrap_or_default();
                let gone: Vec<DynamicObject> = self
                    .objects
                    .iter()
                    .filter(|(key, _)| !listed.contains_key(*key))
                    .map(|(_, object)| object.clone())
                    .collect();
                for object in gone {
                    self.remove(&object, session)?;
                }
                for object in listed.into_values() {
                    self.put(object, session)?;
                }
                self.trouble = None;
            }
            Event::Apply(object) => {
                self.trouble = None;
                self.put(object, session)?;
            }
            Event::Delete(object) => self.remove(&object, session)?,
        }
        Ok(())
    }

    fn put(&mut self, object: DynamicObject, session: &mut Session<'_>) -> Result<(), Failure> {
        let before = self.objects.get(&key(&object)).cloned();
        if before.as_ref().is_some_and(|before| before.resource_version() == object.resource_version()) {
            return Ok(());
        }
        if !self.redraws {
            write(session.out, &self.change(before.as_ref(), &object)?)?;
        }
        self.objects.insert(key(&object), object);
        self.dirty = true;
        Ok(())
    }

    fn remove(&mut self, object: &DynamicObject, session: &mut Session<'_>) -> Result<(), Failure> {
        self.dirty = true;
        if self.objects.remove(&key(object)).is_some() && !self.redraws {
            let (namespace, name) = key(object);
            writeln!(session.err, "The Rollout {name:?} in namespace {namespace:?} was deleted.")?;
        }
        Ok(())
    }

    /// What a pipe gets for a change: nothing where it would read the same as before.
    fn change(&mut self, before: Option<&DynamicObject>, object: &DynamicObject) -> Result<String, Failure> {
        match self.args.output {
            Format::Json => output::json_line(object),
            Format::Yaml => Ok(format!("---\n{}", output::yaml(object)?)),
            Format::Name => Ok(name_of(object)),
            Format::Table | Format::Wide => Ok(self.lines_for(before, object, Utc::now())),
        }
    }

    fn lines_for(
        &mut self,
        before: Option<&DynamicObject>,
        object: &DynamicObject,
        now: DateTime<Utc>,
    ) -> String {
        let (before, after) = (before.map(Listed::from), Listed::from(object));
        if self.args.name.is_some()
            && let Listed::Readable(after) = &after
        {
            let before = match &before {
                Some(Listed::Readable(before)) => Some(&**before),
                Some(Listed::Unreadable(_)) | None => None,
            };
            return view::changes(before, after, now);
        }
        self.table.widen(&after, now);
        let row = |listed: &Listed, now| self.table.row(listed, now);
        if before
            .is_some_and(|before| row(&before, DateTime::UNIX_EPOCH) == row(&after, DateTime::UNIX_EPOCH))
        {
            return String::new();
        }
        row(&after, now)
    }

    /// Says once what keeps it from being up to date; the watch goes on trying.
    fn trouble(&mut self, error: &watcher::Error, session: &mut Session<'_>) -> Result<(), Failure> {
        let failure = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Failure::from_kube(error, &session.cluster, "Rollout"),
            // Too old a version is how every long watch ends: the list that follows mends it.
            watcher::Error::WatchError(status) if status.code == 410 => return Ok(()),
            other => Failure::Other(other.to_string()),
        };
        if matches!(failure, Failure::NotInstalled { .. } | Failure::Cluster(_)) {
            return Err(failure);
        }
        let text = failure.to_string();
        if self.trouble.as_ref() != Some(&text) {
            if !self.redraws {
                writeln!(session.err, "{text}; trying again")?;
            }
            self.trouble = Some(text);
            self.dirty = true;
        }
        Ok(())
    }

    fn draw(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        if !self.redraws || (!self.dirty && self.drawn.elapsed() < TICK) {
            return Ok(());
        }
        session.screen = output::resized(&session.screen);
        let mut text = self.picture(session);
        if let Some(trouble) = &self.trouble {
            text += &format!("\n{trouble}; trying again\n");
        }
        let (frame, lines) = frame(&text, self.lines, session.screen.height);
        (self.lines, self.dirty, self.drawn) = (lines, false, Instant::now());
        write(session.out, &frame)
    }

    fn picture(&self, session: &Session<'_>) -> String {
        let listed: Vec<Listed> = self.objects.values().map(Listed::from).collect();
        match (&self.args.name, listed.first()) {
            (Some(_), Some(Listed::Readable(one))) => view::rollout(one, Utc::now(), &session.screen),
            (Some(name), None) => format!("There is no Rollout {name:?} any more.\n"),
            (None, None) => "There are no Rollouts.\n".to_owned(),
            (_, Some(_)) => view::rollouts(&listed, columns(self.args), Utc::now(), &session.screen),
        }
    }

    /// What was drawn last stays.
    fn end(mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        self.dirty = true;
        self.draw(session)
    }
}

/// `text` in place of the `before` lines that the cursor stands below, and how many lines it takes. A terminal of
/// `height` lines cannot go back to what has left it above, so what does not fit is left out at the end.
fn frame(text: &str, before: usize, height: Option<usize>) -> (String, usize) {
    let room = height.map_or(usize::MAX, |height| height.saturating_sub(1).max(1));
    let all = text.lines().count();
    let kept = if all > room { room - 1 } else { all };
    let mut lines: Vec<String> = text.lines().take(kept).map(str::to_owned).collect();
    if all > kept {
        lines.push(format!("… {} more lines: the terminal is too low", all - kept));
    }
    let up = if before > 0 { format!("\u{1b}[{before}F") } else { String::new() };
    // Without wrapping a line is a line, however wide; what the last drawing had more is cleared at the end.
    let body: String = lines.iter().map(|line| format!("{line}\u{1b}[K\n")).collect();
    (format!("\u{1b}[?7l{up}{body}\u{1b}[J\u{1b}[?7h"), lines.len())
}

fn columns(args: &GetArgs) -> Columns {
    Columns { namespace: args.all_namespaces, wide: args.output == Format::Wide }
}

fn key(object: &DynamicObject) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_goes_over_the_one_before() {
        let (text, lines) = frame("one\ntwo\n", 0, Some(24));
        assert_eq!((text.as_str(), lines), ("\u{1b}[?7lone\u{1b}[K\ntwo\u{1b}[K\n\u{1b}[J\u{1b}[?7h", 2));
        let (text, lines) = frame("one\n", lines, Some(24));
        assert_eq!((text.as_str(), lines), ("\u{1b}[?7l\u{1b}[2Fone\u{1b}[K\n\u{1b}[J\u{1b}[?7h", 1));
    }

    #[test]
    fn a_frame_is_never_higher_than_the_terminal() {
        let text: String = (0..50).map(|line| format!("{line}\n")).collect();
        for (height, expected) in [(Some(10), 9), (Some(1), 1), (None, 50)] {
            let (frame, lines) = frame(&text, 0, height);
            assert_eq!(lines, expected);
            assert_eq!(frame.contains("more lines"), height.is_some());
        }
    }
}
