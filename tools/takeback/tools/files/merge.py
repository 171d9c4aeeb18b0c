"""Three-way merge of text by lines: removes only our change, and never loses somebody else's. Pure: no IO, no clock.

Lines are bytes with their own endings, so nothing is decoded and nothing is normalised. A hunk is a range of base lines that
one side replaced. Hunks of different sides with at least one unchanged line between them merge by themselves; whatever is
closer is a conflict, with a proposal for a person to look at. Equal changes on both sides are one change.

Where a hunk could as well stand a few lines higher or lower (a line inserted into a run of equal lines), all those places are
its *reach*. A change of the other side inside that reach is a conflict: the result would depend on which place was guessed.

Two versions are compared by lines that occur once in each, then by runs of lines that do, and only then by `difflib`, whose
cost is bounded: a stretch that would cost more counts as replaced as a whole, which can only make a conflict more likely.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

MAX_BYTES = 32 * 1024 * 1024
"""Largest version, in bytes, that is merged."""
MAX_LINES = 500_000
"""Largest version, in lines, that is merged."""
_PAIRS_AT_ONCE, _PAIRS = 400_000, 4_000_000
"""Equal pairs of lines that one stretch, and all together, may have to be compared line by line."""
_WORK_PER_LINE = 64
"""How often a line may be looked at while anchors are sought."""
_RUNS = (1, 2, 4, 8, 16, 32)
"""Lengths of the runs of lines that serve as anchors, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class TextMerge:
    """What came of a merge: `merged`, or a reason why not and perhaps a proposal."""

    merged: bytes | None
    proposal: bytes | None
    """With conflict markers. Never to be applied without a person."""
    why: str


@dataclass(frozen=True, slots=True)
class _Hunk:
    side: int
    """0 for ours, 1 for theirs."""
    low: int
    high: int
    """Base lines `low` to `high` (exclusive) …"""
    new: tuple[int, int]
    """… became these lines of the side."""
    reach_low: int
    reach_high: int

    @property
    def growth(self) -> int:
        return (self.new[1] - self.new[0]) - (self.high - self.low)

    @property
    def first_end(self) -> int:
        """Where the hunk ends if it stands as high as it can."""
        return self.reach_low + self.high - self.low

    @property
    def last_start(self) -> int:
        """Where the hunk starts if it stands as low as it can."""
        return self.reach_high - (self.high - self.low)


def merge_text(base: bytes, ours: bytes, theirs: bytes, *, labels: tuple[str, str] = ("ours", "theirs")) -> TextMerge:
    """Merge what `ours` and `theirs` made of `base`.

    :param labels: names of the two sides in the markers of a proposal.
    """
    if ours == theirs or base == theirs:
        return TextMerge(ours, None, "both sides agree" if ours == theirs else "only one side changed it")
    if base == ours:
        return TextMerge(theirs, None, "only one side changed it")
    versions = (base, ours, theirs)
    if any(is_binary(version) for version in versions):
        return TextMerge(None, None, "the file is binary: it has no lines to merge by")
    if max(map(len, versions)) > MAX_BYTES:
        return TextMerge(None, None, f"the file is too large to merge (more than {MAX_BYTES // 2**20} MiB)")
    lines = [version.splitlines(keepends=True) for version in versions]
    if max(map(len, lines)) > MAX_LINES:
        return TextMerge(None, None, f"the file has too many lines to merge (more than {MAX_LINES:,})")
    return _merge(lines[0], (lines[1], lines[2]), labels)


def is_binary(content: bytes) -> bool:
    """Whether bytes have no lines: they hold a NUL, or begin with the mark of a two-byte encoding."""
    return b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff")


