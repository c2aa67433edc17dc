//! What is refused, or acknowledged and kept from the handler, and how little the sender learns of it.

use super::*;

/// F1: one `v1` of several, under one secret of several, is enough.
#[test]
fn f1_any_secret_under_any_signature_is_enough() {
    let body = event("evt_1");
    let old = sign(&Secret::new("whsec_test_secret_rolled_key").unwrap(), START.wall, &body);
    let new = signed(&body, START.wall);
    let v1 = |header: &str| header.split_once(',').unwrap().1.to_owned();
    for (header, with_new_only) in
        [(old.clone(), false), (format!("{new},{}", v1(&old)), true), (format!("{old},{}", v1(&new)), true)]
    {
        let mut both = World::with(|e| e[0]["secrets_env"] = serde_json::json!(["NEW", "OLD"]));
        assert!(both.send(&headers("/webhooks/stripe", &header), &body).is_forwarded());
        let told = World::new().send(&headers("/webhooks/stripe", &header), &body);
        assert_eq!(told.is_forwarded(), with_new_only);
    }
}

/// F2: other schemes, malformed, upper-case, absent, repeated: each 400, each with a reason of its own in the metric only.
#[test]
fn f2_a_signature_that_proves_nothing_is_refused_and_only_the_metric_says_why() {
    let body = event("evt_1");
    let good = signed(&body, START.wall);
    let (t, v1) = good.split_once(',').unwrap();
    let mut bodies = std::collections::BTreeSet::new();
    for (header, why) in [
        (good.replace("v1=", "v0="), "no_signature"),
        (format!("{t},v1="), "malformed_signature"),
        (format!("{t},v1=zz"), "malformed_signature"),
        (good.to_uppercase().replace("T=", "t=").replace("V1=", "v1="), "malformed_signature"),
        (format!("{t},{t},{v1}"), "several_timestamps"),
        (String::new(), "no_header"),
        (good.replace("t=1", "t=2"), "too_new"),
    ] {
        let told = World::new().send(&headers("/webhooks/stripe", &header), &body);
        told.assert_answered(400, why);
        bodies.insert(told.reply().unwrap().body.clone());
        assert!(!told.effects.iter().any(|e| format!("{e:?}").contains(v1)), "no signature in a log");
    }
    let mut world = World::new();
    let mut told = world.delivery();
    let none: Headers = [(":method", "POST"), (":path", "/webhooks/stripe")].into_iter().collect();
    told.hear(&mut world, Input::RequestHeaders { headers: &none, end: false, verified: None });
    told.assert_answered(400, "no_header");
    let two: Headers = [
        (":method", "POST"),
        (":path", "/webhooks/stripe"),
        ("stripe-signature", good.as_str()),
        ("stripe-signature", good.as_str()),
    ]
    .into_iter()
    .collect();
    let told = world.send(&two, &body);
    told.assert_answered(400, "several_headers");
    bodies.insert(told.reply().unwrap().body.clone());
    assert_eq!(bodies.len(), 1, "the sender cannot tell one reason from another");
}

/// F3, F5: the raw bytes count, whatever a JSON or text library would make of them; and no key is no proof.
#[test]
fn f3_the_raw_bytes_are_what_was_signed() {
    let compact = br#"{"id":"evt_test_webhook","object":"event"}"#;
    let pretty = b"{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}";
    let bom = b"\xef\xbb\xbf{\"id\":\"evt_1\"}";
    for (body, t, v1, why) in [
        (
            &pretty[..],
            1_492_774_577,
            "88a022085c6bdb887b02cb26ff76dd681234d9675c0f22844059f55552a8883a",
            "mismatch",
        ),
        (
            compact,
            1_492_774_577,
            "88a022085c6bdb887b02cb26ff76dd681234d9675c0f22844059f55552a8883a",
            "missing_field",
        ),
        (bom, 1_700_000_000, "c4618465e9eef32a80737c6a6c3c2b28fccea6b9edcde8ec7862efaaf1621dc3", "not_json"),
        (
            b"{\"id\":\"evt_\xff\"}",
            1_700_000_000,
            "21d5227bec1359274aca577bcfe3cdbc92e2809fff9cb5032b144580e33ec76f",
            "not_utf8",
        ),
        (
            b"",
            1_700_000_000,
            "316b9ab98c15bfa039d243f3196acee619cf29749a91a634e6a8154e2f7b6727",
            "empty_body",
        ),
        // V8: signed with the empty secret.
        (
            compact,
            1_700_000_000,
            "72520bd8a1c535c0ee095bf2123441b4f93f59a36101f4eea2496cbc71007443",
            "mismatch",
        ),
    ] {
        let mut world = World::new();
        world.now.wall = Instant::from_secs(t);
        world.send(&headers("/webhooks/stripe", &format!("t={t},v1={v1}")), body).assert_answered(400, why);
    }
}

