//! What callers get wrong: whatever a body holds, the answer is a 4xx that says so, and the next caller is served.

use crate::support::{ADMIN, GATEWAY, World, checkout, event};
use serde_json::Value;

#[tokio::test]
async fn whatever_a_body_holds_it_is_refused_and_the_next_one_is_served() {
    let world = World::new().await;
    let deep = "[".repeat(100_000);
    let nested = format!(r#"{{"node":{deep}"#);
    let bodies = [
        "",
        " ",
        "\0",
        "null",
        "[]",
        "7",
        "\"{}\"",
        "{}",
        "{}{}",
        "{\"node\":",
        "\u{feff}{}",
        "{\"node\":\"\\ud800\"}",
        "<html></html>",
        "node=gateway-1&worker=1",
        &deep,
        &nested,
        r#"{"node":"n","node":"m","incarnation":1e400}"#,
        r#"{"account":"alice","credits":-5,"note":"x"}"#,
        r#"{"account":"alice","credits":"1e3","note":"x"}"#,
        r#"{"account":"alice","credits":9007199254740993,"note":"x"}"#,
        r#"{"account":"","credits":1,"note":"x"}"#,
        r#"{"id":"","subjects":[]}"#,
        r#"{"id":"a\r\nb","subjects":[{"kind":"jwt_sub","value":"a"}]}"#,
        r#"{"id":"a","subjects":[{"kind":"passport","value":"a"}]}"#,
    ];
    let paths = [
        ("/gateway/v1/hello", GATEWAY),
        ("/gateway/v1/sync", GATEWAY),
        ("/gateway/v1/events/claim", GATEWAY),
        ("/gateway/v1/events/complete", GATEWAY),
        ("/webhooks/stripe", ""),
        ("/admin/v1/accounts", ADMIN),
        ("/admin/v1/api-keys", ADMIN),
        ("/admin/v1/grants", ADMIN),
        ("/admin/v1/grants/bulk", ADMIN),
    ];
    for (path, token) in paths {
        for (n, body) in bodies.iter().enumerate() {
            let (auth, key) = (format!("Bearer {token}"), format!("k-{n}"));
            let headers = [("authorization", auth.as_str()), ("idempotency-key", &key)];
            let answer = world.call("POST", path, &headers, (*body).to_owned()).await;
            let shown: String = body.chars().take(40).collect();
            assert!((400..500).contains(&answer.status), "{path} {shown}: {} {}", answer.status, answer.text);
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{path} {shown}");
        }
    }
    assert_eq!(
        world.admin("GET", "accounts/alice", &Value::Null).await.status,
        404,
        "something was half done"
    );
    let bought =
        event("evt_1", "checkout.session.completed", checkout("cs_1", "cus_1", Some("alice"), "payment"));
    world.deliver(&bought).await.ok(200);
    assert_eq!(world.need(1, "alice", "embeddings").await["decision"], "ok");
}

#[tokio::test]
async fn whatever_a_query_or_a_header_holds_it_is_an_answer() {
    let world = World::new().await;
    let auth = format!("Bearer {ADMIN}");
    for query in [
        "",
        "?account=",
        "?account=%00",
        "?account=%ff",
        "?cursor=-1",
        "?limit=0",
        "?limit=99999999999",
        "?a=b&a=b",
        "?%",
    ] {
        for path in [
            "transactions",
            "events",
            "benefits",
            "accounts/%00",
            "accounts/..%2f..",
            "accounts/%F0%9F%92%B8",
        ] {
            let answer =
                world.call("GET", &format!("/admin/v1/{path}{query}"), &[("authorization", &auth)], "").await;
            assert!(answer.status < 500, "{path}{query}: {} {}", answer.status, answer.text);
        }
    }
    for value in ["Bearer", "Bearer ", "bearer  ", "Basic YTpi", &"x".repeat(5_000)] {
        let answer = world.call("GET", "/admin/v1/events", &[("authorization", value)], "").await;
        assert_eq!(answer.status, 401, "{value}");
    }
    for subject in [
        "",
        "jwt_sub",
        "jwt_sub:",
        "jwt_sub:%%%",
        "passport:YQ",
        "jwt_sub:_w",
        &format!("jwt_sub:{}", "A".repeat(5_000)),
    ] {
        let headers = [("authorization", format!("Bearer {GATEWAY}"))];
        let answer = world
            .call(
                "GET",
                "/v1/balance",
                &[("authorization", &headers[0].1), ("x-tollgate-subject", subject)],
                "",
            )
            .await;
        assert!((400..500).contains(&answer.status), "{subject}: {}", answer.status);
    }
}
