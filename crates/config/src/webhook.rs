//! The sections of the role `webhook`: where Stripe delivers to, and what of it goes on.

use super::raw::{Item, Section};
use super::table::{Place, Table};
use super::{
    BODY_BYTES_MAX, DEFAULT_IN_FLIGHT_MS, DEFAULT_ON_CLAIM_UNAVAILABLE, DEFAULT_REMEMBER_S, Env,
    WebhookConfig, billing, path, variable_name,
};
use ::webhook::{Livemode, Secret, Tolerance, TypePattern};
use std::collections::BTreeSet;
use std::rc::Rc;
use units::Span;

/// How long at most copies of an event may be kept away while its handler works.
pub const IN_FLIGHT_MAX: Span = Span::from_secs(600);
/// How long at most an accepted event may be remembered. Stripe resends an event for 30 days at most.
pub const REMEMBER_MAX: Span = Span::from_secs(31 * 86_400);

/// One place where Stripe delivers to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name in metrics, and in the identity of its events.
    pub id: String,
    /// Its path.
    pub path: String,
    /// At least one; a delivery may be signed with any of them.
    pub secrets: Vec<Secret>,
    /// How far Stripe's clock may be from ours.
    pub tolerance: Tolerance,
    /// The largest body that is read.
    pub body_bytes_max: usize,
    /// Which mode goes on.
    pub livemode: Livemode,
    /// Which types go on; at least one pattern.
    pub forward_types: Vec<TypePattern>,
    /// How an event goes on only once.
    pub dedupe: Dedupe,
}

/// How an event goes on only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedupe {
    /// Who has the last word.
    pub mode: DedupeMode,
    /// How long this Envoy remembers that an event was accepted.
    pub remember: Span,
    /// How long this Envoy keeps copies away while the handler works.
    pub in_flight: Span,
}

/// Who has the last word on whether an event was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupeMode {
    /// The upstream itself: its own transaction tells a copy from an original.
    Upstream,
    /// The billing upstream, by a claim that all Envoys share.
    Claim {
        /// What happens while it cannot be asked.
        on_unavailable: OnClaimUnavailable,
    },
}

/// What happens to an event while claims cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnClaimUnavailable {
    /// 503: Stripe tries again later.
    Refuse,
    /// It goes on, marked as not checked.
    Forward,
}

impl Endpoint {
    /// Whether events of this type go on.
    #[must_use]
    pub fn forwards(&self, event_type: &str) -> bool {
        self.forward_types.iter().any(|pattern| pattern.matches(event_type))
    }
}

/// Reads everything but `role`, which the caller took.
pub(super) fn webhook(s: Section<'_>, env: Env<'_>) -> Option<WebhookConfig> {
    let billing = s.need("billing").and_then(|i| billing(&i, env));
    let endpoints = s.need("endpoints").and_then(|i| i.list(100)).and_then(|items| endpoints(&items, env));
    s.end();
    Some(WebhookConfig { billing: billing?, endpoints: endpoints? })
}

