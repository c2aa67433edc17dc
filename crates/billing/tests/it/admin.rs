//! Operators and customers, over real HTTP; and what the database itself refuses.

use crate::support::World;
use serde_json::{Value, json};

#[tokio::test]
async fn a_write_is_done_once_per_key() {
    let world = World::new().await;
    let new = json!({"id": "acme", "subjects": [{"kind": "jwt_sub", "value": "auth0|7"}], "stripe_customer": "cus_7"});
    let key = [("idempotency-key", "k-1")];
    let first = world.admin_with("POST", "accounts", &new, &key).await.ok(201);
    assert_eq!(world.admin_with("POST", "accounts", &new, &key).await.ok(200), first);
    assert_eq!(world.admin_with("POST", "accounts", &json!({"id": "other"}), &key).await.status, 409);
    assert_eq!(world.admin("POST", "accounts", &new).await.status, 409);
    assert_eq!(world.admin("GET", "accounts/other", &Value::Null).await.status, 404);

    let grant = json!({"account": "acme", "credits": "0.5", "note": "for the outage"});
    let key = [("idempotency-key", "k-2")];
    let first = world.admin_with("POST", "grants", &grant, &key).await.ok(201);
    assert_eq!((&first["balance"], &first["balance_micro"]), (&json!("0.5"), &json!(500_000)));
    assert_eq!(world.admin_with("POST", "grants", &grant, &key).await.ok(200), first);
    let other = json!({"account": "acme", "credits": "5", "note": "for the outage"});
    assert_eq!(world.admin_with("POST", "grants", &other, &key).await.status, 409);
    assert_eq!(world.balance("acme").await, 500_000);

    let key = [("idempotency-key", "k-3")];
    let first = world.admin_with("POST", "api-keys", &json!({"account": "acme"}), &key).await.ok(201);
    assert_eq!(world.admin_with("POST", "api-keys", &json!({"account": "acme"}), &key).await.ok(200), first);
    // Whoever is bound elsewhere is not taken over, and nothing of the attempt remains.
    let thief = json!({"id": "thief", "subjects": [{"kind": "jwt_sub", "value": "auth0|7"}]});
    assert_eq!(world.admin("POST", "accounts", &thief).await.status, 409);
    assert_eq!(world.admin("GET", "accounts/thief", &Value::Null).await.status, 404);
    assert_eq!(world.need(1, "auth0|7", "chat").await["standing"]["account"], "acme");
}

