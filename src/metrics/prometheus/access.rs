//! How a server is convinced that we may ask, and how it convinces us.

use std::sync::Arc;

use reqwest::{
    Certificate, Client, Identity, RequestBuilder,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};

use super::secrets::{Mounted, Secret};
use crate::metrics::{
    config::{self, Source},
    http,
};

/// What is sent to say who asks.
#[derive(Debug)]
pub struct Credentials {
    headers: Vec<(HeaderName, Text)>,
    bearer: Option<Text>,
    basic: Option<(String, Text)>,
}

/// A secret, or where it is.
#[derive(Debug)]
enum Text {
    Given(Secret),
    File(Mounted),
}

impl Text {
    fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(file) => file.secret(),
        }
    }
}

impl Credentials {
    /// What a source is configured to send.
    pub fn new(source: Source) -> Result<Self, String> {
        let header = |(name, value): (String, config::HeaderValue)| {
            let text = match value {
                config::HeaderValue::Literal(secret) => Text::Given(secret),
                config::HeaderValue::File(from) => {
                    Text::File(Mounted::new(format!("headers.{name}"), from.file))
                }
            };
            let name: HeaderName =
                name.parse().map_err(|_| format!("headers: {name:?} is not the name of a header"))?;
            Ok((name, text))
        };
        let file = |field: &str, path| Text::File(Mounted::new(field, path));
        let basic = match (source.basic, source.url.userinfo) {
            (Some(basic), _) => Some((basic.username, file("basic.passwordFile", basic.password_file))),
            (None, Some((user, password))) => Some((user, Text::Given(password))),
            (None, None) => None,
        };
        Ok(Self {
            headers: source.headers.into_iter().map(header).collect::<Result<_, String>>()?,
            bearer: source.bearer_token_file.map(|path| file("bearerTokenFile", path)),
            basic,
        })
    }

    /// Whether everything is there that would be sent.
    pub fn check(&self) -> Result<(), String> {
        for (header, text) in &self.headers {
            header_value(header, &text.read()?)?;
        }
        for text in self.bearer.iter().chain(self.basic.as_ref().map(|(_, password)| password)) {
            text.read()?;
        }
        Ok(())
    }

    /// Adds them to a request, and what must not be shown to `secrets`.
    pub fn add(
        &self,
        mut request: RequestBuilder,
        secrets: &mut Vec<Secret>,
    ) -> Result<RequestBuilder, String> {
        for (header, text) in &self.headers {
            let secret = text.read()?;
            request = request.header(header, header_value(header, &secret)?);
            secrets.push(secret);
        }
        if let Some(bearer) = &self.bearer {
            let token = bearer.read()?;
            request = request.bearer_auth(token.expose());
            secrets.push(token);
        }
        if let Some((user, password)) = &self.basic {
            let password = password.read()?;
            request = request.basic_auth(user, Some(password.expose()));
            // As the wire has it, it is as good as the password.
            secrets.extend(authorization(&request));
            secrets.push(password);
        }
        Ok(request)
    }
}

/// What a request says about who asks, without the scheme.
fn authorization(request: &RequestBuilder) -> Option<Secret> {
    let request = request.try_clone()?.build().ok()?;
    let (_, value) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(Secret::new(value.to_owned()))
}

fn header_value(header: &HeaderName, secret: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(secret.expose())
        .map_err(|_| format!("headers.{header}: has characters that a header cannot have"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Who is trusted, and who we are.
#[derive(Debug)]
pub struct Tls {
    needed: bool,
    ca: Option<Mounted>,
    client: Option<(Mounted, Mounted)>,
}

/// The contents that a client was made with.
pub type Identities = Vec<Arc<[u8]>>;

impl Tls {
    /// What a source is configured with.
    pub fn new(source: &Source) -> Self {
        let mounted = |field: &str, path: &std::path::Path| Mounted::new(field, path.to_owned());
        Self {
            needed: source.url.url.scheme() == "https",
            ca: source.ca_file.as_ref().map(|path| mounted("caFile", path)),
            client: source.client_certificate.as_ref().map(|client| {
                let cert = mounted("clientCertificate.certFile", &client.cert_file);
                (cert, mounted("clientCertificate.keyFile", &client.key_file))
            }),
        }
    }

    /// What is in the files now.
    pub fn read(&self) -> Result<Identities, String> {
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(client).map(Mounted::content).collect()
    }

    /// A client with the contents that [`Tls::read`] has read, in its order.
    pub fn client(&self, identities: &[Arc<[u8]>]) -> Result<Client, String> {
        let mut builder = http::client();
        let (authorities, own) = identities.split_at(usize::from(self.ca.is_some()));
        if let (Some(file), [bundle]) = (&self.ca, authorities) {
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
