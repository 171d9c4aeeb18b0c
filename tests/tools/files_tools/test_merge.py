"""Laws of the three-way merge, and the situations that people meet."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from takeback.tools.files import merge as merge_module
from takeback.tools.files.merge import MAX_BYTES, TextMerge, merge_text

LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"a\r\n", b"d\r"]), max_size=12)
TAIL = st.sampled_from([b"", b"end", b"a"])
TEXT = st.builds(lambda lines, tail: b"".join(lines) + tail, LINES, TAIL)


@st.composite
def versions(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A base, and two versions made from it by a few random edits each."""
    base = draw(TEXT).splitlines(keepends=True)

    def edited() -> bytes:
        lines = list(base)
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(lines)))
            lines[at : at + draw(st.integers(0, 2))] = draw(LINES)[:2]
        return b"".join(lines)

    return b"".join(base), edited(), edited()


@st.composite
def disjoint(draw: st.DrawFn) -> tuple[bytes, bytes, bytes, bytes]:
    """Edits of both sides to a base of distinct lines, at least one unchanged line apart, and what applying both gives."""
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=8))
    ending = draw(st.sampled_from([b"\n", b"\r\n"]))
    count = 0
    base, ours, theirs, both = [b"top" + ending], [b"top" + ending], [b"top" + ending], [b"top" + ending]
    for size in sizes:
        old = [b"%d%s" % (count + step, ending) for step in range(size)]
        count += size
        new = [b"new %d %d%s" % (count, step, ending) for step in range(draw(st.integers(0, 3)))]
        side = draw(st.integers(0, 2))
        base += old
        ours += new if side == 0 else old
        theirs += new if side == 1 else old
        both += new if side < 2 else old
        for version in (base, ours, theirs, both):
            version.append(b"between %d%s" % (count, ending))
        count += 1
    if draw(st.booleans()):
        for version in (base, ours, theirs, both):
            version[-1] = version[-1].rstrip()
    return b"".join(base), b"".join(ours), b"".join(theirs), b"".join(both)


def counted(text: bytes) -> Counter[bytes]:
    return Counter(text.splitlines(keepends=True))


# -- laws; each takes the module so that its mutants can be put through the same law ------------------------------------------


def law_one_side_only(module: ModuleType, base: bytes, ours: bytes, theirs: bytes) -> None:
    assert module.merge_text(base, ours, base).merged == ours
    assert module.merge_text(base, base, theirs).merged == theirs
    assert module.merge_text(base, ours, ours).merged == ours


def law_symmetric(module: ModuleType, base: bytes, ours: bytes, theirs: bytes) -> None:
    assert module.merge_text(base, ours, theirs).merged == module.merge_text(base, theirs, ours).merged


def law_nothing_is_lost(module: ModuleType, base: bytes, ours: bytes, theirs: bytes) -> None:
    """Both sides' insertions are in a clean merge, and no line came from nowhere."""
    merge = module.merge_text(base, ours, theirs)
    if merge.merged is None:
        assert merge.why
        return
    merged, was = counted(merge.merged), counted(base)
    for side in (ours, theirs):
        for line, added in (counted(side) - was).items():
            other = counted(ours if side is theirs else theirs)
            removed = max(0, was[line] - other[line])
            assert merged[line] >= was[line] + added - removed, (line, base, ours, theirs)
    for line in merged:
        most = max(counted(ours)[line] - was[line], 0) + max(counted(theirs)[line] - was[line], 0)
        assert merged[line] <= was[line] + most


def law_applies_both(module: ModuleType, base: bytes, ours: bytes, theirs: bytes, both: bytes) -> None:
    assert module.merge_text(base, ours, theirs).merged == both
    assert module.merge_text(base, theirs, ours).merged == both


@given(versions())
def test_what_only_one_side_changed_is_taken(three: tuple[bytes, bytes, bytes]) -> None:
    law_one_side_only(merge_module, *three)


@given(versions())
def test_the_result_does_not_depend_on_who_is_called_ours(three: tuple[bytes, bytes, bytes]) -> None:
    law_symmetric(merge_module, *three)


@given(versions())
def test_a_clean_merge_loses_no_insertion_and_invents_no_line(three: tuple[bytes, bytes, bytes]) -> None:
    law_nothing_is_lost(merge_module, *three)


