//! Ten thousand requests of every kind and outcome through two Envoys, each priced here by what the upstream says that it used,
//! with a price list of this file's own; then the same while Envoy and billing are killed.

use crate::rig::{Asked, customer, has, options};
use serde_json::{Value, json};
use stage::client::{Call, Client};
use stage::harness::{Gateway, Stage, eventually};
use stage::upstream::{Item, Said};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const CUSTOMERS: [&str; 5] = ["ann", "ben", "cleo", "dan", "eva"];
/// Enough for all, and for the other test so little that what a lease can cost is seen.
const AMPLE: u64 = 4_000_000_000;
const SOME: u64 = 4_000_000;

/// SplitMix64 (Steele, Lea, Flood 2014): the same requests for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// A request, and what this test knows of it.
struct Sent {
    customer: usize,
    asked: Asked,
    /// Leaves after so many pieces of the answer.
    leaves: Option<u64>,
}

fn make(stage: &Stage, keys: &[String], n: u64, dice: &mut Dice) -> Sent {
    let customer = usize::try_from(dice.below(keys.len() as u64)).unwrap();
    let text = "word ".repeat(usize::try_from(1 + dice.below(40)).unwrap());
    let words = json!([{ "role": "user", "content": text }]);
    let (path, mut body) = match dice.below(6) {
        0 | 1 => ("/v1/chat/completions", json!({ "messages": words })),
        2 => ("/v1/messages", json!({ "messages": words, "max_tokens": 20 + dice.below(100) })),
        3 => ("/v1/responses", json!({ "input": text })),
        4 => ("/v1/completions", json!({ "prompt": text })),
        _ => ("/v1/embeddings", json!({ "input": text })),
    };
    if path != "/v1/embeddings" {
        body["stream"] = json!(dice.below(2) == 0);
    }
    if path == "/v1/chat/completions" && dice.below(3) == 0 {
        body["n"] = json!(1 + dice.below(3));
        body["max_tokens"] = json!(10 + dice.below(80));
    }
    if dice.below(8) == 0 {
        body["model"] = json!("dear-one");
    }
    let numbers = format!(
        "input={};tokens={};cached={};reasoning={}",
        10 + dice.below(90),
        1 + dice.below(60),
        dice.below(10),
        dice.below(5)
    );
    let way = dice.pick(&[
        "",
        "",
        "",
        "",
        "no_usage",
        "odd_usage",
        "over;tokens=900",
        "status=500",
        "status=429",
        "reset",
        "reset_after=2",
        "reset_after=4",
        "frame=7;crlf",
        "usage_in=each",
        "usage_in=finish;no_done",
        "gzip",
        "abort_after_usage",
        "truncate",
        "cache_written=5",
        "restated=80",
        "model=dearest",
        "header.x-tollgate-charge=none",
        "words=30",
    ]);
    let leaves = (dice.below(12) == 0).then(|| dice.below(4));
    let pace = if leaves.is_some() { ";chunk_delay_ms=5" } else { "" };
    let script = format!("{numbers};{way}{pace};key={n}");
    Sent { customer, asked: Asked::new(stage, path, &keys[customer], &script, &body), leaves }
}

async fn play(client: Client, call: Call, leaves: Option<u64>) {
    let Some(pieces) = leaves else { return drop(client.send(call).await) };
    let Ok(mut answer) = client.open(call).await else { return };
    for _ in 0..pieces {
        if !matches!(answer.next().await, Ok(Some(_))) {
            return;
        }
    }
}

/// The price of a model: input, cached, output, reasoning, in micro-credits a token.
fn prices(model: &str) -> [u64; 4] {
    if model.starts_with("dear") { [100, 100, 400, 400] } else { [10, 1, 40, 60] }
}

/// What the upstream says that it used, priced. Anthropic does not say what was thought.
fn price(path: &str, said: &Said) -> u64 {
    let [input, cached, output, reasoning] = prices(&said.model);
    let told = if path == "/v1/messages" { 0 } else { said.reasoning };
    let (cache, thoughts) = (said.cached.min(said.input), told.min(said.output));
    (said.input - cache) * input + cache * cached + (said.output - thoughts) * output + thoughts * reasoning
}

