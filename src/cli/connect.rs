//! From the command line to a cluster: which one, which namespace, and a client that does not hang.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::{
    exit::{Failure, root_cause},
    names,
};
use crate::text::without_values;

/// No request of a person may take longer: they are waiting for it.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A cluster that is there answers a connection much sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which cluster, and which namespace of it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which cluster")]
pub struct Cluster {
    /// The kubeconfig to use [default: $KUBECONFIG, then ~/.kube/config, then the pod's own account]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace [default: the context's]
    #[arg(short, long, global = true, value_name = "NAME", env = "SLUICE_NAMESPACE", value_parser = names::namespace_or_none)]
    pub namespace: Option<String>,
}

impl Cluster {
    /// How to reach the cluster. The client's own retries are off: they repeat for minutes, and a person or the
    /// next reconcile asks again anyway.
    pub async fn config(&self) -> Result<Config, Failure> {
        let mut config = self.find().await?;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        Ok(config)
    }

    /// A client, the cluster's URL for messages, and the namespace that counts.
    pub async fn connect(&self) -> Result<(Client, String, String), Failure> {
        let config = self.config().await?;
        let url = shown(&config.cluster_url);
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Failure::from_kube(&error, &url, "Rollout"))?;
        Ok((client, url, namespace))
    }

    async fn find(&self) -> Result<Config, Failure> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let of_file = match &self.kubeconfig {
            Some(path) => match Kubeconfig::read_from(path) {
                Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                Err(error) => Err(error),
            },
            None => Config::from_kubeconfig(&options).await,
        };
        match of_file {
            Ok(config) => Ok(config),
            Err(error) if self.kubeconfig.is_some() || self.context.is_some() => {
                Err(no_cluster(&error, &self.file()))
            }
            Err(error) => Config::incluster().map_err(|_| no_cluster(&error, &self.file())),
        }
    }

    /// Where the kubeconfig is, for messages.
    fn file(&self) -> String {
        let named = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        let of_environment = || std::env::var("KUBECONFIG").ok().filter(|files| !files.is_empty());
        named.or_else(of_environment).unwrap_or_else(|| "~/.kube/config".to_owned())
    }
}

/// A cluster's URL as messages have it: without a user and a password, which it may have in it.
pub(super) fn shown(url: &http::Uri) -> String {
    let host = url.authority().map_or("", |authority| {
        authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host)
    });
    format!("{}://{host}{}", url.scheme_str().unwrap_or("https"), url.path().trim_end_matches('/'))
}

/// Why there is no cluster, without the library's nesting.
fn no_cluster(error: &KubeconfigError, file: &str) -> Failure {
    Failure::NoCluster(match error {
        KubeconfigError::ReadConfig(cause, path) => {
            format!("the kubeconfig {} cannot be read: {}", path.display(), root_cause(cause))
        }
        KubeconfigError::FindPath => "there is no kubeconfig".into(),
        KubeconfigError::CurrentContextNotSet => format!("the kubeconfig {file} names no current context"),
        KubeconfigError::LoadContext(name) => format!("the kubeconfig {file} has no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the kubeconfig {file} has no cluster {name:?}, which its context names")
        }
        other => {
            // The lines of the file that follow the first one may have a token in them.
            let said = other.to_string();
            let said = without_values(said.lines().next().unwrap_or_default());
            let said =
                said.trim_start_matches("failed to parse kubeconfig YAML: ").trim_start_matches("error: ");
            format!("the kubeconfig {file} cannot be used: {said}")
        }
    })
}
