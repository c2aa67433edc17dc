//! Tells a scenario and compares what was seen with what must be.

use crate::billing::Billing;
use crate::cast::Cast;
use crate::corpus::{Scenario, Step};
use serde_json::Value;
use std::collections::BTreeMap;

/// What came of one request. Names of header fields in lower case.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The status that the client saw.
    pub status: u16,
    /// The header fields that it saw.
    pub headers: BTreeMap<String, String>,
    /// The body that it saw.
    pub body: String,
    /// The header fields that the upstream saw, if it was reached.
    pub forwarded: Option<BTreeMap<String, String>>,
}

/// Something that scenarios can be told to: a gateway at one altitude, with the corpus's billing service behind it.
pub trait Teller {
    /// Sends one request, and sees it through to its end.
    fn send(&mut self, step: &Step, cast: Cast) -> Seen;
    /// Looks at the billing service.
    fn billing<T>(&mut self, look: impl FnOnce(&mut Billing) -> T) -> T;
    /// Lets time pass until `done`, or until it cannot come any more.
    fn settle(&mut self, done: &dyn Fn(&Billing) -> bool);
}

/// Tells a scenario. Each complaint names the scenario, the step and what is wrong.
pub fn judge(teller: &mut impl Teller, scenario: &Scenario, number: usize) -> Vec<String> {
    let cast = Cast(number);
    let mut complaints = Vec::new();
    teller.billing(|billing| billing.play(scenario, cast));
    for (step, n) in scenario.steps.iter().zip(1..) {
        teller.billing(|billing| billing.say(&step.billing));
        let seen = teller.send(step, cast);
        let asked = teller.billing(|billing| billing.asked().to_vec());
        let wrong = compare(step, cast, &seen, &asked);
        complaints.extend(wrong.into_iter().map(|what| format!("{}, step {n}: {what}", scenario.name)));
    }
    // What is owed may be told when billing can be told again.
    teller.billing(|billing| billing.say(&crate::Says::Yes));
    let told: Vec<Value> = scenario.told.iter().map(|record| cast.document(record)).collect();
    let completed: Vec<Value> = scenario.completed.iter().map(|event| cast.document(event)).collect();
    teller.settle(&|billing| {
        billing.told(cast, scenario).len() >= told.len() && billing.completed(cast).len() >= completed.len()
    });
    let (was, were) = teller.billing(|billing| (billing.told(cast, scenario), billing.completed(cast)));
    for (what, is, must) in [("told", was, told), ("told of events", were, completed)] {
        if is != must {
            let (is, must) = (Value::from(is), Value::from(must));
            complaints.push(format!("{}: billing was {what} {is}, and must be {must}", scenario.name));
        }
    }
    complaints
}

fn compare(step: &Step, cast: Cast, seen: &Seen, asked: &[String]) -> Vec<String> {
    let (mut wrong, must) = (Vec::new(), &step.expect);
    if seen.status != must.status {
        wrong.push(format!("the client saw {} and must see {}: {}", seen.status, must.status, seen.body));
    }
    fields("the client saw", cast, &seen.headers, &must.headers, &mut wrong);
    if let Some(body) = &must.body {
        let is = serde_json::from_str(&seen.body).unwrap_or_default();
        members("", &cast.document(body), &is, &mut wrong);
    }
    match (&seen.forwarded, &must.forwarded) {
        (Some(is), Some(must)) => fields("the upstream saw", cast, is, must, &mut wrong),
        (None, Some(_)) => wrong.push("the upstream must be reached".to_owned()),
        (Some(_), None) => wrong.push("the upstream must not be reached".to_owned()),
        (None, None) => {}
    }
    if let Some(must) = &must.asked
        && must != asked
    {
        wrong.push(format!("billing was asked {asked:?}, and must be {must:?}"));
    }
    wrong
}

fn fields(
    who: &str,
    cast: Cast,
    is: &BTreeMap<String, String>,
    must: &BTreeMap<String, Option<String>>,
    wrong: &mut Vec<String>,
) {
    for (name, value) in must {
        let value = value.as_ref().map(|value| cast.text(value));
        if is.get(name) != value.as_ref() {
            wrong.push(format!("{who} {name}: {:?}, and must: {value:?}", is.get(name)));
        }
    }
}

/// Every member that must be there, deeply.
fn members(place: &str, must: &Value, is: &Value, wrong: &mut Vec<String>) {
    if let (Value::Object(must), Value::Object(is)) = (must, is) {
        for (name, value) in must {
            let place = format!("{place}/{name}");
            match is.get(name) {
                Some(is) => members(&place, value, is, wrong),
                None => wrong.push(format!("the client's document has no {place}, and must: {value}")),
            }
        }
    } else if must != is {
        wrong.push(format!("the client's document has {is} at {place:?}, and must: {must}"));
    }
}
