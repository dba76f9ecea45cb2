//! How a server is convinced that we may ask.

use reqwest::{
    RequestBuilder,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};

use super::secrets::{Mounted, Secret};
use crate::metrics::config::{self, Source};

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
