//! Connections whose certificates are in mounted files, made anew when these change.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::{Certificate, Client, ClientBuilder, Identity};

use super::{config::ClientCertificate, http, prometheus::secrets::Mounted};

/// Who is trusted, and who we are.
#[derive(Debug)]
pub struct Tls {
    needed: bool,
    insecure: bool,
    ca: Option<Mounted>,
    client: Option<(Mounted, Mounted)>,
}

/// The contents that a client was made with.
type Identities = Vec<Arc<[u8]>>;

impl Tls {
    /// What is configured below the field `place`, which is empty for a source itself: the authorities, and our own
    /// certificate. `needed` is whether TLS is spoken at all.
    pub fn new(
        place: &str,
        needed: bool,
        ca_file: Option<&Path>,
        client_certificate: Option<&ClientCertificate>,
    ) -> Self {
        let mounted = |field: &str, path: &Path| Mounted::new(format!("{place}{field}"), path.to_owned());
        Self {
            needed,
            insecure: false,
            ca: ca_file.map(|path| mounted("caFile", path)),
            client: client_certificate.map(|client| {
                let certificate = mounted("clientCertificate.certFile", &client.cert_file);
                (certificate, mounted("clientCertificate.keyFile", &client.key_file))
            }),
        }
    }

    /// Takes any certificate for a good one, if so.
    #[must_use]
    pub fn insecure(self, insecure: bool) -> Self {
        Self { insecure, ..self }
    }

    /// What is in the files now.
    fn read(&self) -> Result<Identities, String> {
        let client = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.ca.iter().chain(client).map(Mounted::content).collect()
    }

    /// A client with the contents that [`Tls::read`] has read, in its order.
    fn client(&self, mut builder: ClientBuilder, identities: &[Arc<[u8]>]) -> Result<Client, String> {
        let (authorities, own) = identities.split_at(usize::from(self.ca.is_some()));
        if self.insecure {
            builder = builder.danger_accept_invalid_certs(true);
        } else if let (Some(file), [bundle]) = (&self.ca, authorities) {
            let wrong = |_| file.wrong("holds no PEM certificate");
            let certificates = Certificate::from_pem_bundle(bundle).map_err(wrong)?;
            if certificates.is_empty() {
                return Err(file.wrong("holds no PEM certificate"));
            }
            builder = builder.tls_certs_only(certificates);
        } else if !self.needed {
            // No certificate is ever checked, so a machine without any does not matter.
            builder = builder.tls_certs_only([]);
        }
        let Some((certificate, key)) = &self.client else {
            return builder.build().map_err(|error| http::describe(&error));
        };
        if let [chain, secret] = own {
            builder = builder.identity(identity((certificate, chain), (key, secret))?);
        }
        builder.build().map_err(|error| {
            let key = key.wrong("do not belong together");
            certificate.wrong(&format!("and {key}: {}", http::describe(&error)))
        })
    }
}

/// Who we are: a certificate with its chain, and its key.
fn identity(
    (certificate, chain): (&Mounted, &[u8]),
    (key, secret): (&Mounted, &[u8]),
) -> Result<Identity, String> {
    if Certificate::from_pem_bundle(chain).map_or(true, |certificates| certificates.is_empty()) {
        return Err(certificate.wrong("holds no PEM certificate"));
    }
    let pem = [chain, b"\n", secret].concat();
    Identity::from_pem(&pem).map_err(|_| key.wrong("holds no PEM key"))
}

/// A client that is made anew when certificates were rotated. It holds a private key and is never shown.
pub struct Connection {
    tls: Tls,
    builder: fn() -> ClientBuilder,
    made: Mutex<Option<(Client, Identities)>>,
}

impl Connection {
    /// Clients of this sort, none made yet.
    pub fn new(tls: Tls, builder: fn() -> ClientBuilder) -> Self {
        Self { tls, builder, made: Mutex::new(None) }
    }

    /// The client, with what is in the files now.
    pub fn client(&self) -> Result<Client, String> {
        let identities = self.tls.read()?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, with)) = &*made
            && *with == identities
        {
            return Ok(client.clone());
        }
        let client = self.tls.client((self.builder)(), &identities)?;
        *made = Some((client.clone(), identities));
        Ok(client)
    }
}
