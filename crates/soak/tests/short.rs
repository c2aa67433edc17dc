//! Half a minute of the soak, with each fault once, so that it is known to run, and what is broken altogether shows at once.

use soak::Plan;

#[test]
fn a_short_soak_holds() {
    let summary = soak::run(&Plan::short()).unwrap();
    println!("{}", summary.table());
    assert!(summary.passed());
    for (name, least) in [
        ("kills: billing", 1),
        ("kills: envoy", 1),
        ("standstills of billing", 1),
        ("standstills of envoy", 1),
        ("partitions: black hole", 1),
        ("pushes: new VMs with the same id", 1),
        ("savers: served", 100),
        ("honest, clear: served", 200),
    ] {
        assert!(summary.count(name) >= least, "{name}: too little happened to prove anything");
    }
}
