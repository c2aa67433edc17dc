//! What operators, customers and Stripe send and get, as JSON Schema; words come from the enumerations of the code.

use super::wire::wire;
use crate::error::{Error, Invalid};
use crate::store::{EventStatus, MessageStatus};
use ledger::{JournalKind, Source};
use serde_json::{Map, Value, json};

/// The largest amount, and the largest whole number that every JSON reader keeps (RFC 8259, section 6).
const WHOLE_MAX: u64 = 9_007_199_254_740_991;

/// Every schema by its name.
pub(super) fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    let all_of_them = [words(), asked(), told(), recorded(), sold(), owned(), used(), wire()];
    for (name, schema) in all_of_them.into_iter().flatten() {
        all.insert(name.to_owned(), schema);
    }
    all
}

/// A reference to one of them.
pub(super) fn of(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

pub(super) fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

pub(super) fn many(schema: Value) -> Value {
    json!({ "type": "array", "items": schema })
}

/// An object; a field whose name ends in `?` may be left out.
pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let required: Vec<&str> =
        fields.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The same, and nothing else may be in it.
fn closed<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let mut object = object(fields);
    if let Some(object) = object.as_object_mut() {
        object.insert("additionalProperties".into(), Value::Bool(false));
    }
    object
}

/// A text out of a closed set.
pub(super) fn word(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn list(name: &str) -> Value {
    object([("items", many(of(name))), ("next", or_null(of("Whole")))])
}

type Named = (&'static str, Value);

fn words() -> Vec<Named> {
    let kinds = Invalid::ALL.into_iter().map(|kind| kind.told().1).chain(Error::OF_OURS);
    let kinds: Vec<_> = kinds.map(|kind| format!("urn:tollgate:problem:{kind}")).collect();
    vec![
        ("Id", json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" })),
        (
            "IdempotencyKey",
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" }),
        ),
        ("Whole", json!({ "type": "integer", "minimum": 0, "maximum": WHOLE_MAX })),
        (
            "Name",
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "description": "at most 255 bytes" }),
        ),
        ("FromOne", json!({ "type": "integer", "minimum": 1, "maximum": WHOLE_MAX })),
        (
            "Count",
            json!({ "type": "integer", "minimum": 0, "description": "above 2^53 - 1 it is kept as that" }),
        ),
        ("Limitless", json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX })),
        ("Digest", json!({ "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256" })),
        (
            "NeedId",
            json!({ "type": "integer", "minimum": 1, "maximum": ledger::HOLD_GENERATION_MIN.saturating_sub(1) }),
        ),
        ("Flag", flag()),
        ("Text", text()),
        ("Limit", json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })),
        (
            "Amount",
            json!({ "type": "integer", "minimum": 0, "maximum": WHOLE_MAX, "description": "micro-credits, or requests" }),
        ),
        (
            "Balance",
            json!({ "type": "integer", "minimum": -i64::MAX, "description": "micro-credits; below zero is owed" }),
        ),
        (
            "Credits",
            json!({ "type": "string", "pattern": r"^-?\d+(\.\d{1,6})?$", "description": "credits, for people" }),
        ),
        ("Instant", json!({ "type": "string", "format": "date-time" })),
        ("EventStatus", word(&EventStatus::ALL.map(|(_, word)| word))),
        ("MessageStatus", word(&MessageStatus::ALL.map(|(_, word)| word))),
        ("JournalKind", word(&JournalKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())),
        ("Source", word(&Source::ALL.iter().map(|source| source.as_str()).collect::<Vec<_>>())),
        (
            "Problem",
            object([
                ("type", json!({ "type": "string", "enum": kinds })),
                ("title", text()),
                ("status", json!({ "type": "integer", "minimum": 400, "maximum": 599 })),
                ("detail", text()),
            ]),
        ),
    ]
}

/// What is sent here.
fn asked() -> Vec<Named> {
    let credits = json!({ "description": "a whole number, or a decimal in quotes; above zero", "anyOf": [
        { "type": "integer", "minimum": 1, "maximum": WHOLE_MAX / 1_000_000 },
        { "type": "string", "pattern": r"^(?!0+(\.0+)?$)[0-9]{1,9}(\.[0-9]{1,6})?$" },
    ] });
    let note = json!({ "type": "string", "description": "Why; shown to the customer in their history" });
    let note_of_all = json!({ "type": "string",
        "description": "The note of each grant that has none of its own; shown to the customer in their history" });
    vec![
        (
            "Subject",
            object([
                ("kind", word(&["api_key_sha256", "header", "jwt_sub"])),
                (
                    "value",
                    json!({ "type": "string", "minLength": 1, "maxLength": 255,
                "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$", "description": "at most 255 bytes of UTF-8" }),
                ),
            ]),
        ),
        (
            "NewAccount",
            closed([
                ("id", of("Id")),
                ("subjects?", many(of("Subject"))),
                ("stripe_customer?", or_null(text())),
                ("pool?", or_null(of("Id"))),
            ]),
        ),
        ("NewPool", closed([("pool", or_null(of("Id")))])),
        ("NewKey", closed([("account", of("Id"))])),
        ("NewGrant", closed([("account", of("Id")), ("credits", credits), ("note?", note)])),
        (
            "Bulk",
            closed([
                (
                    "grants",
                    json!({ "type": "array", "items": of("NewGrant"), "minItems": 1, "maxItems": 1_000 }),
                ),
                ("note?", note_of_all),
            ]),
        ),
        (
            "StripeEvent",
            json!({ "type": "object", "description": "An event as Stripe sent it, byte for byte." }),
        ),
    ]
}

