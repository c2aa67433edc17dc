//! What must be true of a body that goes on, of an answer that passes, and of what is charged for it.

use super::asked::Route;
use contract::v1::{NeedShape, TokenShape};
use gate::worker::{Ended, Pass};
use serde_json::{Value, json};
use units::Amount;

/// The fields that an edit may change.
const EDITED: [&str; 3] = ["max_tokens", "max_completion_tokens", "stream_options"];

/// The limit that a body states; Anthropic knows one field only.
fn limit(route: Option<Route>, body: &Value) -> Option<u64> {
    let anthropic = route.is_some_and(|route| route.usage == "anthropic");
    let names = ["max_tokens", "max_completion_tokens"].into_iter().take(if anthropic { 1 } else { 2 });
    names.filter_map(|name| body[name].as_u64()).max()
}

/// An edited body is the body, with a lower limit, and asked for usage if it was not before. True if it asks now.
pub(super) fn edit(route: Option<Route>, before: &[u8], after: &[u8]) -> bool {
    let parse = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("a body of JSON");
    let (before, after) = (parse(before), parse(after));
    let rest = |body: &Value| {
        let mut body = body.clone();
        EDITED.iter().for_each(|name| drop(body.as_object_mut().unwrap().remove(*name)));
        body
    };
    assert_eq!(rest(&before), rest(&after), "something else was changed");
    let (was, is) = (limit(route, &before), limit(route, &after));
    assert!(was.is_none() || is <= was, "a limit was raised: {before} {after}");
    let asks = |body: &Value| body["stream_options"]["include_usage"] == json!(true);
    assert!(asks(&after) || !asks(&before), "usage is not asked for any more");
    asks(&after) && !asks(&before)
}

/// What goes on under a strict hold has the limit that the hold pays for.
pub(super) fn bounded(route: Option<Route>, body: &[u8], pass: &Pass, shape: &TokenShape) {
    let Some(list) = pass.decided.as_ref().and_then(|decided| decided.list()) else { return };
    let at = |output_max| list.hold(&TokenShape { output_max: Some(output_max), ..shape.clone() });
    // A model that is in no list, or a hold that does not even pay for the input: no limit mends that.
    if at(0).is_ok_and(|least| least <= pass.held) {
        let body: Value = serde_json::from_slice(body).unwrap();
        let limit = limit(route, &body).unwrap_or_else(|| panic!("no limit: {body} {pass:?} {shape:?}"));
        assert!(at(limit).unwrap() <= pass.held, "{body} can cost more than {pass:?}");
    }
}

/// What one request came to.
pub(super) struct Facts<'a> {
    pub(super) route: Option<Route>,
    pub(super) shape: &'a NeedShape,
    /// Something was delivered that is to be charged.
    pub(super) delivered: bool,
    /// What a whole answer in good order said: input and output.
    pub(super) said: Option<(u64, u64)>,
}

/// The end of what passed on `pass`.
pub(super) fn charge(pass: &Pass, ended: &Ended, facts: &Facts<'_>) {
    let Ended { charged, beyond, tokens, .. } = ended;
    let all = charged.checked_add(*beyond).unwrap();
    assert!(*charged <= pass.held, "more than was held");
    if !facts.delivered || pass.decided.is_none() {
        return assert!(all.is_zero(), "charged for nothing: {ended:?}");
    }
    let shape = if let NeedShape::Tokens(shape) = facts.shape { Some(shape) } else { None };
    let Some(list) = pass.decided.as_ref().and_then(|decided| decided.list()) else {
        let whole = (pass.held.saturating_sub(pass.paid), Amount::ZERO);
        return assert_eq!((*charged, *beyond), whole, "a fixed price is charged whole: {ended:?}");
    };
    let estimated = facts.route.is_some_and(|route| route.hold == "estimate");
    let most = shape.filter(|_| estimated).and_then(|shape| list.most(shape).ok());
    let most = most.unwrap_or(pass.held).max(pass.held);
    assert!(estimated || beyond.is_zero(), "only an estimate errs: {ended:?}");
    let Some(used) = tokens else {
        let due = pass.held.saturating_sub(pass.paid);
        return assert_eq!(all, due, "what is not known costs the hold: {ended:?}");
    };
    if let Some((input, output)) = facts.said {
        assert_eq!((used.input, used.output), (input, output), "the answer said so");
    }
    let asked = shape.map_or("", |shape| shape.model.as_str());
    let cost = list.cost(asked, used);
    // What a fixed hold was asked for is not seen here. It matters only where the answer's model is in no list.
    if shape.is_some() || list.find(&used.model).is_some() {
        // The same request is one charge.
        assert_eq!(all, cost.min(most).saturating_sub(pass.paid), "{ended:?}");
        let free = cost.is_zero() || !pass.paid.is_zero();
        assert!(!all.is_zero() || free, "for nothing, and the list does not say so: {ended:?}");
    }
}

/// An answer with this usage, for who speaks like OpenAI or Anthropic; a document or events, with and without usage.
pub(super) fn texts(anthropic: bool, events: bool, (input, output): (u64, u64)) -> (String, String) {
    let (read, written) =
        if anthropic { ("input_tokens", "output_tokens") } else { ("prompt_tokens", "completion_tokens") };
    let usage = format!("{{\"{read}\":{input},\"{written}\":{output}}}");
    if !events {
        let text = format!("{{\"model\":\"m\",\"content\":[],\"choices\":[],\"usage\":{usage}}}");
        return (text.clone(), text);
    }
    let delta = |more: &str| {
        format!("data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"hi\"}}}}]{more}}}\r\n\r\n")
    };
    let told = format!(
        "{}{}data: {{\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n",
        delta(",\"usage\":null"),
        delta("")
    );
    (told, format!("{}{}data: [DONE]\n\n", delta(""), delta("")))
}