/// F4: 300 seconds either way are in, 301 are out.
#[test]
fn f4_both_ends_of_the_tolerance_are_included() {
    let body = event("evt_1");
    for (age, why) in
        [(299, None), (300, None), (301, Some("too_old")), (-300, None), (-301, Some("too_new"))]
    {
        let at = Instant::from_secs(START.wall.secs() - age);
        let told = World::new().send(&headers("/webhooks/stripe", &signed(&body, at)), &body);
        match why {
            None => assert!(told.is_forwarded(), "{age}"),
            Some(why) => told.assert_answered(400, why),
        }
    }
}

/// F13, F14: another mode and unwanted types are acknowledged; a type that nobody knows goes on.
#[test]
fn f13_f14_what_is_not_wanted_is_acknowledged_and_not_forwarded() {
    let mut world = World::with(|e| {
        e[0]["livemode"] = "live".into();
        e[1]["forward_types"] = serde_json::json!(["charge.*"]);
    });
    world.deliver("/webhooks/stripe", &event("evt_1")).assert_answered(200, "wrong_mode");
    let unwanted = world.deliver("/webhooks/app", &event("evt_1"));
    unwanted.assert_answered(200, "unwanted_type");
    let reply = unwanted.reply().unwrap();
    assert!(!reply.headers.iter().any(|(name, _)| *name == "x-tollgate-duplicate"));
    let unknown = br#"{"id":"evt_9","object":"event","type":"some.thing.new","livemode":true}"#;
    assert!(world.deliver("/webhooks/stripe", unknown).is_forwarded());
}

/// F15: a thin event names itself at its top level.
#[test]
fn f15_a_thin_event_is_an_event() {
    let body =
        br#"{"id":"evt_test_65","object":"v2.core.event","type":"v1.billing.meter.error_report_triggered",
        "livemode":true,"created":"2026-01-01T00:00:00.000Z","context":"acct_7","related_object":null}"#;
    let told = World::new().deliver("/webhooks/stripe", body);
    assert!(told.is_forwarded());
    assert_eq!(told.request_header("x-tollgate-event-account"), Some("acct_7"));
}

/// F18: 413 as soon as it is known, with or without an announced length, and nothing is buffered beyond it.
#[test]
fn f18_a_body_beyond_the_cap_is_refused_as_soon_as_that_is_known() {
    let mut world = World::new();
    let signature = signed(b"", START.wall);
    let mut told = world.delivery();
    let declared: Headers = [
        (":method", "POST"),
        (":path", "/webhooks/stripe"),
        ("stripe-signature", &signature),
        ("content-length", "4097"),
    ]
    .into_iter()
    .collect();
    told.hear(&mut world, Input::RequestHeaders { headers: &declared, end: false, verified: None });
    told.assert_answered(413, "too_large");

    let mut told = world.delivery();
    let head = headers("/webhooks/stripe", &signature);
    told.hear(&mut world, Input::RequestHeaders { headers: &head, end: false, verified: None });
    assert_eq!(told.delivery.body_wanted(), Some(4096));
    assert_eq!(told.hear(&mut world, Input::RequestBody { size: 4096, end: false, body: None }), Flow::Pause);
    assert!(told.reply().is_none());
    assert_eq!(told.hear(&mut world, Input::RequestBody { size: 4097, end: false, body: None }), Flow::Pause);
    told.assert_answered(413, "too_large");
    assert_eq!(told.delivery.body_wanted(), None);
    let big = vec![b' '; 4097];
    assert_eq!(
        told.hear(&mut world, Input::RequestTrailers { body: Some(&big) }),
        Flow::Pause,
        "held for good"
    );
    told.assert_answered(413, "too_large");

    let mut told = world.delivery();
    told.hear(&mut world, Input::RequestHeaders { headers: &head, end: false, verified: None });
    told.hear(&mut world, Input::RequestTrailers { body: Some(&big) });
    told.assert_answered(413, "too_large");
}

