"""In which order the steps of a plan are executed: what can be done at once, and what waits for what.

Steps at one place form a chain and keep the plan's order; chains have nothing to do with each other. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from takeback.journal.states import Effect
from takeback.server.engine.plan import PlanStep


class Order:
    """What is still to be done."""

    def __init__(self, steps: Sequence[PlanStep], place: Callable[[Effect], str], together: Callable[[int], bool]):
        """
        :param place: of an effect; effects at different places can be undone at the same time.
        :param together: whether a step, by its index, may be one of a batch.
        """
        self._steps, self._together = steps, together
        self.chains = [deque(chain) for chain in chains(steps, place)]

    def left(self) -> list[deque[int]]:
        """The chains in which something is left."""
        self.chains = [chain for chain in self.chains if chain]
        return self.chains

    def alone(self, chain: deque[int]) -> bool:
        """Whether the next step of a chain has to be done by itself."""
        return not self._together(chain[0])

    def batch(self, most: int, places: int) -> list[int]:
        """Steps from the heads of the chains that can be made at once: of one system, none waiting for another of them.

        They stay in their chains until `done`.

        :param most: so many steps at most, from so many chains (`places`).
        """
        found: list[int] = []
        entries: set[str] = set()
        objects: set[str] = set()
        system: str | None = None
        started = 0
        for chain in self.chains:
            if started == places or len(found) == most:
                break
            before = len(found)
            for index in chain:
                if len(found) == most:
                    break
                if not self._together(index):
                    break
                step = self._steps[index]
                touched = {effect.object for effect in step.effects}
                system = system or step.effects[0].system
                if (
                    step.effects[0].system != system
                    or not entries.isdisjoint(step.after_steps)
                    or not objects.isdisjoint(touched)
                ):
                    break
                found.append(index)
                entries.add(step.entry_id)
                objects |= touched
            started += len(found) > before
        return found

    def done(self, indexes: set[int]) -> None:
        """These are over."""
        self.chains = [deque(index for index in chain if index not in indexes) for chain in self.chains]


def chains(steps: Sequence[PlanStep], place: Callable[[Effect], str]) -> list[list[int]]:
    """Indexes of the steps, in order, split where they have nothing to do with each other."""
    found: dict[str, list[int]] = {}
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    by_entry: dict[str, str] = {}
    names: list[str] = []
    for step in steps:
        places = list(dict.fromkeys(place(effect) for effect in (*step.wanted, *step.effects)))
        places = places or [f"tool:{step.tool}"]
        places += [by_entry[entry] for entry in step.after_steps if entry in by_entry]
        for other in places[1:]:
            leader[find(other)] = find(places[0])
        by_entry[step.entry_id] = places[0]
        names.append(places[0])
    for index, name in enumerate(names):
        found.setdefault(find(name), []).append(index)
    return list(found.values())
