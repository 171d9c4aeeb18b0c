"""Identifiers: random, prefixed by what they name, and of different types so that they cannot be mixed up.

128 random bits each, because an id is also what a client presents to be let in (each use checks the owner
too). Lower-case base32 without padding, so that an id survives being read aloud, a URL and a file name.
"""

from __future__ import annotations

import base64
import secrets
from typing import NewType

RunId = NewType("RunId", str)
ActionId = NewType("ActionId", str)
CheckpointId = NewType("CheckpointId", str)
RollbackId = NewType("RollbackId", str)
ApprovalId = NewType("ApprovalId", str)
ConflictId = NewType("ConflictId", str)


def _token() -> str:
    return base64.b32encode(secrets.token_bytes(16)).decode("ascii").rstrip("=").lower()


def new_run_id() -> RunId:
    """A fresh id of a run."""
    return RunId(f"run_{_token()}")


def new_action_id() -> ActionId:
    """A fresh id of an action."""
    return ActionId(f"act_{_token()}")


def new_checkpoint_id() -> CheckpointId:
    """A fresh id of a checkpoint."""
    return CheckpointId(f"chk_{_token()}")


def new_rollback_id() -> RollbackId:
    """A fresh id of a rollback (or redo)."""
    return RollbackId(f"rbk_{_token()}")


def new_approval_id() -> ApprovalId:
    """A fresh id of an approval."""
    return ApprovalId(f"apr_{_token()}")


def new_conflict_id() -> ConflictId:
    """A fresh id of an open item (conflict, dead letter, doubt)."""
    return ConflictId(f"cfl_{_token()}")


def new_message_id() -> str:
    """A fresh id of a message in the outbox (not its Message-ID)."""
    return f"msg_{_token()}"
