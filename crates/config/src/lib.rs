//! The configuration that the filter runs on: resolved, bounded, and impossible to hold in an invalid state.
//!
//! What an operator types is in `raw`; each role has a file of its own. Everything that may be left out is listed
//! here, as a constant whose name begins with `DEFAULT`; everything else must be written.
//!
//! A crate of its own, because it is run once and compiled for size, where the machines are compiled for speed.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod ai;
mod raw;
mod table;
mod usage;
mod webhook;

pub use ai::{Consult, Identity, Mode, OnUnavailable, Priced, Route, Terms, Wait};
pub use raw::Complaint;
pub use table::{Match, Place, Table};
pub use usage::{Hold, Metering, MissingUsage, Usage, UsageHeaders};
pub use webhook::{Dedupe, DedupeMode, Endpoint, IN_FLIGHT_MAX, OnClaimUnavailable, REMEMBER_MAX};

use core::fmt;
use raw::{Complaints, Item, Tree};
use units::{NodeName, Span};

/// How long a request may wait for credits that requests in flight still hold, in milliseconds.
const DEFAULT_WAIT_MS: u64 = 1_000;
/// How long an accepted event is remembered, in seconds: Stripe retries for three days.
const DEFAULT_REMEMBER_S: u64 = 604_800;
/// How long copies of an event are kept away while its handler works, in milliseconds.
const DEFAULT_IN_FLIGHT_MS: u64 = 30_000;
/// What happens to an event while claims cannot be asked for.
const DEFAULT_ON_CLAIM_UNAVAILABLE: OnClaimUnavailable = OnClaimUnavailable::Refuse;
/// The largest body cap: HTTP/2's stream window, beyond which Envoy itself refuses.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What one instance of the filter does.
#[derive(Clone, Debug)]
pub enum Config {
    /// Verifies Stripe's events.
    Webhook(WebhookConfig),
    /// Lets a request through only if it is paid for.
    Ai(AiConfig),
}

/// The role `webhook`.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Whom to ask about claims.
    pub billing: Billing,
    /// Where Stripe delivers to; the method is always `POST`.
    pub endpoints: Table<std::rc::Rc<Endpoint>>,
}

/// The role `ai`.
#[derive(Clone, Debug)]
pub struct AiConfig {
    /// What becomes of a refusal.
    pub mode: Mode,
    /// How long a request may be held back.
    pub wait: Wait,
    /// The largest request body that is read.
    pub body_bytes_max: usize,
    /// How long a request may wait for credits that requests in flight still hold.
    pub wait_for: Span,
    /// Whom to ask.
    pub billing: Billing,
    /// How to tell who is asking, in order.
    pub identity: Vec<Identity>,
    /// What is offered, and on what terms.
    pub routes: Table<Route>,
}

/// How to reach the billing upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billing {
    /// Envoy's name of the cluster.
    pub cluster: String,
    /// How long one call may take.
    pub timeout: Span,
    /// What every call is authorised with.
    pub token: Token,
    /// This Envoy's stable name.
    pub node: NodeName,
}

/// A bearer token; printing it does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Looks up an environment variable.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads the plugin configuration, with secrets and names from the environment that `env` looks up.
    ///
    /// # Errors
    /// Every [`Complaint`] that there is; at least one.
    pub fn resolve(json: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Complaint>> {
        let complaints = Complaints::default();
        let config = match serde_json::from_slice::<Tree>(json) {
            Ok(tree) => read(&Item::root(&tree, &complaints), env),
            Err(error) => {
                complaints.add("", format!("not JSON ({error})"), "write one JSON object");
                None
            }
        };
        match (config, complaints.into_vec()) {
            (Some(config), complaints) if complaints.is_empty() => Ok(config),
            (_, complaints) => Err(complaints),
        }
    }

    /// How to reach the billing upstream.
    #[must_use]
    pub const fn billing(&self) -> &Billing {
        match self {
            Self::Webhook(config) => &config.billing,
            Self::Ai(config) => &config.billing,
        }
    }
}

impl Token {
    /// The token itself, for the `authorization` header alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a role is read by.
#[derive(Clone, Copy)]
enum Role {
    Webhook,
    Ai,
}

fn read(document: &Item<'_>, env: Env<'_>) -> Option<Config> {
    let section = document.section()?;
    let role = section.need("role")?;
    match role.word(&[("webhook", Some(Role::Webhook)), ("ai", Some(Role::Ai))])? {
        Role::Webhook => webhook::webhook(section, env).map(Config::Webhook),
        Role::Ai => ai::ai(section, env).map(Config::Ai),
    }
}

/// Reads the section `billing`, which both roles have.
fn billing(item: &Item<'_>, env: Env<'_>) -> Option<Billing> {
    let s = item.section()?;
    let cluster = s.need("cluster").and_then(|i| i.text().map(str::to_owned));
    let timeout_ms = s.need("timeout_ms").and_then(|i| i.whole(1..=60_000, "milliseconds"));
    let token = s.need("token_env").and_then(|i| token(&i, env));
    let node = s.need("node_env").and_then(|i| {
        let (name, value) = variable(&i, env)?;
        NodeName::new(value)
            .map_or_else(|why| i.refuse_unseen(&format!("the value of {name}"), why.to_string()), Some)
    });
    s.end();
    Some(Billing { cluster: cluster?, timeout: Span::from_millis(timeout_ms?), token: token?, node: node? })
}

fn token(item: &Item<'_>, env: Env<'_>) -> Option<Token> {
    let (name, value) = variable(item, env)?;
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
        let mend = "set it to the gateway's token: printable characters, without blanks or a newline";
        return item.refuse_unseen(&format!("the value of {name}"), mend);
    }
    Some(Token(value))
}

/// The name and value of the variable that is named here, which must be set.
fn variable<'a>(item: &Item<'a>, env: Env<'_>) -> Option<(&'a str, String)> {
    let name = variable_name(item)?;
    let Some(value) = env(name) else {
        let mend = "set it in Envoy's environment, and list it under host_env_keys";
        return item.refuse_unseen(&format!("{name} is not set"), mend);
    };
    Some((name, value))
}

/// A name, and not the secret itself: that is why names must look like names, and others are not shown.
fn variable_name<'a>(item: &Item<'a>) -> Option<&'a str> {
    let name = item.text()?;
    let fits = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !fits || name.starts_with(|c: char| c.is_ascii_digit()) {
        let mend = "write the name of an environment variable (A-Z, 0-9 and _), not its value";
        return item.refuse_unseen("not a variable's name", mend);
    }
    Some(name)
}

/// A path as Envoy hands it over: normalised, without a query.
fn path<'a>(item: &Item<'a>) -> Option<&'a str> {
    let text = item.text()?;
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\".contains(&b));
    let is_normal = !text.contains("//") && !text.split('/').any(|part| part == "." || part == "..");
    if !text.starts_with('/') || !plain || !is_normal {
        return item.refuse("write a path that begins with /, without query, %, //, . or ..");
    }
    Some(text)
}

fn method(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if !text.bytes().all(|b| b.is_ascii_uppercase()) || text == "CONNECT" {
        return item.refuse("write a method in capitals, such as POST; CONNECT is always refused");
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests;
