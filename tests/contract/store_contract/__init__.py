"""What every store must do.

A store's own test module inherits `StoreContract` and says, in a fixture named `database`,
where its database is.
"""

from contract.store_contract.changes import ChangeContract, OpeningContract
from contract.store_contract.leases import CapacityContract, LeaseContract, PieceContract
from contract.store_contract.outbox import OutboxContract
from contract.store_contract.relay import RelayContract
from contract.store_contract.submission import ReadingContract, SubmissionContract
from contract.store_contract.suite import Database
from contract.store_contract.transitions import TransitionContract

__all__ = ["Database", "StoreContract"]


class StoreContract(
    SubmissionContract,
    ReadingContract,
    TransitionContract,
    LeaseContract,
    PieceContract,
    CapacityContract,
    OutboxContract,
    RelayContract,
    ChangeContract,
    OpeningContract,
):
    """All of it."""
