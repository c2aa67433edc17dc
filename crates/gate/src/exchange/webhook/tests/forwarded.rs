//! Genuine events: which go on, how often, and when one counts as accepted.

use super::*;
use crate::Text;

/// F6, F20: once, and afterwards a duplicate; a version of the API that nobody knows is no reason to refuse.
#[test]
fn a_genuine_event_goes_on_unchanged_with_what_was_verified_and_is_remembered() {
    let mut world = World::new();
    let body = event("evt_1");
    let mut told = world.deliver("/webhooks/stripe?x=1", &body);
    assert!(told.is_forwarded() && told.reply().is_none() && told.claim().is_none());
    for (name, value) in [
        ("x-tollgate-event-id", "evt_1"),
        ("x-tollgate-event-type", "invoice.paid"),
        ("x-tollgate-event-account", "self"),
        ("x-tollgate-event-livemode", "false"),
        ("x-tollgate-event-verified-at", "2025-11-20T09:30:00Z"),
    ] {
        assert_eq!(told.request_header(name), Some(value));
    }
    told.finish(&mut world, "200");
    assert_eq!(told.outcomes(), ["forwarded", "accepted"]);
    // F6: the same again.
    let again = world.deliver("/webhooks/stripe", &body);
    again.assert_answered(200, "duplicate");
    let reply = again.reply().unwrap();
    assert!(reply.headers.contains(&("x-tollgate-duplicate", "true".into())));
    world.pass(604_800);
    assert!(world.deliver("/webhooks/stripe", &body).is_forwarded(), "forgotten after remember_s");
}

/// F7: what a handler did not accept comes again.
#[test]
fn f7_an_event_whose_handler_failed_goes_through_on_the_retry() {
    let mut world = World::new();
    let mut first = world.deliver("/webhooks/stripe", &event("evt_1"));
    first.finish(&mut world, "500");
    assert_eq!(first.outcomes(), ["forwarded", "failed"]);
    world.pass(3600);
    let mut retry = world.deliver("/webhooks/stripe", &event("evt_1"));
    retry.finish(&mut world, "204");
    assert_eq!(retry.outcomes(), ["forwarded", "accepted"]);

    let mut first = world.deliver_claimed("evt_2", fresh());
    assert!(first.is_forwarded());
    first.finish(&mut world, "500");
    assert_eq!(first.completions(), [CompleteOutcome::Failed]);
    let mut retry = world.deliver_claimed("evt_2", fresh());
    retry.finish(&mut world, "200");
    assert_eq!(retry.completions(), [CompleteOutcome::Accepted]);
    world.deliver("/webhooks/app", &event("evt_2")).assert_answered(200, "duplicate");
}

/// F8: one copy at a time.
#[test]
fn f8_copies_at_once_are_told_to_come_again() {
    for path in ["/webhooks/stripe", "/webhooks/app"] {
        let mut world = World::new();
        let mut first = world.deliver(path, &event("evt_1"));
        for _ in 0..49 {
            world.deliver(path, &event("evt_1")).assert_answered(409, "in_flight");
        }
        if first.claim().is_some() {
            assert_eq!(first.hear(&mut world, Input::Answered(fresh())), Flow::Continue);
        }
        world.deliver(path, &event("evt_1")).assert_answered(409, "in_flight");
        first.finish(&mut world, "200");
        world.deliver(path, &event("evt_1")).assert_answered(200, "duplicate");
    }
}