/// Credits as they are written, in micro-credits.
fn micro(credits: &str) -> u64 {
    let (whole, part) = credits.split_once('.').unwrap_or((credits, ""));
    format!("{whole}{part:0<6}").parse().unwrap()
}

/// Between what and what a request may cost.
fn expected(item: &Item, sent: &Sent) -> (u64, u64) {
    let Some(said) = item.said.as_ref().filter(|said| said.status < 300) else { return (0, 0) };
    let script = &item.headers["x-script"];
    let [input, _, output, _] = prices(&said.model);
    let held = micro(&item.headers["x-tollgate-hold"]);
    if script.contains("x-tollgate-charge=none") {
        return (0, 0);
    }
    let whole = said.complete
        && sent.leaves.is_none()
        && !["truncate", "reset_after"].iter().any(|way| script.contains(way));
    let states = !script.contains("no_usage") && !script.contains("odd_usage");
    if script.contains("gzip") {
        return if whole { (held, held) } else { (0, held) };
    }
    if whole && states {
        let cost = price(&item.path, said).min(held);
        return (cost, cost);
    }
    let probable = u64::try_from(sent.asked.probable_input()).unwrap() * input;
    let speaks = !item.path.ends_with("/embeddings");
    if whole {
        // Sixteen bytes in three pieces for each answer: by their bytes they are four tokens.
        let answers = if speaks { sent.asked.number("n").unwrap_or(1) } else { 0 };
        let cost = (probable + answers * 4 * output).min(held);
        return (cost, cost);
    }
    // It broke off, or was left: nothing if not even its head was sent on, else what came, and never more than was held.
    (0, held)
}

/// Sends them, so many at a time.
fn start(gateways: &[&Gateway], sent: &BTreeMap<u64, Sent>, at_once: usize) -> JoinSet<()> {
    let turns = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for (n, one) in sent {
        let gateway = gateways[usize::try_from(*n).unwrap() % gateways.len()];
        let asked = one.asked.clone().at(&gateway.settings);
        let call = asked.call().header("x-n", n.to_string());
        let (client, turns, leaves) = (gateway.client.clone(), turns.clone(), one.leaves);
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            play(client, call, leaves).await;
        });
    }
    running
}

async fn run(gateways: &[&Gateway], sent: &BTreeMap<u64, Sent>, at_once: usize) {
    let mut running = start(gateways, sent, at_once);
    while running.join_next().await.is_some() {}
}

/// Every usage record of a customer, by request id: what was charged.
async fn records(stage: &Stage, key: &str) -> BTreeMap<String, u64> {
    let (mut all, mut cursor) = (BTreeMap::new(), None::<u64>);
    loop {
        let page = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        let url = stage.settings().gateway(&format!("/billing/usage?limit=200{page}"));
        let list = stage.gateway.send(Call::get(url).bearer(key)).await.json();
        for item in list["items"].as_array().unwrap() {
            let id = item["request_id"].as_str().unwrap().to_owned();
            let known = all.insert(id.clone(), item["charged_micro"].as_u64().unwrap());
            assert_eq!(known, None, "{id} is charged twice");
        }
        cursor = list["next"].as_str().map(|next| next.parse().unwrap()).or(list["next"].as_u64());
        if cursor.is_none() {
            return all;
        }
    }
}

/// By number: what the upstream saw. Envoy may not have sent a request on whose client left at once.
fn seen(stage: &Stage) -> BTreeMap<u64, Item> {
    let all = stage.upstream.requests();
    all.into_iter().map(|item| (item.headers["x-n"].parse().unwrap(), item)).collect()
}

