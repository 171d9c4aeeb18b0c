"""What depends on what: objects on one another by their paths, later entries on earlier ones by their objects.

Pure, and linear in the number of entries: everything is kept per object and per ancestor, nothing compares pairs. All walks go
from the newest entry to the oldest, so that "later" always means "walked past already".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from takeback.journal.ids import RunId
from takeback.journal.states import ABSENT, Effect, State, altered

if TYPE_CHECKING:
    from takeback.server.engine.plan import Entry

OPAQUE = "opaque"
"""Kind of a state that nobody can look at."""
CONTAINERS = frozenset({"directory", "folder", "table", "database"})
"""Kinds of objects that take what lies in them along when they go."""
PARTIAL = "rows"
"""Kind of a state that was taken over those parts of an object which one action changed: comparable with no other action's."""
INSIDE = "//"
"""Ends the name of an object of another system (`files:/home/me/app.db//orders/5`) in which this one lies."""
WHOLE = "tree:"
"""How the digest of a state begins that was taken over everything in the object, not over the object alone."""


@dataclass(slots=True)
class Touch:
    """One object that an entry changes: its key, the keys of the objects it lives in (nearest first), and the effect."""

    key: str
    above: tuple[str, ...]
    effect: Effect
    rebuilds: bool
    """The object comes, goes, becomes another thing or gets other content: what is below it is not what it was."""


@dataclass(slots=True)
class Node:
    """An entry with what it touches."""

    rank: int
    """Order among the entries, oldest first."""
    entry: Entry
    touches: tuple[Touch, ...]
    """In the order in which they were done, one for each object."""


