//! The document: OpenAPI 3.1 of the table of routes.

use super::schemas::schemas;
use super::{Holds, Query, Route, Takes, Who, table};
use serde_json::{Map, Value, json};

/// What the service answers, as OpenAPI 3.1: `openapi/billing.v1.json`.
#[must_use]
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in table() {
        // What a wildcard takes is one parameter here: OpenAPI has no word for several segments.
        let path = route.path.replace("{*", "{");
        let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
        for method in route.methods {
            if let Some(item) = item.as_object_mut() {
                item.insert((*method).to_owned(), operation(&route, &path, method));
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate, the billing service",
            "version": "1.0.0",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Amounts are integers of micro-credits in fields that end in _micro; beside them, for people, the \
                same amount as a decimal string. Times are RFC 3339 in UTC. Lists are {items, next}: give next as cursor \
                for the page after. Whatever is refused or fails is application/problem+json. A write with an \
                Idempotency-Key is done once: the same write again is answered 200 with the first answer, another one with \
                that key 409.",
        },
        "servers": [{ "url": "http://127.0.0.1:8081" }],
        "paths": paths,
        "components": { "schemas": schemas(), "responses": problems(), "securitySchemes": schemes() },
    })
}

fn schemes() -> Value {
    let header = |name: &str, says: &str| json!({ "type": "apiKey", "in": "header", "name": name, "description": says });
    json!({
        "operator": { "type": "http", "scheme": "bearer", "description": "ADMIN_TOKEN" },
        "gateway": { "type": "http", "scheme": "bearer", "description": "GATEWAY_TOKEN" },
        "subject": header("x-tollgate-subject", "For whom the gateway vouches: kind:base64url(value), without padding. \
            Kinds: jwt_sub, api_key_sha256, header."),
        "stripe": header("stripe-signature", "Stripe's signature over the raw body."),
        "authz": header("x-tollgate-gateway-token", "GATEWAY_TOKEN, where authorization is the client's own."),
    })
}

fn security(who: Who) -> Value {
    match who {
        Who::Anybody => json!([]),
        Who::Operator => json!([{ "operator": [] }]),
        Who::Gateway => json!([{ "gateway": [] }]),
        Who::Customer => json!([{ "gateway": [], "subject": [] }]),
        Who::Stripe => json!([{ "stripe": [] }]),
        Who::Authz => json!([{ "authz": [] }]),
    }
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn operation(route: &Route, path: &str, method: &str) -> Value {
    let mut operation = Map::new();
    operation.insert("operationId".into(), Value::String(operation_id(path, method)));
    operation.insert("summary".into(), Value::String(route.says.into()));
    operation.insert("security".into(), security(route.who));
    let parameters = parameters(route, path);
    if !parameters.is_empty() {
        operation.insert("parameters".into(), Value::Array(parameters));
    }
    let body = match route.takes {
        Takes::Nothing | Takes::Emptiness => None,
        Takes::Json(name) => Some(schema(name)),
        Takes::Signed => Some(schema("StripeEvent")),
    };
    if let Some(body) = body {
        let content = json!({ "application/json": { "schema": body } });
        operation.insert("requestBody".into(), json!({ "required": true, "content": content }));
    }
    let answers = route.statuses().into_iter().map(|(status, holds)| {
        let answer = match holds {
            Holds::Problem("Problem") => {
                json!({ "$ref": format!("#/components/responses/{}", named(status)) })
            }
            holds => answer(status, holds),
        };
        (status.to_string(), answer)
    });
    operation.insert("responses".into(), Value::Object(answers.collect()));
    Value::Object(operation)
}

/// `get /admin/v1/accounts/{id}` is `get_admin_v1_accounts_id`.
fn operation_id(path: &str, method: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(method.to_owned(), |id, word| format!("{id}_{word}"))
}

fn parameters(route: &Route, path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": schema("Id") }))
        .collect();
    all.extend(route.query.iter().map(|Query { name, schema: of, says }| {
        json!({ "name": name, "in": "query", "schema": schema(of), "description": says })
    }));
    if route.once {
        all.push(json!({
            "name": "idempotency-key", "in": "header", "schema": schema("IdempotencyKey"),
            "description": "Names this write, so that it is done once however often it is asked for.",
        }));
    }
    all
}

fn answer(status: u16, holds: Holds) -> Value {
    let mut answer = Map::new();
    answer.insert("description".into(), Value::String(means(status).into()));
    let (kind, of) = match holds {
        Holds::Nothing => return Value::Object(answer),
        Holds::Json(name) => ("application/json", schema(name)),
        Holds::Problem(name) => ("application/problem+json", schema(name)),
        Holds::Text => ("text/plain", json!({ "type": "string" })),
    };
    let mut content = Map::new();
    content.insert(kind.to_owned(), json!({ "schema": of }));
    answer.insert("content".into(), Value::Object(content));
    let header = match status {
        401 => Some(("WWW-Authenticate", json!({ "schema": { "type": "string" } }))),
        503 => Some(("Retry-After", json!({ "schema": { "type": "integer" }, "description": "seconds" }))),
        _ => None,
    };
    if let Some((name, header)) = header {
        let mut headers = Map::new();
        headers.insert(name.to_owned(), header);
        answer.insert("headers".into(), Value::Object(headers));
    }
    Value::Object(answer)
}

/// The answers that are the same wherever they are given.
fn problems() -> Value {
    let statuses = table().into_iter().flat_map(|route| route.statuses());
    let plain = statuses.filter(|(_, holds)| *holds == Holds::Problem("Problem"));
    plain.map(|(status, holds)| (named(status), answer(status, holds))).collect::<Map<_, _>>().into()
}

fn named(status: u16) -> String {
    format!("Problem{status}")
}

const fn means(status: u16) -> &'static str {
    match status {
        200 => "Done, or done before; or what was asked for.",
        201 => "Made now.",
        204 => "Done; there is nothing to say.",
        400 => "Not understood: the detail says what and where.",
        401 => "The token, the subject or the key is missing, wrong or revoked.",
        402 => "Paying helps.",
        403 => "The plan or an operator says no.",
        404 => "There is no such thing.",
        409 => "It contradicts what is recorded, or its Idempotency-Key was used for another write.",
        413 => "The body is too large.",
        415 => "The body is said to be something other than JSON.",
        422 => "Understood, and cannot be done: the detail says why, all of it at once.",
        500 => "A rule of the ledger was about to be broken; nothing was changed.",
        503 => "The database or the queue is not to be had just now; nothing was changed.",
        _ => "As the catalog has it.",
    }
}
