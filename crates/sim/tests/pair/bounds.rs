//! The bounds of one exploration, and what is broken in it on purpose.

use ledger::CrashPolicy;

/// Time is in whole ticks (seconds), credits in needs: every request holds one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// What was bought.
    pub(crate) credits: u8,
    /// What the free window allows, and the one that follows it; 0 is none.
    pub(crate) windows: [u8; 2],
    /// When the first window ends.
    pub(crate) midnight: u8,
    /// By how much a gateway may be ahead of what was acknowledged; 0 is by the whole lease.
    pub(crate) exposure: u8,
    /// How long a lease may be spent from, how long a request may last, when the world ends.
    pub(crate) ttl: u8,
    pub(crate) longest: u8,
    pub(crate) until: u8,
    /// How many syncs are sent by both together.
    pub(crate) sends: u8,
    /// How many requests each gateway has in flight.
    pub(crate) flight: usize,
    /// How many messages of each gateway are under way, each direction.
    pub(crate) up: usize,
    pub(crate) down: usize,
    /// Whether each question says that an answer was lost, and is answered with all that is out.
    pub(crate) lost: bool,
    /// Whether a gateway may die, and who bears that.
    pub(crate) dies: bool,
    pub(crate) crash: CrashPolicy,
    pub(crate) mutant: Mutant,
    pub(crate) states_max: usize,
}

/// What is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    None,
    /// A recall gives back what requests in flight hold.
    HeldReturned,
    /// A recalled cell is said to be given back, and is spent all the same.
    RaisedAfterSending,
    /// What comes back of the window is made bought credits.
    WindowBecomesCredits,
    /// What comes back of a window that has ended is available.
    EndedIsAvailable,
    /// A gateway adds what it was granted to what it had been granted before.
    GrantedIsDelta,
    /// A gateway tells the ledger's totals again on top of them.
    ReportsAreDeltas,
    /// Nobody heeds a recall.
    RecallUnheeded,
    /// A gateway's deadline counts from when the answer came.
    DeadlineFromReceipt,
    /// A lease of a window is spent after the window's end.
    EndIgnored,
    /// The ledger takes one gateway for the other.
    NodesConfused,
    /// Late usage is counted as often as it is told.
    LateTwice,
    /// At the soft end nothing is kept for what was admitted and not told.
    NoReserve,
    /// A report opens a soft cell again.
    SoftReopened,
    /// The hard end comes with the soft one.
    TailIgnored,
    /// A cell that was forgotten may come again.
    FloorForgotten,
    /// The last report that arrives counts, though it was sent before another one.
    LastReportCounts,
    /// Who says that an answer was lost is not told of what is out.
    UnheardUntold,
}

impl Bounds {
    /// Bought credits alone: whatever lies idle at one gateway is wanted at the other.
    pub(crate) fn recall(crash: CrashPolicy) -> Self {
        Self {
            credits: 2,
            windows: [0, 0],
            midnight: 9,
            exposure: 1,
            ttl: 1,
            longest: 1,
            until: 2,
            sends: 3,
            flight: 1,
            up: 1,
            down: 1,
            lost: false,
            dies: true,
            crash,
            mutant: Mutant::None,
            states_max: 60_000_000,
        }
    }

    /// A free window beside bought credits, whose end comes while it is lent.
    pub(crate) fn midnight(crash: CrashPolicy) -> Self {
        Self { credits: 1, windows: [1, 0], midnight: 1, ttl: 2, ..Self::recall(crash) }
    }

    /// Two messages of each gateway may be under way, each way: an older one arrives after a newer one.
    pub(crate) fn disorder(crash: CrashPolicy) -> Self {
        Self { credits: 1, up: 2, down: 2, dies: false, ..Self::recall(crash) }
    }

    /// The same with what `PAIR` says: `PAIR='credits=3 until=4 sends=3'`.
    pub(crate) fn widened(mut self) -> Self {
        let text = std::env::var("PAIR").unwrap_or_default();
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("PAIR: {word}: name=number"));
            let number: u8 = value.parse().unwrap_or_else(|_| panic!("PAIR: {word}: name=number"));
            match name {
                "credits" => self.credits = number,
                "window" => self.windows[0] = number,
                "next" => self.windows[1] = number,
                "midnight" => self.midnight = number,
                "exposure" => self.exposure = number,
                "ttl" => self.ttl = number,
                "longest" => self.longest = number,
                "until" => self.until = number,
                "sends" => self.sends = number,
                "flight" => self.flight = number.into(),
                "up" => self.up = number.into(),
                "down" => self.down = number.into(),
                "lost" => self.lost = number != 0,
                "dies" => self.dies = number != 0,
                "millions" => self.states_max = usize::from(number) * 1_000_000,
                _ => panic!("PAIR: there is no bound {name}"),
            }
        }
        // Lines and sums have that much room.
        assert!(self.up <= 2 && self.down <= 2 && self.until <= 9, "PAIR: up and down to 2, until to 9");
        self
    }
}
