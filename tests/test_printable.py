"""What a terminal would obey is written out."""

from __future__ import annotations

import pytest

from dedup_spark.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07.jpg", "\\x1b]0;owned\\x07.jpg"), ("a\rb", "a\\x0db"), ("\x9b31m", "\\x9b31m"),
        ("photo\u202egpj.exe", "photo\\u202egpj.exe"), ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("a\x7fb\x00", "a\\x7fb\\x00"),
    ],
)  # fmt: skip
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["a\tb\nc", "été/日本/שלום.jpg", "🙂 👨‍👩‍👧", "C:\\photos\\1.jpg"])
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text
