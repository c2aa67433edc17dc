//! The same tests natively and in wasm32-unknown-unknown; the digests were made natively, and follow where a change is
//! meant: what must not be is that one target has another than the other.
//!
//! In wasm32: `make test` does it, with wasm-bindgen's runner in Node.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use gate::lease::{PayerKey, Slot};
use scenarios::{AI, WEBHOOK};
use units::{AccountId, Amount, Instant};
use wasm32::{commands, config_of, read, request, requests};
use webhook::{Event, EventError, Forgery, Secret, Tolerance, sign, verify};

#[test]
fn a_signature_is_what_another_hmac_makes() {
    // Made with Python's `hmac`, as the known answers of `webhook` are.
    let secret = Secret::new("whsec_test_secret").unwrap();
    let at = Instant::from_secs(1_492_774_577);
    let body = br#"{"id":"evt_test_webhook","object":"event"}"#;
    let line = "t=1492774577,v1=88a022085c6bdb887b02cb26ff76dd681234d9675c0f22844059f55552a8883a";
    assert_eq!(sign(&secret, at, body), line);
    let check = |body: &[u8], now| {
        verify(
            &[line.as_bytes()],
            body,
            std::slice::from_ref(&secret),
            Tolerance::default(),
            Instant::from_secs(now),
        )
    };
    assert!(check(body, 1_492_774_877).is_ok());
    assert_eq!(check(body, 1_492_774_878), Err(Forgery::TooOld));
    assert_eq!(check(body, 1_492_774_276), Err(Forgery::TooNew));
    assert_eq!(check(b"{}", 1_492_774_577), Err(Forgery::Mismatch));
}

#[test]
fn an_event_is_read_or_refused() {
    let body = r#"{"id":"evt_1","object":"event","type":"invoice.paid","livemode":false}"#;
    assert_eq!(Event::read(body.as_bytes()).unwrap().account, "self");
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(Event::read(deep.as_bytes()), Err(EventError::TooDeep));
}

#[test]
fn amounts_are_wider_than_an_address() {
    let most = Amount::from_credits("9007199254.740991").unwrap();
    assert_eq!((most, most.to_credits().as_str()), (Amount::MAX, "9007199254.740991"));
    assert_eq!(most.checked_add(Amount::ONE), None);
    assert_eq!(Instant::from_secs(4_102_444_800).to_rfc3339(), "2100-01-01T00:00:00Z");
}

#[test]
fn a_slot_is_the_same_bytes() {
    let payer = PayerKey::of(&AccountId::new("alice").unwrap());
    let slot = Slot { floor: 1 << 40, epoch: u64::MAX, ..Slot::new(payer, 1 << 50) };
    assert_eq!(Slot::decode(&slot.encode()), Ok(slot.clone()));
    assert_eq!((slot.encode().len(), payer.slot(4096)), (57, 2091));
}

#[test]
fn the_shipped_configurations_are_taken_and_a_wrong_one_is_not() {
    config_of(AI).unwrap();
    config_of(WEBHOOK).unwrap();
    let complaints = config_of(&AI.replace("\"body_bytes_max\"", "\"body_max\"")).unwrap_err();
    assert!(complaints.contains("body_bytes_max") && complaints.contains("body_max"), "{complaints}");
    // A number beyond 32 bits is refused as too large, and not taken for what is left of it.
    config_of(&AI.replace("4194304", "4294967297")).unwrap_err();
}

#[test]
fn requests_are_paid_refused_or_too_large() {
    let config = config_of(&AI.replace(r#""consult": "lease""#, r#""consult": "every_request""#)).unwrap();
    let all = [
        request(&[], &[]),
        request(&[], &[1000, 1000]),
        request(&[("content-length", "4294967297")], &[10]),
        request(&[], &[4_194_305]),
        request(&[("x-api-key", "twice")], &[]),
        request(&[("upgrade", "websocket")], &[]),
        request(&[], &[5]),
        request(&[], &[5]),
    ];
    let (results, digest) = requests(&config, &all, 3);
    assert_eq!(results, [0, 0, 413, 413, 401, 403, 0, 402]);
    assert_eq!(digest, "46e13b50f181179e");
}

#[test]
fn requests_are_bounded_and_charged_by_what_they_used() {
    let strict = r#""path": "/v1/strict", "endpoint": "chat", "hold": "max_tokens", "usage": "openai""#;
    let route = r#"{ "method": "POST", PRICED, "consult": "every_request", "on_unavailable": "deny" },"#;
    let of = |priced: &str| route.replace("PRICED", priced);
    let estimated = strict.replace("strict", "estimated").replace("max_tokens", "estimate");
    let routes = format!("\"routes\": [{}{}", of(strict), of(&estimated));
    let config = config_of(&AI.replace("\"routes\": [", &routes)).unwrap();
    let chat = r#"{"model":"m","messages":[],"stream":true}"#;
    let events = [
        "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\nda",
        "ta: {\"choices\":[],\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":65}}\n\ndata: [DONE]\n\n",
    ];
    let document = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":40,"completion_tokens":699}}"#;
    let all = [
        read("/v1/strict", chat, &events),
        read("/v1/strict", r#"{"model":"m","messages":[],"max_tokens":4000000}"#, &[document]),
        read("/v1/estimated", r#"{"model":"m","messages":[],"max_tokens":900}"#, &[document]),
        read("/v1/strict", "[1]", &[]),
        read("/v1/strict", chat, &[]),
    ];
    let (results, digest) = requests(&config, &all, 3);
    assert_eq!(results, [0, 0, 0, 400, 402]);
    assert_eq!(digest, "6eba2ea1dd004bab");
}

#[test]
fn two_thousand_commands_leave_the_same_book() {
    assert_eq!(commands(2000), "4c5cdc25c3c50902");
}
