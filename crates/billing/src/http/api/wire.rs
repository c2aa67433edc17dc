//! What gateways and the service say to each other, as JSON Schema. Whoever builds another billing upstream builds this.

use super::schemas::{flag, many, object, of, or_null, text, word};
use contract::v1::{Basis, Outcome, Reason};
use serde_json::{Value, json};

type Named = (&'static str, Value);

/// Fields that stand beside others, as `serde` flattens them.
fn with<const N: usize>(mut schema: Value, more: [(&str, Value); N]) -> Value {
    let more = object(more);
    for part in ["properties", "required"] {
        match (schema.get_mut(part), more.get(part)) {
            (Some(Value::Object(known)), Some(Value::Object(more))) => known.extend(more.clone()),
            (Some(Value::Array(known)), Some(Value::Array(more))) => known.extend(more.iter().cloned()),
            _ => {}
        }
    }
    schema
}

fn cell_key() -> Value {
    object([("grant", of("Whole")), ("generation", of("Whole"))])
}

fn tag(word: &str) -> Value {
    json!({ "type": "string", "const": word })
}

pub(super) fn wire() -> Vec<Named> {
    let mut all = meeting();
    all.extend(syncing());
    all.extend(deciding());
    all.extend(refusing());
    all
}

/// Hello, watch and the claims on events.
fn meeting() -> Vec<Named> {
    let claim = || {
        object([
            ("endpoint", of("Name")),
            ("livemode", flag()),
            ("account", of("Name")),
            ("event_id", of("Id")),
        ])
    };
    vec![
        ("Hello", object([("node", of("Id"))])),
        (
            "HelloAnswer",
            object([
                ("node", of("Id")),
                ("incarnation", of("Whole")),
                (
                    "intervals",
                    object([
                        ("lease_ttl_ms", of("Whole")),
                        ("lease_tail_ms", of("Whole")),
                        ("sync_ms", of("Whole")),
                        ("claim_ttl_ms", of("Whole")),
                        ("wait_ms", of("Whole")),
                    ]),
                ),
                (
                    "limits",
                    object([
                        ("cells_max", of("Whole")),
                        ("needs_max", of("Whole")),
                        ("usage_max", of("Whole")),
                        ("body_bytes_max", of("Whole")),
                    ]),
                ),
            ]),
        ),
        (
            "Note",
            object([
                ("payer", of("Id")),
                ("epoch", of("Whole")),
                ("kind", word(&["changed", "recall", "replenished", "suspended"])),
            ]),
        ),
        ("WatchAnswer", object([("after", of("Whole")), ("reset", flag()), ("notes", many(of("Note")))])),
        ("Claim", with(claim(), [("type", of("Name")), ("claimant", of("Name"))])),
        (
            "ClaimAnswer",
            json!({ "oneOf": [
            object([("decision", tag("fresh")), ("token", text()), ("ttl_ms", of("Whole"))]),
            object([("decision", tag("in_flight")), ("retry_ms", of("Whole"))]),
            object([("decision", tag("done"))]),
        ] }),
        ),
        ("Complete", with(claim(), [("token", text()), ("outcome", word(&["accepted", "failed"]))])),
        ("CompleteAnswer", object([("result", word(&["recorded", "stale"]))])),
    ]
}

/// The parts of a sync.
fn syncing() -> Vec<Named> {
    let cell = with(
        cell_key(),
        [
            ("admitted", of("Amount")),
            ("finished", of("Amount")),
            ("used", of("Amount")),
            ("returned", of("Amount")),
            ("target", of("Amount")),
            ("need?", of("Amount")),
            ("short?", of("Amount")),
            ("gone?", flag()),
        ],
    );
    let tokens = object([
        ("kind", tag("tokens")),
        ("input_max", of("Limitless")),
        ("output_max?", or_null(of("Limitless"))),
        ("model", text()),
        ("choices?", of("Limitless")),
        ("images?", of("Limitless")),
        ("makes?", of("Limitless")),
        ("tools?", flag()),
        ("open?", flag()),
        ("size?", word(&["most", "estimate"])),
        ("clamp?", flag()),
    ]);
    let repeat = object([("key", of("Digest")), ("body", of("Digest"))]);
    let need = object([
        ("id", of("NeedId")),
        ("subject", of("Subject")),
        ("endpoint", of("Id")),
        ("mode", word(&["identify", "hold", "lease"])),
        ("shape", json!({ "oneOf": [object([("kind", tag("fixed"))]), tokens] })),
        ("wait_ms", of("Whole")),
        ("generation_min?", of("NeedId")),
        ("repeat?", or_null(repeat)),
        ("served?", flag()),
        ("lost?", flag()),
    ]);
    let tokens = object([
        ("model", text()),
        ("input", of("Count")),
        ("cached", of("Count")),
        ("output", of("Count")),
        ("cache_written?", of("Count")),
        ("reasoning?", of("Count")),
        ("images?", of("Count")),
    ]);
    vec![
        ("Outcome", word(&Outcome::ALL.map(Outcome::as_str))),
        ("Basis", word(&Basis::ALL.map(Basis::as_str))),
        ("CellReport", cell),
        ("Need", need),
        (
            "UsageRecord",
            object([
                ("n", of("FromOne")),
                ("request_id", of("Id")),
                ("account", of("Id")),
                ("endpoint", of("Id")),
                ("charges", many(with(cell_key(), [("amount", of("Amount"))]))),
                ("returned", of("Amount")),
                ("beyond?", of("Amount")),
                ("outcome", of("Outcome")),
                ("tokens?", or_null(tokens)),
                ("basis?", or_null(of("Basis"))),
                ("price_version", of("Whole")),
                ("at", of("Instant")),
            ]),
        ),
        (
            "Sync",
            object([
                ("node", of("Id")),
                ("incarnation", of("FromOne")),
                ("worker", json!({ "type": "integer", "minimum": 1, "maximum": 4_095 })),
                ("sent_seq", of("Whole")),
                ("cells", many(of("CellReport"))),
                ("needs", many(of("Need"))),
                ("abandoned", many(of("NeedId"))),
                ("usage", many(of("UsageRecord"))),
                ("draining", flag()),
            ]),
        ),
    ]
}

/// Who a subject is, and where they stand.
fn standing() -> Value {
    let window = object([
        ("name", text()),
        ("limit", of("Whole")),
        ("remaining", of("Whole")),
        ("resets_at", of("Instant")),
    ]);
    object([
        ("account", of("Id")),
        ("payer", of("Id")),
        ("tier", of("Id")),
        ("state", of("SubscriptionState")),
        ("balance_micro", of("Balance")),
        ("attributes", json!({ "type": "object", "additionalProperties": text() })),
        ("window?", window),
        ("epoch", of("Whole")),
        ("valid_ms", of("Whole")),
        ("counted?", flag()),
    ])
}

/// What a sync is answered with.
fn deciding() -> Vec<Named> {
    let unit = || word(&["credits", "requests"]);
    let price =
        object([("unit", unit()), ("hold", of("Amount")), ("scope", text()), ("version", of("Whole"))]);
    let lease = with(
        cell_key(),
        [
            ("unit", unit()),
            ("granted", of("Amount")),
            ("held", of("Amount")),
            ("ttl_ms", of("Whole")),
            ("exposure", of("Amount")),
            ("scope", text()),
            ("keep", flag()),
        ],
    );
    let cell = with(
        cell_key(),
        [
            ("granted", of("Amount")),
            ("acked_admitted", of("Amount")),
            ("ttl_ms", of("Whole")),
            ("exposure", of("Amount")),
            ("state", word(&["open", "soft", "closed"])),
            ("keep", flag()),
        ],
    );
    let id = || ("id", of("Whole"));
    vec![
        (
            "NeedAnswer",
            json!({ "oneOf": [
            object([
                id(), ("decision", tag("ok")), ("standing", standing()), ("price", price), ("cells", many(lease.clone())),
                ("paid?", of("Amount")),
            ]),
            object([id(), ("decision", tag("retry")), ("retry_ms", of("Whole"))]),
            object([
                id(),
                ("decision", tag("refused")),
                ("refusal", of("Refusal")),
                ("cells?", many(lease)),
            ]),
        ] }),
        ),
        (
            "SyncAnswer",
            object([
                ("sent_seq", of("Whole")),
                ("cells", many(cell)),
                ("needs", many(of("NeedAnswer"))),
                ("usage_acked", of("Whole")),
                ("next_ms", of("Whole")),
                ("notes", many(of("Note"))),
                ("lists?", json!({ "type": "object", "additionalProperties": of("PriceList") })),
            ]),
        ),
        ("PriceList", price_list()),
    ]
}

/// What is charged by, where a price depends on what is used: micro-credits per million tokens, and per image.
fn price_list() -> Value {
    let model = object([
        ("name", text()),
        ("matching", word(&["exact", "prefix", "any"])),
        ("input", of("Amount")),
        ("cached", of("Amount")),
        ("cache_written", of("Amount")),
        ("output", of("Amount")),
        ("reasoning", of("Amount")),
        ("image", of("Amount")),
        ("context", of("Whole")),
        ("output_max", of("Whole")),
        ("output_usual", of("Whole")),
        ("image_tokens?", of("Whole")),
        ("tools_tokens", of("Whole")),
        ("unseen?", flag()),
    ]);
    object([
        ("version", of("Whole")),
        ("request", of("Amount")),
        ("minimum", of("Amount")),
        ("hold", of("Amount")),
        ("output_min", of("Whole")),
        ("unknown", word(&["refuse", "dearest"])),
        ("models", many(model)),
    ])
}

/// How a refusal looks, to gateways and to clients.
fn refusing() -> Vec<Named> {
    vec![
        (
            "SubscriptionState",
            word(&[
                "no_subscription",
                "incomplete",
                "trialing",
                "active",
                "past_due",
                "unpaid",
                "paused",
                "canceled",
                "expired",
            ]),
        ),
        ("Reason", word(&Reason::ALL.map(Reason::as_str))),
        (
            "Refusal",
            object([
                ("reason", of("Reason")),
                ("status", json!({ "type": "integer", "minimum": 400, "maximum": 599 })),
                ("title", text()),
                ("detail", text()),
                ("balance_micro?", of("Balance")),
                ("required_micro?", of("Amount")),
                ("resets_at?", of("Instant")),
                ("upgrade_url?", text()),
                ("buy_url?", text()),
                ("retry_after_s?", of("Whole")),
                ("remember_ms", of("Whole")),
                ("payer?", of("Id")),
                ("epoch", of("Whole")),
            ]),
        ),
        ("RefusalProblem", refusal_problem()),
        ("AuthzProblem", json!({ "oneOf": [of("RefusalProblem"), of("Problem")] })),
    ]
}

/// As a client is told, in the words that AI SDKs understand too.
fn refusal_problem() -> Value {
    let kinds = [
        "insufficient_quota",
        "authentication_error",
        "permission_error",
        "rate_limit_error",
        "invalid_request_error",
        "api_error",
    ];
    object([
        ("type", text()),
        ("title", text()),
        ("status", json!({ "type": "integer", "minimum": 400, "maximum": 599 })),
        ("detail", text()),
        ("reason", of("Reason")),
        ("balance", or_null(of("Credits"))),
        ("balance_micro", or_null(of("Balance"))),
        ("required_micro", or_null(of("Amount"))),
        ("resets_at", or_null(of("Instant"))),
        ("upgrade_url", or_null(text())),
        ("buy_url", or_null(text())),
        ("request_id", text()),
        ("error", object([("message", text()), ("type", word(&kinds)), ("code", of("Reason"))])),
    ])
}
