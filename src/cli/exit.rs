//! How a command ends: the exit codes that scripts rely on, and failures in the user's words.

use std::{error::Error, io, time::Duration};

use kube::{client::AuthError, core::Status};

use super::view::Unreadable;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for was done.
    Done,
    /// It was not, for a reason that has no code of its own.
    Failed,
    /// The command line cannot be understood.
    Usage,
    /// The Rollout, or the cluster's knowledge of Rollouts, is not there.
    NotFound,
    /// The cluster or the controller said no.
    Refused,
    /// There is no cluster, or it does not answer.
    Unreachable,
    /// The action was created, and the controller has not said yet what became of it.
    Unanswered,
    /// The kinds in the cluster are older than this version.
    Outdated,
    /// A rehearsal, or a replay, took the canary out of traffic.
    RolledBack,
    /// A rehearsal did not end, or a replay lacked evidence.
    Held,
    /// A Rollout has mistakes or risks, or cannot be measured.
    Found,
    /// A person ended it with Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Every code, in order.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Refused,
        Self::Unreachable,
        Self::Unanswered,
        Self::Outdated,
        Self::RolledBack,
        Self::Held,
        Self::Found,
        Self::Interrupted,
    ];

    /// The number that the shell gets.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unreachable => 5,
            Self::Unanswered => 6,
            Self::Outdated => 7,
            Self::RolledBack => 8,
            Self::Held => 9,
            Self::Found => 10,
            // As a shell has it for a command that a signal ended: 128 and the signal's number.
            Self::Interrupted => 130,
        }
    }

    /// What it means, for the help.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "the command line is wrong",
            Self::NotFound => "no such Rollout, or Sluice is not installed in the cluster",
            Self::Refused => "refused by the cluster or by the controller",
            Self::Unreachable => "no cluster, or it does not answer",
            Self::Unanswered => "the action was created, and the controller has not answered in time",
            Self::Outdated => "the kinds in the cluster are older than this version",
            Self::RolledBack => "the rehearsal, or the replay, took the canary out of traffic",
            Self::Held => {
                "the rehearsal did not end before its scenario did, or the replay found no evidence"
            }
            Self::Found => "the Rollout has mistakes, or with --strict risks, or its metrics are not there",
            Self::Interrupted => "interrupted with Ctrl-C before the end",
        }
    }

    /// All of them, as the help lists them.
    pub fn help() -> String {
        let lines: Vec<_> =
            Self::ALL.iter().map(|exit| format!("  {}  {}", exit.code(), exit.meaning())).collect();
        format!("Exit codes:\n{}", lines.join("\n"))
    }
}

