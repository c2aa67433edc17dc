//! What the environment says about ports, secrets and paths, with the defaults of the demo; every complaint at once.

use crate::{Result, Trouble};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything the commands are told from outside, checked.
#[derive(Clone)]
pub struct Settings {
    /// The project's root.
    pub root: PathBuf,
    /// Where Envoy listens.
    pub gateway_port: u16,
    /// Where the billing service listens.
    pub billing_port: u16,
    /// Where the scripted upstream listens.
    pub upstream_port: u16,
    /// Envoy's admin port.
    pub admin_port: u16,
    /// Stripe's signing secret, the demo's own unless another one is set.
    pub webhook_secret: String,
    /// The one before it, during a rotation.
    pub webhook_secret_previous: Option<String>,
    /// The catalog, absolute.
    pub catalog: PathBuf,
    /// Where logs, pid files and the generated Envoy file go, absolute.
    pub run_dir: PathBuf,
    /// Where the ledger lies.
    pub database_url: String,
    /// The operators' bearer token.
    pub admin_token: String,
    /// The gateways' bearer token.
    pub gateway_token: String,
    /// This Envoy's stable name.
    pub node: String,
    /// Envoy's workers.
    pub concurrency: u16,
    /// `any`, `live` or `test`.
    pub livemode: String,
    /// How long a claimed event is reserved, in milliseconds.
    pub claim_ttl_ms: u32,
    /// How long a lease or a hold lives unreported, in milliseconds.
    pub lease_ttl_ms: u32,
}

/// A day.
const TTL_MS_MAX: u32 = 86_400_000;
/// The fewest bytes of a bearer token.
const TOKEN_BYTES_MIN: usize = 16;

impl Settings {
    /// Reads the settings through `get`, which answers like [`std::env::var`].
    ///
    /// # Errors
    /// Every complaint, one a line: the variable, its value (never a secret's), what to do.
    pub fn read(root: &Path, get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut read = Reader { get, complaints: Vec::new() };
        let gateway_port = read.port("GATEWAY_PORT", 10000);
        let run_dir = root.join(read.text("RUN_DIR", &format!("target/run/{gateway_port}")));
        let database = format!("sqlite://{}", run_dir.join("billing.db").display());
        let settings = Self {
            root: root.to_owned(),
            gateway_port,
            billing_port: read.port("BILLING_PORT", 8081),
            upstream_port: read.port("UPSTREAM_PORT", 8082),
            admin_port: read.port("ENVOY_ADMIN_PORT", 9901),
            webhook_secret: read
                .secret("STRIPE_WEBHOOK_SECRET")
                .unwrap_or("whsec_tollgate_demo_secret".into()),
            webhook_secret_previous: read.secret("STRIPE_WEBHOOK_SECRET_PREVIOUS"),
            catalog: read.file("CATALOG", root, "catalogs/demo.yaml"),
            run_dir,
            database_url: read.text("DATABASE_URL", &database),
            admin_token: read.token("ADMIN_TOKEN", "tollgate-demo-admin"),
            gateway_token: read.token("GATEWAY_TOKEN", "tollgate-demo-gateway"),
            node: read.node(gateway_port),
            concurrency: read.number("ENVOY_CONCURRENCY", 2, 1, 256),
            livemode: read.choice("LIVEMODE", &["any", "live", "test"]),
            claim_ttl_ms: read.number("CLAIM_TTL_MS", 30_000, 1, TTL_MS_MAX),
            lease_ttl_ms: read.number("LEASE_TTL_MS", 30_000, 1, TTL_MS_MAX),
        };
        read.distinct(&settings);
        if read.complaints.is_empty() {
            return Ok(settings);
        }
        Err(Trouble(format!("the environment cannot be used:\n{}", read.complaints.join("\n"))))
    }

    /// The same settings for another process: what the environment table names, and nothing else.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("GATEWAY_PORT", self.gateway_port.to_string()),
            ("BILLING_PORT", self.billing_port.to_string()),
            ("UPSTREAM_PORT", self.upstream_port.to_string()),
            ("ENVOY_ADMIN_PORT", self.admin_port.to_string()),
            ("STRIPE_WEBHOOK_SECRET", self.webhook_secret.clone()),
            ("CATALOG", self.catalog.display().to_string()),
            ("RUN_DIR", self.run_dir.display().to_string()),
            ("DATABASE_URL", self.database_url.clone()),
            ("ADMIN_TOKEN", self.admin_token.clone()),
            ("GATEWAY_TOKEN", self.gateway_token.clone()),
            ("NODE", self.node.clone()),
            ("LIVEMODE", self.livemode.clone()),
            ("CLAIM_TTL_MS", self.claim_ttl_ms.to_string()),
            ("LEASE_TTL_MS", self.lease_ttl_ms.to_string()),
        ];
        all.extend(
            self.webhook_secret_previous.iter().map(|s| ("STRIPE_WEBHOOK_SECRET_PREVIOUS", s.clone())),
        );
        all
    }

    /// `http://127.0.0.1:` and the gateway's port, with a path behind it.
    #[must_use]
    pub fn gateway(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.gateway_port)
    }

    /// The same at the billing service.
    #[must_use]
    pub fn billing(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.billing_port)
    }

    /// The same at the scripted upstream.
    #[must_use]
    pub fn upstream(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.upstream_port)
    }

    /// The same at Envoy's admin port.
    #[must_use]
    pub fn admin(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin_port)
    }
}

