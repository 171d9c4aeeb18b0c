"""A small world for the planner's laws: folders, and files that are maps of keys to values.

Written without looking at the planner: what depends on what, and what a person's change is, is worked out here a second time,
by comparing all pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from takeback.journal.states import ABSENT, Effect, State
from takeback.server.engine.plan import (
    Entry,
    Goal,
    MergeAnswer,
    Observations,
    Plan,
    PlanStep,
    object_key,
    plan_rollback,
)

WHOLE = State(digest="tree:", kind="folder")
File = dict[str, str]
ACTED = {"restore", "merge", "compensate"}
Planning = Callable[[Sequence[Entry], Goal, Observations], Plan]


def above(object: str) -> list[str]:
    parts = object.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def related(one: str, other: str) -> bool:
    return one == other or one in above(other) or other in above(one)


@dataclass
class Tree:
    """Paths to files; a folder is `None`."""

    things: dict[str, File | None] = field(default_factory=dict)

    def copy(self) -> Tree:
        return Tree({path: None if what is None else dict(what) for path, what in self.things.items()})

    def below(self, path: str) -> dict[str, File | None]:
        return {other: what for other, what in self.things.items() if path in above(other)}

    def possible(self, path: str) -> bool:
        return all(folder in self.things and self.things[folder] is None for folder in above(path))

    def look(self, path: str, like: State | None = None) -> State:
        if path not in self.things:
            return ABSENT
        what = self.things[path]
        if what is not None:
            text = json.dumps(what, sort_keys=True)
            return State(digest=f"file:{text}", kind="file", content=text, ref={"file": dict(what)})
        if like is not None and like.digest.startswith("tree:"):
            inside = {other.removeprefix(path): one for other, one in self.below(path).items()}
            text = json.dumps(inside, sort_keys=True)
            return State(digest=f"tree:{text}", kind="folder", ref={"tree": json.loads(text)})
        return State(digest="folder", kind="folder")

    def put(self, path: str, state: State) -> None:
        for other in [path, *self.below(path)]:
            if state.digest != "folder":
                self.things.pop(other, None)
        if state.kind == "file":
            self.things[path] = dict(state.ref["file"])  # type: ignore[arg-type] -- a ref made here, in which that is a mapping
        elif state.kind == "folder":
            self.things[path] = None
            for name, what in state.ref.get("tree", {}).items():  # type: ignore[union-attr] -- as above
                self.things[path + name] = what

    def swap(self, effects: Sequence[Effect]) -> bool:
        """All or nothing, each compared with what stands there."""
        kept = self.copy()
        for effect in effects:
            same = self.look(effect.object, effect.before).same(effect.before)
            emptied = effect.after.kind != "folder" and effect.before.digest == "folder" and self.below(effect.object)
            if not same or emptied or (not effect.after.absent and not self.possible(effect.object)):
                self.things = kept.things
                return False
            self.put(effect.object, effect.after)
        return True


def merge(wanted: Sequence[Effect], present: Sequence[State], why: str = "") -> tuple[Effect, ...] | None:
    """Key by key: our change goes, everybody else's stays. `None`: both changed the same key."""
    effects: list[Effect] = []
    for want, now in zip(wanted, present, strict=True):
        if now.same(want.after):
            continue
        if now.same(want.before):
            effects.append(Effect(system=want.system, object=want.object, before=now, after=want.after))
            continue
        if {want.before.kind, want.after.kind, now.kind} != {"file"}:
            return None
        base, ours, theirs = (dict(state.ref["file"]) for state in (want.before, want.after, now))  # type: ignore[arg-type] -- a ref made here, in which that is a mapping
        merged: File = {}
        for key in sorted({*base, *ours, *theirs}):
            here: Any = theirs.get(key)
            if base.get(key) != ours.get(key):
                if here != base.get(key):
                    return None
                here = ours.get(key)
            if here is not None:
                merged[key] = here
        tree = Tree({want.object: merged})
        effects.append(Effect(system=want.system, object=want.object, before=now, after=tree.look(want.object)))
    return tuple(effects)


