//! The service's settings, read from environment variables once, at start; every complaint at once, and never a secret in one.
//!
//! Not here: what is sold and for how much (the catalog).

use crate::complaint::Complaints;
use crate::outbox::{Target, key_of};
use axum::http::Uri;
use ledger::CrashPolicy;
use std::path::{Path, PathBuf};
use units::Span;
use webhook::Livemode;

/// Everything the service is told from outside, checked.
#[derive(Clone)]
pub struct Config {
    /// The port on loopback; 0 lets the system choose one.
    pub port: u16,
    /// Where the ledger lies.
    pub database: Database,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The secrets by which Stripe's signatures are verified; the second is for rotation.
    pub webhook_secrets: Vec<String>,
    /// The bearer token of operators.
    pub admin_token: String,
    /// The bearer token of gateways.
    pub gateway_token: String,
    /// Which of Stripe's modes is taken.
    pub livemode: Livemode,
    /// How long a claimed event is reserved for its claimant.
    pub claim_ttl: Span,
    /// How long a lease or a hold lives without being reported again.
    pub lease_ttl: Span,
    /// How long after that an unfinished hold may still be reported.
    pub lease_tail: Span,
    /// What becomes of holds whose gateway never came back.
    pub crash_policy: CrashPolicy,
    /// Where others are told of what happens; nobody is, if absent.
    pub outbox: Option<Target>,
}

/// Where the ledger lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// Nowhere: for tests.
    Memory,
    /// A SQLite file.
    Sqlite(PathBuf),
}

impl std::fmt::Debug for Config {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("port", &self.port)
            .field("database", &self.database)
            .field("catalog", &self.catalog)
            .field("livemode", &self.livemode)
            .finish_non_exhaustive()
    }
}

/// Fewer bytes than this are no secret.
const SECRET_BYTES_MIN: usize = 16;
/// A day: longer ttls would keep credits of a dead gateway from their owner.
const TTL_MS_MAX: u64 = 86_400_000;

impl Config {
    /// Reads the settings through `get`, which answers like [`std::env::var`].
    ///
    /// # Errors
    /// Every complaint, each with the variable, its value (never a secret's) and what to do.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Complaints> {
        let mut no = Complaints::default();
        let config = Self {
            port: port(&get, &mut no),
            database: database(&get, &mut no),
            catalog: get("CATALOG").unwrap_or_else(|| "catalogs/demo.yaml".into()).into(),
            webhook_secrets: webhook_secrets(&get, &mut no),
            admin_token: secret("ADMIN_TOKEN", get("ADMIN_TOKEN"), &mut no),
            gateway_token: secret("GATEWAY_TOKEN", get("GATEWAY_TOKEN"), &mut no),
            livemode: choice("LIVEMODE", get("LIVEMODE"), &LIVEMODES, Livemode::Any, &mut no),
            claim_ttl: ttl("CLAIM_TTL_MS", get("CLAIM_TTL_MS"), 30_000, &mut no),
            lease_ttl: ttl("LEASE_TTL_MS", get("LEASE_TTL_MS"), 30_000, &mut no),
            lease_tail: Span::ZERO,
            crash_policy: choice(
                "CRASH_POLICY",
                get("CRASH_POLICY"),
                &CRASH_POLICIES,
                CrashPolicy::Refund,
                &mut no,
            ),
            outbox: outbox(get("OUTBOX_URL"), get("OUTBOX_SECRET"), &mut no),
        };
        let lease_tail = ttl("LEASE_TAIL_MS", get("LEASE_TAIL_MS"), config.lease_ttl.millis(), &mut no);
        if lease_tail < config.lease_ttl {
            // A gateway tells of a request under way every third of the lease time.
            no.add(
                "LEASE_TAIL_MS",
                lease_tail.millis(),
                format!(
                    "is shorter than LEASE_TTL_MS ({0}), and a request under way would be settled as if its gateway were dead; give {0} or more",
                    config.lease_ttl.millis()
                ),
            );
        }
        if !config.admin_token.is_empty() && config.admin_token == config.gateway_token {
            no.add(
                "ADMIN_TOKEN",
                "(hidden)",
                "is the same as GATEWAY_TOKEN; a gateway is no operator, give each its own",
            );
        }
        if no.0.is_empty() { Ok(Self { lease_tail, ..config }) } else { Err(no) }
    }
}

