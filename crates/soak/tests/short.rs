//! Half a minute of the soak, with each fault once, so that it is known to run, and what is broken altogether shows at once.

use soak::Plan;

#[test]
fn a_short_soak_holds() {
    let summary = soak::run(&Plan::short()).unwrap();
    println!("{}", summary.table());
    assert!(summary.passed());
    // Of partitions and pushes the first is the worst; that there was enough of everything else stands in the verdict.
    for name in ["partitions: black hole", "pushes: new VMs with the same id"] {
        assert!(summary.count(name) >= 1, "{name}: too little happened to prove anything");
    }
}
