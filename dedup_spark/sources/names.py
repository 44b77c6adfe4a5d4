"""File names as text that Arrow, Delta and SQL can hold, and back.

POSIX names are bytes. Names that are not UTF-8 would be lost in any text column, so each undecodable byte b becomes the
private-use character U+F700 + b (as Cygwin does). All other names stay as they are, with spaces, `#` or `%`.
"""

from __future__ import annotations

_PRIVATE, _SURROGATE = 0xF700, 0xDC00


def to_text(name: str) -> str:
    """Valid Unicode for a name as `os.scandir` gives it, with undecodable bytes as lone surrogates."""
    return name.translate(_TO_TEXT) if not name.isascii() else name


def from_text(text: str) -> str:
    """The inverse of `to_text`."""
    return text.translate(_FROM_TEXT) if not text.isascii() else text


_TO_TEXT = {_SURROGATE + b: _PRIVATE + b for b in range(0x80, 0x100)}
_FROM_TEXT = {private: surrogate for surrogate, private in _TO_TEXT.items()}