fn endpoints(items: &[Item<'_>], env: Env<'_>) -> Option<Table<Rc<Endpoint>>> {
    let mut table = Table::new();
    let (mut ids, mut is_whole) = (BTreeSet::new(), true);
    for item in items {
        let Some(endpoint) = endpoint(item, env) else {
            is_whole = false;
            continue;
        };
        if !ids.insert(endpoint.id.clone()) {
            is_whole = false;
            item.at("id")
                .refuse_unseen::<()>(&endpoint.id, "write another id; an earlier endpoint has this one");
        }
        let place = Place::Path(endpoint.path.clone());
        if !table.insert("POST", &place, Rc::new(endpoint)) {
            is_whole = false;
            item.at("path")
                .refuse_unseen::<()>(&place.to_string(), "write another path; an earlier endpoint has it");
        }
    }
    is_whole.then_some(table)
}

fn endpoint(item: &Item<'_>, env: Env<'_>) -> Option<Endpoint> {
    let s = item.section()?;
    let id = s.need("id").and_then(|i| i.label().map(str::to_owned));
    let path = s.need("path").and_then(|i| path(&i).map(str::to_owned));
    let secrets = secrets(&s, env);
    let past_s = s.need("tolerance_past_s").and_then(|i| i.whole(1..=86_400, "seconds"));
    let future_s = s.need("tolerance_future_s").and_then(|i| i.whole(1..=86_400, "seconds"));
    let body_bytes_max = s.need("body_bytes_max").and_then(|i| i.whole(1..=BODY_BYTES_MAX, "bytes"));
    let livemode = s.need("livemode").and_then(|i| {
        i.word(&[
            ("any", Some(Livemode::Any)),
            ("live", Some(Livemode::Live)),
            ("test", Some(Livemode::Test)),
        ])
    });
    let forward_types = s.need("forward_types").and_then(|i| i.each(1000, type_pattern));
    let dedupe = s.need("dedupe").and_then(|i| dedupe(&i));
    s.end();
    let tolerance =
        Tolerance { past_s: u32::try_from(past_s?).ok()?, future_s: u32::try_from(future_s?).ok()? };
    Some(Endpoint {
        id: id?,
        path: path?,
        secrets: secrets?,
        tolerance,
        body_bytes_max: usize::try_from(body_bytes_max?).ok()?,
        livemode: livemode?,
        forward_types: forward_types?,
        dedupe: dedupe?,
    })
}

/// Those that must be set, then those that may be: a second secret exists only while the first is being replaced.
fn secrets(s: &Section<'_>, env: Env<'_>) -> Option<Vec<Secret>> {
    let must = s.need("secrets_env").and_then(|i| i.each(16, |item| secret(item, env, true)));
    let may = match s.get("secrets_env_optional") {
        Some(item) => item.each(16, |item| secret(item, env, false)),
        None => Some(Vec::new()),
    };
    Some(must?.into_iter().chain(may?).flatten().collect())
}

fn secret(item: &Item<'_>, env: Env<'_>, is_needed: bool) -> Option<Option<Secret>> {
    let name = variable_name(item)?;
    match env(name) {
        None if is_needed => item.refuse_unseen(
            &format!("{name} is not set"),
            "set it in Envoy's environment to the endpoint's signing secret, and list it under host_env_keys",
        ),
        None => Some(None),
        Some(value) => match Secret::new(&value) {
            Ok(secret) => Some(Some(secret)),
            Err(why) => item.refuse_unseen(&format!("the value of {name}"), why.to_string()),
        },
    }
}

fn type_pattern(item: &Item<'_>) -> Option<TypePattern> {
    item.text()?
        .parse()
        .map_or_else(|_| item.refuse("write an event type, or a prefix such as invoice.*, or *"), Some)
}

const ON_CLAIM_UNAVAILABLE: [(&str, Option<OnClaimUnavailable>); 2] =
    [("refuse", Some(OnClaimUnavailable::Refuse)), ("forward", Some(OnClaimUnavailable::Forward))];

/// What `mode` may say.
#[derive(Clone, Copy, PartialEq)]
enum ModeWord {
    Upstream,
    Claim,
}

fn dedupe(item: &Item<'_>) -> Option<Dedupe> {
    let s = item.section()?;
    let word = s
        .need("mode")
        .and_then(|i| i.word(&[("upstream", Some(ModeWord::Upstream)), ("claim", Some(ModeWord::Claim))]));
    let mode = match word {
        None | Some(ModeWord::Upstream) => word.map(|_| DedupeMode::Upstream),
        Some(ModeWord::Claim) => {
            let on_unavailable = match s.get("on_claim_unavailable") {
                Some(item) => item.word(&ON_CLAIM_UNAVAILABLE),
                None => Some(DEFAULT_ON_CLAIM_UNAVAILABLE),
            };
            on_unavailable.map(|on_unavailable| DedupeMode::Claim { on_unavailable })
        }
    };
    let remember = match s.get("remember_s") {
        Some(item) => item.whole(1..=REMEMBER_MAX.secs_up(), "seconds"),
        None => Some(DEFAULT_REMEMBER_S),
    };
    let in_flight = match s.get("in_flight_ms") {
        Some(item) => item.whole(1_000..=IN_FLIGHT_MAX.millis(), "milliseconds"),
        None => Some(DEFAULT_IN_FLIGHT_MS),
    };
    if word.is_none() {
        // It may belong to the mode that was meant.
        s.get("on_claim_unavailable");
    }
    s.end();
    Some(Dedupe {
        mode: mode?,
        remember: Span::from_secs(remember?),
        in_flight: Span::from_millis(in_flight?),
    })
}
