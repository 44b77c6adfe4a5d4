"""What a terminal would obey is written out."""

from __future__ import annotations

import pytest

from dedup_spark.printable import isolated, printable


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("file:///l/שלום.jpg", "\u2068file:///l/שלום.jpg\u2069"), ("عكس 3.png", "\u2068عكس 3.png\u2069"),
        ("שלום\u2069.jpg", "\u2068שלום\\u2069.jpg\u2069"), ("été/日本.jpg", "été/日本.jpg"), ("a\u202eb", "a\\u202eb"),
    ],
)  # fmt: skip
def test_what_is_written_from_right_to_left_is_kept_apart_and_cannot_end_that(text: str, shown: str) -> None:
    assert isolated(text) == shown
