//! Credentials: read from mounted files, read again when they change, and never shown.

use std::{
    fmt::{self, Write as _},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde::Deserialize;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` to itself.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Takes every secret out of a text that others wrote: a proxy's error page may repeat what it was sent. As it is, and as
/// JSON, HTML and URLs write it.
pub fn redact(text: String, secrets: &[Secret]) -> String {
    let mut forms: Vec<String> = secrets.iter().flat_map(|secret| forms(&secret.0)).collect();
    // A secret may be a part of another one.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    let hide = |text: String, form: &String| {
        if text.contains(form.as_str()) { text.replace(form.as_str(), "<redacted>") } else { text }
    };
    forms.iter().filter(|form| !form.is_empty()).fold(text, hide)
}

fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap_or_default();
    let json = json.trim_matches('"').to_owned();
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted = html.replace('"', "&quot;").replace('\'', "&#39;");
    let url: String = url_encoded(secret);
    let lower = url.to_lowercase();
    let mut forms = vec![secret.to_owned(), json, html, quoted, url, lower];
    forms.dedup();
    forms
}

/// All but letters and digits as `%XX`, and those that most leave alone left alone.
fn url_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A mounted file. Kubernetes swaps it by a symbolic link when the secret is rotated.
#[derive(Debug)]
pub struct Mounted {
    field: String,
    path: PathBuf,
    read: Mutex<Option<Read>>,
}

struct Read {
    modified: Option<SystemTime>,
    length: u64,
    content: Arc<[u8]>,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Mounted {
    /// The file at `path` that the configuration names in `field`, not read yet.
    pub fn new(field: impl Into<String>, path: PathBuf) -> Self {
        Self { field: field.into(), path, read: Mutex::new(None) }
    }

    /// Says what is wrong with the file.
    pub fn wrong(&self, what: &str) -> String {
        format!("{}: {} {what}", self.field, self.path.display())
    }

    /// What is in it now.
    pub fn content(&self) -> Result<Arc<[u8]>, String> {
        self.read().map_err(|error| self.wrong(&format!("cannot be read: {error}")))
    }

    fn read(&self) -> io::Result<Arc<[u8]>> {
        let metadata = fs::metadata(&self.path)?;
        let (modified, length) = (metadata.modified().ok(), metadata.len());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = &*read
            && modified.is_some()
            && (read.modified, read.length) == (modified, length)
        {
            return Ok(read.content.clone());
        }
        let content: Arc<[u8]> = fs::read(&self.path)?.into();
        *read = Some(Read { modified, length, content: content.clone() });
        Ok(content)
    }

    /// What is in it now, without the line's end that editors leave.
    pub fn secret(&self) -> Result<Secret, String> {
        let content = self.content()?;
        let text = std::str::from_utf8(&content).map_err(|_| self.wrong("is no UTF-8 text"))?;
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            return Err(self.wrong("is empty"));
        }
        Ok(Secret::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("s3cr3t".into())), "<redacted>");
        assert_eq!(
            redact("you sent s3cr3t".into(), &[Secret::new("s3cr3t".into()), Secret::new(String::new())]),
            "you sent <redacted>"
        );
        let secret = Secret::new(r#"p"&'<s/ s"#.into());
        for text in [
            r#"{"sent": "p\"&'<s/ s"}"#,
            "p&quot;&amp;&#39;&lt;s/ s",
            "?key=p%22%26%27%3Cs%2F%20s",
            "?key=p%22%26%27%3cs%2f%20s",
        ] {
            let shown = redact(text.into(), std::slice::from_ref(&secret));
            assert!(
                shown.contains("<redacted>") && !shown.contains("s/") && !shown.contains("s%2"),
                "{shown}"
            );
        }
        // The longer one is hidden as a whole.
        let both = [Secret::new("abc".into()), Secret::new("abcdef".into())];
        assert_eq!(redact("abcdef".into(), &both), "<redacted>");
    }

    #[test]
    fn a_rotated_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "first\n").unwrap();
        let mounted = Mounted::new("bearerTokenFile", path.clone());
        assert_eq!(mounted.secret().unwrap().expose(), "first");
        assert!(Arc::ptr_eq(&mounted.content().unwrap(), &mounted.content().unwrap()));
        fs::write(&path, "the second\n").unwrap();
        assert_eq!(mounted.secret().unwrap().expose(), "the second");
        fs::write(&path, "\n").unwrap();
        let message = mounted.secret().unwrap_err();
        assert!(message.starts_with("bearerTokenFile: ") && message.ends_with("token is empty"), "{message}");
        fs::remove_file(&path).unwrap();
        assert!(mounted.secret().is_err());
    }
}