def _merge(base: list[bytes], sides: tuple[list[bytes], list[bytes]], labels: tuple[str, str]) -> TextMerge:
    numbers: dict[bytes, int] = {}
    plain, first, second = (
        [numbers.setdefault(line, len(numbers)) for line in lines] for lines in (base, sides[0], sides[1])
    )
    hunks = [*_hunks(0, plain, first), *_hunks(1, plain, second)]
    merged: list[bytes] = []
    marked: list[bytes] = []
    conflicts: list[tuple[int, int]] = []
    done, shift = 0, [0, 0]
    for group in _groups(hunks):
        low = min(hunk.reach_low for hunk in group)
        high = max(hunk.reach_high for hunk in group)
        grown = [sum(hunk.growth for hunk in group if hunk.side == side) for side in (0, 1)]
        texts = [
            sides[side][low + shift[side] : high + shift[side] + grown[side]] for side in (0, 1)
        ]  # fmt: skip
        both = {hunk.side for hunk in group} == {0, 1}
        for out in (merged, marked):
            out += base[done:low]
        if not both or texts[0] == texts[1]:
            text = texts[group[0].side]
            merged += text
            marked += text
        else:
            conflicts.append((low, high))
            marked += _conflict(texts, labels)
        done = high
        shift = [shift[side] + grown[side] for side in (0, 1)]
    merged += base[done:]
    marked += base[done:]
    if not conflicts:
        return TextMerge(b"".join(merged), None, "the changes are in different lines")
    places = ", ".join(_place(low, high) for low, high in conflicts[:5]) + (" …" if len(conflicts) > 5 else "")
    return TextMerge(None, b"".join(marked), f"both sides changed the same or neighbouring lines ({places})")


def _place(low: int, high: int) -> str:
    if high <= low + 1:
        return f"line {low + 1}"
    return f"lines {low + 1} to {high}"


def _conflict(texts: Sequence[Sequence[bytes]], labels: tuple[str, str]) -> Iterator[bytes]:
    ending = next((end for text in texts for line in text for end in (_ending(line),) if end), b"\n")
    for mark, text in (
        (f"<<<<<<< {labels[0]}".encode(), texts[0]),
        (b"=======", texts[1]),
        (f">>>>>>> {labels[1]}".encode(), ()),
    ):
        yield mark + ending
        for line in text:
            yield line if _ending(line) else line + ending


def _ending(line: bytes) -> bytes:
    return line[len(line.rstrip(b"\r\n")) :]


# -- which hunks belong together ----------------------------------------------------------------------------------------


def _groups(hunks: list[_Hunk]) -> Iterator[list[_Hunk]]:
    """Hunks that meet, in order of place. A group with hunks of one side only is simply applied."""
    group: list[_Hunk] = []
    high = -1
    ends: list[int | None] = [None, None]
    for hunk in sorted(hunks, key=lambda each: (each.reach_low, each.last_start)):
        other = ends[1 - hunk.side]
        meets = group and (hunk.reach_low < high or (other is not None and other >= hunk.last_start))
        if group and not meets:
            yield group
            group, ends = [], [None, None]
        group.append(hunk)
        high = max(high, hunk.reach_high)
        ends[hunk.side] = hunk.first_end
    if group:
        yield group


# -- comparing two versions -----------------------------------------------------------------------------------------------


def _hunks(side: int, base: list[int], new: list[int]) -> Iterator[_Hunk]:
    low = start = 0
    pending: list[tuple[int, int, int, int]] = []
    for base_at, new_at, length in [*_common(base, new), (len(base), len(new), 0)]:
        if base_at > low or new_at > start:
            pending.append((low, base_at, start, new_at))
        low, start = base_at + length, new_at + length
    floor = 0
    for index, (low, high, start, stop) in enumerate(pending):
        ceiling = pending[index + 1][0] if index + 1 < len(pending) else len(base)
        up = down = 0
        if low == high or start == stop:  # only a pure insertion or deletion can stand elsewhere
            text, begin, end = (new, start, stop) if low == high else (base, low, high)
            while low - up > floor and text[begin - up - 1] == text[end - up - 1]:
                up += 1
            while high + down < ceiling and text[begin + down] == text[end + down]:
                down += 1
        yield _Hunk(side, low, high, (start, stop), low - up, high + down)
        floor = high


