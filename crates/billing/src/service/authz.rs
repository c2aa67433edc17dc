//! Hold and charge in one step, for gateways without the filter, which never say how a request ended.

use super::gateway::{cell_id, report};
use super::need::{Ahead, decide};
use super::people::{asker, hex};
use super::{Session, Setup};
use crate::engine::Work;
use crate::error::{Error, Invalid};
use contract::v1::{CellReport, Need, NeedDecision, NeedMode, NeedShape, Refusal, Sync};
use ledger::{HOLD_GENERATION_MIN, Rows};
use sha2::{Digest, Sha256};
use units::{AccountId, Amount, EndpointId, NodeName, Subject, SubjectKind};

/// One request, and the name under which it is held.
#[derive(Clone, Debug)]
pub struct Authz {
    /// Who asks for it; not the name of any gateway.
    pub node: NodeName,
    /// From [`super::hello`].
    pub incarnation: u64,
    /// Never used before within the incarnation, from 1 to 2^40 − 1.
    pub id: u64,
    /// The customer's API key.
    pub key: String,
    /// What for.
    pub endpoint: EndpointId,
}

/// Charges the fixed price of a request at once, and says to whom; or refuses.
///
/// The hold is made and finished by the same rules and on the same rows as a gateway's, but within one transaction.
///
/// # Errors
/// [`Invalid::Unprocessable`] for an id that cannot name a hold; [`Error::Store`].
pub fn charge_at_once(
    work: &mut Work<'_>,
    setup: &Setup,
    asked: Authz,
) -> Result<Result<AccountId, Box<Refusal>>, Error> {
    let Authz { node, incarnation, id, key, endpoint } = asked;
    if !(1..HOLD_GENERATION_MIN).contains(&id) {
        return Err(
            Invalid::Unprocessable.because(format!("a request has the id {id}; ids go from 1 to 2^40 - 1."))
        );
    }
    let subject = Subject::new(SubjectKind::ApiKeySha256, hex(&Sha256::digest(key)));
    let subject = subject.map_err(|error| Error::Bug(format!("a digest is no subject: {error}")))?;
    // A final answer: nobody asks again.
    let (mode, shape, wait_ms, generation_min) = (NeedMode::Hold, NeedShape::Fixed, 0, 1);
    let (repeat, served, lost) = (None, false, false);
    let need = Need { id, subject, endpoint, mode, shape, wait_ms, generation_min, repeat, served, lost };
    let (cells, needs, abandoned, usage) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let sync =
        Sync { node, incarnation, worker: 1, sent_seq: id, cells, needs, abandoned, usage, draining: false };
    let mut session = Session::new(work, setup)?;
    let asker = asker(&mut session, &need.subject)?;
    let decision = decide(&mut session, &sync, &need, asker.as_ref(), &mut Ahead::new())?;
    let owner = asker.map(|asker| asker.payer);
    let (standing, leases) = match decision {
        NeedDecision::Ok { standing, cells, .. } => (standing, cells),
        NeedDecision::Refused { refusal, .. } => return Ok(Err(refusal)),
        NeedDecision::Retry { .. } => return Err(Error::Bug("a final answer was to ask again".into())),
    };
    for lease in leases {
        let (held, returned, target, short) = (lease.held, Amount::ZERO, Amount::ZERO, Amount::ZERO);
        let (key, need) = (lease.key, held);
        let spent = CellReport {
            key,
            admitted: held,
            finished: held,
            used: held,
            returned,
            target,
            need,
            short,
            gone: false,
        };
        if let Some(owner) = &owner {
            // The book has the cell already, since it was just made: there is nothing to load anew.
            session.want(owner, Rows::Cell(cell_id(&sync, lease.key)));
        }
        report(&mut session, &sync, &spent, owner.as_ref())?;
    }
    Ok(Ok(standing.account))
}