class Keys:
    """Object keys and the keys above them, each worked out once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}

    def of(self, system: str, object: str) -> tuple[str, tuple[str, ...]]:
        """The key of an object, and those of the objects it lives in, nearest first (`/` separates)."""
        found = self._known.get((system, object))
        if found is None:
            above: list[str] = []
            end = object.rfind("/")
            while end > 0:
                above.append(f"{system}:{object[:end]}")
                end = object.rfind("/", 0, end)
            above += self._outside(object)
            found = self._known[system, object] = (f"{system}:{object}", tuple(above))
        return found

    def _outside(self, object: str) -> tuple[str, ...]:
        # what lies in an object of another system comes and goes with it
        system, colon, outer = object.partition(INSIDE)[0].partition(":")
        if not colon or INSIDE not in object:
            return ()
        key, above = self.of(system, outer)
        return (key, *above)


def rebuilds(effect: Effect) -> bool:
    """Whether what lies below the object is another thing afterwards."""
    return effect.before.kind != effect.after.kind or _differs_within(effect.before, effect.after)


def _differs_within(one: State, other: State) -> bool:
    # whether the two may differ in what lies in the object, and not only in what is said of the object itself
    return one.content != other.content or one.digest.startswith(WHOLE) or other.digest.startswith(WHOLE)


def _net(effects: Sequence[Effect]) -> Iterable[Effect]:
    # two changes of one object by one action are taken back as one: from what it was first to what it was last
    found: dict[tuple[str, str], Effect] = {}
    for effect in effects:
        where = (effect.system, effect.object)
        first = found.get(where)
        found[where] = effect if first is None else altered(first, after=effect.after)
    return found.values()


def _touches(entry: Entry, keys: Keys) -> tuple[Touch, ...]:
    effects = entry.effects if len(entry.effects) < 2 else tuple(_net(entry.effects))
    touches: list[Touch] = []
    for effect in effects:
        if effect.after.kind == OPAQUE:
            if effect.object == entry.tool:
                continue  # an act that names no object stands under its tool's name, which nobody else can touch
            touches.append(Touch(keys.of(effect.system, effect.object)[0], (), effect, rebuilds=False))
        elif effect.before.digest != effect.after.digest:
            key, above = keys.of(effect.system, effect.object)
            touches.append(Touch(key, above, effect, rebuilds(effect)))
    return tuple(touches)


def nodes_of(entries: Iterable[Entry]) -> list[Node]:
    """The entries, oldest first, each once, whatever the order in which they were read."""
    once = {entry.id: entry for entry in entries}
    keys = Keys()
    ordered = sorted(once.values(), key=lambda entry: (entry.position, entry.id))
    return [Node(rank, entry, _touches(entry, keys)) for rank, entry in enumerate(ordered)]


def with_cascade(nodes: Sequence[Node], chosen: Iterable[str], cascade: Iterable[RunId]) -> set[str]:
    """The chosen entries, and of the named runs those later ones that build on them, and on those in turn."""
    wanted, runs = set(chosen), frozenset(cascade)
    on: set[str] = set()
    around: set[str] = set()
    for node in nodes:
        entry = node.entry
        if entry.id not in wanted:
            if entry.run_id not in runs or not any(
                touch.key in on or touch.key in around or any(key in on for key in touch.above)
                for touch in node.touches
            ):
                continue
            wanted.add(entry.id)
        for touch in node.touches:
            on.add(touch.key)
            around.update(touch.above)
    return wanted


class Cover:
    """Which of the entries walked past lie on, above or below an object.

    Only the nearest are kept: one that lies under a nearer one is reached through it.
    """

    def __init__(self) -> None:
        self._on: dict[str, str] = {}
        self._below: dict[str, dict[str, str]] = {}

    def over(self, node: Node) -> tuple[str, ...]:
        """Ids of the entries that depend on this one, each once."""
        if not self._on:
            return ()
        found: dict[str, None] = {}
        on, below = self._on, self._below
        for touch in node.touches:
            if touch.key in on:
                found[on[touch.key]] = None
            if touch.key in below:
                found.update(dict.fromkeys(below[touch.key].values()))
            for key in touch.above:
                if key in on:
                    found[on[key]] = None
        return tuple(found)

    def put(self, node: Node) -> None:
        """Remember this one; for older entries it stands for everything that depends on it."""
        for touch in node.touches:
            self._on[touch.key] = node.entry.id
            self._below.pop(touch.key, None)
            for key in touch.above:
                self._below.setdefault(key, {})[touch.key] = node.entry.id


_ByRun = dict[RunId, str]
_NEVER = (0, 0)


@dataclass(slots=True)
class Left:
    """The entries walked past that stand and are not being taken back: per object and run the nearest one."""

    _on: dict[str, _ByRun] = field(default_factory=lambda: dict[str, _ByRun]())
    _below: dict[str, _ByRun] = field(default_factory=lambda: dict[str, _ByRun]())
    _rebuilt: dict[str, _ByRun] = field(default_factory=lambda: dict[str, _ByRun]())
    _last: dict[tuple[str, RunId], State] = field(default_factory=lambda: dict[tuple[str, RunId], State]())
    """What the latest of them left."""

    def put(self, node: Node) -> None:
        """Remember this one."""
        run, id = node.entry.run_id, node.entry.id
        for touch in node.touches:
            self._on.setdefault(touch.key, {})[run] = id
            self._last.setdefault((touch.key, run), touch.effect.after)
            if touch.rebuilds:
                self._rebuilt.setdefault(touch.key, {})[run] = id
            for key in touch.above:
                self._below.setdefault(key, {})[run] = id

    def on(self, node: Node, touch: Touch) -> str | None:
        """The later entry of the same run that changed the very same object, if there is one."""
        return self._on.get(touch.key, {}).get(node.entry.run_id)

    def did_again(self, node: Node, touch: Touch, now: State) -> str | None:
        """The later entry of the same run that left what stands there, if this one had left it so too."""
        last, left = self._last.get((touch.key, node.entry.run_id)), touch.effect.after
        if last is None or not now.same(last):
            return None
        again = now.same(left) or (now.content is not None and (now.kind, now.content) == (left.kind, left.content))
        return self.on(node, touch) if again else None

    def of_same_run(self, node: Node) -> tuple[str, ...]:
        """Later entries of the same run whose ground this one is, or whose doing took this one's ground away.

        On the very same object nothing is named: there the present state decides.
        """
        if not self._on:
            return ()
        run = node.entry.run_id
        found: dict[str, None] = {}
        for touch in node.touches:
            if touch.rebuilds and run in self._below.get(touch.key, ()):
                found[self._below[touch.key][run]] = None
            for key in touch.above:
                if run in self._rebuilt.get(key, ()):
                    found[self._rebuilt[key][run]] = None
        return tuple(found)

    def of_other_runs(self, node: Node) -> dict[RunId, str]:
        """Other runs that later changed one of the objects, or one above or below: the run and its nearest entry."""
        found: dict[RunId, str] = {}
        if not self._on:
            return found
        for touch in node.touches:
            for place in (self._on.get(touch.key), self._below.get(touch.key), *map(self._on.get, touch.above)):
                if place is not None:
                    found.update(place)
        found.pop(node.entry.run_id, None)
        return found


@dataclass(slots=True)
class World:
    """The objects as they will be after the steps decided so far.

    Starts as observed. What a step restores is known; what lies below an object that a step brings back is taken from the
    journal, and marked as assumed: the swap will tell.
    """

    nodes: Sequence[Node]
    _now: dict[str, State]
    _set: dict[str, int] = field(default_factory=lambda: dict[str, int]())
    _unsure: dict[str, tuple[int, int]] = field(default_factory=lambda: dict[str, tuple[int, int]]())
    _gone: dict[str, int] = field(default_factory=lambda: dict[str, int]())
    _pending: set[str] = field(default_factory=lambda: set[str]())
    _acted_below: set[str] = field(default_factory=lambda: set[str]())
    _history: dict[str, tuple[list[int], list[State]]] | None = None
    _turn: int = 0
    _around: frozenset[str] = frozenset()
    """Keys of objects in which others lie."""
    _outer: frozenset[str] = frozenset()
    """Those of them in which objects of another system lie: they take them along, whatever their kind."""

    def __post_init__(self) -> None:
        self._around = frozenset(key for node in self.nodes for touch in node.touches for key in touch.above)
        self._outer = frozenset(
            key
            for node in self.nodes
            for touch in node.touches
            for key in touch.above
            if not key.startswith(f"{touch.effect.system}:")
        )

    def pending(self, touch: Touch) -> bool:
        """Whether the object's state hangs on a merge that is not known yet."""
        return bool(self._pending) and (touch.key in self._pending or any(key in self._pending for key in touch.above))

    def look(self, touch: Touch) -> tuple[State | None, bool]:
        """The state of an object (`None`: nobody could look), and whether it is assumed."""
        key = touch.key
        known = self._set.get(key, 0)
        latest, gone = self._unsure.get(key, _NEVER), 0
        if self._unsure or self._gone:
            for above in touch.above:
                latest = max(latest, self._unsure.get(above, _NEVER))
                gone = max(gone, self._gone.get(above, 0))
        if gone > known and gone > latest[0]:
            return ABSENT, False  # what it lay in is not there any more
        if latest[0] > known:
            return self._journaled(key, latest[1]), True
        return self._now.get(key), False

    def explained(self, touch: Touch, now: State) -> bool:
        """Whether the difference of `now` from what was left there may be due to nothing but what the plan takes back.

        A folder copied or moved whole has a state over everything in it. Its parts have been taken back before it; whether
        that was all is what the swap will tell.
        """
        left = touch.effect.after
        if now.kind == PARTIAL and not left.absent:
            return touch.key in self._set or touch.key in self._acted_below
        if left.absent or now.kind != left.kind or not _differs_within(now, left):
            return False
        if touch.key in self._acted_below:
            return True
        # one taken alone and the other over everything are not comparable, though they may be the same
        return touch.key in self._set and now.digest.startswith(WHOLE) != left.digest.startswith(WHOLE)

    def hidden(self, touch: Touch) -> bool:
        """Whether the state was taken over parts of the object that the plan takes back before: the swap will tell."""
        if PARTIAL not in (touch.effect.before.kind, touch.effect.after.kind):
            return False
        return touch.key in self._set or touch.key in self._acted_below

    def apply(self, effects: Iterable[Effect], node: Node) -> None:
        """A step makes these effects true."""
        self._turn += 1
        for touch in node.touches:
            self._acted_below.update(touch.above)
        for effect in effects:
            key = f"{effect.system}:{effect.object}"
            self._now[key] = effect.after
            self._set[key] = self._turn
            if effect.after.absent:
                if effect.before.kind in CONTAINERS or key in self._outer:
                    self._gone[key] = self._turn
            elif key in self._around and (rebuilds(effect) or PARTIAL in (effect.before.kind, effect.after.kind)):
                self._unsure[key] = (self._turn, node.rank)

    def compensate(self, node: Node) -> None:
        """A tool makes up for the entry: objects are as they were before it, as far as anybody can say."""
        self._turn += 1
        for touch in node.touches:
            self._acted_below.update(touch.above)
            if touch.effect.after.kind == OPAQUE:
                self._unsure[touch.key] = (self._turn, node.rank)
                continue
            now, _ = self.look(touch)
            if now is not None and now.same(touch.effect.after):
                self._now[touch.key] = touch.effect.before
                self._set[touch.key] = self._turn

    def suspend(self, node: Node) -> None:
        """From here on nobody knows what these objects are, until a merge is known."""
        for touch in node.touches:
            self._pending.add(touch.key)
            self._acted_below.update(touch.above)

    def _journaled(self, key: str, rank: int) -> State | None:
        # what stood there, by the journal, just before the entry of this rank
        if self._history is None:
            self._history = {}
            for node in self.nodes:
                for touch in node.touches:
                    ranks, states = self._history.setdefault(touch.key, (list[int](), list[State]()))
                    ranks.append(node.rank)
                    states.append(touch.effect.after)
        ranks, states = self._history.get(key, (list[int](), list[State]()))
        place = bisect_left(ranks, rank)
        return states[place - 1] if place else None
