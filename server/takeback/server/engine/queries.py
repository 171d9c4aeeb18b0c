"""Placeholder until the real queries land."""
from __future__ import annotations
from takeback.server.engine.answers import *
from takeback.server.engine.core import rfc3339
def open_item_answer(item):
    return OpenItemAnswer(conflict_id=item.id, kind=item.kind, run_id=item.run_id, action_id=item.action_id, system=item.system, object=item.object, why=item.why, next_step=item.next_step, status=item.status, opened_at=rfc3339(item.opened_at), choice=item.choice)
def approval_info(a):
    return ApprovalInfo(approval_id=a.id, run_id=a.run_id, status=a.status, tool=a.tool, question=a.question, reason=a.reason, requested_at=rfc3339(a.requested_at), expires_at=rfc3339(a.expires_at), by=a.by)
