"""What makes an image be matched again: other settings that decide which embeddings are pairs, or another model."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from dedup_spark.config import MatchSettings
from dedup_spark.stages import increment

CHANGED = {
    "min_similarity": 0.5, "neighbours": 5, "floor_similarity": 0.35, "floor_recall": 0.5, "engine": "exact",
    "min_recall": 0.9, "seed": 1,
}  # fmt: skip
FREE = {"audit_queries": 7, "max_hamming_bits": 1, "max_phash_bucket": 9, "max_pairs_per_image": 3}


def test_every_setting_is_known_to_decide_or_not() -> None:
    assert {f.name for f in fields(MatchSettings)} == {*CHANGED, *FREE}


@pytest.mark.parametrize("name", [*CHANGED, *FREE])
def test_only_settings_that_decide_change_the_fingerprint(name: str) -> None:
    other = replace(MatchSettings(), **{name: (CHANGED | FREE)[name]})
    same = increment.fingerprint("m", MatchSettings()) == increment.fingerprint("m", other)
    assert same == (name in FREE)


def test_another_model_changes_the_fingerprint() -> None:
    assert increment.fingerprint("m", MatchSettings()) != increment.fingerprint("n", MatchSettings())
