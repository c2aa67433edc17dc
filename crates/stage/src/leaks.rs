//! What no log may hold (secrets, keys, tokens, bodies), and the search for it in the logs of a test.

use crate::settings::Settings;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Stands in the bodies that tests and demo send, so that a body in a log is recognised.
pub const BODY_MARK: &str = "words-that-no-log-may-hold";

/// A credential's name, what it begins with, then which bytes, and how many of them at least.
type Shape = (&'static str, &'static str, fn(u8) -> bool, usize);

/// Credentials that are recognised by their shape.
const SHAPES: [Shape; 5] = [
    ("an API key", "tgk_", |b| b.is_ascii_alphanumeric(), 32),
    ("a token (JWT)", "eyJ", |b| is_base64url(b) || b == b'.', 40),
    ("a token (base64 of a JWT)", "ZXlK", |b| is_base64url(b), 40),
    ("a signature", "v1=", |b| b.is_ascii_hexdigit(), 64),
    ("a claim's token", "clm_", |b| is_base64url(b), 16),
];

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// What is searched for: each with its name and every way to write it.
#[derive(Clone, Debug, Default)]
pub struct Leaks(Vec<(String, BTreeSet<String>)>);

impl Leaks {
    /// The secrets and tokens of these settings, and the mark of bodies.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let mut leaks = Self::default();
        leaks.add("STRIPE_WEBHOOK_SECRET", &settings.webhook_secret);
        if let Some(secret) = &settings.webhook_secret_previous {
            leaks.add("STRIPE_WEBHOOK_SECRET_PREVIOUS", secret);
        }
        leaks.add("ADMIN_TOKEN", &settings.admin_token);
        leaks.add("GATEWAY_TOKEN", &settings.gateway_token);
        leaks.add("a body", BODY_MARK);
        leaks
    }

    /// Searches for one more.
    pub fn add(&mut self, name: &str, secret: &str) {
        self.0.push((name.to_owned(), spellings(secret)));
    }

    /// What a log holds of it, or of what looks like a credential: name, line number, and the line.
    #[must_use]
    pub fn found_in(&self, text: &str) -> Vec<String> {
        let shaped = SHAPES.iter().flat_map(|(name, begin, is_part, least)| {
            let is_whole = move |(at, _): &(usize, &str)| {
                let rest = text.as_bytes().iter().skip(at.saturating_add(begin.len()));
                rest.take_while(|byte| is_part(**byte)).count() >= *least
            };
            text.match_indices(begin).find(is_whole).map(|(at, _)| (*name, at))
        });
        self.exactly(text).chain(shaped).map(|(name, at)| told(name, text, at)).collect()
    }

    fn exactly<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a str, usize)> {
        self.0.iter().flat_map(|(name, spellings)| {
            spellings.iter().filter_map(|spelling| Some((name.as_str(), text.find(spelling)?)))
        })
    }

    /// The same of every log in a folder and the folders in it.
    #[must_use]
    pub fn in_logs_under(&self, folder: &Path) -> Vec<String> {
        let logs = files(folder).into_iter().filter(|path| is_log(path));
        logs.flat_map(|path| named(&path, self.found_in(&read(&path)))).collect()
    }

    /// What any file in a folder holds of it; what only looks like a credential may lie there.
    #[must_use]
    pub fn in_files_under(&self, folder: &Path) -> Vec<String> {
        let in_file = |path: PathBuf| {
            let text = read(&path);
            named(&path, self.exactly(&text).map(|(name, at)| told(name, &text, at)).collect())
        };
        files(folder).into_iter().flat_map(in_file).collect()
    }
}

/// A line that is too long to be shown is cut.
const SHOWN: usize = 400;

fn told(name: &str, text: &str, at: usize) -> String {
    let number = text.get(..at).unwrap_or_default().matches('\n').count();
    let line: String = text.lines().nth(number).unwrap_or_default().chars().take(SHOWN).collect();
    format!("{name} in line {}: {line}", number.saturating_add(1))
}

fn named(path: &Path, found: Vec<String>) -> Vec<String> {
    found.into_iter().map(|what| format!("{}: {what}", path.display())).collect()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".log"))
}

/// Every file in a folder and the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// A secret as it is, as in a URL, in hex, and in the middle of something that is base64 as a whole.
fn spellings(secret: &str) -> BTreeSet<String> {
    let hex = |byte_to: fn(&mut String, u8)| {
        secret.bytes().fold(String::new(), |mut text, byte| {
            byte_to(&mut text, byte);
            text
        })
    };
    let mut all = BTreeSet::from([
        secret.to_owned(),
        hex(|text, byte| _ = write!(text, "{byte:02x}")),
        hex(|text, byte| _ = write!(text, "{byte:02X}")),
        hex(|text, byte| match byte {
            b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => _ = write!(text, "%{byte:02X}"),
        }),
    ]);
    // Four letters stand for three bytes, so where the secret begins decides how it looks; what a neighbour shares in is left out.
    for (before, skip) in [(0_usize, 0_usize), (1, 2), (2, 3)] {
        let padded = [vec![0; before], secret.bytes().collect()].concat();
        let whole = padded.len() / 3 * 4;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            all.extend(text.get(skip..whole).filter(|part| part.len() >= 8).map(str::to_owned));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_hunter2/hunter2+hunter2";

    fn leaks() -> Leaks {
        let mut leaks = Leaks::default();
        leaks.add("the secret", SECRET);
        leaks
    }

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        let base64 = |prefix: &str| STANDARD_NO_PAD.encode(format!("{prefix}{SECRET}:"));
        for text in [
            format!("a {SECRET} b"),
            "whsec_hunter2%2Fhunter2%2Bhunter2".to_owned(),
            SECRET.bytes().map(|b| format!("{b:02x}")).collect(),
            base64(""),
            base64("u"),
            base64("us"),
            base64("user:"),
            URL_SAFE_NO_PAD.encode(format!("??{SECRET}")),
        ] {
            let found = leaks().found_in(&format!("first\nthen {text}\n"));
            assert!(
                found.first().is_some_and(|f| f.starts_with("the secret in line 2: then ")),
                "{text}: {found:?}"
            );
        }
        assert_eq!(leaks().found_in("whsec_hunter2"), Vec::<String>::new());
    }

    #[test]
    fn what_looks_like_a_credential_is_found_though_nobody_named_it() {
        let leaks = Leaks::default();
        for text in [
            format!("key tgk_{}", "a1".repeat(16)),
            format!("Bearer eyJhbGciOiJFUzI1NiJ9.{}", "x".repeat(40)),
            format!("t=1,v1={}", "0f".repeat(32)),
            format!(r#"{{"token":"clm_{}"}}"#, "ab".repeat(12)),
        ] {
            assert_eq!(leaks.found_in(&text).len(), 1, "{text}");
        }
        assert_eq!(leaks.found_in("tgk_ v1= clm_1 eyJ"), Vec::<String>::new());
    }

    #[test]
    fn every_log_in_every_folder_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("10000");
        std::fs::create_dir(&inner).unwrap();
        for name in ["envoy.log", "envoy.log.before", "envoy.json"] {
            std::fs::write(inner.join(name), SECRET).unwrap();
        }
        assert_eq!(leaks().in_logs_under(folder.path()).len(), 2);
        assert_eq!(leaks().in_files_under(folder.path()).len(), 3);
    }
}
