//! Credentials: read from mounted files, read again when they change, and never shown.

use std::{
    fmt, fs, io,
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

/// Takes every secret out of a text that others wrote: a proxy's error page may repeat what it was sent. As it is, and
/// however JSON, HTML and URLs escape what is in it.
pub fn redact(text: String, secrets: &[Secret]) -> String {
    let mut secrets: Vec<&str> = secrets.iter().map(Secret::expose).filter(|it| !it.is_empty()).collect();
    // A secret may be a part of another one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text, |text, secret| {
        // What nobody escapes is looked for first: most texts are long and have nothing of it.
        let words = secret.split(|c: char| !c.is_ascii_alphanumeric());
        let longest = words.max_by_key(|word| word.len()).unwrap_or_default();
        if !text.contains(longest) {
            return text;
        }
        without(&text.replace(secret, HIDDEN), secret)
    })
}

const HIDDEN: &str = "<redacted>";

/// The text without the secret in any escaped form.
fn without(text: &str, secret: &str) -> String {
    let forms: Vec<Vec<String>> = secret.chars().map(forms).collect();
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = forms.iter().try_fold(0, |at, forms| {
            let form = forms.iter().find(|form| rest[at..].starts_with(form.as_str()))?;
            Some(at + form.len())
        });
        let next = if let Some(length) = length {
            shown.push_str(HIDDEN);
            length
        } else {
            shown.push(c);
            c.len_utf8()
        };
        rest = &rest[next..];
    }
    shown
}

/// How a character may be written, the longest first.
fn forms(c: char) -> Vec<String> {
    if c.is_ascii_alphanumeric() {
        return vec![c.to_string()];
    }
    let code = u32::from(c);
    let mut bytes = [0; 4];
    let url: String = c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut forms = vec![url.to_lowercase(), url, format!("\\u{code:04x}"), format!("\\u{code:04X}")];
    forms.extend([format!("&#{code};"), format!("&#x{code:x};"), format!("&#x{code:X};")]);
    match c {
        '&' => forms.push("&amp;".to_owned()),
        '<' => forms.push("&lt;".to_owned()),
        '>' => forms.push("&gt;".to_owned()),
        '"' => forms.extend(["&quot;".to_owned(), "\\\"".to_owned()]),
        '\'' => forms.extend(["&apos;".to_owned(), "\\'".to_owned()]),
        '/' | '\\' => forms.push(format!("\\{c}")),
        ' ' => forms.push("+".to_owned()),
        _ => {}
    }
    forms.push(c.to_string());
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms
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
            "p&quot;&amp;'&lt;s/ s",
            "p&#34;&amp;&#x27;&lt;s/ s",
            "p\\u0022\\u0026\\u0027\\u003cs\\/ s",
            "?key=p%22%26%27%3Cs%2F+s",
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