impl Database {
    /// Reads where the ledger lies, and nothing else, as [`Config::read`] does.
    ///
    /// # Errors
    /// Every complaint.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Complaints> {
        let mut no = Complaints::default();
        let database = database(&get, &mut no);
        no.or(Some(database))
    }
}

const LIVEMODES: [(&str, Livemode); 3] =
    [("any", Livemode::Any), ("live", Livemode::Live), ("test", Livemode::Test)];
const CRASH_POLICIES: [(&str, CrashPolicy); 2] =
    [("refund", CrashPolicy::Refund), ("charge", CrashPolicy::Charge)];

fn port(get: &impl Fn(&str) -> Option<String>, no: &mut Complaints) -> u16 {
    let text = get("BILLING_PORT").unwrap_or_else(|| "8081".into());
    text.parse().unwrap_or_else(|_| {
        no.add("BILLING_PORT", format!("{text:?}"), "give a port from 0 to 65535");
        0
    })
}

fn database(get: &impl Fn(&str) -> Option<String>, no: &mut Complaints) -> Database {
    let url = get("DATABASE_URL").unwrap_or_else(|| {
        let port = get("GATEWAY_PORT").unwrap_or_else(|| "10000".into());
        let run = get("RUN_DIR").unwrap_or_else(|| format!("target/run/{port}"));
        format!("sqlite://{run}/billing.db")
    });
    match url.split_once("://") {
        Some(("sqlite", path)) if !path.is_empty() => {
            let path = PathBuf::from(path);
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !folder.is_dir() {
                no.add("DATABASE_URL", format!("{url:?}"), "its folder does not exist; create it");
            }
            Database::Sqlite(path)
        }
        // A PostgreSQL URL may hold a password, so only its scheme is shown.
        Some((scheme @ ("postgres" | "postgresql"), _)) => {
            no.add(
                "DATABASE_URL",
                format!("{scheme}://…"),
                "PostgreSQL is not supported yet; give sqlite://PATH",
            );
            Database::Memory
        }
        _ => {
            no.add("DATABASE_URL", "no URL that is known here", "give sqlite://PATH");
            Database::Memory
        }
    }
}

fn outbox(url: Option<String>, secret: Option<String>, no: &mut Complaints) -> Option<Target> {
    let (url, secret) = match (url, secret) {
        (None, None) => return None,
        (Some(url), Some(secret)) => (url, secret),
        (url, _) => {
            let name = if url.is_some() { "OUTBOX_SECRET" } else { "OUTBOX_URL" };
            no.add(name, "not set", "set both OUTBOX_URL and OUTBOX_SECRET, or neither");
            return None;
        }
    };
    let key = key_of(&secret).map_err(|mend| no.add("OUTBOX_SECRET", "(hidden)", mend)).ok();
    // A URL may hold a password, so it is not shown.
    let url = url.parse::<Uri>().ok().filter(|url| url.host().is_some() && url.scheme_str() == Some("http"));
    if url.is_none() {
        let mend = "give an http:// URL; to reach a receiver by TLS, send through a proxy that speaks it, such as Envoy";
        no.add("OUTBOX_URL", "(hidden)", mend);
    }
    Some(Target { url: url?, key: key? })
}

fn webhook_secrets(get: &impl Fn(&str) -> Option<String>, no: &mut Complaints) -> Vec<String> {
    let mut secrets = vec![secret("STRIPE_WEBHOOK_SECRET", get("STRIPE_WEBHOOK_SECRET"), no)];
    // Unset means one secret. Set but empty is a mistake of whoever meant to set it.
    if let previous @ Some(_) = get("STRIPE_WEBHOOK_SECRET_PREVIOUS") {
        secrets.push(secret("STRIPE_WEBHOOK_SECRET_PREVIOUS", previous, no));
    }
    secrets
}

fn secret(name: &str, value: Option<String>, no: &mut Complaints) -> String {
    let Some(value) = value else {
        no.add(name, "not set", "set it; there is no default, since a known secret is none");
        return String::new();
    };
    if value.is_empty() {
        no.add(name, "empty", "set it to the secret, or leave it out if it is optional");
    } else if value.trim() != value || value.chars().any(char::is_control) {
        no.add(name, "padded", "remove the white space around it or inside it");
    } else if value.len() < SECRET_BYTES_MIN {
        no.add(name, format!("{} bytes long", value.len()), format!("use at least {SECRET_BYTES_MIN} bytes"));
    }
    value
}