#[tokio::test]
async fn what_is_no_amount_is_refused_and_a_bulk_is_all_or_nothing() {
    let world = World::new().await;
    world.admin("POST", "accounts", &json!({"id": "acme"})).await.ok(201);
    for credits in [
        json!(0.5),
        json!(-1),
        json!("-1"),
        json!("1e3"),
        json!("1.2345678"),
        json!(0),
        json!(null),
        json!("99999999999"),
    ] {
        let answer = world.admin("POST", "grants", &json!({"account": "acme", "credits": credits})).await;
        assert_eq!(answer.status, 422, "{credits}: {}", answer.text);
    }
    let typo = json!({"account": "acme", "credits": 1, "nota": "x"});
    assert_eq!(world.admin("POST", "grants", &typo).await.status, 400);
    let bulk = json!({"grants": [{"account": "acme", "credits": 1}, {"account": "nobody", "credits": 1}], "note": "n"});
    assert_eq!(world.admin("POST", "grants/bulk", &bulk).await.status, 404);
    let bad = json!({"grants": [
        {"account": "acme", "credits": 1}, {"account": "nobody", "credits": 1}, {"account": "acme", "credits": "x"},
        {"account": "acme"}, {"account": "", "credits": 1}, 7,
    ]});
    let no = world.admin("POST", "grants/bulk", &bad).await.ok(422);
    let detail = no["detail"].as_str().unwrap();
    for complaint in [
        "grants[1]: There is no account nobody.",
        "grants[2]: credits is",
        "grants[3]: missing field `credits`",
        "grants[4]: ",
        "grants[5]: ",
    ] {
        assert!(detail.contains(complaint), "{complaint} is missing in {detail}");
    }
    let one = json!({"account": "acme", "credits": 1});
    for (count, status) in [(0, 422), (1_001, 422)] {
        let bulk = json!({"grants": vec![one.clone(); count]});
        assert_eq!(world.admin("POST", "grants/bulk", &bulk).await.status, status, "{count}");
    }
    assert_eq!(world.balance("acme").await, 0);
    let bulk = json!({"grants": [{"account": "acme", "credits": 1}, {"account": "acme", "credits": 2}], "note": "n"});
    let granted = world.admin("POST", "grants/bulk", &bulk).await.ok(201);
    assert_eq!(granted["items"][1]["balance"], "3");
    // Once per key, however often it is asked, and a thousand at a time.
    let many = json!({"grants": vec![json!({"account": "other", "credits": 1}); 1_000], "note": "n"});
    world.admin("POST", "accounts", &json!({"id": "other"})).await.ok(201);
    let key = [("idempotency-key", "b-1")];
    let first = world.admin_with("POST", "grants/bulk", &many, &key).await.ok(201);
    assert_eq!(world.admin_with("POST", "grants/bulk", &many, &key).await.ok(200), first);
    assert_eq!(world.admin_with("POST", "grants/bulk", &bulk, &key).await.status, 409);
    assert_eq!((world.balance("acme").await, world.balance("other").await), (3_000_000, 1_000_000_000));
    let journal = world.admin("GET", "transactions?account=acme&limit=1", &Value::Null).await.ok(200);
    assert_eq!(
        (&journal["items"][0]["kind"], &journal["items"][0]["note"]),
        (&json!("granted"), &json!("n"))
    );
    let path = format!("transactions?account=acme&limit=1&cursor={}", journal["next"]);
    let older = world.admin("GET", &path, &Value::Null).await.ok(200);
    assert_eq!(older["items"][0]["amount_micro"], 1_000_000);
}

#[tokio::test]
async fn only_operators_are_operators_and_only_gateways_vouch() {
    let world = World::new().await;
    let gateway = format!("Bearer {}", crate::support::GATEWAY);
    for (method, path) in [("GET", "/admin/v1/events"), ("POST", "/admin/v1/grants"), ("GET", "/v1/balance")]
    {
        assert_eq!(world.call(method, path, &[], "{}").await.status, 401, "{path}");
    }
    assert_eq!(world.call("GET", "/admin/v1/events", &[("authorization", &gateway)], "").await.status, 401);
    let forged = [("x-tollgate-subject", "jwt_sub:YWxpY2U")];
    assert_eq!(world.call("GET", "/v1/balance", &forged, "").await.status, 401);
    assert_eq!(world.call("GET", "/v1/balance", &[("authorization", &gateway)], "").await.status, 401);
    let strange = [("authorization", gateway.as_str()), ("x-tollgate-subject", "api_key_sha256:MDA")];
    assert_eq!(world.call("GET", "/v1/balance", &strange, "").await.status, 401);
}

