//! The sections of the role `ai`: who may be asking, and on what terms each route is let through.

use super::raw::{Item, Section};
use super::table::{Place, Table};
use super::usage::{KEYS, Metering, metering};
use super::{AiConfig, BODY_BYTES_MAX, DEFAULT_WAIT_MS, Env, billing, method, path};
use std::rc::Rc;
use units::{EndpointId, Span};

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The client gets it.
    Enforce,
    /// It is counted, and the request passes; for trying Tollgate out in front of live traffic.
    Shadow,
}

/// How long a request may be held back while it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until its last byte, as far as needed; wants `allow_on_headers_stop_iteration` in Envoy's file.
    Body,
    /// At its headers only; the one way where that flag cannot be set.
    Head,
}

/// A way to tell who is asking; they are tried in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A claim of the token that Envoy's `jwt_authn` verified.
    Jwt {
        /// The metadata namespace and the keys that lead to the payload.
        metadata: Vec<String>,
        /// The claim of the payload that names the subject.
        claim: String,
    },
    /// A key of Tollgate's own.
    ApiKey {
        /// What every key begins with.
        prefix: String,
        /// Bytes of a whole key, prefix included.
        length: usize,
        /// Lower-case names of the headers it may stand in; in `authorization` as a Bearer.
        headers: Vec<String>,
    },
}

/// One route, and the terms on which a request passes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// As it is written: `POST`.
    pub method: String,
    /// Where it applies.
    pub place: Place,
    /// On what terms.
    pub terms: Terms,
}

/// On what terms a request passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// It is held before, and charged after.
    Priced(Priced),
    /// It wants an identity and costs nothing (`cost: 0`).
    Free {
        /// Its name in the catalog.
        endpoint: EndpointId,
    },
    /// It goes to the billing upstream with the gateway's word for who is asking (`vouch: true`).
    Vouch,
}

/// How a priced request is held and charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// Its name in the catalog.
    pub endpoint: EndpointId,
    /// How its requests and answers are read.
    pub metering: Rc<Metering>,
    /// Where it is held.
    pub consult: Consult,
    /// What happens while the billing upstream cannot be asked.
    pub on_unavailable: OnUnavailable,
}

/// Where a request's need is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consult {
    /// At the billing upstream, one call for every request.
    EveryRequest,
    /// In a lease that lies in this Envoy's shared memory.
    Lease,
}

/// What happens to a request that nothing held covers while the billing upstream cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// 503.
    Deny,
    /// A bounded number of requests pass, and are charged later.
    AllowBounded {
        /// At most so many of this Envoy in each outage, whoever they are from.
        k: u32,
    },
}

const CONSULTS: [(&str, Option<Consult>); 2] =
    [("every_request", Some(Consult::EveryRequest)), ("lease", Some(Consult::Lease))];
/// The most requests that an outage may cost.
const ALLOW_MAX: u64 = 10_000;

/// Reads everything but `role`, which the caller took.
pub(super) fn ai(s: Section<'_>, env: Env<'_>) -> Option<AiConfig> {
    let mode = s
        .need("mode")
        .and_then(|i| i.word(&[("enforce", Some(Mode::Enforce)), ("shadow", Some(Mode::Shadow))]));
    let wait = s.need("wait").and_then(|i| i.word(&[("body", Some(Wait::Body)), ("head", Some(Wait::Head))]));
    let body_bytes_max = s.need("body_bytes_max").and_then(|i| i.whole(1..=BODY_BYTES_MAX, "bytes"));
    let wait_ms = match s.get("wait_ms") {
        Some(item) => item.whole(1..=60_000, "milliseconds"),
        None => Some(DEFAULT_WAIT_MS),
    };
    let billing = s.need("billing").and_then(|i| billing(&i, env));
    let identity = s.need("identity").and_then(|i| i.each(16, identity));
    let routes = s.need("routes").and_then(|i| i.list(1000)).and_then(|items| routes(&items, wait));
    s.end();
    Some(AiConfig {
        mode: mode?,
        wait: wait?,
        body_bytes_max: usize::try_from(body_bytes_max?).ok()?,
        wait_for: Span::from_millis(wait_ms?),
        billing: billing?,
        identity: identity?,
        routes: routes?,
    })
}

fn identity(item: &Item<'_>) -> Option<Identity> {
    let s = item.section()?;
    let kind = s.need("kind").and_then(|i| {
        i.word(&[("jwt", Some(true)), ("api_key", Some(false)), ("jwt_header", None), ("header", None)])
    });
    let read = match kind {
        Some(true) => jwt(&s),
        Some(false) => api_key(&s),
        // The other keys depend on the kind: nothing more can be said about them.
        None => return None,
    };
    s.end();
    read
}

fn jwt(s: &Section<'_>) -> Option<Identity> {
    let metadata = s.need("metadata").and_then(|i| i.each(16, |i| i.text().map(str::to_owned)));
    let claim = s.need("claim").and_then(|i| i.text().map(str::to_owned));
    Some(Identity::Jwt { metadata: metadata?, claim: claim? })
}

