"""What is said of files before they are read, by the endings of their names."""

from __future__ import annotations

import pytest
from PIL import features

from dedup_spark.kernels.decoding import formats, structures, suffixes
from dedup_spark.kernels.decoding.openers import PILLOW_FEATURES
from dedup_spark.kernels.decoding.suffixes import FORMAT_OF_SUFFIX, formats_decoded_here, not_decoded

PILLOW_ALONE = frozenset({"AVIF", "WEBP", "JPEG2000"})
RAW = frozenset(f for f, d in formats._DECODER_OF.items() if d is formats.RAW)


def test_every_format_that_may_lack_its_decoder_has_an_ending() -> None:
    optional = {name for name, decoder in formats._DECODER_OF.items() if decoder is not formats.PILLOW}
    assert optional | set(PILLOW_FEATURES) <= set(FORMAT_OF_SUFFIX.values())


def test_every_format_with_an_ending_is_one_that_bytes_can_show() -> None:
    by_magic = {name for _, name in formats._MAGIC}
    by_structure = {"SVG", "WEBP", "ANI", "AVIF", "HEIF", "CR2", "CR3", "CRW", "ICO", "RAW", "DNG"}
    by_structure |= {*formats._RAW_MAKES.values(), *(s.name for s in structures._STRUCTURES)}
    assert set(FORMAT_OF_SUFFIX.values()) <= by_magic | by_structure
    assert all(suffix == suffix.lower() and "." not in suffix for suffix in FORMAT_OF_SUFFIX)


def test_with_all_decoders_only_what_nobody_decodes_is_left() -> None:
    left = set(FORMAT_OF_SUFFIX.values()) - formats_decoded_here()
    assert left == {name for name in FORMAT_OF_SUFFIX.values() if formats.decoder_of(name) is None}


def test_without_an_optional_decoder_its_formats_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "is_installed", lambda decoder: decoder is formats.PILLOW)
    assert formats_decoded_here() == PILLOW_ALONE
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    assert formats_decoded_here() == PILLOW_ALONE - {"AVIF"}


def test_a_sentence_says_how_many_files_and_what_to_install() -> None:
    found = not_decoded({"hif": 4, "heic": 1200, "svg": 7, "nef": 30, "dng": 10, "avif": 5}, PILLOW_ALONE)
    assert found == [
        "1,204 files named .heic or .hif will be unsupported_format: they need pi-heif-decoder; on every node: "
        "pip install 'dedup-spark[heif]'",
        "40 files named .dng or .nef will be unsupported_format: they need rawpy; on every node: pip install "
        "'dedup-spark[raw]'",
        "7 files named .svg will be unsupported_format: dedup_spark has no decoder for SVG",
    ]


def test_a_pillow_without_a_library_is_named() -> None:
    (sentence,) = not_decoded({"avif": 5}, frozenset())
    assert sentence.endswith("Pillow was built without avif; install a wheel of it on every node")


def test_of_what_is_decoded_nothing_is_said() -> None:
    assert not_decoded({"heic": 3, "avif": 2}, PILLOW_ALONE | {"HEIF"}) == []
    assert not_decoded({}, frozenset()) == []
    assert suffixes.not_decoded({"cr2": 1, "nef": 1}, RAW) == []
