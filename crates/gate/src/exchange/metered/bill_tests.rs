//! What is charged for each way in which an answer can go.

use super::*;
use crate::config::{Hold, Usage};
use crate::exchange::metered::relay::Relay;
use crate::worker::Decided;
use crate::worker::rig::standing;
use contract::v1::{Matching, ModelPrice, Price, UnknownModel};
use meter::Source;
use meter::request::LimitField;
use std::rc::Rc;
use units::Unit;

pub(crate) fn amount(micro: i64) -> Amount {
    Amount::new(micro).unwrap()
}

/// One micro-credit for each token of the input, four for each of the output.
pub(crate) fn list() -> PriceList {
    let (input, output) = (amount(1_000_000), amount(4_000_000));
    let model = ModelPrice {
        name: "m".into(),
        matching: Matching::Exact,
        input,
        cached: input,
        cache_written: input,
        output,
        reasoning: output,
        image: Amount::ZERO,
        context: 10_000,
        output_max: 100,
        output_usual: 10,
        image_tokens: None,
        tools_tokens: 0,
        unseen: false,
    };
    PriceList {
        version: 1,
        request: Amount::ZERO,
        minimum: Amount::ZERO,
        hold: amount(50),
        output_min: 1,
        unknown: UnknownModel::Refuse,
        models: vec![model],
    }
}

fn pass(held: i64) -> Pass {
    by(list(), held)
}

fn by(list: PriceList, held: i64) -> Pass {
    let (unit, hold, scope) = (Unit::Credits, amount(held), String::new());
    let price = Price { unit, hold, scope, version: 1 };
    Pass::new(Some(1), Rc::new(Decided::new(standing("alice"), price, Some(Rc::new(list)))))
}

fn metering(missing: MissingUsage) -> Metering {
    let (usage, request) = (Usage::Body(Source::OpenAi), Some(Source::OpenAi));
    Metering { hold: Hold::MaxTokens, usage, request, missing, limit_field: LimitField::MaxTokens }
}

/// 40 bytes that can be 40 tokens and are probably 10, and up to 100 tokens of output.
fn shape(size: Size) -> TokenShape {
    TokenShape {
        input_max: 40,
        output_max: Some(100),
        model: "m".into(),
        choices: 1,
        images: 0,
        makes: 0,
        tools: false,
        open: false,
        size,
        clamp: false,
    }
}

fn stated(input: u64, output: u64) -> Heard {
    let counts = Some(Counts { input, output, ..Counts::default() });
    Heard {
        counts,
        complete: true,
        written: Some((Format::Events, Written { events: 3, bytes: 20 })),
        ..Heard::default()
    }
}

fn silent(format: Format, events: u64, bytes: u64) -> Heard {
    Heard { written: Some((format, Written { events, bytes })), ..Heard::default() }
}

/// The charge and by what, of a strict hold of 440.
fn strict(missing: MissingUsage, heard: &Heard, outcome: Outcome) -> (i64, Option<Basis>) {
    let bill = bill(&pass(440), &metering(missing), Some(&shape(Size::Most)), heard, outcome);
    assert_eq!(bill.beyond, Amount::ZERO);
    (bill.charged.get(), bill.basis)
}

#[test]
fn what_is_stated_is_charged_and_never_more_than_was_held() {
    use MissingUsage::Counted;
    assert_eq!(strict(Counted, &stated(12, 5), Outcome::Charged), (32, Some(Basis::Stated)));
    let told_then_left = stated(12, 5);
    assert_eq!(strict(Counted, &told_then_left, Outcome::ClientLeft), (32, Some(Basis::Stated)));
    let beyond =
        bill(&pass(440), &metering(Counted), Some(&shape(Size::Most)), &stated(12, 500), Outcome::Charged);
    assert_eq!(
        (beyond.charged.get(), beyond.beyond, beyond.fault),
        (440, Amount::ZERO, Some("used_beyond_hold"))
    );
    assert_eq!(beyond.tokens.map(|tokens| tokens.output), Some(500), "the books say what was said");
}

