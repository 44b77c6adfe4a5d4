"""File names as text that Arrow, Delta and SQL can hold, and back.

POSIX names are bytes. Names that are not UTF-8 would be lost in any text column, so each undecodable byte b becomes the
private-use character U+F700 + b (as Cygwin does). A name that really holds one of U+F780 to U+F7FF has the three bytes
of its UTF-8 written in the same way, so that no two names become one text. All other names stay as they are, with
spaces, `#` or `%`.
"""

from __future__ import annotations

import re

_PRIVATE, _SURROGATE = 0xF700, 0xDC00
_BYTES = range(0x80, 0x100)


def to_text(name: str) -> str:
    """Valid Unicode for a name as `os.scandir` gives it, with undecodable bytes as lone surrogates."""
    return name.translate(_TO_TEXT) if not name.isascii() else name


def from_text(text: str) -> str:
    """The inverse of `to_text`; a private-use character that `to_text` does not write there stands for its byte."""
    return text if text.isascii() else _WRITTEN_BYTES.sub(_decode, text)


def holds_bytes(text: str) -> bool:
    """Whether `text` has characters that stand for bytes."""
    return not text.isascii() and _WRITTEN_BYTES.search(text) is not None


def _decode(written: re.Match[str]) -> str:
    """Bytes that belong together are decoded together: those of a private-use character give that character."""
    return bytes(ord(character) - _PRIVATE for character in written[0]).decode("utf-8", "surrogateescape")


_WRITTEN_BYTES = re.compile(f"[{chr(_PRIVATE + _BYTES[0])}-{chr(_PRIVATE + _BYTES[-1])}]+")
_TO_TEXT = {_SURROGATE + b: chr(_PRIVATE + b) for b in _BYTES} | {
    _PRIVATE + b: "".join(chr(_PRIVATE + each) for each in chr(_PRIVATE + b).encode()) for b in _BYTES
}
