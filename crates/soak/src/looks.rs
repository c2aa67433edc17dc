//! Looks at what Envoys and billing have counted of a life before it ends: which faults were due here, and which never are.

use crate::chaos::Chaos;
use crate::tally::Tally;
use stage::client::{Call, Client};
use stage::processes::Process;

/// A process that had ended before anybody killed it: what was taken for our kill was its own.
pub(crate) const BY_ITSELF: &str = "processes that ended by themselves";
/// Whatever is not in the lists below.
pub(crate) const NOT_DUE: &str = "faults that nothing here causes";
/// Of the filter and of billing.
pub(crate) const BUGS: [&str; 2] = ["bugs counted by the filter", "bugs counted by billing"];

/// Faults of a call that a kill, a standstill, a cut or a slow machine rightly causes: billing was not reached, broke off, or
/// was late. An answer that came whole is never one of these, for what is cut in the midst of it is a reset to Envoy. So no
/// outage makes an answer that is refused, too large, no JSON, of another call, or another grant than was asked for. Nor are
/// there ever enough customers here for a backlog (8,192 that wait in one worker).
const OUTAGES: [&str; 4] = ["not_sent", "reset", "unreachable", "late"];
/// Other faults of the filter that are due here.
const DUE: [&str; 9] = [
    // The claim's three seconds were over before billing could be told: it was away, or an Envoy stood still.
    "claim_stale",
    "completion_lost",
    // Workers of one Envoy in each other's way in shared memory. Each says what it does instead.
    "seen_accept_missed",
    "seen_release_missed",
    "slot_busy",
    // Two customers whose slot is the same.
    "slot_taken",
    // Whoever left, or was killed, while the answer was on its way.
    "stream_gone",
    // Billing did not take all of a sync, which is told again.
    "unacknowledged",
    // A worker that was silent for ten seconds: its Envoy stood still for so long; or its VM was replaced by a push. Such a VM
    // Envoy ends as soon as its connections have ended, whatever the filter answers to `on_done`: only who owes nothing then
    // has taken its leave.
    "worker_lost",
];
/// What billing may answer that is no success: a sync that came late, after its sender had given it up and sent another one;
/// and a call whose sender was killed or cut off in the midst of it.
const REFUSED: [&str; 3] = ["overtaken", "conflict", "broken_off"];

/// Whether the filter may count this here.
fn is_due(fault: &str) -> bool {
    OUTAGES.contains(&fault) || DUE.contains(&fault)
}

impl Tally {
    /// One of the filter's counters, by Envoy's name of it.
    fn take_counter(&self, gateway: usize, name: &str, count: u64) {
        let [by_filter, _] = BUGS;
        let count_of = |metric: &str| Some(name.split_once(metric)?.1).filter(|_| count > 0);
        if name.contains(".vm_reload") {
            self.add("traps (vm_reload)", count);
        } else if name.contains("tollgate_bugs_total") {
            self.add(by_filter, count);
        } else if let Some(fault) = count_of("tollgate_faults_total.fault.") {
            self.add(&format!("faults: {fault}"), count);
            if !is_due(fault) {
                self.odd(NOT_DUE, format!("{fault}, {count} at gateway {gateway}"));
            }
        } else if let Some((call, result)) =
            count_of("tollgate_calls_total.call.").and_then(|of| of.split_once(".result."))
        {
            if result != "ok" {
                self.add(&format!("calls: {call} {result}"), count);
            }
            if result != "ok" && !OUTAGES.contains(&result) {
                self.odd(NOT_DUE, format!("{call} ended {result}, {count} at gateway {gateway}"));
            }
        }
    }