async fn keys(stage: &Stage, micro: u64) -> Vec<String> {
    let mut keys = Vec::new();
    for id in CUSTOMERS {
        keys.push(customer(stage, id, micro).await);
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_cost_what_the_upstream_says_they_used() {
    let mut stage = Stage::start(options());
    let other = stage.another_gateway();
    let keys = keys(&stage, AMPLE).await;
    let mut dice = Dice(11);
    let mut all = BTreeMap::new();
    for round in 0..10_u64 {
        let sent: BTreeMap<u64, Sent> = (0..1_000)
            .map(|n| (round * 1_000 + n, make(&stage, &keys, round * 1_000 + n, &mut dice)))
            .collect();
        if round == 5 {
            // Killed between two rounds with nothing acknowledged: what was told is there, what was not is told again.
            stage.billing.as_mut().unwrap().kill();
            stage.restart_billing();
        }
        run(&[&stage.gateway, &other], &sent, 40).await;
        all.extend(sent);
    }
    let seen = seen(&stage);
    assert!(seen.len() > 9_900, "{} reached the upstream", seen.len());
    let mut exact = 0;
    for (who, key) in keys.iter().enumerate() {
        let mine = || seen.iter().filter(|(n, _)| all[n].customer == who);
        eventually("every record is there", async || records(&stage, key).await.len() >= mine().count())
            .await;
        let records = records(&stage, key).await;
        let (mut total, mut unseen) = (0, records.len());
        for (n, item) in mine() {
            let id = &item.headers["x-tollgate-request-id"];
            let charged = *records.get(id).unwrap_or_else(|| panic!("{n}: no record of {id}: {item:?}"));
            let (least, most) = expected(item, &all[n]);
            exact += u64::from(least == most);
            let what = format!("{n}: {charged} and not {least} to {most}: {item:?}");
            assert!((least..=most).contains(&charged), "{what}");
            total += charged;
            unseen -= 1;
        }
        assert_eq!(unseen, 0, "nobody is charged for what the upstream never saw");
        has(&stage, CUSTOMERS[who], i64::try_from(AMPLE - total).unwrap()).await;
    }
    println!(
        "{} requests reached the upstream; of {exact} this test knew the price to the micro-credit",
        seen.len()
    );
    assert!(exact > 7_000, "{exact}");
    drop(other);
    stage.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_among_them_costs_no_more_than_its_leases() {
    let options = options().with("LEASE_TTL_MS", 1500).with("LEASE_TAIL_MS", 1500);
    let stage = Stage::start(options);
    let mut other = stage.another_gateway();
    let keys = keys(&stage, SOME).await;
    let mut dice = Dice(12);
    let sent: BTreeMap<u64, Sent> = (0..2_000).map(|n| (n, make(&stage, &keys, n, &mut dice))).collect();
    let mut running = start(&[&stage.gateway, &other], &sent, 20);
    eventually("they are under way", async || stage.upstream.count() > 600).await;
    other.envoy.kill();
    // What was lent to the one that died is all that may be in doubt.
    let mut in_doubt = Vec::new();
    for id in CUSTOMERS {
        in_doubt.push(leased(&stage.admin_get(&format!("/admin/v1/accounts/{id}")).await));
    }
    while running.join_next().await.is_some() {}
    stage.restart(&mut other);
    let more: BTreeMap<u64, Sent> = (2_000..3_000).map(|n| (n, make(&stage, &keys, n, &mut dice))).collect();
    run(&[&stage.gateway, &other], &more, 20).await;
    for (who, id) in CUSTOMERS.iter().enumerate() {
        let path = format!("/admin/v1/accounts/{id}");
        eventually("nothing is held or lent", async || {
            let books = stage.admin_get(&path).await;
            books["held_micro"] == json!(0) && leased(&books) == 0
        })
        .await;
        let books = stage.admin_get(&path).await;
        let charged = i64::try_from(SOME).unwrap() - books["balance_micro"].as_i64().unwrap();
        let of = |n: &u64| sent.get(n).or_else(|| more.get(n)).filter(|one| one.customer == who);
        let bounds = seen(&stage)
            .iter()
            .filter_map(|(n, item)| Some(expected(item, of(n)?)))
            .fold((0, 0), |sum, (least, most)| (sum.0 + least, sum.1 + most));
        let (least, most) = (i64::try_from(bounds.0).unwrap(), i64::try_from(bounds.1).unwrap());
        assert!(charged <= most, "{id}: {charged} of at most {most}");
        assert!(
            charged >= least - in_doubt[who],
            "{id}: {charged} of at least {least}, and {} in doubt",
            in_doubt[who]
        );
        println!("{id}: {charged} charged of {least} to {most}; {} was in doubt", in_doubt[who]);
    }
    drop(other);
    stage.finish();
}

/// What is lent or held of an account's grants.
fn leased(books: &Value) -> i64 {
    let grants = books["grants"].as_array().into_iter().flatten();
    grants.map(|grant| grant["leased_micro"].as_i64().unwrap_or(0)).sum()
}
