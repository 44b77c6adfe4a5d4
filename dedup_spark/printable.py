"""Text that a terminal shows and does not obey: names of files are written by strangers."""

from __future__ import annotations

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
