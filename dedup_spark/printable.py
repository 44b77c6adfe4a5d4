"""Text that a terminal or a page shows and does not obey: names of files are written by strangers."""

from __future__ import annotations

import unicodedata

_LEFT = "\n\t"
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that turn the direction of what follows, so that a name is read as another."""
_ESCAPED = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in _LEFT} | {
    code: f"\\u{code:04x}" for code in _DIRECTIONS
}


def printable(text: str) -> str:
    """`text` with control characters, but for line ends and tabs, written as `\\x1b`."""
    return text.translate(_ESCAPED)


_ISOLATE, _END = "\u2068", "\u2069"
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def isolated(text: str) -> str:
    """`printable` text for a title, an attribute or a drawing, where no element keeps it apart from what is around it.

    What is written from right to left would draw its neighbours to its other side: such text is put between the
    characters that isolate it (Unicode Standard Annex 9). Other text stays as it is, so that it can be copied.
    """
    shown = printable(text)
    turns = any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in shown)
    return f"{_ISOLATE}{shown}{_END}" if turns else shown


def in_hex(value: int) -> str:
    """An id or a hash as people see it, the 64 bits of a signed number: -2 is fffffffffffffffe."""
    return f"{value & (2**64 - 1):016x}"
