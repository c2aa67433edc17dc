//! After the traffic: waits until nothing is lent any more, and compares the ledger with what the upstream served.

use crate::Plan;
use crate::chaos::Chaos;
use crate::events::{APP, BUYERS, QUIET, app_event, buyer};
use crate::field::{AMPLE, Field, HONEST, LEAVER, RISKING, TROUBLED, honest};
use crate::hostile::{BEGUN, FORGED, POOR_CREDITS, poor};
use crate::savers::{SAVED, saver};
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

/// Whether nothing of an account is lent or held.
fn is_at_rest(account: &Value) -> bool {
    lent(account) == 0 && micro(account, "held_micro") == 0
}

fn micro(account: &Value, field: &str) -> i64 {
    account.get(field).and_then(Value::as_i64).unwrap_or(0)
}

/// Waits until an account has nothing lent or held, and gives its balance in micro-credits.
async fn settled(field: &Field, name: &str, deadline: Instant) -> Result<i64> {
    loop {
        let account = field.account(name).await?;
        if !is_at_rest(&account) && Instant::now() <= deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        if !is_at_rest(&account) {
            field.tally.odd("books: never settled", account.to_string());
        }
        return Ok(micro(&account, "balance_micro"));
    }
}

/// Credits that were delivered beyond what was granted and what a kill may cost.
pub(crate) const OVERSPENT: &str = "overspent: micro-credits";
/// Credits that were delivered and never charged, beyond what Envoys may not have told when they were killed.
pub(crate) const LOST: &str = "lost beyond the bound: micro-credits";
/// Events that were handled twice at a quiet time, packages that were credited twice.
pub(crate) const DOUBLED: &str = "doubled: events and packages";

/// One customer's account, settled, beside what the upstream delivered.
struct Account {
    had: i64,
    served: i64,
    charged: i64,
    /// What Envoys may not have told when they were killed, and requests on connections that were cut with an old configuration.
    in_doubt: i64,
}

impl Account {
    async fn of(chaos: &Chaos, field: &Field, name: &str, had: u32, deadline: Instant) -> Result<Self> {
        let served = credits(chaos.served(name));
        Self::with(chaos, field, name, (had, served), deadline).await
    }

    async fn with(
        chaos: &Chaos,
        field: &Field,
        name: &str,
        (had, served): (u32, i64),
        deadline: Instant,
    ) -> Result<Self> {
        let had = credits(u64::from(had));
        let charged = had.saturating_sub(settled(field, name, deadline).await?);
        let cut = credits(field.tally.get(&format!("cut {name}")));
        let in_doubt = chaos.in_doubt.get(name).copied().unwrap_or(0).saturating_add(cut);
        let account = Self { had, served, charged, in_doubt };
        let beyond = |most: i64| u64::try_from(served.saturating_sub(most)).unwrap_or(0);
        field.tally.add(OVERSPENT, beyond(had.saturating_add(in_doubt)));
        field.tally.add(LOST, beyond(charged.saturating_add(in_doubt)));
        if !account.holds() {
            let figures =
                format!("{name}: had {had}, served {served}, charged {charged}, in doubt {in_doubt}");
            field.tally.odd("books: not in order", figures);
        }
        Ok(account)
    }

    const fn lost(&self) -> i64 {
        self.served.saturating_sub(self.charged)
    }

    /// Nobody pays for what was not delivered, nor has more than was paid for, beyond what a kill may cost.
    const fn holds(&self) -> bool {
        0 <= self.lost()
            && self.lost() <= self.in_doubt
            && self.served <= self.had.saturating_add(self.in_doubt)
    }
}

pub(crate) fn credits(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(MICRO)
}

/// The verdict on the books, line by line.
pub(crate) async fn settle(chaos: &Chaos, field: &Field, plan: &Plan) -> Result<Vec<Line>> {
    // A lease that died with its Envoy goes soft, then hard.
    let wait = Duration::from_millis(u64::from(plan.lease_ms).saturating_mul(6))
        .saturating_add(Duration::from_secs(20));
    let deadline = Instant::now().checked_add(wait).unwrap_or_else(Instant::now);
    let mut lines = vec![honest_books(chaos, field, deadline).await?];
    for (name, key) in [(RISKING[0], RISKING[0]), (RISKING[1], RISKING[1]), (TROUBLED, BEGUN)] {
        let served = credits(chaos.served(key));
        lines.push(crash_books(chaos, field, name, served, deadline).await?);
    }
    lines.push(savers_books(chaos, field, deadline).await?);
    let served = credits(chaos.served(LEAVER));
    let charged = credits(u64::from(AMPLE)).saturating_sub(settled(field, LEAVER, deadline).await?);
    lines.push(Line {
        what: "whoever leaves is never charged for more than reached the upstream".into(),
        holds: (0..=served).contains(&charged),
        figures: format!("{} charged of {}", charged / MICRO, served / MICRO),
    });
    lines.push(poor_books(chaos, field, deadline).await?);
    lines.push(bought(field, deadline).await?);
    lines.push(handled(chaos, field));
    // What is garbled, and some of what is forged, has no script and so no key.
    let forged = chaos.asked_anywhere(FORGED).saturating_add(chaos.asked_anywhere(""));
    lines.push(Line {
        what: "nothing forged or unpaid reached the upstream".into(),
        holds: forged == 0,
        figures: forged.to_string(),
    });
    Ok(lines)
}

