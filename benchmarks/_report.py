"""The results of the benchmarks as one table and one picture: `results/table.md` and `results/plot.svg`."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from _setting import HERE, Row

RESULTS = HERE / "results"
WIDTH, LINE, LABELS, VALUES = 980, 26, 380, 170


def rows() -> list[dict[str, Any]]:
    """Of all benchmarks that left a result, in their order."""
    found: list[dict[str, Any]] = []
    for path in sorted(RESULTS.glob("*.json")):
        told = json.loads(path.read_text())
        found += journal_rows(told) if told["benchmark"] == "journal" else told["rows"]
    return found


def journal_rows(told: dict[str, Any]) -> list[dict[str, Any]]:
    """What the journal's own benchmark tells, as rows."""
    small, large = told["small"], told["large"]
    among = f"{large['actions']:,} actions"
    append, few, read = large["append"], small["append"], large["read"]
    # both beside bare commits of the same minute: what else the machine does then cancels out
    growth = append["ratio"] / few["ratio"]
    plain = f"with {small['actions']:,} actions"
    return [
        row.told()
        for row in (
            Row(f"append, a pair of events, {among}", growth, "×", None, plain, 1.2,
                note=f"{append['pair_ms']:.2f} ms; {append['ratio']:.2f}× two bare commits"),
            Row(f"last 50 events of a run, {among}", read["last_50_events_of_a_run_ms"], "ms", None, "", 0.2),
            Row(f"opening a journal of {among}", large["open_ms"], "ms", None, "", 1000),
        )
    ]  # fmt: skip


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def reached(row: dict[str, Any]) -> float:
    """What the goal is about: the ratio where there is one."""
    return float(row["ratio"] if row["ratio"] is not None else row["measured"])


def goal(row: dict[str, Any]) -> str:
    """In words."""
    unit = "×" if row["ratio"] is not None or str(row["unit"]).startswith("×") else f" {row['unit']}"
    return f"{'≥' if row['at_least'] else '≤'} {number(row['goal'])}{unit}"


def beside(row: dict[str, Any]) -> str:
    """The reference and its figure."""
    if row["reference"] is None:
        return str(row["reference_is"])
    return f"{row['reference_is']}: {number(row['reference'])} {row['unit']}"


def table(found: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| work | measured | beside | ratio | goal | |", "|---|---|---|---|---|---|"]
    for row in found:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}×"
        note = f" ({row['note']})" if row["note"] else ""
        measured = f"{number(row['measured'])} {row['unit']}"
        met = "met" if row["met"] else "missed"
        lines.append(f"| {row['what']}{note} | {measured} | {beside(row)} | {ratio} | {goal(row)} | {met} |")
    return "\n".join(lines) + "\n"


def plot(found: list[dict[str, Any]]) -> str:
    """Each row as a bar: how much of what the goal allows is used up. The line is the goal; shorter is better."""
    scale = (WIDTH - LABELS - VALUES) / 3
    height = LINE * len(found) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="10" y="20" font-weight="bold">Cost as a share of what the goal allows (shorter is better)</text>',
    ]
    for index, row in enumerate(found):
        value = reached(row)
        share = (row["goal"] / value if row["at_least"] else value / row["goal"]) if value else 0.0
        top = 34 + LINE * index
        colour = "#2f855a" if row["met"] else "#c05621"
        length = min(share, 3.0) * scale
        parts += [
            f'<text x="{LABELS - 8}" y="{top + 16}" text-anchor="end">{escape(row["what"])}</text>',
            f'<rect x="{LABELS}" y="{top + 3}" width="{length:.1f}" height="{LINE - 8}" fill="{colour}"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{top + 16}">{share:.2f}{" …" if share > 3 else ""}</text>',
        ]
    line = LABELS + scale
    parts += [f'<path d="M{line:.1f} 30V{height - 14}" stroke="#1a202c" stroke-dasharray="4 3"/>', "</svg>"]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Read, draw and print."""
    found = rows()
    if not found:
        raise SystemExit("There are no results yet: run `make bench`.")
    (RESULTS / "plot.svg").write_text(plot(found))
    text = table(found)
    (RESULTS / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
