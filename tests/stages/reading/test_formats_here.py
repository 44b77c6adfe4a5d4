"""What extract and the plan say of images that nothing here decodes."""

from __future__ import annotations

import logging

import pytest
from fabricated import images, listed
from pyspark.sql import SparkSession

from dedup_spark.kernels.decoding.suffixes import FORMAT_OF_SUFFIX
from dedup_spark.stages.reading import formats_here
from dedup_spark.stages.reading.formats_here import count_rare_suffixes, say_undecodable


def test_names_are_counted_and_executors_asked(spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    names = ["a.SVG", "b.svg", "c.heic", "svg", "d.jpg"]
    rows = [listed(i, uri=f"s3://lake/{name}") for i, name in enumerate(names)]
    found = count_rare_suffixes(images(spark, [*rows, listed(9, uri="s3://lake/x.svg", member="photo.jpg")]))
    assert found == {"svg": 2, "heic": 1}
    with caplog.at_level(logging.WARNING, logger=formats_here.__name__):
        say_undecodable(spark, found)
    (said,) = [record.getMessage() for record in caplog.records]  # executors of the tests have all decoders
    assert said == "extract: 2 files named .svg will be unsupported_format: dedup_spark has no decoder for SVG"


def test_where_no_name_is_rare_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats_here, "ask_an_executor", lambda *_: pytest.fail("a task was started"))
    assert formats_here.undecodable(None, {}) == []  # type: ignore[arg-type]


def test_the_endings_are_those_that_may_lack_a_decoder() -> None:
    assert not {"jpg", "jpeg", "png", "gif", "bmp", "tif", "tiff", "ico", "ppm", "psd"} & set(FORMAT_OF_SUFFIX)