async fn honest_books(chaos: &Chaos, field: &Field, deadline: Instant) -> Result<Line> {
    let (mut served, mut charged, mut equal) = (0_i64, 0_i64, true);
    for name in (0..HONEST).map(honest) {
        let its = Account::of(chaos, field, &name, AMPLE, deadline).await?;
        equal &= its.holds();
        served = served.saturating_add(its.served);
        charged = charged.saturating_add(its.charged);
    }
    Ok(Line {
        what: "honest customers: charged exactly what was served, but for what was cut with an old configuration".into(),
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
    let its = Account::with(chaos, field, name, (AMPLE, served), deadline).await?;
    Ok(Line {
        what: format!("{name}: no more lost than was served through Envoys in the moments before they died"),
        holds: its.holds(),
        figures: format!(
            "{} lost of {} served; {} in doubt",
            its.lost() / MICRO,
            its.served / MICRO,
            its.in_doubt / MICRO
        ),
    })
}

/// Those who spent all they had; where no Envoy was killed meanwhile, to the last micro-credit.
async fn savers_books(chaos: &Chaos, field: &Field, deadline: Instant) -> Result<Line> {
    let (customers, mut holds) = (field.tally.get("savers"), true);
    let [mut had, mut served, mut lost, mut in_doubt] = [0_i64; 4];
    for name in (0..customers).map(saver) {
        let its = Account::of(chaos, field, &name, SAVED, deadline).await?;
        holds &= its.holds();
        had = had.saturating_add(its.had);
        served = served.saturating_add(its.served);
        lost = lost.saturating_add(its.lost());
        in_doubt = in_doubt.saturating_add(its.in_doubt);
    }
    Ok(Line {
        what: format!("{customers} savers: charged what was served, and never served more than they had"),
        holds,
        figures: format!(
            "{} had, {} served, {} lost; {} in doubt",
            had / MICRO,
            served / MICRO,
            lost / MICRO,
            in_doubt / MICRO
        ),
    })
}

async fn poor_books(chaos: &Chaos, field: &Field, deadline: Instant) -> Result<Line> {
    let customers = field.tally.get("poor customers");
    let (mut served, mut charged, mut holds) = (0_i64, 0_i64, true);
    for name in (0..customers).map(poor) {
        let its = Account::of(chaos, field, &name, POOR_CREDITS, deadline).await?;
        holds &= its.holds() && its.served <= its.had;
        served = served.saturating_add(its.served);
        charged = charged.saturating_add(its.charged);
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
            field.tally.odd("books: not in order", format!("{name}: {bought} packages, balance {balance}"));
            let twice = balance.saturating_sub(credits(bought.saturating_mul(100))) / credits(100);
            field.tally.add(DOUBLED, u64::try_from(twice).unwrap_or(0));
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
            field.tally.count(DOUBLED);
            field.tally.odd("events: handled twice at a quiet time", id);
        } else if times > 1 {
            again = again.saturating_add(1);
        }
    }
    Line {
        what: "each event was handled, and once only, unless something happened meanwhile".into(),
        holds: lost == 0 && doubled == 0,
        figures: format!(
            "{events} events, {lost} lost; of {} at a quiet time {doubled} doubled; {again} handed over again around a fault",
            field.tally.get(QUIET)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_account_is_at_rest_when_nothing_is_lent_and_nothing_is_held() {
        let account = |leased: i64, held: i64| {
            let grants = json!([{ "leased_micro": 0 }, { "leased_micro": leased }]);
            is_at_rest(&json!({ "grants": grants, "held_micro": held }))
        };
        assert_eq!([account(0, 0), account(1, 0), account(0, 1)], [true, false, false]);
    }
}