/// F9: only a whole 2xx counts.
#[test]
fn f9_an_answer_that_broke_off_is_none() {
    let (reset, timeout, left, left_h2) = (0x0080_0000, 0x4, 0x4000, 0x1000_0000);
    for (code, is_whole, flags, is_accepted) in [
        (Some("200"), true, 0, true),
        (Some("200"), false, 0, true),
        (Some("299"), true, 0, true),
        (Some("200"), true, reset, false),
        (Some("200"), false, reset, false),
        (Some("504"), true, timeout, false),
        (Some("200"), true, left, true),
        (Some("200"), false, left, false),
        (Some("200"), false, left_h2, false),
        (Some("200"), true, 1 << 9, true),
        (Some("200"), true, 1 << 60, false),
        (Some("199"), true, 0, false),
        (Some("300"), true, 0, false),
        (Some("2OO"), true, 0, false),
        (None, false, 0, false),
    ] {
        let mut world = World::new();
        let mut told = world.deliver_claimed("evt_1", fresh());
        if let Some(code) = code {
            told.hear(&mut world, Input::ResponseHeaders { headers: &status(code), end: is_whole });
        }
        told.hear(&mut world, Input::Closed { code: Some(200), flags, usage: None });
        let expected = if is_accepted { CompleteOutcome::Accepted } else { CompleteOutcome::Failed };
        assert_eq!(told.completions(), [expected], "{code:?} {is_whole} {flags:#x}");
        let again = world.deliver("/webhooks/app", &event("evt_1"));
        assert_eq!(again.reply().map(|r| r.status), is_accepted.then_some(200));
    }
}

/// F10: a delivery whose Envoy died blocks its event only for a while.
#[test]
fn f10_a_delivery_that_vanished_blocks_its_event_only_until_its_mark_runs_out() {
    let mut world = World::new();
    let lost = world.deliver("/webhooks/stripe", &event("evt_1"));
    assert!(lost.is_forwarded());
    world.pass(29);
    world.deliver("/webhooks/stripe", &event("evt_1")).assert_answered(409, "in_flight");
    world.pass(1);
    assert!(world.deliver("/webhooks/stripe", &event("evt_1")).is_forwarded());
}

/// F11: the store of claims is away.
#[test]
fn f11_without_claims_an_event_is_refused_or_marked_as_the_configuration_says() {
    let mut world = World::new();
    let told = world.deliver_claimed("evt_1", Answer::Unavailable(Fault::Unreachable));
    told.assert_answered(503, "claim_unavailable");
    assert!(world.deliver("/webhooks/app", &event("evt_1")).claim().is_some(), "released");

    let mut world = World::with(|e| e[1]["dedupe"]["on_claim_unavailable"] = "forward".into());
    let mut told = world.deliver_claimed("evt_1", Answer::Unavailable(Fault::Late));
    assert_eq!(told.request_header("x-tollgate-dedupe"), Some("unavailable"));
    told.finish(&mut world, "200");
    assert_eq!(told.outcomes(), ["forwarded_unclaimed", "accepted"]);
    assert_eq!(told.completions(), [], "there is no claim to complete");
    world.deliver("/webhooks/app", &event("evt_1")).assert_answered(200, "duplicate");
}

#[test]
fn a_claim_is_decided_by_billing() {
    let mut world = World::new();
    let told = world.deliver_claimed("evt_1", Answer::Claimed(ClaimAnswer::InFlight { retry_ms: 9 }));
    told.assert_answered(409, "in_flight");
    let told = world.deliver_claimed("evt_1", Answer::Claimed(ClaimAnswer::Done));
    told.assert_answered(200, "duplicate");
    world.deliver("/webhooks/app", &event("evt_1")).assert_answered(200, "duplicate");
    let told = world.deliver_claimed("evt_2", fresh());
    let claim = told.claim().unwrap();
    assert_eq!((claim.endpoint.as_str(), claim.livemode, claim.account.as_str()), ("app", false, "self"));
    assert_eq!((claim.event_id.as_str(), claim.event_type.as_str()), ("evt_2", "invoice.paid"));
    let other = world.deliver("/webhooks/app", &event("evt_3"));
    assert_ne!(other.claim().unwrap().claimant, claim.claimant);
    // Nor is it that of the delivery with the same number before Envoy was started again.
    let claimant = |secs| {
        let mut world = World::new();
        world.pass(secs);
        world.deliver("/webhooks/app", &event("evt_1")).claim().unwrap().claimant.clone()
    };
    assert_ne!(claimant(0), claimant(1));
}

