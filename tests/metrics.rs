//! Every metric of the lists is on a scrape after the demo, with labels that are labels, and nothing else is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

use gate::config::Config;
use gate::metrics::{LIST, all};
use stage::client::Call;
use stage::envoy_file::EnvoyFile;
use stage::harness::{Options, Stage, eventually};
use stage::settings::Settings;
use stage::tools::root;
use std::collections::{BTreeMap, BTreeSet};

/// The samples of a scrape in Prometheus' text format whose names begin so, by name and labels.
fn samples(text: &str, prefix: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    let pairs = lines.map(|line| line.rsplit_once(' ').unwrap());
    pairs
        .map(|(series, value)| (series.to_owned(), value.split('.').next().unwrap().parse().unwrap()))
        .collect()
}

/// The series that the filter lists for the configurations in Envoy's file, as Envoy shows them: labels by name.
fn listed() -> BTreeSet<String> {
    let root = root().unwrap();
    let mut file = EnvoyFile::of(&Settings::read(&root, |_| None).unwrap(), &root).unwrap();
    let mut series = BTreeSet::new();
    for role in ["ai", "webhook"] {
        let mut json = String::new();
        file.plugin(role, |plugin| json = plugin.to_string()).unwrap();
        let config = Config::resolve(json.as_bytes(), &|_| Some("a-secret-of-this-test".to_owned())).unwrap();
        for metric in all(&config) {
            let (name, values) = metric.series();
            let family = LIST.iter().find(|family| family.name == name).unwrap();
            let labels: Vec<_> = family
                .labels
                .iter()
                .zip(values)
                .map(|(label, value)| format!("{label}=\"{value}\""))
                .collect();
            if family.kind == "counter" {
                series.insert(format!("{name}{{{}}}", labels.join(",")));
            }
        }
    }
    series
}

/// What is scraped is what is listed, neither more nor less.
fn same(scraped: &BTreeMap<String, u64>) {
    let is_counter = |series: &&String| !series.starts_with("tollgate_wait_ms");
    let (scraped, listed) = (scraped.keys().filter(is_counter).cloned().collect::<BTreeSet<_>>(), listed());
    let differing: Vec<_> = scraped.symmetric_difference(&listed).collect();
    assert!(differing.is_empty(), "only scraped, or only listed: {differing:#?}");
}

#[tokio::test]
async fn every_metric_is_on_a_scrape_after_the_demo() {
    let stage = Stage::start(Options::default());
    let scrape =
        async || stage.gateway.send(Call::get(stage.settings().admin("/stats/prometheus"))).await.text();
    // Before the first request already.
    same(&samples(&scrape().await, "tollgate_"));
    stage.walk_through_the_demo().await;
    // How a request ended is counted at the next tick of its worker, if nothing hurries.
    let failed = r#"tollgate_ended_total{outcome="failed"}"#;
    eventually("the last request's end is counted", async || samples(&scrape().await, failed)[failed] == 1)
        .await;
    let text = scrape().await;
    let after = samples(&text, "tollgate_");
    same(&after);
    for (series, count) in [
        (r#"tollgate_requests_total{endpoint="chat",decision="daily_limit_reached"}"#, 1),
        (r#"tollgate_requests_total{endpoint="image",decision="tier_not_allowed"}"#, 1),
        (r#"tollgate_requests_total{endpoint="chat",decision="pass"}"#, 5),
        (r#"tollgate_ended_total{outcome="charged"}"#, 6),
        (r#"tollgate_charged_total{endpoint="metered",basis="stated"}"#, 2),
        (r#"tollgate_webhooks_total{endpoint="app",outcome="mismatch"}"#, 1),
        (r#"tollgate_webhooks_total{endpoint="app",outcome="failed"}"#, 1),
        (r#"tollgate_webhooks_total{endpoint="app",outcome="accepted"}"#, 2),
    ] {
        assert_eq!(after[series], count, "{series}");
    }
    let bugs: Vec<_> =
        after.iter().filter(|(series, n)| series.starts_with("tollgate_bugs_total") && **n > 0).collect();
    assert!(bugs.is_empty(), "{bugs:?}");
    for family in LIST {
        assert!(text.contains(&format!("# TYPE {} {}\n", family.name, family.kind)), "{}", family.name);
    }
    // Envoy adds histograms up every 5 s.
    eventually("waits are counted", async || {
        let waits = samples(&scrape().await, "tollgate_wait_ms");
        waits.iter().any(|(series, n)| series.starts_with("tollgate_wait_ms_count") && *n > 0)
    })
    .await;

    let billing = stage.gateway.send(Call::get(stage.settings().billing("/metrics"))).await.text();
    let scraped: BTreeSet<_> = samples(&billing, "tollgate_")
        .into_keys()
        .map(|series| series.split('{').next().unwrap().to_owned())
        .collect();
    let told: BTreeSet<_> = documented()
        .into_iter()
        .map(|row| row[0].clone())
        .filter(|name| name.starts_with("tollgate_billing_"))
        .collect();
    assert_eq!(scraped, told, "what the service shows, and what docs/metrics.md tells");
    stage.finish();
}

/// The rows of `docs/metrics.md` that tell of a metric: name, labels, question.
fn documented() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(root().unwrap().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `tollgate_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        [cells[1].clone(), cells[2].clone(), cells[3].clone()]
    })
    .collect()
}

#[test]
fn the_document_tells_what_the_list_tells() {
    let rows: Vec<_> =
        documented().into_iter().filter(|row| !row[0].starts_with("tollgate_billing_")).collect();
    let list: Vec<_> = LIST
        .iter()
        .map(|family| [family.name.to_owned(), family.labels.join(", "), family.question.to_owned()])
        .collect();
    assert_eq!(rows, list);
}