/// A grant as it is shown: its amounts are named by what they count.
fn grant() -> Value {
    let amounts =
        |name: &str| [(format!("{name}_micro?"), of("Amount")), (format!("{name}_requests?"), of("Amount"))];
    let mut grant = object([
        ("id", of("Id")),
        ("unit", word(&["credits", "requests"])),
        ("scope", text()),
        ("source", of("Source")),
        ("source_ref", text()),
        ("expires_at", or_null(of("Instant"))),
    ]);
    if let Some(properties) = grant.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, schema) in
            ["amount", "available", "leased", "used", "frozen"].into_iter().flat_map(amounts)
        {
            properties.insert(name.trim_end_matches('?').to_owned(), schema);
        }
    }
    grant
}

/// What operators are answered.
fn told() -> Vec<Named> {
    vec![
        ("Grant", grant()),
        (
            "Subscription",
            object([
                ("id", text()),
                ("status", text()),
                ("prices", many(text())),
                ("current_period_end", or_null(of("Instant"))),
                ("cancel_at", or_null(of("Instant"))),
                ("cancel_at_period_end", flag()),
            ]),
        ),
        (
            "Account",
            object([
                ("id", of("Id")),
                ("tier", or_null(of("Id"))),
                ("state", of("SubscriptionState")),
                ("suspended", flag()),
                ("balance", of("Credits")),
                ("balance_micro", of("Balance")),
                ("debt_micro", of("Amount")),
                ("held_micro", of("Amount")),
                ("frozen_micro", of("Amount")),
                ("pool", or_null(of("Id"))),
                ("members", many(of("Id"))),
                ("current_period_end", or_null(of("Instant"))),
                ("cancel_at", or_null(of("Instant"))),
                ("grants", many(of("Grant"))),
                ("subscriptions", many(of("Subscription"))),
                (
                    "api_keys",
                    many(object([
                        ("id", text()),
                        ("created_at", of("Instant")),
                        ("revoked_at", or_null(of("Instant"))),
                    ])),
                ),
            ]),
        ),
        (
            "Key",
            object([
                ("id", text()),
                ("key", json!({ "type": "string", "pattern": "^tgk_[A-Za-z0-9]{32}$" })),
            ]),
        ),
        (
            "Granted",
            object([
                ("id", text()),
                ("account", of("Id")),
                ("balance", of("Credits")),
                ("balance_micro", of("Balance")),
            ]),
        ),
    ]
}

/// What operators are answered about history.
fn recorded() -> Vec<Named> {
    let anything = json!({});
    vec![
        ("GrantedList", list("Granted")),
        (
            "Entry",
            object([
                ("seq", of("Whole")),
                ("at", of("Instant")),
                ("account", of("Id")),
                ("kind", of("JournalKind")),
                ("text", text()),
                ("amount_micro?", of("Amount")),
                ("amount_requests?", of("Amount")),
                ("balance", or_null(of("Credits"))),
                ("balance_micro", or_null(of("Balance"))),
                ("grant", or_null(text())),
                ("note", or_null(text())),
            ]),
        ),
        ("EntryList", list("Entry")),
        ("Event", event([])),
        ("EventWhole", event([("body", anything)])),
        ("EventList", list("Event")),
        (
            "Message",
            object([
                ("id", of("Id")),
                ("type", text()),
                ("account", of("Id")),
                ("status", of("MessageStatus")),
                ("at", of("Instant")),
                ("attempts", of("Whole")),
                ("last_error", or_null(text())),
                ("next_at", or_null(of("Instant"))),
                ("body", json!({ "description": "what is sent" })),
            ]),
        ),
        ("MessageList", list("Message")),
        (
            "Benefits",
            object([
                (
                    "tiers",
                    json!({ "type": "object",
                "additionalProperties": object([("active", of("Whole")), ("weight", or_null(of("Whole")))]) }),
                ),
                ("total", or_null(of("Whole"))),
            ]),
        ),
    ]
}