@given(disjoint())
def test_edits_with_an_unchanged_line_between_them_merge_to_both(four: tuple[bytes, bytes, bytes, bytes]) -> None:
    law_applies_both(merge_module, *four)


# -- situations ---------------------------------------------------------------------------------------------------------------


def test_changes_in_neighbouring_lines_are_a_conflict_with_a_proposal() -> None:
    merge = merge_text(b"a\nb\nc\nd\n", b"a\nB\nc\nd\n", b"a\nb\nC\nd\n", labels=("before", "present"))
    assert merge.merged is None
    assert merge.proposal == b"a\n<<<<<<< before\nB\nc\n=======\nb\nC\n>>>>>>> present\nd\n"
    assert merge.why == "both sides changed the same or neighbouring lines (lines 2 to 3)"


def test_two_insertions_at_the_same_place_are_a_conflict() -> None:
    merge = merge_text(b"a\nb\n", b"a\nx\nb\n", b"a\ny\nb\n")
    assert merge.merged is None
    assert merge.proposal == b"a\n<<<<<<< ours\nx\n=======\ny\n>>>>>>> theirs\nb\n"


def test_the_same_change_on_both_sides_is_made_once() -> None:
    assert merge_text(b"a\nb\nc\nd\ne\n", b"a\nx\nc\nd\ne\n", b"a\nx\nc\nd\nE\n").merged == b"a\nx\nc\nd\nE\n"


def test_an_edit_inside_a_run_of_equal_lines_that_the_other_side_shortened_is_a_conflict() -> None:
    base = b"top\nx\nx\nx\nx\nend\n"
    assert merge_text(base, b"top\nx\nx\nx\nend\n", b"top\nx\nnew\nx\nx\nx\nend\n").merged is None


def test_a_block_removed_before_a_line_that_was_changed_merges_if_a_blank_line_can_stay_between() -> None:
    base = b"one\n\nagent\n\ntwo\n"
    assert merge_text(base, b"one\n\ntwo\n", b"one\n\nagent\n\nTWO\n").merged == b"one\n\nTWO\n"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_line_endings_and_the_last_line_stay_as_they_are(end: bytes) -> None:
    base = b"\xef\xbb\xbfa\r\nb\nc\r\nd\re" + end
    ours = base.replace(b"a\r\n", b"A\r\n")
    theirs = base.replace(b"e", b"E")
    assert merge_text(base, ours, theirs).merged == b"\xef\xbb\xbfA\r\nb\nc\r\nd\rE" + end


def test_a_last_line_that_gains_an_ending_is_a_change_of_that_line() -> None:
    assert merge_text(b"a\nb\nc", b"A\nb\nc", b"a\nb\nc\n").merged == b"A\nb\nc\n"
    clash = merge_text(b"a\nb", b"a\nB", b"a\nb\n")
    assert clash.merged is None
    assert clash.proposal == b"a\n<<<<<<< ours\nB\n=======\nb\n>>>>>>> theirs\n"


def test_empty_versions_merge() -> None:
    assert merge_text(b"", b"a\n", b"").merged == b"a\n"
    assert merge_text(b"a\n", b"", b"a\n").merged == b""
    assert merge_text(b"a\n", b"", b"a\nb\n").merged is None
    assert merge_text(b"", b"a\n", b"b\n").merged is None


@pytest.mark.parametrize("content", [b"a\0b\n", "a\nb\n".encode("utf-16")])
def test_a_binary_file_is_never_merged(content: bytes) -> None:
    merge = merge_text(b"a\nb\nc\n", content, b"a\nb\nC\n")
    assert merge == TextMerge(None, None, "the file is binary: it has no lines to merge by")


def test_a_file_beyond_the_limit_is_refused_with_a_reason() -> None:
    big = b"x" * (MAX_BYTES + 1)
    assert merge_text(b"a\n", big, b"b\n").why == "the file is too large to merge (more than 32 MiB)"
    many = b"\n" * (merge_module.MAX_LINES + 1)
    assert merge_text(b"a\n", many, b"b\n").why == "the file has too many lines to merge (more than 500,000)"