#[tokio::test]
async fn a_customer_sees_their_own() {
    let world = World::new().await;
    world.need(1, "alice", "chat").await;
    world
        .admin("POST", "grants", &json!({"account": "alice", "credits": "12.5", "note": "hello"}))
        .await
        .ok(201);
    let balance = world.customer("/v1/balance", "alice").await.ok(200);
    assert_eq!((&balance["balance"], &balance["balance_micro"]), (&json!("12.5"), &json!(12_500_000)));
    assert_eq!(balance["windows"][0]["remaining"], 2);
    let subscription = world.customer("/v1/subscription", "alice").await.ok(200);
    for (key, value) in [
        ("tier", json!("free")),
        ("state", json!("no_subscription")),
        ("can_use_credits", json!(true)),
        ("can_subscribe", json!(true)),
        ("can_change_plan", json!(false)),
        ("can_buy_package", json!(true)),
        ("cancel_at", Value::Null),
        ("current_period_end", Value::Null),
    ] {
        assert_eq!(subscription[key], value, "{key}");
    }
    let tiers = world.customer("/v1/tiers", "alice").await.ok(200);
    assert_eq!(tiers["items"][1]["prices"][0], json!({"id": "price_pro", "amount": 2000, "currency": "usd"}));
    let packages = world.customer("/v1/packages", "alice").await.ok(200);
    assert_eq!(packages["items"][0]["credits"], "100");
    let history = world.customer("/v1/history", "alice").await.ok(200);
    let kinds: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["granted", "granted"]);
    // Nobody else's.
    let other = world.customer("/v1/balance", "bob").await.ok(200);
    assert_eq!((&other["account"], &other["balance_micro"]), (&json!("bob"), &json!(0)));
}

#[tokio::test]
async fn benefits_count_subscribers_by_weight() {
    let catalog = crate::support::demo_catalog().replace("    rank: 1\n", "    rank: 1\n    weight: 3\n");
    let world = World::with(catalog, &[]).await;
    for n in 1..=2 {
        let mut sub = crate::support::subscription(&format!("sub_{n}"), &format!("cus_{n}"), "active");
        sub["metadata"] = json!({"user_id": format!("user_{n}")});
        world
            .deliver(&crate::support::event(&format!("evt_{n}"), "customer.subscription.created", sub))
            .await
            .ok(200);
    }
    world.need(1, "free-rider", "chat").await;
    let benefits = world.admin("GET", "benefits", &Value::Null).await.ok(200);
    assert_eq!(benefits, json!({"tiers": {"pro": {"active": 2, "weight": 3}}, "total": 6}));
}

#[tokio::test]
async fn health_and_metrics_are_for_everybody() {
    let world = World::new().await;
    world.need(1, "alice", "chat").await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(world.call("GET", path, &[], "").await.status, 200);
    }
    let metrics = world.call("GET", "/metrics", &[], "").await;
    assert!(metrics.text.contains("tollgate_billing_calls_total{call=\"sync\"} 1\n"), "{}", metrics.text);
}

#[tokio::test]
async fn the_database_refuses_what_the_ledger_never_does() {
    let world = World::new().await;
    world.need(1, "alice", "models").await;
    world.admin("POST", "grants", &json!({"account": "alice", "credits": 5})).await.ok(201);
    world.need(2, "alice", "embeddings").await;
    let db = rusqlite::Connection::open(world.database()).unwrap();
    let before: i64 = db.query_row("SELECT count(*) FROM grants", [], |row| row.get(0)).unwrap();
    for minted in [
        "UPDATE grants SET avail = avail + 1000000",
        "UPDATE grants SET amount = 6000000",
        "UPDATE grants SET used = -1, avail = avail + 1",
        "UPDATE cell SET used = granted, finished = 0",
        "UPDATE cell SET finished = admitted + 1",
        "UPDATE account SET debt = -1",
        "INSERT INTO grants (id, account_id, unit, scope, source, source_ref, priority, starts_at, expires_at, amount,
            avail, leased, used, expired, voided, void_claim, clawed, ver)
            SELECT id + 100, account_id, unit, scope, source, source_ref, priority, starts_at, expires_at, amount,
            avail, leased, used, expired, voided, void_claim, clawed, ver FROM grants",
        "UPDATE grants SET aside = 1",
        "UPDATE grants SET revoked = amount + 1",
        "UPDATE grants SET reclaimed = used + 1",
        "UPDATE grants SET owed = 1",
        "INSERT INTO event (livemode, account, id, kind, received_at, status, detail, body)
            VALUES (2, 'self', 'evt', 'k', 0, 'applied', '', '')",
        "INSERT INTO event (livemode, account, id, kind, received_at, status, detail, body)
            VALUES (1, 'self', 'evt', 'k', 0, 'unheard_of', '', '')",
    ] {
        let error = db.execute(minted, []).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation), "{minted}: {error}");
    }
    let after: i64 = db.query_row("SELECT count(*) FROM grants", [], |row| row.get(0)).unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_second_service_on_the_same_database_is_refused() {
    let mut world = World::new().await;
    let catalog = billing::catalog::Catalog::from_yaml(&crate::support::demo_catalog()).unwrap();
    let second = billing::serve::start(world.config(), catalog, world.clock.clone()).await;
    let error = second.err().unwrap().to_string();
    assert!(error.contains("another tollgate-billing serves"), "{error}");
    world.restart().await;
}