def observe(tree: Tree, entries: Sequence[Entry]) -> dict[str, State]:
    """Each object, measured as its newest entry left (or found) it."""
    seen: dict[str, State] = {}
    for entry in sorted(entries, key=lambda entry: entry.position):
        for effect in entry.effects:
            like = effect.before if effect.after.absent else effect.after
            seen[object_key(effect.system, effect.object)] = tree.look(effect.object, like)
    return seen


def settled_plan(
    planning: Planning, entries: Sequence[Entry], goal: Goal, present: dict[str, State], *, merging: bool = True
) -> Plan:
    """Plan, gather the merges that are asked for, and plan again until nothing is asked any more."""
    merges: dict[str, MergeAnswer] = {}
    for _ in range(len(entries) + 1):
        plan = planning(entries, goal, Observations(present=present, merges=merges))
        if not plan.needs:
            return plan
        for need in plan.needs:
            effects = merge(need.wanted, need.present) if merging else None
            merges[need.entry_id] = MergeAnswer(present=need.present, effects=effects)
    raise AssertionError("the planner asks for ever")


def execute(plan: Plan, tree: Tree, entries: Sequence[Entry] = ()) -> list[str]:
    """Do the plan's steps with compare-and-swap; the entries that are taken back. A refused swap stays undone, and so does
    what lies under it.

    :param entries: whose compensations put back what was there before; of others they leave everything as it is.
    """
    made_up = {entry.id: entry.effects for entry in entries}
    gone: list[str] = []
    stayed: list[PlanStep] = []
    for step in plan.steps:
        if step.decision == "already_undone":
            gone.append(step.entry_id)
        if step.decision not in ACTED:
            continue
        under = any(
            related(mine.object, theirs.object) for other in stayed for mine in step.wanted for theirs in other.wanted
        )
        if not under and tree.swap(step.effects):
            gone.append(step.entry_id)
            for effect in reversed(made_up.get(step.entry_id, ())) if step.decision == "compensate" else ():
                if tree.look(effect.object, effect.after).same(effect.after):
                    tree.put(effect.object, effect.before)
        else:
            stayed.append(step)
    return gone


@dataclass
class History:
    """What was done by whom, and what stands now."""

    tree: Tree = field(default_factory=Tree)
    entries: list[Entry] = field(default_factory=list)
    foreign: dict[str, set[str]] = field(default_factory=dict)
    """Values that somebody else wrote, by the file they wrote it to."""
    counter: int = 0

    def act(self, run: str, changes: Sequence[tuple[str, State]], **more: Any) -> Entry:
        effects = []
        for path, after in changes:
            like = WHOLE if after.absent else None
            before = self.tree.look(path, like)
            self.tree.put(path, after)
            effects.append(Effect(system="files", object=path, before=before, after=after))
        self.counter += 1
        entry = Entry(
            id=f"act_{self.counter:03}", action_id=f"act_{self.counter:03}", run_id=run, position=self.counter * 3,
            tool="tool", effects=tuple(effects), **{"reversibility": "reversible", **more},
        )  # fmt: skip
        self.entries.append(entry)
        return entry

    def write(self, run: str, path: str, what: File, **more: Any) -> Entry:
        return self.act(run, [(path, Tree({path: what}).look(path))], **more)

    def mkdir(self, run: str, path: str, **more: Any) -> Entry:
        return self.act(run, [(path, Tree({path: None}).look(path))], **more)

    def delete(self, run: str, path: str, **more: Any) -> Entry:
        return self.act(run, [(path, ABSENT)], **more)

    def copy(self, run: str, source: str, to: str, **more: Any) -> Entry:
        return self.act(run, [(to, self.tree.look(source, WHOLE))], **more)

    def move(self, run: str, source: str, to: str, **more: Any) -> Entry:
        whole = self.tree.look(source, WHOLE)
        return self.act(run, [(source, ABSENT), (to, whole)], **more)

    def goal(self, run: str, **more: Any) -> Goal:
        return Goal(chosen=tuple(entry.id for entry in self.entries if entry.run_id == run), **more)

    def plan(self, run: str = "run_a", planning: Planning = plan_rollback, **more: Any) -> Plan:
        return settled_plan(planning, self.entries, self.goal(run, **more), observe(self.tree, self.entries))
