"""Rows of other versions of decoders and of our own hashes: what is read again, what stays, and who is asked."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import GuardError
from dedup_spark.kernels.decoding import formats
from dedup_spark.kernels.features.signature import SignatureSettings, current_versions, own_version, rejected_version
from dedup_spark.stages.extract import versions
from dedup_spark.stages.extract.versions import OtherVersions, versions_in_use

SIGNATURE = SignatureSettings(400_000_000, 16, 256, 80, 0)
CURRENT = current_versions(SIGNATURE)
REJECTING = rejected_version(SIGNATURE)
DECODING = next(v for v in sorted(CURRENT) if v != REJECTING)
OTHER_PILLOW = f"{own_version(DECODING)}/pillow-9.0/thumbnail-256-q80"
OTHER_REJECTING = REJECTING.replace("pillow-", "pillow-0")


def kind(n: int, version: str, reason: str | None = None, is_here: bool | None = True) -> Row:
    return Row(is_made=True, is_here=is_here, reject_reason=reason, signature_version=version, n=n)


def others(*kinds: Row, on: str = "keep", max_outdated_share: float = 0.05) -> OtherVersions:
    extract = ExtractSettings(on_version_change=on, max_outdated_share=max_outdated_share)
    return OtherVersions(kinds, extract, CURRENT)


def said(found: OtherVersions, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO, logger=versions.__name__):
        found.say_what_stays()
    return [record.getMessage() for record in caplog.records]


def test_rows_of_the_versions_of_now_are_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    assert said(others(kind(900, DECODING), kind(100, REJECTING, "corrupt")), caplog) == []


def test_an_upgrade_of_a_decoder_reads_nothing_again_and_says_how_to(caplog: pytest.LogCaptureFixture) -> None:
    old = kind(900, OTHER_PILLOW)
    found = others(old, kind(100, DECODING))
    assert not found.is_outdated(old)
    (sentence,) = said(found, caplog)
    assert sentence.startswith("extract: 900 of 1,000 rows of features were made by other versions")
    assert "--set extract.on_version_change=recompute" in sentence


def test_to_read_much_again_needs_consent() -> None:
    old, new = kind(51, OTHER_PILLOW), kind(949, DECODING)
    with pytest.raises(GuardError, match=r"51 of 1,000 rows .*extract\.max_outdated_share \(0\.05\)"):
        others(old, new, on="recompute").require_consent()
    for found in (
        others(old, new, on="recompute", max_outdated_share=1),
        others(kind(50, OTHER_PILLOW), kind(950, DECODING), on="recompute"),
        others(kind(51, OTHER_PILLOW), on="recompute"),  # a share of a handful says nothing
    ):
        found.require_consent()
        assert found.is_outdated(old)


def test_rows_of_another_setting_of_pixels_are_of_another_version() -> None:
    scaled = current_versions(SignatureSettings(400_000_000, 16, 256, 80, 0, pixels="scaled"))
    assert scaled & CURRENT == {REJECTING}
    full, of_now = kind(900, DECODING), kind(100, max(scaled - CURRENT))
    for on, is_read_again in (("keep", False), ("recompute", True)):
        found = OtherVersions((full, of_now), ExtractSettings(on_version_change=on), scaled)
        assert (found.is_outdated(full), found.is_outdated(of_now)) == (is_read_again, False)
    with pytest.raises(GuardError, match="900 of 1,000 rows"):
        found.require_consent()


@pytest.mark.parametrize(
    ("version", "reason", "is_read_again"),
    [
        (OTHER_REJECTING, "corrupt", True),
        (OTHER_REJECTING, "unsupported_format", True),
        (OTHER_REJECTING, "not_an_image", False),  # no decoder was asked
        ("1/rejected by pillow-9.0/pixels-1/side-1", "not_an_image", True),  # more formats are known since
        (OTHER_REJECTING, "missing", False),
        (REJECTING.replace("/pixels-400000000", "/pixels-100"), "too_many_pixels", True),
        (REJECTING.replace("/pixels-", " anotherdecoder-1.0/pixels-"), "unsupported_format", False),  # gone since
        ("1/rejected by pillow-9.0/pixels-1/side-1", "truncated", True),
        (REJECTING, "corrupt", False),
    ],
)
def test_rejects_are_read_again_when_a_decoder_came_that_may_read_them(
    version: str, reason: str, is_read_again: bool
) -> None:
    reject = kind(3, version, reason)
    assert others(reject, kind(997, DECODING)).is_outdated(reject) is is_read_again


def test_many_rejects_stay_where_nobody_asked_for_them(caplog: pytest.LogCaptureFixture) -> None:
    rejects = kind(300, OTHER_REJECTING, "corrupt")
    found = others(rejects, kind(700, DECODING))
    found.require_consent()  # a night does not stop for a decoder's patch
    assert not found.is_outdated(rejects)
    assert "--set extract.max_outdated_share=1" in said(found, caplog)[0]


def test_rows_made_before_our_own_hashes_changed_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_version = own_version(OTHER_PILLOW) + 1
    monkeypatch.setattr(versions, "OLDEST_DECIDING", next_version)
    new = kind(60, f"{next_version}/pillow-9.0/thumbnail-256-q80")
    sentences = said(others(kind(40, OTHER_PILLOW), new), caplog)
    assert (
        "40 rows were made by an older version of our own hashes; they are never proposed for removal" in sentences[1]
    )


def test_rows_without_their_object_decide_nothing() -> None:
    gone = kind(900, OTHER_PILLOW, is_here=None)
    found = others(gone, kind(100, DECODING), on="recompute")
    found.require_consent()
    assert not found.is_outdated(gone)


def test_executors_are_asked_only_where_the_driver_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    no_spark: Any = None
    assert versions_in_use(no_spark, [kind(5, DECODING), kind(9, OTHER_PILLOW, is_here=None)], SIGNATURE) == CURRENT


def test_versions_that_count_are_those_of_executors(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(versions, "current_versions", lambda signature: frozenset({OTHER_PILLOW, OTHER_REJECTING}))
    with caplog.at_level(logging.WARNING, logger=versions.__name__):
        found = versions_in_use(spark, [kind(5, DECODING)], SIGNATURE)  # made by executors, unknown to the driver
    assert found == CURRENT
    assert "executors decode by other versions than the driver has" in caplog.text
    assert formats.decoder_version(formats.PILLOW) in caplog.text