#[test]
fn the_mark_lasts_as_long_as_the_claim_and_who_lost_it_meanwhile_forwards_nothing() {
    let ttl = |ttl_ms| Answer::Claimed(ClaimAnswer::Fresh { token: "t".into(), ttl_ms });
    let mut world = World::new();
    world.deliver_claimed("evt_1", ttl(120_000));
    world.pass(119);
    world.deliver("/webhooks/app", &event("evt_1")).assert_answered(409, "in_flight");

    let mut slow = world.deliver("/webhooks/app", &event("evt_2"));
    world.pass(31);
    let mut quick = world.deliver_claimed("evt_2", fresh());
    slow.hear(&mut world, Input::Answered(fresh()));
    slow.assert_answered(409, "in_flight");
    assert_eq!(slow.completions(), [CompleteOutcome::Failed], "its claim is given back");
    quick.finish(&mut world, "200");
    assert_eq!(quick.completions(), [CompleteOutcome::Accepted]);
}

#[test]
fn who_waited_too_long_for_a_claim_forwards_nothing_beside_another() {
    let mut world = World::with(|e| e[1]["dedupe"]["on_claim_unavailable"] = "forward".into());
    let mut slow = world.deliver("/webhooks/app", &event("evt_1"));
    world.pass(31);
    let quick = world.deliver_claimed("evt_1", fresh());
    assert!(quick.is_forwarded());
    slow.hear(&mut world, Input::Answered(Answer::Unavailable(Fault::Late)));
    slow.assert_answered(409, "in_flight");
}

#[test]
fn a_client_that_left_after_the_last_byte_has_taken_nothing_back() {
    for (is_whole, left, outcome) in
        [(true, 0x4000, "accepted"), (false, 0x4000, "failed"), (true, 0x4, "failed")]
    {
        let mut world = World::new();
        let mut told = world.deliver("/webhooks/stripe", &event("evt_1"));
        told.hear(&mut world, Input::ResponseHeaders { headers: &status("200"), end: false });
        told.hear(&mut world, Input::ResponseBody { size: 2, end: is_whole, piece: None });
        told.hear(&mut world, Input::ResponseBody { size: 0, end: false, piece: None });
        told.hear(&mut world, Input::Closed { code: Some(200), flags: left, usage: None });
        assert_eq!(told.outcomes(), ["forwarded", outcome]);
    }
}

/// A shelf on which somebody else is always quicker.
struct Stuck;

impl Shelf for Stuck {
    fn read(&self, _: &str) -> Option<(Vec<u8>, crate::Version)> {
        None
    }
    fn write(&mut self, _: &str, _: &[u8], _: Option<crate::Version>) -> Result<(), crate::Stale> {
        Err(crate::Stale)
    }
}

#[test]
fn without_a_memory_nothing_goes_on_and_stripe_tries_again() {
    let world = World::new();
    let body = event("evt_1");
    let head = headers("/webhooks/stripe", &signed(&body, START.wall));
    let mut delivery = Delivery::new(world.config, Owner(1));
    delivery.handle(Input::RequestHeaders { headers: &head, end: false, verified: None }, START, &mut Stuck);
    let input = Input::RequestBody { size: body.len(), end: true, body: Some(&body) };
    assert_eq!(delivery.handle(input, START, &mut Stuck), Flow::Pause);
    let effects = core::iter::from_fn(|| delivery.poll_effect()).collect();
    Told { delivery, effects }.assert_answered(503, "memory_contended");
}

/// F12: the same id is another event at another endpoint, or for another account.
#[test]
fn f12_one_event_at_two_endpoints_or_for_two_accounts_is_two() {
    let mut world = World::new();
    assert!(world.deliver("/webhooks/stripe", &event("evt_1")).is_forwarded());
    assert!(world.deliver("/webhooks/app", &event("evt_1")).claim().is_some());
    let connected =
        String::from_utf8(event("evt_1")).unwrap().replace("{\n", "{\n  \"account\": \"acct_1\",");
    let told = world.deliver("/webhooks/stripe", connected.as_bytes());
    assert_eq!(told.request_header("x-tollgate-event-account"), Some("acct_1"));
}