/// What customers are told of what is sold.
fn sold() -> Vec<Named> {
    vec![
        (
            "Tier",
            object([
                ("id", of("Id")),
                ("rank", of("Whole")),
                ("default", flag()),
                ("prices", many(object([("id", text()), ("amount", of("Whole")), ("currency", text())]))),
                ("allowance_micro", or_null(of("Amount"))),
                (
                    "windows",
                    many(object([
                        ("name", text()),
                        ("endpoints", many(of("Id"))),
                        ("limit", of("Whole")),
                        ("period", word(&["day", "month", "lifetime"])),
                        ("time_zone", text()),
                    ])),
                ),
                ("attributes", json!({ "type": "object", "additionalProperties": text() })),
            ]),
        ),
        ("TierList", list("Tier")),
        (
            "Package",
            object([
                ("id", text()),
                ("price", text()),
                ("amount", of("Whole")),
                ("currency", text()),
                ("credits", of("Credits")),
                ("credits_micro", of("Amount")),
            ]),
        ),
        ("PackageList", list("Package")),
    ]
}

/// What customers see of their own, and what Stripe and whoever watches are answered.
fn owned() -> Vec<Named> {
    vec![
        (
            "OwnSubscription",
            object([
                ("account", of("Id")),
                ("payer", of("Id")),
                ("tier", or_null(of("Id"))),
                ("state", of("SubscriptionState")),
                ("current_period_end", or_null(of("Instant"))),
                ("cancel_at", or_null(of("Instant"))),
                ("can_use_credits", flag()),
                ("can_subscribe", flag()),
                ("can_change_plan", flag()),
                ("can_buy_package", flag()),
            ]),
        ),
        (
            "OwnBalance",
            object([
                ("account", of("Id")),
                ("payer", of("Id")),
                ("balance", of("Credits")),
                ("balance_micro", of("Balance")),
                ("held_micro", of("Amount")),
                ("debt_micro", of("Amount")),
                (
                    "windows",
                    many(object([
                        ("name", text()),
                        ("limit", of("Amount")),
                        ("remaining", of("Amount")),
                        ("resets_at", or_null(of("Instant"))),
                    ])),
                ),
            ]),
        ),
        ("Received", object([("received", flag()), ("outcome", text())])),
        (
            "StripeHealth",
            object([
                ("last_event_at", or_null(of("Instant"))),
                ("events", json!({ "type": "object", "additionalProperties": of("Whole") })),
            ]),
        ),
    ]
}

/// What is told of usage.
fn used() -> Vec<Named> {
    let charge =
        object([("grant", text()), ("amount_micro?", of("Amount")), ("amount_requests?", of("Amount"))]);
    vec![
        (
            "Usage",
            object([
                ("account", of("Id")),
                ("request_id", text()),
                ("endpoint", of("Id")),
                ("outcome", of("Outcome")),
                ("charged", of("Credits")),
                ("charged_micro", of("Amount")),
                ("charged_requests", of("Amount")),
                ("charges", many(charge)),
                ("beyond_micro", of("Amount")),
                ("basis", or_null(of("Basis"))),
                ("model", or_null(text())),
                ("input_tokens", or_null(of("Whole"))),
                ("cached_tokens", or_null(of("Whole"))),
                ("cache_written_tokens", or_null(of("Whole"))),
                ("output_tokens", or_null(of("Whole"))),
                ("reasoning_tokens", or_null(of("Whole"))),
                ("images", or_null(of("Whole"))),
                ("at", of("Instant")),
            ]),
        ),
        (
            "UsageList",
            object([
                ("items", many(of("Usage"))),
                ("next", or_null(of("Whole"))),
                ("requests?", object([("today", of("Whole")), ("month", of("Whole"))])),
            ]),
        ),
        ("SumBy", word(&["day", "model", "day,model"])),
        (
            "UsageSum",
            object([
                ("day?", json!({ "type": "string", "format": "date" })),
                ("model?", or_null(text())),
                ("requests", of("Whole")),
                ("input_tokens", of("Whole")),
                ("cached_tokens", of("Whole")),
                ("cache_written_tokens", of("Whole")),
                ("output_tokens", of("Whole")),
                ("reasoning_tokens", of("Whole")),
                ("images", of("Whole")),
                ("charged_micro", of("Whole")),
                ("charged", of("Credits")),
                ("charged_requests", of("Whole")),
            ]),
        ),
        ("UsageSumList", list("UsageSum")),
        ("UsageAnswer", json!({ "anyOf": [of("UsageList"), of("UsageSumList")] })),
    ]
}

fn event<const N: usize>(more: [(&str, Value); N]) -> Value {
    let mut event = object([
        ("id", of("Id")),
        ("type", text()),
        ("status", of("EventStatus")),
        ("detail", text()),
        ("livemode", flag()),
        ("stripe_account", text()),
        ("customer", or_null(text())),
        ("account", or_null(of("Id"))),
        ("received_at", of("Instant")),
        ("attempts", of("Whole")),
        ("last_at", or_null(of("Instant"))),
        ("last_error", or_null(text())),
    ]);
    if let Some(properties) = event.get_mut("properties").and_then(Value::as_object_mut) {
        properties.extend(more.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    }
    event
}
