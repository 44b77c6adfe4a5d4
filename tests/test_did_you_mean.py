"""A hint is given where a word is near another one, and nowhere else."""

from __future__ import annotations

import pytest

from dedup_spark.config import load_config
from dedup_spark.did_you_mean import did_you_mean, nearest
from dedup_spark.errors import ConfigError
from dedup_spark.store.reader import open_table

COMMANDS = ("run", "inventory", "extract", "index", "match", "cluster", "report", "plan", "embed", "sql", "trace")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("rnu", "run"), ("Run", "run"), ("clsuter", "cluster"), ("repot", "report"), ("extracts", "extract"),
        ("qsl", "sql"), ("inventroy", "inventory"), ("traec", "trace"),
        ("dedupe", None), ("list", None), ("delete", None), ("", None), ("x", None), ("status", None),
    ],
)  # fmt: skip
def test_only_a_slip_of_a_word_is_taken_for_it(word: str, meant: str | None) -> None:
    assert nearest(word, COMMANDS) == meant
    assert did_you_mean(word, COMMANDS) == (f"; did you mean '{meant}'?" if meant else "")


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("match.min_similarty", "did you mean 'match.min_similarity'?"),
        ("matsch.neighbours", "did you mean 'match.neighbours'?"),
        ("match.neighbors", "did you mean 'match.neighbours'?"),
        ("extract.min_similarity", "did you mean 'match.min_similarity'?"),
        ("cluster.keeper_ordr", "did you mean 'cluster.keeper_order'?"),
        ("match.colour", "[match] has min_similarity, neighbours, "),
        ("report.colour", "[report] has max_clusters_shown, prefix_depth"),
        ("report.linkage", "did you mean 'cluster.linkage'?"),
        ("cluster.shard_rows", "did you mean 'index.max_shard_rows'?"),
        ("extract.fetch_attempts", "it was replaced by 'extract.fetch_patience_seconds'"),
        ("speed.fast", "sections are inventory, extract, "),
        ("zzz.qqq", "sections are inventory, extract, "),
    ],
)
def test_an_unknown_setting_says_what_was_meant_or_what_there_is(setting: str, hint: str) -> None:
    with pytest.raises(ConfigError) as e:
        load_config(None, [f"{setting}=1"])
    [problem] = e.value.problems
    assert f"unknown setting '{setting}'; {hint}" in problem
    assert ("did you mean" in problem) == ("did you mean" in hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("min_similarity=0.4", "did you mean match.min_similarity or cluster.min_similarity?"),
        ("engine=exact", "did you mean match.engine?"),
        ("nonsense=1", "for example --set match.min_similarity=0.4"),
        ("match.engine", "for example --set match.min_similarity=0.4"),
    ],
)
def test_a_setting_without_its_section_or_value_says_how_it_is_written(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as e:
        load_config(None, [text])
    assert e.value.problems[0].startswith(f"--set {text}: expected section.key=value")
    assert hint in e.value.problems[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("match.engine=exct", "got 'exct'; did you mean 'exact'?"),
        ("cluster.linkage=single", "must be one of average, complete, ward, got 'single'"),
        ("extract.trust_etags=yes", "must be true or false, got 'yes'"),
        ("match.neighbours=3.0", "must be a whole number, got 3.0"),
        ("match.min_similarity=high", "must be a number, got 'high'"),
        ("extract.weights=1", "must be a text, got 1"),
        ("cluster.prior=1,2", "must be a list of numbers, got '1,2'"),
    ],
)
def test_a_wrong_value_says_in_words_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        load_config(None, [text])
    assert e.value.problems[0].endswith(said)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("imagse", "; did you mean 'images'?"), ("clustrs", "; did you mean 'clusters'?"), ("x", ": images, ")],
)
def test_a_table_that_is_not_there_says_what_was_meant_or_what_there_is(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"^no table '{name}'{hint.replace('?', '[?]')}"):
        open_table(name, tables="nowhere")