struct Reader<F> {
    get: F,
    complaints: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    /// A variable that is set but empty is a slip of whoever meant to set it; no default may stand in for it.
    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.get)(name)?;
        if value.is_empty() {
            self.complain(name, "empty", "set it, or unset it for the default");
            return None;
        }
        Some(value)
    }

    fn complain(&mut self, name: &str, value: &str, mend: &str) {
        self.complaints.push(format!("  {name} is {value}: {mend}"));
    }

    fn text(&mut self, name: &str, default: &str) -> String {
        self.value(name).unwrap_or_else(|| default.to_owned())
    }

    fn number<N>(&mut self, name: &str, default: N, least: N, most: N) -> N
    where
        N: std::str::FromStr + PartialOrd + Copy + std::fmt::Display,
    {
        let Some(text) = self.value(name) else { return default };
        match text.parse::<N>() {
            Ok(number) if number >= least && number <= most => number,
            _ => {
                self.complain(
                    name,
                    &format!("{text:?}"),
                    &format!("give a whole number from {least} to {most}"),
                );
                default
            }
        }
    }

    fn port(&mut self, name: &str, default: u16) -> u16 {
        self.number(name, default, 1, u16::MAX)
    }

    fn secret(&mut self, name: &str) -> Option<String> {
        let text = self.value(name)?;
        if let Err(why) = webhook::Secret::new(&text) {
            self.complain(name, "no secret (not shown)", &why.to_string());
        }
        Some(text)
    }

    fn token(&mut self, name: &str, default: &str) -> String {
        let text = self.text(name, default);
        if text.len() < TOKEN_BYTES_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.complain(
                name,
                "no token (not shown)",
                "give at least 16 printable characters without blanks",
            );
        }
        text
    }

    fn file(&mut self, name: &str, root: &Path, default: &str) -> PathBuf {
        let path = root.join(self.text(name, default));
        if !path.is_file() {
            self.complain(
                name,
                &path.display().to_string(),
                "there is no such file; give a path from the root",
            );
        }
        path
    }

    fn node(&mut self, gateway_port: u16) -> String {
        let name = self.text("NODE", &format!("gateway-{gateway_port}"));
        if let Err(why) = units::NodeName::new(name.clone()) {
            self.complain(
                "NODE",
                &format!("{name:?}"),
                &format!("it {why}; give 1 to 255 printable characters"),
            );
        }
        name
    }

    fn choice(&mut self, name: &str, of: &[&str]) -> String {
        let default = of.first().copied().unwrap_or_default();
        let text = self.text(name, default);
        if !of.contains(&text.as_str()) {
            self.complain(name, &format!("{text:?}"), &format!("give one of {}", of.join(", ")));
        }
        text
    }

    fn distinct(&mut self, settings: &Settings) {
        let mut seen = BTreeMap::new();
        for (name, port) in settings.ports() {
            if let Some(other) = seen.insert(port, name) {
                self.complain(
                    name,
                    &port.to_string(),
                    &format!("{other} is the same; give each its own port"),
                );
            }
        }
        if settings.admin_token == settings.gateway_token {
            self.complain(
                "ADMIN_TOKEN",
                "the same as GATEWAY_TOKEN",
                "a gateway is no operator; give each its own",
            );
        }
    }
}

impl Settings {
    /// Each port with the variable that names it.
    #[must_use]
    pub const fn ports(&self) -> [(&'static str, u16); 4] {
        [
            ("GATEWAY_PORT", self.gateway_port),
            ("BILLING_PORT", self.billing_port),
            ("UPSTREAM_PORT", self.upstream_port),
            ("ENVOY_ADMIN_PORT", self.admin_port),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("catalogs")).unwrap();
        std::fs::write(root.path().join("catalogs/demo.yaml"), "").unwrap();
        Settings::read(root.path(), |name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults_are_those_of_the_interface() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.ports().map(|(_, port)| port), [10000, 8081, 8082, 9901]);
        assert_eq!((settings.node.as_str(), settings.concurrency), ("gateway-10000", 2));
        assert!(settings.run_dir.ends_with("target/run/10000"));
        assert!(settings.database_url.ends_with("/target/run/10000/billing.db"));
        assert_eq!(settings.webhook_secret_previous, None);
        assert_eq!(read(&[("GATEWAY_PORT", "11000")]).unwrap().node, "gateway-11000");
    }

    #[test]
    fn every_complaint_comes_at_once_and_none_shows_a_secret() {
        let Trouble(said) = read(&[
            ("GATEWAY_PORT", "0"),
            ("BILLING_PORT", "8082"),
            ("STRIPE_WEBHOOK_SECRET", "hunter2"),
            ("STRIPE_WEBHOOK_SECRET_PREVIOUS", " hunter2-0123456789"),
            ("CATALOG", "none.yaml"),
            ("ADMIN_TOKEN", "hunter2"),
            ("NODE", "a b"),
            ("ENVOY_CONCURRENCY", "two"),
            ("LIVEMODE", "prod"),
            ("LEASE_TTL_MS", "30s"),
            ("RUN_DIR", ""),
        ])
        .err()
        .unwrap();
        for name in [
            "GATEWAY_PORT",
            "UPSTREAM_PORT",
            "STRIPE_WEBHOOK_SECRET is",
            "STRIPE_WEBHOOK_SECRET_PREVIOUS",
            "CATALOG",
            "ADMIN_TOKEN",
            "NODE",
            "ENVOY_CONCURRENCY",
            "LIVEMODE",
            "LEASE_TTL_MS",
            "RUN_DIR is empty",
        ] {
            assert!(said.contains(name), "{name} is missing in:\n{said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
}
