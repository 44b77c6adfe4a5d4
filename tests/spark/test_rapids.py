"""Whether the RAPIDS accelerator plans queries, and blocks that do without it: by the settings of a session alone."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.spark.rapids import is_accelerated, unaccelerated

LOADED = {"spark.plugins": "org.example.Other, com.nvidia.spark.SQLPlugin"}
SWITCH = "spark.rapids.sql.enabled"


class Settings(dict[str, str]):
    """`spark.conf`, as far as it is asked."""

    def set(self, key: str, value: str) -> None:
        self[key] = value

    def unset(self, key: str) -> None:
        del self[key]


def session(**settings: Any) -> Any:
    return SimpleNamespace(conf=Settings(settings))


@pytest.mark.parametrize(
    ("settings", "is_on"),
    [
        ({}, False),
        ({"spark.plugins": "org.example.Other"}, False),
        (LOADED, True),
        (LOADED | {SWITCH: "false"}, False),
        (LOADED | {SWITCH: "True"}, True),
        ({"spark.plugins": "com.nvidia.spark.SQLPlugin", SWITCH: "true"}, True),
        ({SWITCH: "true"}, False),
    ],
)
def test_it_is_on_where_the_plugin_is_loaded_and_not_switched_off(settings: dict[str, str], is_on: bool) -> None:
    assert is_accelerated(session(**settings)) is is_on


def test_a_block_does_without_it_and_leaves_no_trace() -> None:
    spark = session(**LOADED)
    with contextlib.suppress(ValueError), unaccelerated(spark):
        assert not is_accelerated(spark)
        raise ValueError("a write failed")
    assert spark.conf == LOADED | {SWITCH: "true"}


def test_the_last_of_several_blocks_puts_it_back() -> None:
    spark = session(**LOADED)
    first, second = unaccelerated(spark), unaccelerated(spark)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not is_accelerated(spark)
    second.__exit__(None, None, None)
    assert is_accelerated(spark)


@pytest.mark.parametrize("settings", [{}, LOADED | {SWITCH: "false"}])
def test_where_it_is_not_on_nothing_is_set(settings: dict[str, str]) -> None:
    spark = session(**settings)
    with unaccelerated(spark):
        assert spark.conf == settings
    assert spark.conf == settings


def test_the_error_of_a_block_is_raised_where_its_session_died(caplog: pytest.LogCaptureFixture) -> None:
    spark = session(**LOADED)

    def fail() -> None:
        spark.conf = None
        raise ValueError("a write failed")

    with pytest.raises(ValueError, match="a write failed"), unaccelerated(spark):
        fail()
    assert "settings of the session could not be put back" in caplog.text
    with pytest.raises(AttributeError), unaccelerated(alive := session(**LOADED)):
        alive.conf = None  # nothing else failed: then this is the error
