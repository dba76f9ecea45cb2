//! `sluice freeze|thaw`: nothing grows in a namespace, or in the cluster, until somebody says otherwise.
//!
//! Freezing is creating a `Freeze`. Those that this command made it also takes away; those that come from elsewhere, Git
//! above all, it names, because whoever made them would make them again.

use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions},
};
use sluice_core::api::{Freeze, FreezeSpec, REQUESTED_BY};

use super::{
    Session,
    act::reason,
    exit::Failure,
    names,
    output::{self, Plain, write},
    view::{age, created, plain},
};

/// Where the controller runs, where nothing else is said: as `deploy/` has it.
const HOME: &str = "sluice-system";
/// The label of a Freeze that this command made, and its value.
const MADE_BY: (&str, &str) = ("sluice.dev/made-by", "cli");

/// Where the controller itself is.
#[derive(Clone, Debug, Default, Args)]
pub struct Home {
    /// The namespace of the controller itself, where a Freeze is for the whole cluster [default: sluice-system]
    #[arg(long, value_name = "NAME", env = "SLUICE_CONTROLLER_NAMESPACE", value_parser = names::namespace)]
    pub controller_namespace: Option<String>,
}

impl Home {
    fn name(&self) -> &str {
        self.controller_namespace.as_deref().unwrap_or(HOME)
    }
}

/// What to freeze, and why.
#[derive(Clone, Debug, Args)]
pub struct FreezeArgs {
    /// The whole cluster, whatever else says a namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Why, for everybody who finds that nothing moves
    #[arg(short, long, value_name = "TEXT", value_parser = why)]
    pub reason: String,
    /// Where the controller itself is.
    #[command(flatten)]
    pub home: Home,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Plain,
}

/// What to thaw.
#[derive(Clone, Debug, Args)]
pub struct ThawArgs {
    /// The whole cluster, whatever else says a namespace; Freezes of single namespaces stay
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Where the controller itself is.
    #[command(flatten)]
    pub home: Home,
}

/// As the API takes it.
fn why(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("a reason is expected: it is what people see when nothing moves".to_owned());
    }
    reason(text)
}

/// What a command is about.
struct Scope<'a> {
    everywhere: bool,
    namespace: &'a str,
}

impl<'a> Scope<'a> {
    fn new(session: &'a Session<'_>, all_namespaces: bool, home: &'a Home) -> Self {
        let namespace = if all_namespaces { home.name() } else { &session.namespace };
        Self { everywhere: namespace == home.name(), namespace }
    }

    fn api(&self, session: &Session<'_>) -> Api<Freeze> {
        Api::namespaced(session.client.clone(), self.namespace)
    }

    /// As it stands in a sentence.
    fn named(&self) -> String {
        if self.everywhere { "the cluster".to_owned() } else { format!("the namespace {}", self.namespace) }
    }

    /// What went wrong, with what a person can do about it.
    fn explained(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Cluster(message) => {
                let needed = format!("freezing and thawing {} needs the role sluice-freezer", self.named());
                Failure::Cluster(format!("{message}; {needed} in namespace {}", self.namespace))
            }
            Failure::Missing(message) if self.everywhere => Failure::Missing(format!(
                "{message}; --controller-namespace names the one that the controller is in"
            )),
            other => other,
        }
    }
}

