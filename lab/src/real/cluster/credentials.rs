//! Who may talk to the cluster, and how each side knows the other: certificates, tokens, kubeconfigs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::super::{Error, Result};

/// The user who may do everything.
pub(super) const ADMIN: &str = "admin";

/// Longer than a watch is asked to last (290 s), so that it ends what hangs and nothing else.
const READ_TIMEOUT: Duration = Duration::from_mins(5);

/// Files in the cluster's folder, made once for its life.
pub(super) struct Credentials {
    folder: PathBuf,
    ca: Vec<u8>,
    server: String,
    users: Vec<String>,
}

impl Credentials {
    /// Makes everything for a server at `127.0.0.1:port` with these users and the admin.
    pub(super) fn create(folder: &Path, port: u16, users: &[String]) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "sluice lab");
        let ca_certificate = ca.self_signed(&ca_key)?;
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(ca, ca_key))?;
        let accounts = KeyPair::generate()?;

        let this = Self {
            folder: folder.to_owned(),
            ca: ca_certificate.der().to_vec(),
            server: format!("https://127.0.0.1:{port}"),
            users: users.to_vec(),
        };
        this.write("ca.crt", &ca_certificate.pem())?;
        this.write("server.crt", &certificate.pem())?;
        this.write("server.key", &key.serialize_pem())?;
        this.write("accounts.key", &accounts.serialize_pem())?;
        this.write("accounts.pub", &accounts.public_key_pem())?;
        this.write("tokens.csv", &this.tokens())?;
        for user in this.names() {
            this.write(&kubeconfig_file(user), &this.kubeconfig_yaml(user))?;
        }
        Ok(this)
    }

    /// A file of these credentials, for a flag.
    pub(super) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub(super) fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        self.known(user)?;
        Ok(self.folder.join(kubeconfig_file(user)))
    }

    pub(super) fn config(&self, user: &str) -> Result<Config> {
        self.known(user)?;
        self.config_at(&self.server, user)
    }

    /// As [`config`](Self::config), for another server with the same certificate.
    pub(super) fn config_at(&self, url: &str, user: &str) -> Result<Config> {
        let url = url.parse().map_err(|error| Error::Yaml(format!("{url}: {error}")))?;
        let mut config = Config::new(url);
        config.root_cert = Some(vec![self.ca.clone()]);
        config.auth_info.token = Some(token(user).into());
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.write_timeout = Some(Duration::from_secs(10));
        config.read_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        Ok(config)
    }

    fn known(&self, user: &str) -> Result<()> {
        if self.names().any(|name| name == user) {
            return Ok(());
        }
        Err(Error::UnknownUser { name: user.to_owned(), known: self.names().map(str::to_owned).collect() })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(ADMIN).chain(self.users.iter().map(String::as_str))
    }

    /// Lines of token, name, uid and groups. Only the admin has a group.
    fn tokens(&self) -> String {
        let line = |name| match name {
            ADMIN => format!("{},{name},{name},system:masters\n", token(name)),
            _ => format!("{},{name},{name}\n", token(name)),
        };
        self.names().map(line).collect()
    }

    /// JSON, which is YAML too.
    fn kubeconfig_yaml(&self, user: &str) -> String {
        let named = |key: &str, value: serde_json::Value| json!([{"name": "lab", key: value}]);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": named("cluster", json!({"server": self.server, "certificate-authority": self.file("ca.crt")})),
            "users": named("user", json!({"token": token(user)})),
            "contexts": named("context", json!({"cluster": "lab", "user": "lab"})),
        })
        .to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(Error::path("write", &path))
    }
}

/// Nobody can reach this server who could not read the file, so nothing is gained by a random one.
fn token(user: &str) -> String {
    format!("token-of-{user}")
}

/// Users may be called `system:serviceaccount:a:b`.
fn kubeconfig_file(user: &str) -> String {
    format!("{}.kubeconfig", user.replace([':', '/'], "_"))
}