#[test]
fn what_is_not_stated_is_counted_or_what_the_route_says_and_never_nothing() {
    use MissingUsage::{Counted, Hold, Input};
    let text = silent(Format::Events, 3, 50);
    // 10 tokens in, and 13 by their bytes out.
    assert_eq!(strict(Counted, &text, Outcome::Broken), (10 + 52, Some(Basis::Counted)));
    assert_eq!(
        strict(Counted, &silent(Format::Events, 30, 50), Outcome::Charged),
        (10 + 120, Some(Basis::Counted))
    );
    assert_eq!(strict(Input, &text, Outcome::Charged), (10, Some(Basis::Input)));
    assert_eq!(strict(Hold, &text, Outcome::ClientLeft), (440, Some(Basis::Hold)));
    for unread in [
        Heard::default(),
        silent(Format::Events, 0, 0),
        silent(Format::Document, 0, 0),
        Heard { odd: true, ..Heard::default() },
    ] {
        assert_eq!(strict(Counted, &unread, Outcome::Charged), (440, Some(Basis::Hold)), "{unread:?}");
        assert_eq!(strict(Input, &unread, Outcome::Broken), (10, Some(Basis::Input)), "{unread:?}");
    }
    let whole = Heard { complete: true, ..silent(Format::Document, 0, 0) };
    assert_eq!(
        strict(Counted, &whole, Outcome::Charged),
        (10, Some(Basis::Counted)),
        "an embedding has no text"
    );
    assert_eq!(
        strict(Counted, &silent(Format::Document, 1, 40), Outcome::ClientLeft),
        (10 + 40, Some(Basis::Counted)),
        "who reads all but the end of a document pays for its text"
    );
}

#[test]
fn a_lower_bound_charges_more_and_gives_nothing_back() {
    use MissingUsage::Counted;
    let so_far = |output| Heard { complete: false, ..stated(12, output) };
    // Five tokens by their bytes.
    assert_eq!(strict(Counted, &so_far(1), Outcome::Broken), (12 + 20, Some(Basis::AtLeast)));
    assert_eq!(strict(Counted, &so_far(9), Outcome::Broken), (12 + 36, Some(Basis::AtLeast)));
    assert_eq!(
        strict(Counted, &so_far(1), Outcome::Charged),
        (12 + 4, Some(Basis::Stated)),
        "it ended in order"
    );
    assert_eq!(strict(MissingUsage::Hold, &so_far(1), Outcome::ClientLeft), (440, Some(Basis::Hold)));
    assert_eq!(strict(MissingUsage::Input, &so_far(9), Outcome::ClientLeft), (12 + 36, Some(Basis::Input)));
}

#[test]
fn an_estimate_that_fell_short_is_made_up_for_up_to_the_most_that_it_could_be() {
    let shape = shape(Size::Estimate);
    assert_eq!((list().hold(&shape), list().most(&shape)), (Ok(amount(50)), Ok(amount(440))));
    let of = |output| {
        let bill = bill(
            &pass(50),
            &metering(MissingUsage::Counted),
            Some(&shape),
            &stated(10, output),
            Outcome::Charged,
        );
        (bill.charged.get(), bill.beyond.get(), bill.fault)
    };
    assert_eq!(of(4), (26, 0, None));
    assert_eq!(of(10), (50, 0, None));
    assert_eq!(of(60), (50, 200, None));
    assert_eq!(of(5_000), (50, 390, Some("used_beyond_hold")), "its own limit said that it could not");
}

#[test]
fn a_fixed_price_is_charged_whole_and_its_tokens_are_evidence() {
    let (unit, hold, scope) = (Unit::Credits, amount(7), String::new());
    let price = Price { unit, hold, scope, version: 1 };
    let fixed = Pass::new(Some(1), Rc::new(Decided::new(standing("alice"), price, None)));
    let bill = bill(&fixed, &metering(MissingUsage::Counted), None, &stated(12, 5), Outcome::Charged);
    assert_eq!((bill.charged.get(), bill.basis), (7, None));
    assert_eq!(bill.tokens.map(|tokens| (tokens.input, tokens.output)), Some((12, 5)));
}

#[test]
fn a_request_that_nobody_priced_tells_what_it_used() {
    let unpaid = Pass::unpaid(1);
    let of = |heard: &Heard| {
        bill(&unpaid, &metering(MissingUsage::Counted), Some(&shape(Size::Most)), heard, Outcome::Charged)
    };
    let told = of(&stated(12, 5));
    assert_eq!((told.charged, told.basis), (Amount::ZERO, Some(Basis::Stated)));
    let counted = of(&silent(Format::Events, 3, 50)).tokens.unwrap();
    assert_eq!((counted.model.as_str(), counted.input, counted.output), ("m", 10, 13));
    assert_eq!(of(&Heard::default()).tokens, None, "then the most that it could be is charged");
}

/// What is heard of an answer of that kind whose bytes are these.
fn heard(source: Source, kind: &str, body: &str) -> Heard {
    let headers = [("content-type", kind)].into_iter().collect();
    let mut relay = Relay::new(&Usage::Body(source), &headers, false);
    relay.pass(body.as_bytes(), true);
    relay.heard()
}

const EVENTS: &str = "text/event-stream";
const DOCUMENT: &str = "application/json";