/// Why a command did not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Whoever read the output has gone (`sluice crd | head`): nothing is wrong.
    #[error("the reader of the output has gone")]
    ClosedPipe,
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// What is to be printed cannot be put into the wanted format.
    #[error("cannot print as {format}: {message}")]
    Format {
        /// The format.
        format: &'static str,
        /// What the serialiser said.
        message: String,
    },
    /// There is no configuration that names a cluster.
    #[error("no cluster to talk to: {0}")]
    NoCluster(String),
    /// The cluster does not answer.
    #[error("cannot reach the cluster at {cluster}: {cause}")]
    Unreachable {
        /// Its URL.
        cluster: String,
        /// The last cause in the chain.
        cause: String,
    },
    /// The credentials cannot be had.
    #[error("cannot log in: {0}")]
    Login(String),
    /// The cluster has no such kind.
    #[error(
        "the cluster at {cluster} does not know {kind}s of sluice.dev/v1alpha1: Sluice is not installed there"
    )]
    NotInstalled {
        /// The cluster's URL.
        cluster: String,
        /// The kind that was asked for.
        kind: &'static str,
    },
    /// The cluster's kinds are older than this version.
    #[error("the cluster at {cluster} is not up to date: {what}")]
    Outdated {
        /// The cluster's URL.
        cluster: String,
        /// What they lack, and what to do.
        what: String,
    },
    /// There is no Rollout of that name.
    #[error("there is no Rollout {name:?} in namespace {namespace:?}")]
    NoSuchRollout {
        /// Where it was looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Something else that the request needs is not there.
    #[error("the cluster has not what was asked for: {0}")]
    Missing(String),
    /// The Rollout cannot be read by this version.
    #[error("the Rollout {name:?} in namespace {namespace:?} cannot be read: {cause}")]
    Unreadable {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The API server said no.
    #[error("the cluster refused: {0}")]
    Cluster(String),
    /// The controller, or common sense before it was asked, said no.
    #[error("{0}")]
    Refused(String),
    /// The controller has not answered in time.
    #[error("{action} was created, but there was no answer within {}", crate::cli::exit::seconds(*.waited))]
    Unanswered {
        /// The action, `rolloutaction/<name>`.
        action: String,
        /// For how long it was waited.
        waited: Duration,
    },
    /// Rollouts that were deleted are still there.
    #[error("still there after {}: {}", crate::cli::exit::seconds(*.waited), .rollouts.join(", "))]
    StillThere {
        /// Which, as `namespace/name`.
        rollouts: Vec<String>,
        /// For how long it was waited.
        waited: Duration,
    },
    /// A rehearsal took the canary out of traffic.
    #[error("the rehearsed rollout was not promoted: its canary was taken out of traffic")]
    RolledBack,
    /// A rehearsal did not end.
    #[error("the rehearsed rollout had not ended when its scenario had")]
    Held,
    /// A check would have failed over recorded history.
    #[error("a rollout over this time would have been rolled back")]
    WouldRollBack,
    /// No check would have failed, and some would have lacked evidence.
    #[error("no check failed over this time, and some lacked evidence at its end")]
    LacksEvidence,
    /// A Rollout in a file has mistakes.
    #[error("the Rollout {name} is invalid: {}", .mistakes.join("; "))]
    Invalid {
        /// Its name in quotes, and where it is.
        name: String,
        /// Each with its field.
        mistakes: Vec<String>,
    },
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A person ended it with Ctrl-C.
    #[error("interrupted after {done} of {of} rehearsals")]
    Interrupted {
        /// How many were done.
        done: u64,
        /// How many there were to be.
        of: u64,
    },
    /// A Rollout has mistakes or risks.
    #[error("{} found", if *.0 == 1 { "1 thing was".to_owned() } else { format!("{} things were", .0) })]
    Found(usize),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A duration as people write it.
fn seconds(duration: Duration) -> String {
    sluice_core::api::GoDuration(duration).to_string()
}

impl Failure {
    /// What the shell gets.
    pub fn exit(&self) -> Exit {
        match self {
            Self::ClosedPipe => Exit::Done,
            Self::Output(_)
            | Self::Format { .. }
            | Self::Unreadable { .. }
            | Self::StillThere { .. }
            | Self::Other(_) => Exit::Failed,
            Self::NotInstalled { .. } | Self::NoSuchRollout { .. } | Self::Missing(_) => Exit::NotFound,
            Self::Login(_) | Self::Cluster(_) | Self::Refused(_) => Exit::Refused,
            Self::NoCluster(_) | Self::Unreachable { .. } => Exit::Unreachable,
            Self::Unanswered { .. } => Exit::Unanswered,
            Self::Outdated { .. } => Exit::Outdated,
            Self::RolledBack | Self::WouldRollBack => Exit::RolledBack,
            Self::Held | Self::LacksEvidence => Exit::Held,
            Self::Found(_) | Self::Invalid { .. } => Exit::Found,
            Self::Usage(_) => Exit::Usage,
            Self::Interrupted { .. } => Exit::Interrupted,
        }
    }

    /// What to try next, where that is known. `program` is what the command is called by.
    pub fn hint(&self, program: &str) -> Option<String> {
        match self {
            Self::NoCluster(_) => Some(
                "give --kubeconfig FILE or set KUBECONFIG; --context NAME picks one of its clusters".into(),
            ),
            Self::NotInstalled { .. } => Some(format!(
                "install it with `kubectl apply --server-side -k crds` and then `-k deploy`, or the kinds alone with `{program} crd | kubectl apply --server-side -f -`"
            )),
            Self::NoSuchRollout { .. } => Some(format!(
                "`{program} get -A` lists those of all namespaces; -n NAMESPACE looks in another one"
            )),
            Self::Unreadable { .. } => Some(
                "it may have been edited by hand, or be from another version; `-o json` prints it as it is"
                    .into(),
            ),
            Self::Unanswered { action, .. } => Some(format!(
                "it counts as soon as the controller runs: `kubectl get {action}` shows what became of it"
            )),
            Self::StillThere { .. } => Some(format!(
                "does the controller run? Without it, `{program} uninstall --without-controller` takes its finalizer off and leaves the routes as they are"
            )),
            Self::Outdated { .. } => Some(format!(
                "`{program} crd | kubectl apply --server-side -f -` does the same with the kinds of this very program"
            )),
            Self::ClosedPipe
            | Self::Output(_)
            | Self::Format { .. }
            | Self::Unreachable { .. }
            | Self::Missing(_)
            | Self::Login(_)
            | Self::Cluster(_)
            | Self::Refused(_)
            | Self::RolledBack
            | Self::WouldRollBack
            | Self::Held
            | Self::LacksEvidence
            | Self::Found(_)
            | Self::Invalid { .. }
            | Self::Usage(_)
            | Self::Interrupted { .. }
            | Self::Other(_) => None,
        }
    }

    /// What a request to `cluster` for objects of `kind` failed by.
    pub fn from_kube(error: &kube::Error, cluster: &str, kind: &'static str) -> Self {
        if let Some(error) = login_error(error) {
            return Self::Login(error);
        }
        match error {
            kube::Error::Api(status) => Self::from_status(status, cluster, kind),
            kube::Error::SerdeError(error) => Self::Other(format!(
                "the cluster at {cluster} answered something that cannot be read: {error}"
            )),
            other => Self::Unreachable { cluster: cluster.to_owned(), cause: root_cause(other) },
        }
    }

    fn from_status(status: &Status, cluster: &str, kind: &'static str) -> Self {
        let names_an_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        match status.code {
            404 if !names_an_object => Self::NotInstalled { cluster: cluster.to_owned(), kind },
            404 => Self::Missing(status.message.clone()),
            401 => Self::Cluster(format!("the cluster at {cluster} does not accept your credentials")),
            500.. => Self::Other(format!("the cluster failed: {} ({})", status.message, status.code)),
            _ => Self::Cluster(status.message.clone()),
        }
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        let Unreadable { namespace, name, cause, created: _ } = unreadable;
        Self::Unreadable { namespace, name, cause }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::ClosedPipe } else { Self::Output(error) }
    }
}

/// Why the credentials of the kubeconfig cannot be had, wherever in the chain that stands.
fn login_error(error: &kube::Error) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<AuthError>() {
            Some(AuthError::AuthExecRun { cmd, out }) => {
                let said = String::from_utf8_lossy(&out.stderr);
                return Some(format!("{cmd} failed with {}: {}", out.status, said.trim()));
            }
            Some(other) => return Some(root_cause(other)),
            None => cause = error.source(),
        }
    }
    None
}

