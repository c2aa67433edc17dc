//! After the traffic: waits until nothing is lent any more, and compares the ledger with what the upstream served.

use crate::Plan;
use crate::chaos::Chaos;
use crate::events::{APP, BUYERS, app_event, buyer};
use crate::field::{AMPLE, Field, HONEST, LEAVER, RISKING, TROUBLED, honest};
use crate::hostile::{BEGUN, FORGED, POOR_CREDITS, poor};
use serde_json::Value;
use stage::Result;
use std::time::{Duration, Instant};

/// A credit.
const MICRO: i64 = 1_000_000;
/// What everybody pays for.
pub(crate) const PAID: &str = "/v1/embeddings";

/// What must hold, and whether it does.
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) holds: bool,
    pub(crate) figures: String,
}

/// What is lent or held of an account's grants, in micro-credits.
pub(crate) fn lent(account: &Value) -> i64 {
    let grants = account.get("grants").and_then(Value::as_array).into_iter().flatten();
    grants.filter_map(|grant| grant.get("leased_micro")?.as_i64()).fold(0, i64::saturating_add)
}

/// Waits until an account has nothing lent or held, and gives its balance in micro-credits.
async fn settled(field: &Field, name: &str, deadline: Instant) -> Result<i64> {
    loop {
        let account = field.account(name).await?;
        let micro = |field| account.get(field).and_then(Value::as_i64).unwrap_or(0);
        if (lent(&account) == 0 && micro("held_micro") == 0) || Instant::now() > deadline {
            if Instant::now() > deadline {
                field.tally.odd("books: never settled", account.to_string());
            }
            return Ok(micro("balance_micro"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn credits(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(MICRO)
}

/// The verdict on the books, line by line.
pub(crate) async fn settle(chaos: &Chaos, field: &Field, plan: &Plan) -> Result<Vec<Line>> {
    // A lease that died with its Envoy goes soft, then hard.
    let wait = Duration::from_millis(u64::from(plan.lease_ms).saturating_mul(4))
        .saturating_add(Duration::from_secs(20));
    let deadline = Instant::now().checked_add(wait).unwrap_or_else(Instant::now);
    let mut lines = vec![honest_books(chaos, field, deadline).await?];
    for name in RISKING {
        let served = credits(chaos.asked(PAID, name));
        lines.push(crash_books(chaos, field, name, served, deadline).await?);
    }
    let begun = credits(chaos.asked(PAID, BEGUN));
    lines.push(crash_books(chaos, field, TROUBLED, begun, deadline).await?);
    let served = credits(chaos.asked(PAID, LEAVER));
    let charged = credits(u64::from(AMPLE)).saturating_sub(settled(field, LEAVER, deadline).await?);
    lines.push(Line {
        what: "whoever leaves is never charged for more than reached the upstream".into(),
        holds: (0..=served).contains(&charged),
        figures: format!("{} charged of {}", charged / MICRO, served / MICRO),
    });
    lines.push(poor_books(chaos, field, deadline).await?);
    lines.push(bought(field, deadline).await?);
    lines.push(handled(chaos, field));
    let forged = chaos.asked(APP, FORGED).saturating_add(chaos.asked(PAID, FORGED));
    lines.push(Line {
        what: "nothing forged or unpaid reached the upstream".into(),
        holds: forged == 0,
        figures: forged.to_string(),
    });
    let bugs = chaos.billing_bugs().await;
    lines.push(Line {
        what: "no bug counted by billing".into(),
        holds: bugs == 0,
        figures: bugs.to_string(),
    });
    Ok(lines)
}

async fn honest_books(chaos: &Chaos, field: &Field, deadline: Instant) -> Result<Line> {
    let (mut served, mut charged, mut equal) = (0_i64, 0_i64, true);
    for name in (0..HONEST).map(honest) {
        let its = credits(chaos.asked(PAID, &name));
        let paid = credits(u64::from(AMPLE)).saturating_sub(settled(field, &name, deadline).await?);
        if its != paid {
            field.tally.odd("books: not equal", format!("{name}: served {its}, charged {paid}"));
        }
        equal &= its == paid;
        served = served.saturating_add(its);
        charged = charged.saturating_add(paid);
    }
    Ok(Line {
        what: "honest customers: charged exactly what was served".into(),
        holds: equal,
        figures: format!("{} charged of {}", charged / MICRO, served / MICRO),
    })
}

/// Those whose Envoy was killed under them.
async fn crash_books(
    chaos: &Chaos,
    field: &Field,
    name: &str,
    served: i64,
    deadline: Instant,
) -> Result<Line> {
    let charged = credits(u64::from(AMPLE)).saturating_sub(settled(field, name, deadline).await?);
    let in_doubt = chaos.in_doubt.get(name).copied().unwrap_or(0);
    let lost = served.saturating_sub(charged);
    Ok(Line {
        what: format!("{name}: no more lost than was lent to Envoys when they died"),
        holds: (0..=in_doubt).contains(&lost),
        figures: format!("{} lost of {} served; {} in doubt", lost / MICRO, served / MICRO, in_doubt / MICRO),
    })
}

async fn poor_books(chaos: &Chaos, field: &Field, deadline: Instant) -> Result<Line> {
    let (customers, most) = (field.tally.get("poor customers"), credits(u64::from(POOR_CREDITS)));
    let (mut served, mut charged, mut holds) = (0_i64, 0_i64, true);
    for name in (0..customers).map(poor) {
        let its = credits(chaos.asked(PAID, &name));
        let paid = most.saturating_sub(settled(field, &name, deadline).await?);
        // An Envoy that is killed in the midst of it may have served what it never reported.
        let in_order = its <= most.saturating_add(most) && paid <= its;
        if !in_order || its > most {
            field
                .tally
                .odd("poor: more served than paid for", format!("{name}: served {its}, charged {paid}"));
        }
        holds &= in_order && its <= most;
        served = served.saturating_add(its);
        charged = charged.saturating_add(paid);
    }
    Ok(Line {
        what: format!("{customers} poor customers: none was served more than it had"),
        holds,
        figures: format!("{} charged of {} served", charged / MICRO, served / MICRO),
    })
}

async fn bought(field: &Field, deadline: Instant) -> Result<Line> {
    let (mut wrong, mut packages) = (0_u64, 0_u64);
    for name in (0..BUYERS).map(buyer) {
        let bought = field.tally.get(&format!("bought by {name}"));
        if bought == 0 {
            continue;
        }
        let balance = settled(field, &name, deadline).await?;
        if balance != credits(bought.saturating_mul(100)) {
            field.tally.odd("books: not equal", format!("{name}: {bought} packages, balance {balance}"));
            wrong = wrong.saturating_add(1);
        }
        packages = packages.saturating_add(bought);
    }
    let figures = format!("{packages} packages, {wrong} buyers with a wrong balance");
    Ok(Line { what: "each package that was paid for was credited once".into(), holds: wrong == 0, figures })
}

fn handled(chaos: &Chaos, field: &Field) -> Line {
    let (mut lost, mut doubled, mut again) = (0_u64, 0_u64, 0_u64);
    let events = field.tally.get("events: for the app");
    for id in (0..events).map(app_event) {
        let (times, quiet) = (chaos.asked(APP, &id), field.tally.get(&format!("quiet {id}")) > 0);
        if times == 0 {
            lost = lost.saturating_add(1);
            field.tally.odd("events: lost", id);
        } else if times > 1 && quiet {
            doubled = doubled.saturating_add(1);
            field.tally.odd("events: handled twice at a quiet time", id);
        } else if times > 1 {
            again = again.saturating_add(1);
        }
    }
    Line {
        what: "each event was handled, and once only, unless something was killed meanwhile".into(),
        holds: lost == 0 && doubled == 0,
        figures: format!(
            "{events} events, {lost} lost, {doubled} doubled; {again} handed over again around a kill"
        ),
    }
}
