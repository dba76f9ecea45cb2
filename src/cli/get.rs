//! `sluice get`: what Rollouts do.

use chrono::Utc;
use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::json;
use sluice_core::api::Rollout;

use super::{
    Session,
    exit::Failure,
    freeze::{self, Home},
    names,
    output::{self, Format, write},
    view::{self, Columns, Listed},
    watch::watch,
};

/// Show Rollouts: a table, or everything about one
#[derive(Clone, Debug, Default, Args)]
pub struct GetArgs {
    /// Show everything about this one
    #[arg(value_parser = names::object)]
    pub name: Option<String>,
    /// Those of all namespaces, whatever else says one
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Keep it up to date until Ctrl-C: a terminal is drawn anew, a pipe gets a line for each change
    #[arg(short, long)]
    pub watch: bool,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Where the controller itself is.
    #[command(flatten)]
    pub home: Home,
}

/// Prints what was asked for; with `--watch` until `stop` is ready.
pub async fn get(
    session: &mut Session<'_>,
    args: &GetArgs,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let api = api(session, args.all_namespaces);
    let objects = match &args.name {
        Some(name) => vec![one(session, &api, name).await?],
        None => all(session, &api).await?,
    };
    let objects: Vec<DynamicObject> = objects.iter().map(output::without_managed_fields).collect();
    match (&args.name, &*objects) {
        _ if args.watch => return watch(session, args, api, objects, stop).await,
        (Some(_), [object]) => print_one(session, args, object)?,
        _ => print_all(session, args, &objects)?,
    }
    if matches!(args.output, Format::Table | Format::Wide) {
        for line in freeze::frozen(session, args.all_namespaces, &args.home).await {
            writeln!(session.err, "{line}")?;
        }
    }
    Ok(())
}

/// Rollouts as the server sends them: what a newer version put in is printed too, and one that cannot be read
/// does not hide the others.
pub(super) fn api(session: &Session<'_>, all_namespaces: bool) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<Rollout>(&());
    if all_namespaces {
        Api::all_with(session.client.clone(), &kind)
    } else {
        Api::namespaced_with(session.client.clone(), &session.namespace, &kind)
    }
}

pub(super) async fn one(
    session: &Session<'_>,
    api: &Api<DynamicObject>,
    name: &str,
) -> Result<DynamicObject, Failure> {
    session.ask("Rollout", api.get(name)).await.map_err(|failure| match failure {
        Failure::Missing(_) => {
            Failure::NoSuchRollout { namespace: session.namespace.clone(), name: name.to_owned() }
        }
        other => other,
    })
}

pub(super) async fn all(
    session: &Session<'_>,
    api: &Api<DynamicObject>,
) -> Result<Vec<DynamicObject>, Failure> {
    let mut objects = Vec::new();
    let mut params = ListParams::default().limit(500);
    loop {
        let page = session.ask("Rollout", api.list(&params)).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    objects.sort_by_key(|object| (object.namespace(), object.name_any()));
    Ok(objects)
}

/// A Rollout of the namespace.
///
/// # Errors
/// It is not there, or cannot be read.
pub(super) async fn rollout(session: &Session<'_>, name: &str) -> Result<Rollout, Failure> {
    let object = one(session, &api(session, false), name).await?;
    match Listed::from(&object) {
        Listed::Readable(rollout) => Ok(*rollout),
        Listed::Unreadable(unreadable) => Err(unreadable.into()),
    }
}

fn print_one(session: &mut Session<'_>, args: &GetArgs, object: &DynamicObject) -> Result<(), Failure> {
    let text = match args.output {
        Format::Json => output::json(object)?,
        Format::Yaml => output::yaml(object)?,
        Format::Name => name_of(object),
        Format::Table => match Listed::from(object) {
            Listed::Readable(rollout) => view::rollout(&rollout, Utc::now(), &session.screen),
            Listed::Unreadable(unreadable) => return Err(unreadable.into()),
        },
        Format::Wide => {
            let columns = Columns { namespace: false, wide: true };
            view::rollouts(&[Listed::from(object)], columns, Utc::now(), &session.screen)
        }
    };
    write(session.out, &text)
}

fn print_all(session: &mut Session<'_>, args: &GetArgs, objects: &[DynamicObject]) -> Result<(), Failure> {
    let text = match args.output {
        Format::Json => output::json(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?,
        Format::Yaml => output::yaml(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?,
        Format::Name => objects.iter().map(name_of).collect(),
        Format::Table | Format::Wide if objects.is_empty() => {
            let place = if args.all_namespaces {
                "any namespace".to_owned()
            } else {
                format!("namespace {:?}", session.namespace)
            };
            writeln!(session.err, "There are no Rollouts in {place}.")?;
            return Ok(());
        }
        Format::Table | Format::Wide => {
            let columns = Columns { namespace: args.all_namespaces, wide: args.output == Format::Wide };
            let listed: Vec<Listed> = objects.iter().map(Listed::from).collect();
            view::rollouts(&listed, columns, Utc::now(), &session.screen)
        }
    };
    write(session.out, &text)
}

/// What `kubectl` takes as an argument.
pub(super) fn name_of(object: &DynamicObject) -> String {
    format!("rollout.sluice.dev/{}\n", object.name_any())
}