def test_fifty_thousand_repetitive_lines_merge_with_bounded_work() -> None:
    # compared pair by pair this would be 25 million pairs of equal lines
    dice = Random(1)
    base = [b"%d\n" % dice.randrange(97) for _ in range(50_000)]
    ours, theirs, both = list(base), list(base), list(base)
    for place in range(100, 50_000, 400):
        ours[place] = both[place] = b"ours %d\n" % place
        theirs[place + 200 - 1] = both[place + 200 - 1] = b"theirs %d\n" % place
    assert merge_text(b"".join(base), b"".join(ours), b"".join(theirs)).merged == b"".join(both)


# -- mutants ------------------------------------------------------------------------------------------------------------------

MUTANTS = {
    "neighbours count as apart": ("other >= hunk.last_start", "other > hunk.last_start"),
    "overlaps are not seen": ("hunk.reach_low < high or", "False or"),
    "conflicts take ours": ("if not both or texts[0] == texts[1]:", "if True:"),
    "shift is forgotten": ("shift = [shift[side] + grown[side] for side in (0, 1)]", "shift = [0, 0]"),
    "unchanged tail is dropped": ("    merged += base[done:]\n", "    merged += base[done:-1]\n"),
    "the wrong side's text": ("text = texts[group[0].side]", "text = texts[1 - group[0].side]"),
    "growth forgets deletions": ("(self.new[1] - self.new[0]) - (self.high - self.low)", "(self.new[1] - self.new[0])"),
    "endings are dropped": ("version.splitlines(keepends=True)", "version.splitlines()"),
    "anchors are not in order": ("return _ascending(pairs)", "return pairs"),
    "reach is ignored": ("low - up, high + down", "low, high"),
}  # fmt: skip


def mutant(find: str, replace: str) -> ModuleType:
    source = Path(merge_module.__file__ or "").read_text(encoding="utf-8")
    assert source.count(find) == 1, f"the mutation {find!r} has to be aimed anew"
    name = "mutated_merge"
    module = ModuleType(name)
    module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    sys.modules[name] = module
    try:
        exec(compile(source.replace(find, replace), name, "exec"), module.__dict__)
    finally:
        del sys.modules[name]
    return module


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_of_the_merge_breaks_a_law(name: str) -> None:
    module = mutant(*MUTANTS[name])

    @settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate])
    @given(versions(), disjoint())
    def laws(three: tuple[bytes, bytes, bytes], four: tuple[bytes, bytes, bytes, bytes]) -> None:
        law_one_side_only(module, *three)
        law_symmetric(module, *three)
        law_nothing_is_lost(module, *three)
        law_applies_both(module, *four)
        conflicts(module)
        moved(module)

    with pytest.raises((AssertionError, IndexError, ExceptionGroup)):
        laws()


def moved(module: ModuleType) -> None:
    """Lines that one side put into another order are that side's change, and nothing else."""
    base, ours = b"1\n2\n3\n4\n5\n6\nm\nz\n", b"5\n6\n3\n4\n1\n2\nm\nz\n"
    law_applies_both(module, base, ours, base + b"new\n", ours + b"new\n")


def test_lines_in_another_order_merge_with_an_edit_elsewhere() -> None:
    moved(merge_module)


def conflicts(module: ModuleType) -> None:
    """What must never merge by itself."""
    for base, ours, theirs in (
        (b"a\nb\nc\nd\n", b"a\nB\nc\nd\n", b"a\nb\nC\nd\n"),
        (b"a\nb\n", b"a\nx\nb\n", b"a\ny\nb\n"),
        (b"a\nb\nc\n", b"a\nB\nc\n", b"a\nc\n"),
        (b"t\nx\nx\nx\nx\ne\n", b"t\nx\nx\nx\ne\n", b"t\nx\nn\nx\nx\nx\ne\n"),
        (b"t\nx\nx\nx\nx\ne\n", b"t\nx\nx\nx\ne\n", b"t\nx\nx\nn\nx\nx\ne\n"),
        (b"a\nb\nc\nd\ne\n", b"a\nX\ne\n", b"a\nb\nc\nY\ne\n"),
    ):
        assert module.merge_text(base, ours, theirs).merged is None