#[tokio::test]
async fn another_default_tier_holds_for_accounts_that_are_there() {
    let mut world = World::new().await;
    world.need(1, "alice", "chat").await;
    world.stop().await;
    let catalog = crate::support::demo_catalog().replace("default_tier: free\n", "");
    let catalog = catalog.replace("default_tier: free ", "#");
    let catalog = billing::catalog::Catalog::from_yaml(&catalog).unwrap_or_else(|no| panic!("{no}"));
    assert!(catalog.default_tier.is_none());
    world.running = Some(billing::serve::start(world.config(), catalog, world.clock.clone()).await.unwrap());
    assert_eq!(world.need(2, "alice", "chat").await["refusal"]["reason"], "no_subscription");
}

#[tokio::test]
async fn every_no_is_a_problem() {
    let world = World::new().await;
    let auth = format!("Bearer {}", crate::support::ADMIN);
    let grant = r#"{"account": "nobody", "credits": 1}"#;
    let long = format!("{{\"id\": \"{}\"}}", "x".repeat(9 * 1024 * 1024));
    let say = |name: &'static str, value: &'static str| vec![(name, value)];
    for (method, path, more, body, status, kind) in [
        ("GET", "/nowhere", Vec::new(), "", 404, "not_found"),
        ("PATCH", "/admin/v1/grants", Vec::new(), "", 405, "method_not_allowed"),
        ("GET", "/admin/v1/transactions?limit=-1", Vec::new(), "", 400, "malformed"),
        ("GET", "/admin/v1/transactions?cursor=9007199254740992", Vec::new(), "", 400, "malformed"),
        ("POST", "/admin/v1/grants", Vec::new(), "{", 400, "malformed"),
        ("POST", "/admin/v1/grants", say("idempotency-key", ""), grant, 400, "malformed"),
        ("POST", "/admin/v1/accounts", Vec::new(), &long, 413, "too_large"),
        ("POST", "/admin/v1/grants", say("content-type", "text/xml"), grant, 415, "unsupported_media_type"),
        (
            "POST",
            "/admin/v1/grants",
            say("content-type", "multipart/form-data; boundary=x"),
            grant,
            415,
            "unsupported_media_type",
        ),
        ("POST", "/admin/v1/grants", say("content-encoding", "gzip"), grant, 415, "unsupported_media_type"),
        ("POST", "/gateway/v1/hello", say("content-type", "text/html"), "{}", 401, "unauthorized"),
        // What clients write by default is no claim.
        (
            "POST",
            "/admin/v1/grants",
            say("content-type", "application/x-www-form-urlencoded"),
            grant,
            404,
            "not_found",
        ),
        (
            "POST",
            "/admin/v1/grants",
            say("content-type", "Application/JSON; charset=utf-8"),
            grant,
            404,
            "not_found",
        ),
    ] {
        let mut headers = vec![("authorization", auth.as_str())];
        headers.extend(more);
        let answer = world.call(method, path, &headers, body.to_owned()).await;
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
        let problem = answer.ok(status);
        assert_eq!(
            (&problem["status"], &problem["type"]),
            (&json!(status), &json!(format!("urn:tollgate:problem:{kind}")))
        );
    }
}
