"""HTML as text for a model: what a person would see, links written out; scripts and hidden parts left out, nothing fetched."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

_NOTHING: Final = frozenset({"script", "style", "head", "template", "noscript", "svg", "object", "iframe"})
_BLOCKS: Final = frozenset(
    [
        "address",
        "article",
        "blockquote",
        "div",
        "dl",
        "dt",
        "dd",
        "fieldset",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tr",
        "ul",
    ]
)
_VOID: Final = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self._unseen: list[str] = []
        """Open elements from the first one on that is not shown."""
        self._links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        its = dict(attrs)
        if self._unseen:
            if tag not in _VOID:
                self._unseen.append(tag)
            return
        if tag in _NOTHING or "hidden" in its or _HIDDEN.search(its.get("style") or ""):
            if tag not in _VOID:
                self._unseen.append(tag)
            return
        if tag == "br" or tag in _BLOCKS:
            self.out.append("\n")
        if tag == "li":
            self.out.append("- ")
        elif tag in ("td", "th"):
            self.out.append(" ")
        elif tag == "img" and its.get("alt"):
            self.out.append(f"[{its['alt']}]")
        elif tag == "a":
            self._links.append(its.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag in self._unseen:
                while self._unseen and self._unseen.pop() != tag:
                    continue
            return
        if tag == "a" and self._links:
            link = self._links.pop()
            if link.startswith(("http:", "https:", "mailto:")) and not "".join(self.out[-1:]).strip().endswith(link):
                self.out.append(f" ({link})")
        if tag in _BLOCKS:
            self.out.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.out.append(re.sub(r"\s+", " ", data))


def to_text(html: str) -> str:
    """The text of a page, blank lines and blanks set in order."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    text = re.sub(r"[ \t\xa0]+", " ", "".join(parser.out))
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
