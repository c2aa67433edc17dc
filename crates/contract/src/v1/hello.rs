//! A gateway introduces itself: which incarnation it is, and what pace and bounds the server asks for.

use serde::{Deserialize, Serialize};
use units::NodeName;

/// Sent once by each process (by each of its workers, harmlessly) before its first [`super::Sync`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The stable name of this Envoy.
    pub node: NodeName,
}

/// The incarnation to use from now on, and the server's intervals and limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// As it was asked.
    pub node: NodeName,
    /// Strictly greater than every incarnation that this node was ever given. Workers of one process agree on
    /// the one that reached their shared memory first.
    pub incarnation: u64,
    /// The pace that the server asks for.
    pub intervals: Intervals,
    /// The bounds that the server enforces on one call.
    pub limits: Limits,
}

/// Intervals in milliseconds; only intervals cross the wire, never instants to compare clocks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervals {
    /// How long a lease or a hold lives without being reported again.
    pub lease_ttl_ms: u64,
    /// How long after that an unfinished hold may still be reported before it is settled by the crash policy.
    pub lease_tail_ms: u64,
    /// The shortest time between two background syncs of one worker.
    pub sync_ms: u64,
    /// How long the answer to a claimed event may take before the claim is free again.
    pub claim_ttl_ms: u64,
    /// How long a waiting request may be answered `retry` in all.
    pub wait_ms: u64,
}

/// Bounds of one call; a gateway splits what does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Cells in one sync.
    pub cells_max: u32,
    /// Needs in one sync.
    pub needs_max: u32,
    /// Usage records in one sync.
    pub usage_max: u32,
    /// Bytes of one request body.
    pub body_bytes_max: u32,
}
