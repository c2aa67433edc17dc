//! What a customer may do where they stand.

use super::standing::{Stage, Standing};

/// Who may buy packages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PackagesFor {
    /// Everybody.
    #[default]
    Everybody,
    /// Those to whom a subscription gives a tier.
    Subscribers,
}

/// What a customer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permits {
    /// Spend credits and free allowances.
    pub can_use_credits: bool,
    /// Begin a subscription: there is none that lives.
    pub can_subscribe: bool,
    /// Move the subscription to another plan: there is one in order.
    pub can_change_plan: bool,
    /// Buy credits.
    pub can_buy_package: bool,
}

/// What a standing permits; nothing where an operator stopped the account.
#[must_use]
pub fn permits(standing: &Standing, suspended: bool, packages_for: PackagesFor) -> Permits {
    let (can_subscribe, can_change_plan) = match standing.stage {
        Stage::NoSubscription | Stage::Canceled | Stage::Expired => (true, false),
        Stage::Trialing | Stage::Active => (false, true),
        // It lives and is owed for, or may still be paid: a second one would be paid for beside it.
        Stage::Incomplete | Stage::PastDue | Stage::Unpaid | Stage::Paused => (false, false),
    };
    let subscribed = standing.tier.is_some() && standing.why.is_none();
    let can_buy_package = match packages_for {
        PackagesFor::Everybody => true,
        PackagesFor::Subscribers => subscribed,
    };
    Permits {
        can_use_credits: !suspended && standing.tier.is_some(),
        can_subscribe: !suspended && can_subscribe,
        can_change_plan: !suspended && can_change_plan,
        can_buy_package: !suspended && can_buy_package,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Refusal;
    use units::TierId;

    /// For each stage: may subscribe, may change plan.
    const STAGES: [(Stage, bool, bool); 9] = [
        (Stage::NoSubscription, true, false),
        (Stage::Incomplete, false, false),
        (Stage::Trialing, false, true),
        (Stage::Active, false, true),
        (Stage::PastDue, false, false),
        (Stage::Unpaid, false, false),
        (Stage::Paused, false, false),
        (Stage::Canceled, true, false),
        (Stage::Expired, true, false),
    ];

    #[test]
    fn every_stage_with_every_standing_permits_what_it_should() {
        assert_eq!(STAGES.map(|(stage, ..)| stage).as_slice(), Stage::ALL);
        let tier = TierId::new("some").ok();
        let standings = [(tier.clone(), None), (tier, Some(Refusal::Unpaid)), (None, Some(Refusal::Unpaid))];
        for (stage, subscribe, change) in STAGES {
            for (tier, why) in standings.clone() {
                let standing = Standing { tier, stage, why, ..Standing::none(None) };
                for packages_for in [PackagesFor::Everybody, PackagesFor::Subscribers] {
                    let buys = packages_for == PackagesFor::Everybody || standing.why.is_none();
                    let expected = Permits {
                        can_use_credits: standing.tier.is_some(),
                        can_subscribe: subscribe,
                        can_change_plan: change,
                        can_buy_package: buys,
                    };
                    assert_eq!(permits(&standing, false, packages_for), expected, "{standing:?}");
                    let nothing = Permits {
                        can_use_credits: false,
                        can_subscribe: false,
                        can_change_plan: false,
                        can_buy_package: false,
                    };
                    assert_eq!(permits(&standing, true, packages_for), nothing);
                }
            }
        }
    }
}
