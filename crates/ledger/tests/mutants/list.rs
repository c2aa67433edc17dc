//! What is broken in the ledger on purpose, by replacing text of its sources, and which test must notice.

/// One fault, as replacements in files of the project.
pub(crate) struct Mutant {
    pub(crate) what: &'static str,
    /// File, what stands there exactly once, and what stands there instead.
    pub(crate) edits: &'static [(&'static str, &'static str, &'static str)],
    /// The test that must go red: its package, its target (a file of its `tests`, or nothing for the crate's own) and its name.
    pub(crate) caught_by: (&'static str, &'static str, &'static str),
}

const NEED: &str = "crates/ledger/src/step/need.rs";
const REPORT: &str = "crates/ledger/src/step/report.rs";
const STEP: &str = "crates/ledger/src/step/mod.rs";
const EXPIRE: &str = "crates/ledger/src/step/expire.rs";
const ACCOUNT: &str = "crates/ledger/src/step/account.rs";
const REVERSAL: &str = "crates/ledger/src/step/reversal.rs";
const WINDOW: &str = "crates/ledger/src/step/window.rs";
const ZONE: &str = "crates/billing/src/catalog/zone.rs";
const LEDGER: &str = "tollgate-ledger";

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "burn order without id: of two grants that end together the newer is spent first",
        edits: &[(
            NEED,
            "grants.sort_by_key(|(id, grant)| (grant.terms.priority, grant.terms.expires_at, *id));",
            "grants.sort_by_key(|(id, grant)| (grant.terms.priority, grant.terms.expires_at, core::cmp::Reverse(*id)));",
        )],
        caught_by: (LEDGER, "holds", "of_two_grants_that_end_together_the_older_is_spent_first"),
    },
    Mutant {
        what: "burn order without id: a lease grows past an older grant that ends together with its own",
        edits: &[(
            REPORT,
            "(peer.terms.priority, peer.terms.expires_at, *other) < order",
            "(peer.terms.priority, peer.terms.expires_at) < (order.0, order.1) && *other != id",
        )],
        caught_by: (LEDGER, "leases", "a_lease_does_not_grow_past_an_older_grant_that_ends_with_its_own"),
    },
    Mutant {
        what: "what is being taken back is lent",
        edits: &[(NEED, "filter(|(_, grant)| grant.void_claim.is_zero())", "filter(|_| true)")],
        caught_by: (LEDGER, "leases", "what_is_being_taken_back_is_lent_to_nobody"),
    },
    Mutant {
        what: "a void leaves what leases give back to the customer",
        edits: &[(
            STEP,
            "let claimed = amount.min(grant.void_claim);",
            "let claimed = amount.min(grant.void_claim).min(Amount::ZERO);",
        )],
        caught_by: (LEDGER, "leases", "a_void_takes_back_from_a_lease_as_it_returns_and_claws_what_was_used"),
    },
    Mutant {
        what: "what comes back of a grant that has ended counts as available, until the command is over",
        edits: &[(STEP, "let ended = grant.terms.expires_at <= now;", "let ended = false;")],
        caught_by: (LEDGER, "windows", "what_comes_back_of_yesterday_expires_and_was_never_available"),
    },
    Mutant {
        what: "what comes back of a grant that has ended stays available",
        edits: &[
            (STEP, "let ended = grant.terms.expires_at <= now;", "let ended = false;"),
            (
                STEP,
                "grant.terms.expires_at <= now && !grant.avail.is_zero()",
                "grant.terms.expires_at < Instant::EPOCH",
            ),
        ],
        caught_by: (
            LEDGER,
            "leases",
            "i9_a_lease_never_outlives_its_grant_and_what_comes_back_later_has_expired",
        ),
    },
    Mutant {
        what: "late usage is counted each time that it is told",
        edits: &[(REPORT, "cell.late = add(row.late, late)?;", "")],
        caught_by: (LEDGER, "holds", "t14_what_is_told_after_the_end_is_covered_or_owed_and_once"),
    },
    Mutant {
        what: "a report opens a soft lease again",
        edits: &[(
            REPORT,
            "    if row.state == CellState::Open {\n",
            "    cell.state = CellState::Open;\n    if row.state == CellState::Open {\n",
        )],
        caught_by: (LEDGER, "leases", "a_soft_cell_takes_evidence_and_gives_nothing"),
    },
    Mutant {
        what: "a window is known by its rule, and not by its day",
        edits: &[(
            WINDOW,
            "let known = self.find(&Origin { unit, source, source_ref: source_ref.clone() });",
            "let source_ref = source_ref.chars().take_while(|c| *c != '#').collect::<String>();\n        \
             let known = self.find(&Origin { unit, source, source_ref: source_ref.clone() });",
        )],
        caught_by: (LEDGER, "windows", "f56_three_a_day_to_the_second"),
    },
    Mutant {
        what: "a lane is paid though one of its legs is not covered",
        edits: &[(
            NEED,
            "held_by(need, leg, own, spendable, extent)? else { return Ok(None) };",
            "held_by(need, leg, own, spendable, extent)? else { continue };",
        )],
        caught_by: (LEDGER, "holds", "t33_a_refused_need_takes_nothing_from_any_leg"),
    },
    Mutant {
        what: "who was refused and pays is not told to forget it",
        edits: &[(
            ACCOUNT,
            "        self.note(NoteKind::Replenished)?;\n        Ok(GrantAnswer::Made",
            "        Ok(GrantAnswer::Made",
        )],
        caught_by: (LEDGER, "holds", "t32_credits_that_arrive_void_what_gateways_remember_of_a_refusal"),
    },
    Mutant {
        what: "a refund is not told",
        edits: &[(
            REVERSAL,
            "self.note(if better { NoteKind::Replenished } else { NoteKind::Changed })?;",
            "if better {\n                self.note(NoteKind::Replenished)?;\n            }",
        )],
        caught_by: (
            LEDGER,
            "reversals",
            "gateways_are_told_of_a_refund_and_of_a_dispute_and_what_they_have_is_recalled",
        ),
    },
    Mutant {
        what: "a void is not told",
        edits: &[(
            ACCOUNT,
            "        } else {\n            self.note(NoteKind::Changed)?;\n        }\n        if !claimed",
            "        }\n        if !claimed",
        )],
        caught_by: (LEDGER, "reversals", "gateways_are_told_of_a_void_and_what_they_have_is_recalled"),
    },
    Mutant {
        what: "at the soft end nothing is kept for what was admitted and not told",
        edits: &[(EXPIRE, "cell.free().saturating_sub(cell.exposure)", "cell.free()")],
        caught_by: (
            LEDGER,
            "leases",
            "t53_what_lies_with_a_dead_process_comes_back_after_ttl_and_grace_less_holds_and_exposure",
        ),
    },
    Mutant {
        what: "a lease outlives its grant",
        edits: &[(
            NEED,
            "timing.ttl.plus(timing.grace)).min(grant.terms.expires_at);",
            "timing.ttl.plus(timing.grace));",
        )],
        caught_by: (
            LEDGER,
            "leases",
            "i9_a_lease_never_outlives_its_grant_and_what_comes_back_later_has_expired",
        ),
    },
    Mutant {
        what: "a hold that is asked for again is granted again",
        edits: &[(
            NEED,
            "let Mode::Hold { generation } = need.mode else { return Ok(None) };",
            "let Mode::Hold { .. } = need.mode else { return Ok(None) };\n        let generation = 0;",
        )],
        caught_by: (LEDGER, "holds", "a_repeated_need_finds_its_hold_and_a_finished_one_is_over"),
    },
    Mutant {
        what: "the same payment is granted again",
        edits: &[(
            ACCOUNT,
            "if let Some(id) = self.find(&terms.origin()) {",
            "if let Some(id) = self.find(&terms.origin()).filter(|_| false) {",
        )],
        caught_by: (
            LEDGER,
            "leases",
            "t24_t26_the_same_payment_grants_once_and_another_amount_is_a_conflict",
        ),
    },
    Mutant {
        what: "a recall is not told",
        edits: &[(
            NEED,
            "        if lent {\n            self.note(NoteKind::Recall)?;\n        }\n",
            "        _ = lent;\n",
        )],
        caught_by: (LEDGER, "leases", "t52_what_lies_idle_elsewhere_is_recalled_and_waited_for"),
    },
    Mutant {
        what: "the hard end comes with the soft one",
        edits: &[(
            EXPIRE,
            "cell.hard_at = cell.hard_at.max(now.plus(cell.hard_at.since(cell.soft_at)));",
            "cell.hard_at = now;",
        )],
        caught_by: (
            LEDGER,
            "holds",
            "a_hold_that_nobody_tells_of_is_settled_by_the_crash_policy_and_only_then",
        ),
    },
    Mutant {
        what: "reports are added, and not merged by maximum",
        edits: &[(
            REPORT,
            "cell.returned = row.returned.max(told.returned);",
            "cell.returned = add(row.returned, told.returned)?;",
        )],
        caught_by: (LEDGER, "random", "reports_may_be_lost_repeated_and_disordered"),
    },
    Mutant {
        what: "one request more is under way than may be at once",
        edits: &[(NEED, "unwrap_or(u32::MAX) >= most", "unwrap_or(u32::MAX) > most")],
        caught_by: (LEDGER, "holds", "so_many_holds_are_open_at_once_whichever_process_has_them"),
    },
    Mutant {
        what: "each process has room for as many requests as may be under way in all",
        edits: &[(
            NEED,
            "filter(|(id, cell)| id.is_hold() && cell.state != CellState::Closed);",
            "filter(|(id, cell)| id.is_hold() && cell.state != CellState::Closed && id.node == need.node);",
        )],
        caught_by: (LEDGER, "holds", "so_many_holds_are_open_at_once_whichever_process_has_them"),
    },
    Mutant {
        what: "midnight makes room for more requests at once: a hold whose window is over is not counted",
        edits: &[(
            NEED,
            "filter(|(id, cell)| id.is_hold() && cell.state != CellState::Closed);",
            "filter(|(id, cell)| id.is_hold() && cell.state == CellState::Open);",
        )],
        caught_by: (LEDGER, "windows", "midnight_makes_no_room_for_more_requests_at_once"),
    },
    Mutant {
        what: "what is spoken for in credits is spoken for in a window too",
        edits: &[(
            NEED,
            "Mode::Lease { .. } => leg.ahead,",
            "Mode::Lease { .. } => need.lanes.iter().flat_map(|lane| &lane.legs).map(|leg| leg.ahead).max().unwrap_or(leg.ahead),",
        )],
        caught_by: (LEDGER, "windows", "what_is_spoken_for_in_credits_is_no_reason_to_pass_a_window_over"),
    },
    Mutant {
        what: "a request that is paid by several grants counts as several",
        edits: &[(
            NEED,
            "map(|(id, _)| (&id.node, id.incarnation, id.generation)).collect();",
            "map(|(id, _)| (&id.node, id.incarnation, id.generation, id.grant)).collect();",
        )],
        caught_by: (LEDGER, "holds", "one_hold_of_several_grants_is_one_and_one_that_is_given_up_is_none"),
    },
    Mutant {
        what: "a day is one of UTC, wherever the customer is",
        edits: &[(ZONE, ".to_zoned(self.rules.clone()).date()", ".to_zoned(TimeZone::UTC).date()")],
        caught_by: ("tollgate-billing", "", "catalog::zone::tests::days_are_those_of_the_zone"),
    },
];
