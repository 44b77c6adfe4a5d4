"""Prints tables as text for a terminal or as Markdown; commands, benchmarks and documents all use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_MAX_CELL_CHARACTERS = 100
_MIN_CELL_CHARACTERS = 16  # of an id


def format_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, most: int | None = _MAX_CELL_CHARACTERS
) -> str:
    """Values of any type as aligned text, with columns of numbers to the right; bytes are counted.

    `most`: the characters of a cell, after which it is cut; None: it is not.
    """
    return aligned(columns, [[cut(_cell(value), most) for value in row] for row in rows], _numbers(columns, rows))


def fitted(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> str:
    """The same with the widest columns cut, so that a line is not longer than `width`, as far as columns can be cut."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    room = width - 2 * (len(columns) - 1)
    most = max(widths, default=0)
    while most > _MIN_CELL_CHARACTERS and sum(min(w, most) for w in widths) > room:
        most -= 1
    shown = [[cut(cell, most) for cell in row] for row in cells]
    return aligned([cut(name, most) for name in columns], shown, _numbers(columns, rows))


def cut(text: str, most: int | None) -> str:
    """At most so many characters, of which the last are dots where some are left out."""
    return text if most is None or len(text) <= most else text[: most - 3] + "..."


def _numbers(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bool]:
    return [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(columns))]


def aligned(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool], *, rule: bool = True) -> str:
    """Cells of text under their headings, two spaces between columns; no line ends with spaces.

    Args:
        right: For each column, whether it is aligned to the right.
        rule: Whether a line of dashes stands below the headings.
    """
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [columns, *([["-" * width for width in widths]] if rule else []), *cells]
    return "\n".join(_line(line, widths, right) for line in lines)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in GitHub's Markdown; a `|` in a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _line(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(texts, widths, right, strict=True)]
    return "  ".join(padded).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("\r", "\\r").replace("\n", "\\n")  # one line per row, whatever a file is called
