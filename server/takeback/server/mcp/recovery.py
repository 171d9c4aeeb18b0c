"""The recovery contract of each tool, for clients: how a call is taken back, as data in the tool's `_meta`.

The shape is that of SEP-3172 (`strategy`, `compensatingOperation` with OpenAPI runtime expressions on the answer). Annotations
would be its place, but clients and the SDK drop fields of annotations that they do not know.
"""

from __future__ import annotations

from typing import Any

from takeback.tools.contract import AnyTool, CompensableTool, IrreversibleTool, ReadTool

RECOVERY_KEY = "io.github.takeback/recovery"

Meta = dict[str, Any]


def compensated_by(operation: str, **parameters: object) -> Meta:
    """The call that takes this one back; parameters may be expressions such as `$response.body#/run_id`."""
    return {
        "strategy": "compensation",
        "compensatingOperation": {"operationId": operation, "parameters": parameters},
    }


NOTHING_TO_RECOVER: Meta = {"strategy": "none"}


def recovery_of(tool: AnyTool) -> Meta:
    """The contract of a wrapped tool: what it states, or what follows from its kind. One call can be worse: its answer says."""
    if isinstance(tool, ReadTool):
        return {**NOTHING_TO_RECOVER, "reversibility": "read_only"}
    told = {name: text for name, text in _stated(tool).items() if text}
    if isinstance(tool, IrreversibleTool):
        return {**NOTHING_TO_RECOVER, "reversibility": "irreversible", **told}
    way = compensated_by("rollback_run", run_id="$response.body#/run_id", actions=["$response.body#/action_id"])
    return {**way, "reversibility": "compensable" if isinstance(tool, CompensableTool) else "reversible", **told}


def _stated(tool: AnyTool) -> Meta:
    """Nothing beyond the kind, of a tool that says nothing itself."""
    its = tool.recovery
    if its is None:
        return {}
    return {
        "reversibility": its.best,
        "how": its.how,
        "unless": its.unless,
        "worst": its.worse[-1] if its.worse else "",
        "worseIf": its.worse_if,
    }
