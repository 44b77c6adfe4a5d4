from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from dedup_spark.config import Config, as_overrides, as_toml, changed_settings, load_config
from dedup_spark.errors import ConfigError

BASE = Path(__file__).parent.parent / "conf" / "base.toml"


def problems(*overrides: str, path: str | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as e:
        load_config(path, overrides)
    return e.value.problems


def test_base_toml_lists_every_setting_with_its_default() -> None:
    written = tomllib.loads(BASE.read_text())
    for section in written.values():
        section |= {key: tuple(value) for key, value in section.items() if isinstance(value, list)}
    assert written == asdict(Config())


def test_base_toml_gives_a_reason_for_every_setting() -> None:
    lines = BASE.read_text().splitlines()
    settings = [i for i, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    bare = [lines[i] for i in settings if "#" not in lines[i] and not lines[i - 1].startswith("#")]
    assert [line for line in bare if not line.startswith("seed")] == []


def test_set_beats_file_beats_default(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[match]\nmin_similarity = 0.4\nmax_hamming_bits = 2\n")
    config = load_config(str(mine), ["match.max_hamming_bits=1", "extract.embedding=off"])
    assert (config.match.min_similarity, config.match.max_hamming_bits) == (0.4, 1)
    assert config.extract.embedding == "off"
    assert config.match.seed == Config().match.seed


_ODD_TEXTS = [
    "plain", "two words", "1.5", "true", "[]", 'a "b" \\ c', "ü😀", "tab\tand\nline", "del\x7f", "#x", "'",
]  # fmt: skip


@pytest.mark.parametrize("text", _ODD_TEXTS)
def test_changed_settings_are_read_back_as_overrides_and_as_toml(text: str, tmp_path: Path) -> None:
    given = {
        "extract.weights": text, "cluster.protected_prefixes": (text, "b"), "inventory.skip_hidden": False,
        "cluster.prior": (1.0, 1e-7, -2.0, 4.0), "match.neighbours": 0, "cluster.target_precision": 0.9,
    }  # fmt: skip
    config = load_config(given=given)
    changed = changed_settings(config)
    assert sum(map(len, changed.values())) == len(given)
    assert load_config(None, as_overrides(changed)) == config
    file = tmp_path / "mine.toml"
    lines = [f"{s}.{k} = {as_toml(v)}" for s, values in changed.items() for k, v in values.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert load_config(str(file)) == config
    assert changed_settings(config, "match") == {"match": {"neighbours": 0}}


def test_all_problems_are_named_at_once() -> None:
    found = problems("match.min_similarity=2", "cluster.linkage=single", "extract.slice_images=many", "nonsense")
    assert len(found) == 4


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("match.min_similarty=0.5", "did you mean 'match.min_similarity'?"),
        ("cluster.shard_rows=5", "did you mean"),
        ("extract.min_recall=0.9", "did you mean 'match.min_recall'?"),
        ("match.min_similarity=1.5", "between 0.05 and 1"),
        ("cluster.linkage=single", "one of average, complete, ward"),
        ("inventory.skip_hidden=1", "must be true or false"),
        ("extract.slice_images=1.5", "must be a whole number"),
        ("extract.task_images=0", "at least 1"),
        ("extract.input_px=63", "must be 0 (the model's own) or between 64 and 1024"),
        ("match.min_similarity=nan", "between"),
        ("cluster.keeper_order=[1, 2]", "list of strings"),
        ("cluster.prior=['a', 'b', 'c', 'd']", "list of numbers"),
        ("cluster.prior=[1.0, 2.0]", "4 numbers or none"),
        ("justaword", "section.key=value"),
    ],
)
def test_a_problem_says_what_is_wrong_and_what_would_be_right(override: str, says: str) -> None:
    assert says in problems(override)[0]


def test_settings_that_contradict_each_other_are_refused() -> None:
    assert "pairs that clusters need" in problems("match.min_similarity=0.8")[0]


@pytest.mark.parametrize("text", ["[match\n", "\xff"])
def test_an_unreadable_file_is_one_problem(tmp_path: Path, text: str) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_bytes(text.encode("latin-1"))
    assert "not readable as TOML" in problems(path=str(bad))[0]
    assert problems(path=str(tmp_path)) == (f"--config {tmp_path}: cannot be read: it is a folder",)


def test_a_missing_file_is_one_problem() -> None:
    assert problems(path="/no/such.toml") == ("--config /no/such.toml: no such file",)


def test_a_key_outside_a_section_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("min_similarity = 0.5\n")
    assert "outside a [section]" in problems(path=str(bad))[0]


def test_whole_numbers_are_fine_in_a_list_of_numbers() -> None:
    assert load_config(None, ["cluster.prior=[-10, 27.5, -15, 4]"]).cluster.prior == (-10.0, 27.5, -15.0, 4.0)


def test_an_integer_is_a_fine_float_and_one_string_a_fine_list() -> None:
    config = load_config(None, ["cluster.max_cluster_share=1", "cluster.keeper_order=size_bytes DESC"])
    assert config.cluster.max_cluster_share == 1.0
    assert config.cluster.keeper_order == ("size_bytes DESC",)


def test_json_holds_the_sections_asked_for() -> None:
    assert Config().to_json("index").startswith('{"index": {"faiss_index"')
    assert '"cluster"' in Config().to_json()


def test_json_of_what_decides_is_all_settings_but_those_of_where_it_is_computed() -> None:
    sections = ("index", "match", "cluster")
    assert Config().deciding_json(*sections) == Config().to_json(*sections)  # so that hashes of defaults stay the same
    elsewhere = load_config(
        None,
        [
            "index.gpus_per_task=0.5", "index.faiss_without_gpu=stop", "match.gpus_per_task=0",
            "match.cpus_per_gpu_task=2", "match.faiss_without_gpu=stop",
        ],
    )  # fmt: skip
    assert elsewhere.deciding_json(*sections) == Config().to_json(*sections)
    for decides in ("index.faiss_index=IVF,PQ64", "index.seed=1", "match.engine=exact", "cluster.linkage=complete"):
        other = load_config(None, [decides])
        assert other.deciding_json(*sections) == other.to_json(*sections) != Config().to_json(*sections)


def test_a_setting_that_was_replaced_names_what_took_its_place() -> None:
    with pytest.raises(ConfigError, match=r"'extract\.fetch_attempts'; it was replaced by 'extract\.fetch_pati"):
        load_config(None, ["extract.fetch_attempts=5"])


def test_a_dict_is_taken_by_section_or_by_whole_name_and_goes_before_the_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[match]\nmin_similarity = 0.4\nmax_hamming_bits = 2\n")
    given = {"match": {"max_hamming_bits": 1}, "extract.embedding": "off", "cluster": {"keeper_order": ("uri ASC",)}}
    config = load_config(str(mine), given=given)
    assert (config.match.min_similarity, config.match.max_hamming_bits) == (0.4, 1)
    assert (config.extract.embedding, config.cluster.keeper_order) == ("off", ("uri ASC",))
    assert load_config(given={"index": {"seed": 7}}) == load_config(None, ["index.seed=7"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"match": {"min_similarty": 0.5}}, "settings: unknown setting 'match.min_similarty'; did you mean"),
        ({"match.min_similarity": "0.5"}, "settings: match.min_similarity must be a number, got '0.5'"),
        ({"min_recall": 0.9}, "settings: 'min_recall' stands outside a section; did you mean 'match.min_recall'?"),
        ({"match": 0.9}, "settings: 'match' stands outside a section"),
        ({"match.min_similarity": 2}, "between 0.05 and 1"),
        ({"cluster.prior": (1, "two")}, "cluster.prior must be a list of numbers"),
        ({1: 2}, "settings: '1' stands outside a section; sections are inventory"),
    ],
)
def test_a_dict_that_says_something_wrong_is_told_as_on_the_command_line(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as e:
        load_config(given=given)
    [problem] = e.value.problems
    assert said in problem


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["index.faiss_index=IVF,HNSW32"], r"index\.faiss_index=IVF,HNSW32: expected Flat, SQ4.*IVF1024,PQ64"),
        (["index.faiss_index=OPQ16,IVF,PQ16"], "Transforms, graphs"),
        (["index.faiss_index=IVF99999,Flat"], "cells must be between 1 and 65,536"),
        (["index.faiss_index=IVF100,Flat", "index.n_cells=200"], "name two numbers of cells"),
        (["match.faiss_k=32"], r"match\.faiss_k \(32\) must be above match\.neighbours \(32\)"),
        (["match.engine=faiss_ivf", "match.gpus_per_task=1", "match.faiss_k=4000"], r"faiss_k \(4,000\) is above"),
        (["match.engine=faiss_ivf", "match.gpus_per_task=1", "match.faiss_probes=3000"], r"faiss_probes \(3,000\)"),
        (["match.faiss_without_gpu=ask"], "must be one of cpu, stop"),
        (["index.gpus_per_task=1.5"], r"index\.gpus_per_task \(1\.5\) must be a share"),
    ],
)  # fmt: skip
def test_what_faiss_cannot_do_is_said_before_anything_starts(settings: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(None, settings)


@pytest.mark.parametrize("text", ["Flat", "SQ8", "PQ64", "PQ16x6", "IVF,Flat", "IVF1024,SQ4", "IVF65536,PQ64x10"])
def test_types_of_index_that_faiss_ivf_searches_are_taken(text: str) -> None:
    index = load_config(None, [f"index.faiss_index={text}"]).index
    assert index.n_cells_asked == {"IVF1024,SQ4": 1024, "IVF65536,PQ64x10": 65536}.get(text, 0)
    assert index.faiss_index_type == text.replace("1024", "").replace("65536", "")


def test_on_a_cpu_lists_are_as_long_as_anybody_asks() -> None:
    asked = ["match.engine=faiss_ivf", "match.faiss_k=5000", "match.faiss_probes=5000", "match.gpus_per_task=0"]
    assert load_config(None, asked).match.faiss_k == 5000
