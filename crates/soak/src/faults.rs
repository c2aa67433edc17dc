//! What else befalls an Envoy besides a kill: it is cut off from billing, it stands still, it is given another configuration.

use crate::chaos::{BILLING_GRACE, Chaos};
use crate::field::side;
use crate::tally::Who;
use stage::harness::within;
use stage::link::Road;
use stage::processes::Signal;
use stage::pushed::Push;
use std::time::{Duration, Instant};

/// What can be the matter between an Envoy and billing, by turns; the worst first.
const ROADS: [(&str, Road); 5] = [
    ("black hole", Road::CUT),
    ("billing hears nothing", Road::CUT_TO),
    ("resets", Road::RESETS),
    ("the gateway hears nothing", Road::CUT_FROM),
    // Well within a call's two seconds, so it excuses nobody.
    ("slow", Road::late(Duration::from_millis(150))),
];
/// What Envoy has closed its client hears a little later.
const CLOSED_WITHIN: Duration = Duration::from_millis(300);
/// Envoy's clock for the drain is not ours.
const EARLIER: Duration = Duration::from_millis(200);
/// How long old connections may take to end beyond the drain time.
const DRAINED_WITHIN: Duration = Duration::from_secs(15);

impl Chaos {
    /// For half of a lease's time up to twice of it; sometimes billing is killed as well, and comes back to an Envoy less.
    pub(crate) async fn cut_off(&mut self, round: usize) {
        let gateway = round % 2;
        let Some((name, road)) = ROADS.get(round % ROADS.len()).copied() else { return };
        let (lease, excuses) = (self.lease_ms(), !name.eq("slow"));
        let window = excuses.then(|| self.tally().trouble(Who::Link(gateway)));
        self.gateway(gateway).road(road);
        let (first, rest) = (self.dice().millis(lease / 4, lease), self.dice().millis(lease / 4, lease));
        tokio::time::sleep(first).await;
        if self.dice().below(3) == 0 && round > 0 {
            self.tally().count("partitions: and billing killed");
            self.kill_billing().await;
        }
        tokio::time::sleep(rest).await;
        self.gateway(gateway).road(Road::OPEN);
        if let Some(window) = window {
            self.tally().over(window, BILLING_GRACE);
        }
        self.tally().count(&format!("partitions: {name}"));
        tokio::time::sleep(BILLING_GRACE).await;
    }

    /// In the midst of its traffic, for twice a lease's time. Who waits there waits; everybody else goes elsewhere, as a load
    /// balancer sees to it that notices. It comes back before the hard end of its leases, so nothing may be lost.
    pub(crate) async fn freeze_envoy(&mut self, gateway: usize) {
        if self.is_over_by_itself(gateway) {
            return;
        }
        let window = self.tally().trouble(Who::Still(gateway));
        self.gateway(gateway).envoy.signal(Signal::STOP);
        self.field().shut(gateway);
        tokio::time::sleep(Duration::from_millis(self.lease_ms().saturating_mul(2))).await;
        self.gateway(gateway).envoy.signal(Signal::CONT);
        self.field().reopen(gateway);
        self.tally().over(window, BILLING_GRACE);
        self.tally().count("standstills of envoy");
        tokio::time::sleep(BILLING_GRACE).await;
    }

    /// Under all traffic, of which nothing is excused but what is still under way on an old connection when its time is over:
    /// not before the drain time has passed, and once for each connection that there was. Who this process is and what it was
    /// lent stands in shared memory, so the new filters need not introduce themselves to billing.
    pub(crate) async fn push(&mut self, round: usize) {
        let gateway = round % 2;
        if self.is_over_by_itself(gateway) {
            return;
        }
        let push = *side(&[Push::Vms, Push::Roots], round / 2);
        let hellos = self.hellos().await;
        let number = self.next_push();
        let before = self.connections(gateway).await;
        let cuts_from =
            Instant::now().checked_add(self.drain().saturating_sub(EARLIER)).unwrap_or_else(Instant::now);
        let window = self.tally().trouble_from(Who::Old(gateway), cuts_from);
        self.gateway_mut(gateway).push(|file| push.edit(number, file)).await;
        let after = self.connections(gateway).await;
        let old = before.open.saturating_add(after.ever.saturating_sub(before.ever));
        self.tally().allow_cuts(&window, old);
        self.tally().add("connections of an earlier configuration, at pushes", old);
        let of = self.gateway(gateway);
        within(DRAINED_WITHIN, "the old filter ends", async || !of.is_draining().await).await;
        self.tally().over(window, CLOSED_WITHIN);
        let again = self.hellos().await.saturating_sub(hellos);
        self.tally().add("pushes after which a filter had forgotten who it is", again);
        self.tally().count(match push {
            Push::Vms => "pushes: new VMs with the same id",
            Push::Roots => "pushes: new roots in the same VMs",
        });
    }

    /// Of its clients.
    async fn connections(&self, gateway: usize) -> Connections {
        let stats = self.gateway(gateway).stats().await;
        let stat =
            |name: &str| stats.get(&format!("http.gateway.downstream_cx_{name}")).copied().unwrap_or(0);
        Connections { open: stat("active"), ever: stat("total") }
    }
}

/// How many connections an Envoy has, and how many it has had.
struct Connections {
    open: u64,
    ever: u64,
}
