"""What the events of an approval make of its view."""

from __future__ import annotations

from takeback.journal import events as e
from takeback.journal.folds.parts import Change, Lookup, changed, known
from takeback.journal.views import ApprovalView


def requested(event: e.ApprovalRequested, position: int, get: Lookup) -> list[Change]:
    """A person is asked."""
    view = ApprovalView(
        id=event.approval_id,
        run_id=event.run_id,
        version=position,
        status="requested",
        subject=event.subject,
        tool=event.tool,
        caller=event.caller,
        argument_digest=event.argument_digest,
        target_digest=event.target_digest,
        question=event.question,
        reason=event.reason,
        requested_at=event.at,
        expires_at=event.expires_at,
    )
    return [Change("approval", event.approval_id, view)]


_Answer = e.ApprovalGranted | e.ApprovalDenied | e.ApprovalExpired | e.ApprovalUsed


def answered(event: _Answer, position: int, get: Lookup) -> list[Change]:
    """A person answered, or time or use ended the question."""
    approval = known(get, ApprovalView, event.approval_id)
    if approval is None:
        return []
    match event:
        case e.ApprovalGranted():
            return [changed(approval, position, status="granted", by=event.by, lane=event.lane)]
        case e.ApprovalDenied():
            return [changed(approval, position, status="denied", by=event.by, lane=event.lane)]
        case e.ApprovalExpired():
            return [changed(approval, position, status="expired")]
        case e.ApprovalUsed():
            return [changed(approval, position, status="used", used_by=event.used_by)]