    /// A line of billing's metrics.
    fn take_metric(&self, line: &str) {
        let [_, by_billing] = BUGS;
        let of = |line: &str| {
            let (kind, count) =
                line.strip_prefix("tollgate_billing_errors_total{kind=\"")?.split_once("\"} ")?;
            Some((kind.to_owned(), count.trim().parse::<u64>().ok()?))
        };
        let Some((kind, count)) = of(line).filter(|(_, count)| *count > 0) else { return };
        if kind == "bug" {
            return self.add(by_billing, count);
        }
        self.add(&format!("errors of billing: {kind}"), count);
        if !REFUSED.contains(&kind.as_str()) {
            self.odd(NOT_DUE, format!("{kind}, {count} at billing"));
        }
    }
}

impl Chaos {
    /// What an Envoy's counters tell of its life so far; once in each life.
    pub(crate) async fn look(&mut self, gateway: usize) {
        if self.is_over_by_itself(gateway) {
            return;
        }
        let of = self.gateway(gateway);
        for (name, count) in of.stats().await {
            self.tally().take_counter(gateway, &name, count);
        }
        self.tally().add("traps (log)", u64::from(of.trap().is_some()));
        self.see_memory("memory at most: envoy, KiB", of.envoy.pid());
    }

    /// The same for billing.
    pub(crate) async fn look_at_billing(&mut self) {
        if self.is_billing_over_by_itself() {
            return;
        }
        let pid = self.stage.billing.as_ref().map(Process::pid);
        match Client::default().send(Call::get(self.stage.settings().billing("/metrics"))).await {
            Ok(answer) => answer.text().lines().for_each(|line| self.tally().take_metric(line)),
            Err(trouble) => {
                self.tally().odd(NOT_DUE, format!("billing does not tell what it counted: {trouble}"))
            }
        }
        self.see_memory("memory at most: billing, KiB", pid.unwrap_or(0));
    }

    /// Whether this Envoy has died, though nobody killed it.
    pub(crate) fn is_over_by_itself(&mut self, gateway: usize) -> bool {
        let ended = self.gateway_mut(gateway).envoy.ended();
        if let Some(status) = ended {
            self.tally().odd(BY_ITSELF, format!("Envoy of gateway {gateway}: {status}"));
        }
        ended.is_some()
    }

    /// The same for billing.
    pub(crate) fn is_billing_over_by_itself(&mut self) -> bool {
        let ended = self.stage.billing.as_mut().and_then(Process::ended);
        if let Some(status) = ended {
            self.tally().odd(BY_ITSELF, format!("billing: {status}"));
        }
        ended.is_some()
    }

    fn see_memory(&self, name: &str, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        self.tally().at_most(name, kib.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_thought_of_is_not_due() {
        let tally = Tally::default();
        for (name, count) in [
            ("wasmcustom.tollgate_faults_total.fault.late", 3),
            ("wasmcustom.tollgate_faults_total.fault.nonsense", 0),
            ("wasmcustom.tollgate_calls_total.call.sync.result.ok", 5),
            ("wasmcustom.tollgate_calls_total.call.sync.result.reset", 2),
        ] {
            tally.take_counter(0, name, count);
        }
        tally.take_metric("tollgate_billing_errors_total{kind=\"overtaken\"} 4");
        assert_eq!(
            [NOT_DUE, "faults: late", "calls: sync reset", "errors of billing: overtaken"]
                .map(|what| tally.get(what)),
            [0, 3, 2, 4]
        );
        tally.take_counter(0, "wasmcustom.tollgate_faults_total.fault.nonsense", 1);
        tally.take_counter(1, "wasmcustom.tollgate_faults_total.fault.made_up_tomorrow", 1);
        tally.take_counter(1, "wasmcustom.tollgate_calls_total.call.watch.result.garbage", 1);
        tally.take_metric("tollgate_billing_errors_total{kind=\"beyond_granted\"} 1");
        assert_eq!(tally.get(NOT_DUE), 4);
        tally.take_counter(0, "wasmcustom.tollgate_bugs_total.bug.headers_again", 1);
        tally.take_metric("tollgate_billing_errors_total{kind=\"bug\"} 2");
        assert_eq!(BUGS.map(|what| tally.get(what)), [1, 2]);
    }
}
