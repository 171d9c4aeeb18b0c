"""Edits find what is meant, change nothing else, and refuse what could mean several things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from takeback.tools.files.edit import Edit, EditError, apply_edits
from takeback.tools.files.text import NotText, count, decode, line_at, lines


def refused(content: bytes, *edits: Edit) -> EditError:
    with pytest.raises(EditError) as raised:
        apply_edits(content, edits)
    return raised.value


def test_an_edit_replaces_the_one_place_where_the_text_stands() -> None:
    assert apply_edits(b"one\ntwo\nthree\n", [Edit("two", "2")]) == b"one\n2\nthree\n"


def test_edits_are_applied_in_order_each_to_what_the_last_one_left() -> None:
    assert apply_edits(b"a", [Edit("a", "b"), Edit("b", "c")]) == b"c"


def test_special_characters_of_patterns_mean_themselves() -> None:
    content = b"price: $1 (a.b*)\n\\1 $& \\g<0>\n"
    edited = apply_edits(content, [Edit("$1 (a.b*)\n\\1", "$& \\1 \\g<0> $$\n\\2")])
    assert edited == b"price: $& \\1 \\g<0> $$\n\\2 $& \\g<0>\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("asked", ["\n", "\r\n"])
def test_line_endings_of_the_file_match_any_asked_for_and_stay(ending: str, asked: str) -> None:
    content = ending.join(["a", "b", "c", ""]).encode()
    edited = apply_edits(content, [Edit(f"a{asked}b", f"A{asked}new{asked}B")])
    assert edited == ending.join(["A", "new", "B", "c", ""]).encode()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_added_to_a_single_line_match_get_the_ending_of_that_line(ending: str) -> None:
    content = ending.join(["a", "b"]).encode()
    assert apply_edits(content, [Edit("b", "b\nc")]) == ending.join(["a", "b", "c"]).encode()


def test_mixed_endings_outside_a_match_are_untouched_and_inside_kept_line_by_line() -> None:
    content = b"a\r\nb\nc\r\nd\ne"
    assert apply_edits(content, [Edit("b\nc", "B\nC")]) == b"a\r\nB\nC\r\nd\ne"
    assert apply_edits(content, [Edit("a\nb\nc\nd", "a\nb\nnew\nc\nd")]) == b"a\r\nb\nnew\nc\r\nd\ne"
    assert apply_edits(content, [Edit("a\r\nb\nc\r\nd", "a\nb\nd")]) == b"a\nb\nd\ne"


def test_a_leading_line_break_does_not_match_half_of_crlf() -> None:
    assert apply_edits(b"a\r\nb\r\nc", [Edit("\nb", "\nB")]) == b"a\r\nB\r\nc"
    assert apply_edits(b"a\r\nb\r\nc", [Edit("b\n", "")]) == b"a\r\nc"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encoding_and_byte_order_mark_stay(encoding: str) -> None:
    edited = apply_edits("grün\r\nblau\r\n".encode(encoding), [Edit("grün\n", "größer 🎉\n")])
    assert edited == "größer 🎉\r\nblau\r\n".encode(encoding)


def test_big_endian_utf_16_stays_big_endian() -> None:
    edited = apply_edits(b"\xfe\xff" + "ab".encode("utf-16-be"), [Edit("b", "c")])
    assert edited == b"\xfe\xff" + "ac".encode("utf-16-be")


@pytest.mark.parametrize("content", [b"caf\xe9", b"\xff\xfea", b"\x80\x81"])
def test_bytes_in_no_certain_encoding_are_refused(content: bytes) -> None:
    error = refused(content, Edit("a", "b"))
    assert error.code == "not_text"
    assert str(error).startswith("The file is not text in UTF-8 or UTF-16: byte ")
    assert error.advice == "Replace the whole file with write_file and encoding base64."


def test_an_ambiguous_match_is_refused_with_its_lines() -> None:
    error = refused(b"x\ny\nx\nx\n", Edit("x", "z"))
    assert error.code == "ambiguous"
    assert str(error) == "old_text occurs 3 times (from lines 1, 3, 4 on)."
    assert error.advice == "Add lines around it until it is unique, or set replace_all."


def test_overlapping_matches_are_ambiguous_too() -> None:
    assert refused(b"aaa", Edit("aa", "b")).code == "ambiguous"
    assert apply_edits(b"aaa", [Edit("aa", "b", replace_all=True)]) == b"ba"


def test_replace_all_replaces_every_match_with_its_own_endings() -> None:
    content = b"a\r\nb\n--\na\nb\n"
    assert apply_edits(content, [Edit("a\nb", "A\nB", replace_all=True)]) == b"A\r\nB\n--\nA\nB\n"


def test_more_matches_than_anybody_counts_are_refused_quickly() -> None:
    assert str(refused(b"a" * 1_000_000, Edit("a", "b"))).startswith("old_text occurs at least 1000 times")


def test_no_match_names_the_nearest_line() -> None:
    error = refused(b"def first():\n    return 1\n", Edit("  return 2", "x"))
    assert error.code == "no_match"
    assert str(error) == "old_text was not found."
    assert error.advice == (
        "The nearest is line 2, '    return 1'; read the file again and copy the text exactly, blanks included."
    )


def test_no_match_without_anything_near_says_to_read_again() -> None:
    assert refused(b"abc\n", Edit("zzzzz", "x")).advice.startswith("Read the file again")


def test_a_later_edit_that_fails_says_which_one() -> None:
    error = refused(b"a\n", Edit("a", "b"), Edit("a", "c"))
    assert str(error) == "Edit 2 of 2: old_text was not found."


def test_empty_and_pointless_edits_are_refused() -> None:
    assert refused(b"a").code == "no_change"
    assert refused(b"a", Edit("", "b")).code == "no_match"
    assert refused(b"a", Edit("a", "a")).code == "no_change"
    assert refused(b"a\r\nb", Edit("a\nb", "a\r\nb")).code == "no_change"
    assert refused(b"ab", Edit("a", "c"), Edit("c", "a")).code == "no_change"
    assert refused(b"a", Edit("a", "\ud800")).code == "invalid"


PIECES = st.text(st.sampled_from("ab\r\n\u2028é🎉"), max_size=12)


@given(PIECES, PIECES, st.text(st.sampled_from("ab\r\né"), min_size=1, max_size=6))
def test_what_is_before_and_behind_a_match_is_never_touched(head: str, tail: str, new: str) -> None:
    content = f"{head}<here>{tail}".encode()
    edited = apply_edits(content, [Edit("<here>", new)])
    assert edited.startswith(head.encode())
    assert edited.endswith(tail.encode())


@given(PIECES, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_decoding_and_encoding_give_the_same_bytes(text: str, encoding: str) -> None:
    content = text.encode(encoding)
    assert decode(content).encoded() == content


@given(PIECES)
def test_lines_are_the_text_and_are_counted_like_bytes_are(text: str) -> None:
    assert "".join(lines(text)) == text
    assert len(list(lines(text))) == len(text.encode().splitlines()) == count(text)
    assert line_at(text + "x", len(text)) == len((text + "x").encode().splitlines())


def test_bytes_of_no_encoding_are_not_text() -> None:
    with pytest.raises(NotText, match="byte 3 is not UTF-8"):
        decode(b"caf\xe9")