/// F17: no header of ours comes from outside.
#[test]
fn f17_nobody_else_sets_our_headers_in_either_direction() {
    let mut world = World::new();
    let body = event("evt_1");
    let mut list = vec![("x-tollgate-event-verified", "true"), ("x-tollgate-event-id", "evt_forged")];
    let signature = signed(&body, START.wall);
    list.extend([(":method", "POST"), (":path", "/webhooks/stripe"), ("stripe-signature", &signature)]);
    let mut told = world.send(&list.into_iter().collect(), &body);
    let removal = Effect::RemoveRequestHeader("x-tollgate-event-verified".into());
    assert!(told.effects.contains(&removal));
    let at = |e: &Effect| told.effects.iter().position(|other| other == e).unwrap();
    let (id, value) = (Text::from("x-tollgate-event-id"), Text::from("evt_1"));
    assert!(at(&Effect::RemoveRequestHeader(id.clone())) < at(&Effect::SetRequestHeader(id, value)));
    let answer: Headers = [(":status", "200"), ("x-tollgate-duplicate", "true")].into_iter().collect();
    told.hear(&mut world, Input::ResponseHeaders { headers: &answer, end: true });
    assert!(told.effects.contains(&Effect::RemoveResponseHeader("x-tollgate-duplicate".into())));
    told.hear(&mut world, Input::Closed { code: Some(200), flags: 0, usage: None });
    // Our own answer passes the same callbacks, and keeps its header.
    let mut again = world.deliver("/webhooks/stripe", &body);
    let before = again.effects.len();
    let flow = again.hear(&mut world, Input::ResponseHeaders { headers: &answer, end: false });
    assert_eq!((flow, again.effects.len()), (Flow::Continue, before));
}

#[test]
fn a_client_that_leaves_while_it_waits_frees_its_event() {
    for ends_by_envoy in [false, true] {
        let mut world = World::new();
        let mut told = world.deliver("/webhooks/app", &event("evt_1"));
        if ends_by_envoy {
            told.hear(&mut world, Input::ResponseHeaders { headers: &status("504"), end: false });
        }
        told.hear(&mut world, Input::Closed { code: None, flags: 0x4000, usage: None });
        assert_eq!(told.effects.iter().filter(|e| **e == Effect::Withdraw).count(), 1);
        assert_eq!(told.outcomes(), ["broken_off"]);
        assert!(world.deliver("/webhooks/app", &event("evt_1")).claim().is_some());
    }
}

#[test]
fn a_redirect_is_never_passed_on() {
    let mut world = World::new();
    let mut told = world.deliver("/webhooks/stripe", &event("evt_1"));
    told.finish(&mut world, "301");
    assert_eq!(told.outcomes(), ["forwarded", "handler_redirected", "failed"]);
    assert!(told.effects.contains(&Effect::SetResponseHeader(":status".into(), "502".into())));
    assert!(world.deliver("/webhooks/stripe", &event("evt_1")).is_forwarded());
}

#[test]
fn an_answer_nobody_waits_for_is_a_bug_and_resumes_nothing() {
    let mut world = World::new();
    let mut told = world.delivery();
    told.hear(&mut world, Input::Closed { code: None, flags: 0, usage: None });
    assert_eq!(told.effects, [], "an earlier filter's refusal is not ours to count");
    assert_eq!(told.hear(&mut world, Input::Answered(fresh())), Flow::Pause);
    let bug = Effect::Count(Metric::Bug { bug: "answer_without_question" });
    assert_eq!(told.effects, std::slice::from_ref(&bug));
    let mut told = world.deliver("/webhooks/stripe", &event("evt_1"));
    assert_eq!(told.hear(&mut world, Input::Answered(fresh())), Flow::Pause);
    assert!(told.effects.contains(&bug) && told.is_forwarded());
}