fn api_key(s: &Section<'_>) -> Option<Identity> {
    let prefix = s.need("prefix").and_then(|i| i.label().map(str::to_owned));
    let length = s.need("length").and_then(|i| {
        // 16 characters of 62 kinds are 95 bits: fewer could be guessed.
        let least = u64::try_from(prefix.as_ref()?.len()).ok()?.saturating_add(16);
        i.whole(least..=255, "characters (the prefix included, and 16 or more after it)")
    });
    let headers = s.need("headers").and_then(|i| i.each(16, header_name));
    Some(Identity::ApiKey { prefix: prefix?, length: usize::try_from(length?).ok()?, headers: headers? })
}

/// Envoy hands header names over in lower case.
fn header_name(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    if !text.bytes().all(token) || text.starts_with("x-tollgate-") {
        return item.refuse("write a header name in lower case, not one of Tollgate's own");
    }
    Some(text.to_owned())
}

fn routes(items: &[Item<'_>], wait: Option<Wait>) -> Option<Table<Route>> {
    let mut table = Table::new();
    // Also of routes whose terms are wrong, so that one mistake does not hide another.
    let mut places = Table::new();
    let mut is_whole = true;
    for item in items {
        let Some((method, place, terms)) = route(item, wait) else {
            is_whole = false;
            continue;
        };
        if !places.insert(&method, &place, ()) {
            item.refuse_unseen::<()>(&format!("{method} {place}"), "remove it; an earlier route has it");
            is_whole = false;
            continue;
        }
        let route = terms.map(|terms| Route { method: method.clone(), place: place.clone(), terms });
        is_whole &= route.is_some_and(|route| table.insert(&method, &place, route));
    }
    is_whole.then_some(table)
}

fn route(item: &Item<'_>, wait: Option<Wait>) -> Option<(String, Place, Option<Terms>)> {
    let s = item.section()?;
    let method = s.need("method").and_then(|i| method(&i));
    let place = place(&s);
    let terms = terms(&s, wait);
    s.end();
    Some((method?, place?, terms))
}

fn place(s: &Section<'_>) -> Option<Place> {
    match (s.get("path"), s.get("prefix")) {
        (Some(item), None) => path(&item).map(|text| Place::Path(text.to_owned())),
        (None, Some(item)) => {
            let text = path(&item)?;
            if !text.ends_with('/') {
                return item.refuse("end it with /, or it would cover paths that only begin alike");
            }
            Some(Place::Prefix(text.to_owned()))
        }
        (Some(_), Some(_)) => s.refuse("both path and prefix", "keep one of them"),
        (None, None) => s.refuse("neither path nor prefix", "write one of them"),
    }
}

/// Exactly one of `hold`, `cost: 0` and `vouch: true` says on what terms; nothing is free by omission.
fn terms(s: &Section<'_>, wait: Option<Wait>) -> Option<Terms> {
    let kinds: Vec<_> = ["hold", "cost", "vouch"].into_iter().filter(|key| s.has(key)).collect();
    match kinds.as_slice() {
        ["hold"] => priced(s, wait).map(Terms::Priced),
        ["cost"] => {
            let endpoint = endpoint(s);
            let cost = s.get("cost").and_then(|i| {
                i.whole(0..=0, "credits: prices are in the catalog; with a price, write hold instead; here")
            });
            cost.and(endpoint).map(|endpoint| Terms::Free { endpoint })
        }
        ["vouch"] => {
            let item = s.get("vouch")?;
            if item.flag()? { Some(Terms::Vouch) } else { item.refuse("write true, or hold or cost instead") }
        }
        _ => {
            // Known all the same, so that they are not complained about twice.
            for key in KEYS.into_iter().chain(["endpoint", "consult", "on_unavailable", "cost", "vouch"]) {
                s.get(key);
            }
            let value = if kinds.is_empty() { String::from("no terms") } else { kinds.join(" and ") };
            s.refuse(&value, "write exactly one of hold, cost: 0 and vouch: true")
        }
    }
}

fn priced(s: &Section<'_>, wait: Option<Wait>) -> Option<Priced> {
    let endpoint = endpoint(s);
    let metering = metering(s, wait);
    let consult = s.need("consult").and_then(|i| i.word(&CONSULTS));
    let on_unavailable = s.need("on_unavailable").and_then(|i| on_unavailable(&i));
    Some(Priced {
        endpoint: endpoint?,
        metering: Rc::new(metering?),
        consult: consult?,
        on_unavailable: on_unavailable?,
    })
}

fn on_unavailable(item: &Item<'_>) -> Option<OnUnavailable> {
    if item.says("deny") {
        return Some(OnUnavailable::Deny);
    }
    if !item.is_object() {
        return item.refuse(format!("write \"deny\", or {{\"allow_bounded\": 1 to {ALLOW_MAX}}}"));
    }
    let s = item.section()?;
    let k = s.need("allow_bounded").and_then(|i| i.whole(1..=ALLOW_MAX, "requests"));
    s.end();
    k.and_then(|k| u32::try_from(k).ok()).map(|k| OnUnavailable::AllowBounded { k })
}

fn endpoint(s: &Section<'_>) -> Option<EndpointId> {
    let item = s.need("endpoint")?;
    EndpointId::new(item.label()?).ok()
}
