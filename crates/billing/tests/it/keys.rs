//! API keys, as operators make, find and revoke them.

use crate::support::World;
use serde_json::{Value, json};

async fn make(world: &World, key: &str) -> crate::support::Answer {
    let new = json!({"account": "acme"});
    world.admin_with("POST", "api-keys", &new, &[("idempotency-key", key)]).await
}

#[tokio::test]
async fn a_key_that_opens_nothing_any_more_is_not_shown_again() {
    let mut world = World::new().await;
    world.admin("POST", "accounts", &json!({"id": "acme"})).await.ok(201);
    let first = make(&world, "k-1").await.ok(201);
    let other = make(&world, "k-2").await.ok(201);
    assert_eq!(make(&world, "k-1").await.ok(200), first);
    let path = format!("api-keys/{}", first["id"].as_str().unwrap());
    world.admin("DELETE", &path, &Value::Null).await.ok(204);
    let no = make(&world, "k-1").await.ok(409);
    assert!(no["detail"].as_str().unwrap().contains("is revoked"), "{no}");
    assert_eq!(make(&world, "k-2").await.ok(200), other);
    // With another secret another key would come of it, which is nobody's.
    world.env = vec![("ADMIN_TOKEN".into(), "another-admin-token".into())];
    world.restart().await;
    let headers = [("authorization", "Bearer another-admin-token"), ("idempotency-key", "k-2")];
    let body = json!({"account": "acme"}).to_string();
    let no = world.call("POST", "/admin/v1/api-keys", &headers, body).await.ok(409);
    assert!(no["detail"].as_str().unwrap().contains("admin token was replaced"), "{no}");
}

#[tokio::test]
async fn an_account_shows_its_keys_so_that_they_can_be_revoked() {
    let world = World::new().await;
    world.admin("POST", "accounts", &json!({"id": "acme"})).await.ok(201);
    assert_eq!(world.account("acme").await["api_keys"], json!([]));
    let first = make(&world, "k-1").await.ok(201);
    world.advance(units::Span::from_secs(60));
    let second = make(&world, "k-2").await.ok(201);
    let path = format!("api-keys/{}", first["id"].as_str().unwrap());
    world.admin("DELETE", &path, &Value::Null).await.ok(204);
    let (made, later) = ("2026-11-20T09:30:00Z", "2026-11-20T09:31:00Z");
    let shown = json!([
        {"id": first["id"], "created_at": made, "revoked_at": later},
        {"id": second["id"], "created_at": later, "revoked_at": null},
    ]);
    let account = world.account("acme").await;
    assert_eq!(account["api_keys"], shown);
    assert!(!account.to_string().contains(second["key"].as_str().unwrap()));
}

#[tokio::test]
async fn what_is_no_digest_is_bound_as_no_key() {
    let world = World::new().await;
    let new = |value: &str| {
        let subject = json!({"kind": "api_key_sha256", "value": value});
        json!({"id": "acme", "subjects": [subject]})
    };
    for value in ["tgk_secret", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"g".repeat(64)] {
        let no = world.admin("POST", "accounts", &new(value)).await.ok(422);
        let told = no["detail"].as_str().unwrap();
        assert!(told.contains("64 digits of 0-9a-f") && !told.contains(value), "{no}");
    }
    assert_eq!(world.admin("GET", "accounts/acme", &Value::Null).await.status, 404);
    world.admin("POST", "accounts", &new(&"0a".repeat(32))).await.ok(201);
}
