"""What a user has set in Spark's own places goes before what the command would set."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup_spark.spark.delta import DELTA_SETTINGS, delta_jar
from dedup_spark.spark.local_settings import JAVA_OPTIONS, chosen_by_user, laptop_settings, without_chosen


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_CONF_DIR", raising=False)
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ("", set()),
        ("pyspark-shell", set()),
        ("--conf spark.ui.enabled=true pyspark-shell", {"spark.ui.enabled"}),
        ("--conf=spark.driver.host=10.0.0.1 pyspark-shell", {"spark.driver.host"}),
        ("-c spark.a=b=c --conf 'spark.d=e f' pyspark-shell", {"spark.a", "spark.d"}),
        ("--driver-memory 2g pyspark-shell", {"spark.driver.memory"}),
        ("--driver-java-options=-Xss4m pyspark-shell", {JAVA_OPTIONS}),
        ("--packages a:b:1 --jars c.jar pyspark-shell", {"spark.jars.packages", "spark.jars"}),
        ("--conf", {""}),
    ],
)
def test_arguments_for_pyspark_say_which_settings_a_user_chose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, chosen: set[str]
) -> None:
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", arguments)
    assert chosen_by_user(str(tmp_path)) == chosen


@pytest.mark.parametrize("by_variable", [True, False])
def test_the_file_of_defaults_says_which_settings_a_user_chose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_variable: bool
) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    text = "# spark.x 1\n\nspark.driver.memory  8g\n  spark.ui.enabled=true\nspark.local.dir = /scratch\nother 1\n"
    (folder / "spark-defaults.conf").write_text(text)
    if by_variable:
        monkeypatch.setenv("SPARK_CONF_DIR", str(folder))
    home = tmp_path / "elsewhere" if by_variable else tmp_path
    assert chosen_by_user(str(home)) == {"spark.driver.memory", "spark.ui.enabled", "spark.local.dir"}


def test_what_a_user_chose_is_left_out_but_for_what_delta_needs() -> None:
    settings = laptop_settings()
    chosen = frozenset({"spark.driver.memory", JAVA_OPTIONS, "spark.jars.packages", *DELTA_SETTINGS})
    left = without_chosen(settings, chosen)
    assert settings.keys() - left.keys() == {"spark.driver.memory", JAVA_OPTIONS}
    assert left["spark.jars.packages"] == delta_jar()
    assert without_chosen(settings, frozenset()) == settings


def test_a_small_lake_differs_in_options_of_java_alone() -> None:
    large, small = laptop_settings(), laptop_settings(is_small=True)
    assert {key for key in large if large[key] != small[key]} == {JAVA_OPTIONS}
    assert large.keys() == small.keys()
    assert "TieredStopAtLevel=1" in small[JAVA_OPTIONS]
    assert "Tier4CompileThreshold" in large[JAVA_OPTIONS]
