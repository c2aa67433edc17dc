//! The plugin configuration: whatever is accepted is sound, reads the same however it is laid out, and nothing shows a secret.

use crate::dice::Dice;
use crate::shelf::Open;
use crate::{tree, words};
use gate::config::{AiConfig, Config, WebhookConfig};
use gate::{Effect, Flow, Input, Role};
use serde_json::{Value, json};
use units::Span;

const WEBHOOK: &str = include_str!("../seeds/config/webhook.json");
const AI: &str = include_str!("../seeds/config/ai.json");
const SECRET: &str = "whsec_never_to_be_seen_anywhere";
const TOKEN: &str = "a-token-never-to-be-seen";

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    if data.starts_with(b"{") {
        // As somebody typed it.
        return check(data, &mut dice);
    }
    let base = if dice.flag() { AI } else { WEBHOOK };
    let mut document: Value = serde_json::from_str(base).unwrap();
    for _ in 0..dice.below(5) {
        tree::change(&mut document, &mut dice);
    }
    check(document.to_string().as_bytes(), &mut dice);
}

fn env(name: &str) -> Option<String> {
    match name {
        "NODE" => Some("n1".into()),
        "GATEWAY_TOKEN" => Some(TOKEN.into()),
        "STRIPE_WEBHOOK_SECRET" => Some(SECRET.into()),
        "EMPTY" => Some(String::new()),
        "BLANK" => Some(" a secret with blanks ".into()),
        _ => None,
    }
}

fn check(text: &[u8], dice: &mut Dice<'_>) {
    let config = match Config::resolve(text, &env) {
        Ok(config) => config,
        Err(complaints) => {
            assert!(!complaints.is_empty(), "refused without a word");
            let told: Vec<String> = complaints.iter().map(ToString::to_string).collect();
            // A fuzzer learns the secrets by heart; whoever types one where none belongs has shown it already.
            let typed = shows_secret(&String::from_utf8_lossy(text));
            assert!(typed || !shows_secret(&told.join("\n")), "{told:?}");
            return;
        }
    };
    let typed = shows_secret(&String::from_utf8_lossy(text));
    assert!(typed || !shows_secret(&format!("{config:?}")), "printing it shows a secret");
    let document: Value = serde_json::from_slice(text).expect("accepted, and not JSON");
    let again = Config::resolve(serde_json::to_string_pretty(&document).unwrap().as_bytes(), &env).unwrap();
    assert_eq!(format!("{again:?}"), format!("{config:?}"), "its layout means something");
    let places = tree::objects(&document);
    let place = dice.pick(&places);
    let mut other = document.clone();
    other.pointer_mut(&place).unwrap()["unheard_of"] = json!(1);
    assert!(Config::resolve(other.to_string().as_bytes(), &env).is_err(), "an unknown key at {place}");
    match &config {
        Config::Webhook(webhook) => webhook_is_sound(webhook),
        Config::Ai(ai) => ai_is_sound(ai),
    }
    stranger(&config.into());
}

fn shows_secret(text: &str) -> bool {
    text.contains(SECRET) || text.contains(TOKEN) || text.contains("a secret with blanks")
}

fn webhook_is_sound(config: &WebhookConfig) {
    assert!(config.billing.timeout <= Span::from_secs(60) && config.billing.timeout > Span::ZERO);
    for endpoint in config.endpoints.iter() {
        assert!(!endpoint.secrets.is_empty(), "nothing can be proved");
        assert!((1..=16 << 20).contains(&endpoint.body_bytes_max));
        assert!(endpoint.tolerance.past_s > 0 && !endpoint.forward_types.is_empty());
        assert!(
            endpoint.dedupe.in_flight > Span::ZERO && endpoint.dedupe.in_flight <= gate::seen::IN_FLIGHT_MAX
        );
        assert!(endpoint.dedupe.remember <= gate::seen::REMEMBER_MAX);
    }
}

fn ai_is_sound(config: &AiConfig) {
    assert!(config.billing.timeout <= Span::from_secs(60) && config.billing.timeout > Span::ZERO);
    assert!((1..=16 << 20).contains(&config.body_bytes_max) && config.wait_for <= Span::from_secs(60));
    assert!(!config.identity.is_empty() && config.routes.iter().next().is_some());
}

/// Somebody without any credential meets it: nothing goes on, on any route.
fn stranger(role: &Role) {
    let paths =
        ["/webhooks/stripe", "/webhooks/app", "/v1/chat/completions", "/v1/models", "/billing/x", "/"];
    for path in paths {
        for method in ["POST", "GET", "PUT"] {
            let headers = words::headers(&[
                (":method", method.as_bytes()),
                (":path", path.as_bytes()),
                ("x-a", b"\xff"),
            ]);
            let mut exchange = role.exchange(1);
            let mut shelf = Open::default();
            let now = words::at(Span::ZERO);
            let input = Input::RequestHeaders { headers: &headers, end: true, verified: None };
            let flow = exchange.handle(input, now, &mut shelf);
            let effects: Vec<Effect> = std::iter::from_fn(|| exchange.poll_effect()).collect();
            let shadowed =
                effects.iter().any(|effect| matches!(effect, Effect::Count(gate::Metric::Shadowed { .. })));
            let replied = effects.iter().any(|effect| matches!(effect, Effect::Reply(_)));
            assert!(replied || shadowed, "{method} {path}");
            assert_eq!(flow, if replied { Flow::Pause } else { Flow::Continue }, "{method} {path}");
        }
    }
}