fn choice<T: Copy, const N: usize>(
    name: &str,
    value: Option<String>,
    of: &[(&str, T); N],
    default: T,
    no: &mut Complaints,
) -> T {
    let Some(value) = value else { return default };
    of.iter().find(|(name, _)| *name == value).map_or_else(
        || {
            let names: Vec<_> = of.iter().map(|(name, _)| *name).collect();
            no.add(name, format!("{value:?}"), format!("give one of {}", names.join(", ")));
            default
        },
        |(_, chosen)| *chosen,
    )
}

fn ttl(name: &str, value: Option<String>, default: u64, no: &mut Complaints) -> Span {
    let Some(text) = value else { return Span::from_millis(default) };
    match text.parse() {
        Ok(ms @ 1..=TTL_MS_MAX) => Span::from_millis(ms),
        _ => {
            no.add(name, format!("{text:?}"), format!("give milliseconds from 1 to {TTL_MS_MAX}"));
            Span::from_millis(default)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(vars: &[(&str, &str)]) -> Result<Config, Complaints> {
        let mut all = BTreeMap::from([
            ("STRIPE_WEBHOOK_SECRET", "whsec_0123456789abcdef"),
            ("ADMIN_TOKEN", "admin-0123456789"),
            ("GATEWAY_TOKEN", "gateway-0123456789"),
            ("DATABASE_URL", "sqlite://./x.db"),
        ]);
        all.extend(vars.iter().copied());
        Config::read(|name| all.get(name).filter(|v| **v != "(unset)").map(|v| (*v).to_owned()))
    }

    #[test]
    fn defaults_are_those_of_the_interface() {
        let config = read(&[]).unwrap();
        assert_eq!(config.port, 8081);
        assert_eq!(config.database, Database::Sqlite("./x.db".into()));
        assert_eq!((config.lease_ttl, config.lease_tail), (Span::from_secs(30), Span::from_secs(30)));
        assert_eq!(config.webhook_secrets.len(), 1);
        assert_eq!(read(&[("LEASE_TTL_MS", "2000")]).unwrap().lease_tail, Span::from_secs(2));
    }

    #[test]
    fn a_tail_shorter_than_the_lease_is_refused() {
        let read = |tail| read(&[("LEASE_TTL_MS", "2000"), ("LEASE_TAIL_MS", tail)]);
        assert_eq!(read("2000").unwrap().lease_tail, Span::from_secs(2));
        let no = read("1999").unwrap_err().to_string();
        assert!(
            no.contains("LEASE_TAIL_MS") && no.contains("1999") && no.contains("give 2000 or more"),
            "{no}"
        );
    }

    #[test]
    fn every_complaint_comes_at_once_and_none_shows_a_secret() {
        let no = read(&[
            ("BILLING_PORT", "99999"),
            ("DATABASE_URL", "postgres://me:hunter2@db/tollgate"),
            ("STRIPE_WEBHOOK_SECRET", "hunter2"),
            ("STRIPE_WEBHOOK_SECRET_PREVIOUS", ""),
            ("ADMIN_TOKEN", "(unset)"),
            ("GATEWAY_TOKEN", " hunter2-0123456789"),
            ("LIVEMODE", "prod"),
            ("CLAIM_TTL_MS", "0"),
            ("LEASE_TTL_MS", "30s"),
            ("LEASE_TAIL_MS", "-1"),
            ("CRASH_POLICY", "shrug"),
            ("OUTBOX_URL", "https://hunter2@example.com/"),
            ("OUTBOX_SECRET", "whsec_hunter2"),
        ])
        .unwrap_err();
        let paths: Vec<_> = no.0.iter().map(|c| c.path.as_str()).collect();
        let expected = [
            "BILLING_PORT",
            "DATABASE_URL",
            "STRIPE_WEBHOOK_SECRET",
            "STRIPE_WEBHOOK_SECRET_PREVIOUS",
            "ADMIN_TOKEN",
            "GATEWAY_TOKEN",
            "LIVEMODE",
            "CLAIM_TTL_MS",
            "LEASE_TTL_MS",
            "CRASH_POLICY",
            "OUTBOX_SECRET",
            "OUTBOX_URL",
            "LEASE_TAIL_MS",
        ];
        assert_eq!(paths, expected, "{no}");
        assert!(!no.to_string().contains("hunter2"), "{no}");
    }
}