/// Stops every increase.
pub(super) async fn freeze(session: &mut Session<'_>, args: &FreezeArgs) -> Result<(), Failure> {
    let (created, scope, thaw) = {
        let scope = Scope::new(session, args.all_namespaces, &args.home);
        let metadata = ObjectMeta {
            generate_name: Some("freeze-".to_owned()),
            namespace: Some(scope.namespace.to_owned()),
            labels: Some([(MADE_BY.0.to_owned(), MADE_BY.1.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let freeze = Freeze { metadata, spec: FreezeSpec { reason: args.reason.clone() } };
        let params = PostParams { field_manager: Some("sluice-cli".to_owned()), ..PostParams::default() };
        let created = session.ask("Freeze", scope.api(session).create(&params, &freeze)).await;
        let created = created.map_err(|failure| scope.explained(failure))?;
        let thaw = if args.all_namespaces { "thaw -A".to_owned() } else { "thaw".to_owned() };
        (created, scope.named(), thaw)
    };
    let text = match args.output {
        Plain::Text => {
            let program = &session.screen.program;
            format!(
                "{scope} is frozen ({}): no canary gets more until `{program} {thaw}`\n",
                reference(&created)
            )
        }
        Plain::Json => output::json(&output::without_managed_fields(&created))?,
        Plain::Yaml => output::yaml(&output::without_managed_fields(&created))?,
        Plain::Name => format!("{}\n", reference(&created)),
    };
    write(session.out, &text)
}

/// Takes away the Freezes that this command made, and names those that remain.
pub(super) async fn thaw(session: &mut Session<'_>, args: &ThawArgs) -> Result<(), Failure> {
    let (done, remain, named) = {
        let scope = Scope::new(session, args.all_namespaces, &args.home);
        let api = scope.api(session);
        let mut done = String::new();
        for freeze in list(session, &api).await.map_err(|failure| scope.explained(failure))? {
            if freeze.labels().get(MADE_BY.0).is_none_or(|by| by != MADE_BY.1) {
                continue;
            }
            let only_this = Preconditions { uid: freeze.uid(), ..Preconditions::default() };
            let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
            match session.ask("Freeze", api.delete(&freeze.name_any(), &params)).await {
                // Somebody else was faster.
                Ok(_) | Err(Failure::Missing(_)) => {}
                Err(failure) => return Err(scope.explained(failure)),
            }
            done += &format!("{} is gone: {}\n", reference(&freeze), described(&freeze));
        }
        // What is there now is what counts.
        let remain = list(session, &api).await.map_err(|failure| scope.explained(failure))?;
        (done, remain, scope.named())
    };
    write(session.out, &done)?;
    if remain.is_empty() {
        let text = if done.is_empty() { "is not frozen" } else { "is not frozen any more" };
        write(session.out, &format!("{named} {text}\n"))?;
        return elsewhere(session, args).await;
    }
    let remain: Vec<String> =
        remain.iter().map(|freeze| format!("{} of {}", freeze.name_any(), described(freeze))).collect();
    Err(Failure::Refused(format!(
        "{named} is still frozen by what this command did not make: {}",
        remain.join("; ")
    )))
}

/// Says that a namespace that was thawed is in a cluster that is frozen, as far as whoever asks may see that.
async fn elsewhere(session: &mut Session<'_>, args: &ThawArgs) -> Result<(), Failure> {
    if args.all_namespaces || session.namespace == args.home.name() {
        return Ok(());
    }
    for line in lines(session, Some(args.home.name()), &args.home).await {
        writeln!(session.err, "{line}")?;
    }
    Ok(())
}

/// A line for each Freeze that counts for the Rollouts of a listing: of the session's namespace, or of all. What
/// whoever asks may not see, and what a cluster without the kind has not, is left out: the Rollouts tell as well.
pub(super) async fn frozen(session: &Session<'_>, all_namespaces: bool, home: &Home) -> Vec<String> {
    if all_namespaces {
        return lines(session, None, home).await;
    }
    let mut all = lines(session, Some(&session.namespace), home).await;
    if session.namespace != home.name() {
        all.extend(lines(session, Some(home.name()), home).await);
    }
    all
}

async fn lines(session: &Session<'_>, namespace: Option<&str>, home: &Home) -> Vec<String> {
    let api: Api<Freeze> = match namespace {
        Some(namespace) => Api::namespaced(session.client.clone(), namespace),
        None => Api::all(session.client.clone()),
    };
    let freezes = list(session, &api).await.unwrap_or_default();
    let line = |freeze: &Freeze| {
        let namespace = freeze.namespace().unwrap_or_default();
        let scope = Scope { everywhere: namespace == home.name(), namespace: &namespace };
        format!("{} is frozen by {} ({})", scope.named(), described(freeze), reference(freeze))
    };
    freezes.iter().map(line).collect()
}

async fn list(session: &Session<'_>, api: &Api<Freeze>) -> Result<Vec<Freeze>, Failure> {
    let listed = session.ask("Freeze", api.list(&ListParams::default())).await?;
    let mut freezes = listed.items;
    freezes.sort_by_key(|freeze| (freeze.namespace(), freeze.creation_timestamp(), freeze.name_any()));
    Ok(freezes)
}

/// Who, since when and why.
fn described(freeze: &Freeze) -> String {
    let by = freeze.annotations().get(REQUESTED_BY).map_or("someone", String::as_str);
    let since =
        created(freeze).map_or_else(String::new, |at| format!(", {} ago", age(at, chrono::Utc::now())));
    plain(&format!("{by}{since}: {}", freeze.spec.reason))
}

/// What `kubectl` takes as an argument.
fn reference(freeze: &Freeze) -> String {
    format!("freeze.sluice.dev/{}", freeze.name_any())
}
