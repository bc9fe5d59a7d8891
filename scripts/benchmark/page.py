"""The page of results: a header, and a section for each table, which a new run of that table replaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.settings import Settings


@dataclass(frozen=True)
class Table:
    """A table, made row by row.

    Attributes:
        title: Heading of its section.
        about: What is measured, and how.
        columns: Names of the columns.
        rows: Makes the rows.
        one_thread: Whether it is made on one thread, because many are slower for problems of its size.
    """

    title: str
    about: Callable[[Settings], str]
    columns: Sequence[str]
    rows: Callable[[Settings], Iterator[Sequence[object]]]
    one_thread: bool = False

    def lines(self, settings: Settings) -> Iterator[str]:
        """Its lines, as they come."""
        yield self.about(settings)
        yield ""
        yield line(self.columns)
        yield line(["---"] * len(self.columns))
        for row in self.rows(settings):
            yield line(row)


def line(cells: Iterable[object]) -> str:
    """A row in Markdown."""
    return "| " + " | ".join(map(str, cells)) + " |"


def ratio(over: float | None, under: float | None) -> str:
    """A quotient, or a dash."""
    return "–" if over is None or under is None else f"{over / under:.2f}"


def sections_of(page: str) -> dict[str, str]:
    """The sections of a page, by their headings."""
    parts = (part.partition("\n") for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:])
    return {title.strip(): text.strip() for title, _, text in parts}


def write_section(path: Path, header: str, titles: Sequence[str], title: str, text: str) -> None:
    """Writes a page with a new section, and the others that it has had; ``titles`` come first, in that order."""
    sections = sections_of(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[title] = text
    order = [each for each in titles if each in sections]
    order += [each for each in sections if each not in titles]
    parts = [header.strip(), *(f"## {each}\n\n{sections[each]}" for each in order)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