/// Anthropic's stream of these, behind its beginning: 12 tokens in, and one out that is there to be stated again.
fn anthropic(events: &[&str]) -> Heard {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":12,"output_tokens":1}}}"#;
    let all = [start].iter().chain(events).map(|event| format!("data: {event}\n\n")).collect::<String>();
    heard(Source::Anthropic, EVENTS, &all)
}

/// Five tokens by its bytes.
const TEXT: &str =
    r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"twenty bytes of text"}}"#;
const ERROR: &str = r#"{"type":"error","error":{"type":"overloaded_error"}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

#[test]
fn a_stream_of_anthropics_that_stops_midway_costs_what_was_delivered() {
    let said =
        |output: &str| format!("{{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":{output}}}}}");
    let (two, nine, odd) = (said("2"), said("9"), said("\"900\""));
    for (events, due) in [
        (vec![TEXT, ERROR], (12 + 20, Some(Basis::AtLeast))),
        (vec![TEXT], (12 + 20, Some(Basis::AtLeast))),
        (vec![TEXT, &odd], (12 + 20, Some(Basis::AtLeast))),
        (vec![TEXT, &odd, STOP], (12 + 20, Some(Basis::AtLeast))),
        (vec![&two, TEXT, &odd, STOP], (12 + 20, Some(Basis::AtLeast))),
        (vec![&two, TEXT], (12 + 20, Some(Basis::AtLeast))),
        (vec![TEXT, &nine], (12 + 36, Some(Basis::AtLeast))),
        (vec![TEXT, &nine, STOP], (12 + 36, Some(Basis::Stated))),
        (vec![&nine, STOP], (12 + 36, Some(Basis::Stated))),
        (vec![], (440, Some(Basis::Hold))),
    ] {
        let heard = anthropic(&events);
        assert!(!heard.delivered_nothing(), "{events:?}");
        assert_eq!(strict(MissingUsage::Counted, &heard, Outcome::Charged), due, "{events:?}");
    }
    assert!(anthropic(&[ERROR]).delivered_nothing(), "what is stated at the beginning is not used yet");
    assert!(!anthropic(&[&nine, ERROR]).delivered_nothing(), "what is stated later is");
}

#[test]
fn an_image_that_was_delivered_is_never_free() {
    let made = r#"{"type":"image_generation.completed","b64_json":"QQ"}"#;
    let (image, error) = (r#""data":[{"b64_json":"QQ"}]"#, r#""error":{"code":"x"}"#);
    let odd = r#""usage":{"input_tokens":50.0,"output_tokens":4160.0}"#;
    let mut list = list();
    list.models[0].image = amount(30);
    let of = |heard: &Heard| {
        let shape = TokenShape { makes: 1, ..shape(Size::Most) };
        let pass = by(list.clone(), 470);
        let bill = bill(&pass, &metering(MissingUsage::Counted), Some(&shape), heard, Outcome::Charged);
        (bill.charged.get(), bill.basis)
    };
    for (kind, body, due) in [
        (DOCUMENT, format!("{{{image},{error}}}"), (10 + 30, Some(Basis::AtLeast))),
        (EVENTS, format!("data: {made}\n\ndata: {{{error}}}\n\n"), (470, Some(Basis::Hold))),
        (DOCUMENT, format!("{{{image},{odd}}}"), (470, Some(Basis::Hold))),
        (DOCUMENT, format!("{{{image},{odd},{error}}}"), (470, Some(Basis::Hold))),
        (
            EVENTS,
            format!("data: {}\n\ndata: {}\n\n", said(made, "7"), said(made, "7.0")),
            (470, Some(Basis::Hold)),
        ),
        (DOCUMENT, r#"{"created":1}"#.to_owned(), (470, Some(Basis::Hold))),
        (DOCUMENT, format!("{{{image}}}"), (10 + 30, Some(Basis::AtLeast))),
        (EVENTS, format!("data: {}\n\n", said(made, "7")), (12 + 28 + 30, Some(Basis::Stated))),
    ] {
        let heard = heard(Source::OpenAiImages, kind, &body);
        assert!(!heard.delivered_nothing(), "{body}");
        assert_eq!(of(&heard), due, "{body}");
    }
    assert!(heard(Source::OpenAiImages, DOCUMENT, &format!("{{{error}}}")).delivered_nothing());
    assert!(heard(Source::OpenAiImages, DOCUMENT, &format!("{{\"data\":[],{error}}}")).delivered_nothing());
}

/// The event with a usage of 12 tokens in and so many out.
fn said(event: &str, output: &str) -> String {
    event.replace('}', &format!(",\"usage\":{{\"input_tokens\":12,\"output_tokens\":{output}}}}}"))
}