/// F19: another method is 405, another spelling of the path no path of ours.
#[test]
fn f19_only_post_to_a_known_path_is_read_at_all() {
    for (method, path, code, why) in [
        ("GET", "/webhooks/stripe", 405, "other_method"),
        ("post", "/webhooks/stripe", 405, "other_method"),
        ("POST", "/webhooks/stripe/", 403, "unknown_path"),
        ("POST", "/webhooks/%73tripe", 403, "unknown_path"),
        ("POST", "/webhooks", 403, "unknown_path"),
    ] {
        let mut world = World::new();
        let mut told = world.delivery();
        let head: Headers = [(":method", method), (":path", path)].into_iter().collect();
        told.hear(&mut world, Input::RequestHeaders { headers: &head, end: true, verified: None });
        told.assert_answered(code, why);
        let allow = ("allow", "POST".to_owned());
        assert_eq!(told.reply().unwrap().headers.contains(&allow), code == 405);
    }
}

#[test]
fn a_request_that_upgrades_or_has_no_body_is_refused_at_its_headers() {
    let mut world = World::new();
    let signature = signed(b"", START.wall);
    let head = headers("/webhooks/stripe", &signature);
    let mut told = world.delivery();
    assert_eq!(
        told.hear(&mut world, Input::RequestHeaders { headers: &head, end: true, verified: None }),
        Flow::Pause
    );
    told.assert_answered(400, "empty_body");
    let upgrade: Headers = [
        (":method", "POST"),
        (":path", "/webhooks/stripe"),
        ("stripe-signature", &signature),
        ("upgrade", "websocket"),
    ]
    .into_iter()
    .collect();
    let mut told = world.delivery();
    told.hear(&mut world, Input::RequestHeaders { headers: &upgrade, end: false, verified: None });
    told.assert_answered(400, "upgrade");
}

#[test]
fn a_body_that_ends_with_trailers_is_verified_too() {
    for (is_genuine, body) in [(true, event("evt_1")), (false, event("evt_2"))] {
        let mut world = World::new();
        let mut told = world.delivery();
        let head = headers("/webhooks/stripe", &signed(&event("evt_1"), START.wall));
        told.hear(&mut world, Input::RequestHeaders { headers: &head, end: false, verified: None });
        let size = body.len();
        assert_eq!(told.hear(&mut world, Input::RequestBody { size, end: false, body: None }), Flow::Pause);
        let flow = told.hear(&mut world, Input::RequestTrailers { body: Some(&body) });
        assert_eq!(flow, if is_genuine { Flow::Continue } else { Flow::Pause });
        if !is_genuine {
            told.assert_answered(400, "mismatch");
        }
    }
}

/// F21: repeated fields and deep nesting are refused by name.
#[test]
fn f21_what_two_readers_could_read_differently_is_refused() {
    let deep = format!("{{\"id\":\"evt_1\",\"x\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let twice = r#"{"id":"evt_1","object":"event","type":"a.b","livemode":true,"id":"evt_2"}"#;
    for (body, why) in [(twice, "repeated_field"), (deep.as_str(), "too_deep"), ("[]", "not_an_object")] {
        World::new().deliver("/webhooks/stripe", body.as_bytes()).assert_answered(400, why);
    }
}
