//! Some seconds of the soak, so that it is known to run, and what is broken altogether shows at once.

use soak::Plan;

#[test]
fn a_short_soak_holds() {
    let summary = soak::run(&Plan::short()).unwrap();
    println!("{}", summary.table());
    assert!(summary.passed());
    for (name, least) in [("kills: billing", 1), ("kills: envoy", 1), ("honest, clear: served", 200)] {
        assert!(summary.count(name) >= least, "{name}: too little happened to prove anything");
    }
}
