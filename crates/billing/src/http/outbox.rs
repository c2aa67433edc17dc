//! The outbox as operators see it: whom the messages concern that wait, and those that were given up.

use super::api::{CURSOR, Holds, LIMIT, Query, Route, Who};
use super::door::{Admin, Listed, Params};
use super::{App, Fail};
use crate::store::{Message, MessageStatus};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

pub(super) fn routes() -> Vec<Route> {
    const STATUS: Query = Query {
        name: "status",
        schema: "MessageStatus",
        says: "only messages of this status; all of them if left out",
    };
    vec![
        Route::get("/admin/v1/outbox", messages)
            .says("Messages to others that wait or were given up, newest first; one that was accepted is kept no longer.")
            .by(Who::Operator)
            .asks(&[STATUS, CURSOR, LIMIT])
            .answers(200, Holds::Json("MessageList")),
    ]
}

async fn messages(
    _: Admin,
    State(app): State<App>,
    Params(asked): Params<Listed>,
) -> Result<Json<Value>, Fail> {
    let (status, page) = asked.of(&MessageStatus::ALL)?;
    let rows = app.read(move |work, _| work.store.messages(status, page)).await?;
    Ok(super::list(page, &rows, |message| Some(shown(message))))
}

fn shown(message: &Message) -> Value {
    json!({
        "id": message.id,
        "type": message.kind,
        "account": message.account,
        "status": message.status().as_str(),
        "at": message.at,
        "attempts": message.attempts,
        "last_error": message.last_error,
        "next_at": message.next_at,
        // It was written here, as JSON.
        "body": serde_json::from_str::<Value>(&message.body).unwrap_or_default(),
    })
}