/// The last cause in the chain, which is the one that a person can do something about.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    let (text, _) = text.split_once(" (os error").unwrap_or((&text, ""));
    let mut letters = text.chars();
    // "Connection refused" stands in the middle of our sentence.
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_exit_code_once_and_in_order() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130]);
        assert_eq!(Exit::help().lines().count(), 1 + codes.len());
    }

    #[test]
    fn a_missing_kind_is_told_from_a_missing_object() {
        let missing_kind = Status::failure("404 page not found", "Failed to parse error data").with_code(404);
        let failure = Failure::from_kube(&kube::Error::Api(missing_kind.boxed()), "https://c", "Rollout");
        assert!(matches!(failure, Failure::NotInstalled { .. }), "{failure}");
        assert!(failure.hint("kubectl sluice").unwrap().contains("`kubectl sluice crd | kubectl apply"));

        let details = kube::core::response::StatusDetails {
            name: "iris".into(),
            group: "sluice.dev".into(),
            kind: "rollouts".into(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        let missing = Status::failure("rollouts.sluice.dev \"iris\" not found", "NotFound")
            .with_code(404)
            .with_details(details);
        let failure = Failure::from_kube(&kube::Error::Api(missing.boxed()), "https://c", "Rollout");
        assert!(matches!(failure, Failure::Missing(_)), "{failure}");
        assert_eq!(failure.exit(), Exit::NotFound);
    }

    #[test]
    fn a_forbidden_request_is_a_refusal_in_the_servers_words() {
        let status =
            Status::failure("rollouts is forbidden: User \"eve\" cannot list", "Forbidden").with_code(403);
        let failure = Failure::from_kube(&kube::Error::Api(status.boxed()), "https://c", "Rollout");
        assert_eq!(failure.exit(), Exit::Refused);
        assert_eq!(
            failure.to_string(),
            "the cluster refused: rollouts is forbidden: User \"eve\" cannot list"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit(), Exit::Done);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).exit(), Exit::Failed);
    }

    #[test]
    fn the_cause_stands_in_our_sentence() {
        let error = io::Error::from_raw_os_error(111);
        assert_eq!(root_cause(&error), "connection refused");
    }
}