def _common(left: list[int], right: list[int]) -> list[tuple[int, int, int]]:
    """Blocks of equal lines `(left, right, length)`, in ascending order of both and not touching each other in both."""
    found: list[tuple[int, int, int]] = []
    budget = _WORK_PER_LINE * (len(left) + len(right)) + 1024
    pairs = _PAIRS
    stack = [(0, len(left), 0, len(right))]
    while stack:
        low, high, start, stop = stack.pop()
        same = 0
        while low + same < high and start + same < stop and left[low + same] == right[start + same]:
            same += 1
        if same:
            found.append((low, start, same))
            low, start = low + same, start + same
        same = 0
        while high - same > low and stop - same > start and left[high - same - 1] == right[stop - same - 1]:
            same += 1
        if same:
            high, stop = high - same, stop - same
            found.append((high, stop, same))
        if low == high or start == stop:
            continue
        budget -= (high - low) + (stop - start)
        if budget < 0:
            continue
        anchors = _anchors(left[low:high], right[start:stop])
        if not anchors:
            counts = Counter(right[start:stop])
            cost = sum(counts[line] for line in left[low:high])
            if cost <= min(_PAIRS_AT_ONCE, pairs):
                pairs -= cost
                found += _closely(left, (low, high), right, (start, stop))
            continue
        at, to = low, start
        for one, other in anchors:
            stack.append((at, low + one, to, start + other))
            at, to = low + one, start + other  # the anchor itself is the equal head of the next stretch
        stack.append((at, high, to, stop))
    return _joined(found)


def _anchors(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of places in both where a line, or else a run of lines, stands that occurs once in each; ascending in both."""
    for length in _RUNS:
        if length > min(len(left), len(right)):
            break
        once = [_once(lines, length) for lines in (left, right)]
        pairs = [(place, once[1][run]) for run, place in once[0].items() if run in once[1]]
        if pairs:
            return _ascending(pairs)
    return []


def _once(lines: Sequence[int], length: int) -> dict[object, int]:
    """Runs of so many lines that occur once, with their places, in order of place."""
    runs: Sequence[object] = (
        lines if length == 1 else list(zip(*(lines[shift:] for shift in range(length)), strict=False))
    )
    counts = Counter(runs)
    return {run: place for place, run in enumerate(runs) if counts[run] == 1}


def _ascending(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence that ascends in the second place too (patience sorting)."""
    tops: list[int] = []
    piles: list[int] = []
    below: list[int | None] = []
    for index, (_, place) in enumerate(pairs):
        pile = bisect_left(tops, place)
        below.append(piles[pile - 1] if pile else None)
        if pile == len(tops):
            tops.append(place)
            piles.append(index)
        else:
            tops[pile], piles[pile] = place, index
    chain: list[tuple[int, int]] = []
    at: int | None = piles[-1]
    while at is not None:
        chain.append(pairs[at])
        at = below[at]
    return chain[::-1]


def _closely(
    left: list[int], ours: tuple[int, int], right: list[int], theirs: tuple[int, int]
) -> list[tuple[int, int, int]]:
    """Compare a stretch that has no anchors."""
    low, start = ours[0], theirs[0]
    matcher = SequenceMatcher(None, left[low : ours[1]], right[start : theirs[1]], autojunk=False)
    return [(low + at, start + to, length) for at, to, length in matcher.get_matching_blocks() if length]


def _joined(blocks: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    joined: list[tuple[int, int, int]] = []
    for at, to, length in sorted(blocks):
        if joined and joined[-1][0] + joined[-1][2] == at and joined[-1][1] + joined[-1][2] == to:
            joined[-1] = (joined[-1][0], joined[-1][1], joined[-1][2] + length)
        else:
            joined.append((at, to, length))
    return joined
