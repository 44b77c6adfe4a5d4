"""Settings of the algorithms: frozen, typed, validated. They use no Spark, no clock and no property of the machine.

Order of precedence: the defaults below < a TOML file (`--config`) < `--set section.key=value` on the command line, or a
dict from Python.
`conf/base.toml` lists every key with its unit and the reason for its default; a test keeps both in step.
To add a setting, add a field here and a commented line there.
"""

from __future__ import annotations

import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dedup_spark.did_you_mean import did_you_mean, nearest
from dedup_spark.errors import ConfigError
from dedup_spark.keeper_criteria import DEFAULT_ORDER
from dedup_spark.vocabulary import Engine, RemovalTier


def _setting(default: Any, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with the range (both ends allowed) or the choices that `load_config` checks."""
    return field(default=default, metadata={"low": low, "high": high, "choices": choices})


MIN_DIMENSIONS, MAX_DIMENSIONS = 8, 8192
"""Of vectors that users bring: fewer tell no images apart, more belong to no image model that we know."""

_MOST_CELLS = 65_536


@dataclass(frozen=True, slots=True)
class InventorySettings:
    source: str = _setting(
        "auto", choices=("auto", "folder", "manifest", "s3_inventory", "tar", "table", "binary_file")
    )
    bytes_column: str = _setting("")
    key_column: str = _setting("")
    max_binary_files: int = _setting(1_000_000, 1)
    allowed_prefixes: tuple[str, ...] = _setting(())
    skip_hidden: bool = _setting(True)
    max_gone_share: float = _setting(0.5, 0, 1)
    grace_days: float = _setting(30.0, 0)
    resume_hours: float = _setting(6.0, 0)


@dataclass(frozen=True, slots=True)
class ExtractSettings:
    embedding: str = _setting(
        "sscd_distilled", choices=("sscd", "sscd_distilled", "resnet50", "onnx", "torchscript", "table", "off")
    )
    weights: str = _setting("")
    weights_sha256: str = _setting("")
    runtime: str = _setting("auto", choices=("auto", "onnx", "torch"))
    numbers: str = _setting("auto", choices=("auto", "stored", "int8", "fp32", "fp16", "bf16"))
    input_px: int = _setting(0, 0, 1024)
    resize: str = _setting("auto", choices=("auto", "bicubic", "bilinear", "lanczos", "hamming", "box"))
    square: str = _setting("auto", choices=("auto", "squash", "crop"))
    normalisation: str = _setting("auto", choices=("auto", "imagenet", "unit", "none"))
    views: int = _setting(1, 1, 2)
    embed_from: str = _setting("auto", choices=("auto", "original", "thumbnail"))
    reuse_embedding: str = _setting("pixels", choices=("off", "pixels", "near"))
    gpus_per_task: float = _setting(-1.0, -1, 16)
    cpus_per_gpu_task: int = _setting(0, 0, 1024)
    embed_batch_images: int = _setting(0, 0, 4096)
    slice_images: int = _setting(0, 0)
    task_images: int = _setting(500, 1)
    bytes_from: str = _setting("auto", choices=("auto", "fsspec", "spark"))
    fetch_threads: int = _setting(8, 1, 256)
    fetch_patience_seconds: float = _setting(300.0, 0)
    trust_etags: bool = _setting(True)
    retry_rejects: tuple[str, ...] = _setting(())
    on_version_change: str = _setting("keep", choices=("recompute", "keep"))
    max_outdated_share: float = _setting(0.05, 0, 1)
    inflight_bytes: int = _setting(64 * 2**20, 2**20)
    max_object_bytes: int = _setting(512 * 2**20, 1)
    max_pixels: int = _setting(400_000_000, 1)
    min_side_px: int = _setting(16, 1)
    python_memory_bytes: int = _setting(0, 0)
    decoder_memory_bytes: int = _setting(6 * 2**30, 256 * 2**20)
    decoder_timeout_seconds: float = _setting(120.0, 0.1)
    decoder_sandbox: str = _setting("auto", choices=("auto", "required", "off"))
    max_reject_share: float = _setting(0.5, 0, 1)
    max_unavailable_share: float = _setting(0.02, 0, 1)
    pixels: str = _setting("full", choices=("full", "scaled"))
    thumbnail_px: int = _setting(256, 32, 1024)
    thumbnail_quality: int = _setting(80, 1, 95)


@dataclass(frozen=True, slots=True)
class VectorsSettings:
    table: str = _setting("")
    model: str = _setting("")
    format: str = _setting("auto")
    key_column: str = _setting("")
    member_column: str = _setting("")
    vector_column: str = _setting("")
    numbers: str = _setting("auto", choices=("auto", "float16", "float32"))
    dimensions: int = _setting(0, 0, MAX_DIMENSIONS)
    max_missing_share: float = _setting(0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class IndexSettings:
    n_cells: int = _setting(0, 0, _MOST_CELLS)
    max_train_rows: int = _setting(262_144, 256)
    max_shard_rows: int = _setting(65_536, 256)
    faiss_index: str = _setting("IVF,SQfp16")
    gpus_per_task: float = _setting(-1.0, -1, 16)
    faiss_without_gpu: str = _setting("cpu", choices=("cpu", "stop"))
    seed: int = _setting(20_240, 0)

    @property
    def n_cells_asked(self) -> int:
        """Of n_cells or of the string of faiss_index; 0: from the number of images."""
        number = re.match(r"IVF(\d+),", self.faiss_index)
        return int(number[1]) if number else self.n_cells

    @property
    def faiss_index_type(self) -> str:
        """`IVF1024,PQ64` as `IVF,PQ64`."""
        return re.sub(r"^IVF\d+,", "IVF,", self.faiss_index)


@dataclass(frozen=True, slots=True)
class MatchSettings:
    min_similarity: float = _setting(0.45, 0.05, 1)
    neighbours: int = _setting(32, 0, 1024)
    floor_similarity: float = _setting(0.15, -1, 1)
    floor_recall: float = _setting(0.8, 0.01, 0.999_999)
    engine: str = _setting("auto", choices=("auto", *Engine))
    gpus_per_task: float = _setting(-1.0, -1, 16)
    cpus_per_gpu_task: int = _setting(0, 0, 1024)
    faiss_probes: int = _setting(0, 0, 65536)
    faiss_k: int = _setting(0, 0)
    faiss_without_gpu: str = _setting("cpu", choices=("cpu", "stop"))
    min_recall: float = _setting(0.999, 0.5, 0.999_999)
    audit_queries: int = _setting(1_000, 1, 100_000)
    max_hamming_bits: int = _setting(3, 0, 3)
    max_phash_bucket: int = _setting(64, 2)
    max_pairs_per_image: int = _setting(200, 1)
    seed: int = _setting(20_241, 0)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    min_similarity: float = _setting(0.45, 0.05, 1)
    target_precision: float = _setting(0.99, 0.5, 0.999_999)
    max_verified_pairs: int = _setting(2_000_000, 0)
    join_recoloured: bool = _setting(False)
    linkage: str = _setting("average", choices=("average", "complete", "ward"))
    max_component_images: int = _setting(2_000, 2, 20_000)
    max_driver_pairs: int = _setting(5_000_000, 0)
    max_cluster_share: float = _setting(0.5, 0, 1)
    uncalibrated: str = _setting("stop", choices=("stop", "cosine"))
    prior: tuple[float, ...] = _setting(())
    min_copy_probability: float = _setting(0.0, 0, 1)
    min_luma_stddev: float = _setting(2.0, 0, 128)
    min_entropy_bits: float = _setting(2.0, 0, 8)
    max_text_entropy_bits: float = _setting(5.5, 0, 8)
    max_hub_neighbours: int = _setting(1_000, 1)
    protected_prefixes: tuple[str, ...] = _setting(())
    reference_prefixes: tuple[str, ...] = _setting(())
    removable_up_to: str = _setting(RemovalTier.REENCODED.value, choices=tuple(RemovalTier))
    max_listing_age_hours: float = _setting(168.0, 0, 87_600)
    keeper_order: tuple[str, ...] = _setting(DEFAULT_ORDER)


@dataclass(frozen=True, slots=True)
class ReportSettings:
    max_clusters_shown: int = _setting(50, 0, 5000)
    prefix_depth: int = _setting(2, 0, 20)


@dataclass(frozen=True, slots=True)
class PlanSettings:
    sample_images: int = _setting(400, 10)
    max_feature_images: int = _setting(20_000, 10, 200_000)
    seed: int = _setting(20_242, 0)
    dollars_per_core_hour: float = _setting(0.05, 0)
    dollars_per_gpu_hour: float = _setting(5.0, 0)


@dataclass(frozen=True, slots=True)
class CalibrateSettings:
    n_images: int = _setting(200, 2, 10_000)
    neighbours: int = _setting(40, 12, 1024)
    max_pixels: int = _setting(50_000_000, 1)
    seed: int = _setting(20_242, 0)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a run. `asdict` of it, as JSON, is stored with every step in `runs`."""

    inventory: InventorySettings = InventorySettings()
    extract: ExtractSettings = ExtractSettings()
    vectors: VectorsSettings = VectorsSettings()
    index: IndexSettings = IndexSettings()
    match: MatchSettings = MatchSettings()
    cluster: ClusterSettings = ClusterSettings()
    report: ReportSettings = ReportSettings()
    plan: PlanSettings = PlanSettings()
    calibrate: CalibrateSettings = CalibrateSettings()

    def to_json(self, *sections: str) -> str:
        """JSON with sorted keys: of the named sections, or of everything."""
        values = asdict(self)
        return json.dumps({s: values[s] for s in sections or values}, sort_keys=True)

    def deciding_json(self, *sections: str) -> str:
        """As `to_json`, with settings that decide nothing at their defaults: the text of defaults stays what it is."""
        plain, values = asdict(Config()), asdict(self)
        return json.dumps(
            {s: {k: plain[s][k] if k in _DECIDE_NOTHING else v for k, v in values[s].items()} for s in sections},
            sort_keys=True,
        )


_DECIDE_NOTHING = {"gpus_per_task", "cpus_per_gpu_task", "faiss_without_gpu"}
"""Where index and match compute, and what they do without a GPU: tables made with others are as good."""


def changed_settings(config: Config, *sections: str) -> dict[str, dict[str, Any]]:
    """By section, the settings that are not the defaults; of the named sections, or of all."""
    plain, values = asdict(Config()), asdict(config)
    return {s: {k: v for k, v in values[s].items() if v != plain[s][k]} for s in sections or values}


def as_toml(value: Any) -> str:
    """A value of a setting as TOML; JSON is that for all their types, but for one character."""
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")


def as_overrides(changed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """`section.key=value` for each, which `load_config` reads back; texts without quotes where they need none."""
    return [
        f"{section}.{key}={value if isinstance(value, str) and _parse(value) == value else as_toml(value)}"
        for section, values in changed.items()
        for key, value in values.items()
    ]


_SECTIONS: dict[str, type] = {f.name: type(f.default) for f in fields(Config)}


def load_config(
    path: str | None = None, overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> Config:
    """Read settings from a TOML file, then `section.key=value` overrides, then a dict.

    Args:
        given: By section, `{"match": {"min_similarity": 0.5}}`, or by whole name, `{"match.min_similarity": 0.5}`;
            both may stand in one dict. Values have the types of the settings: nothing is parsed.

    Raises:
        ConfigError: with every problem found, each naming the key and, for an unknown key, the nearest valid one.
    """
    problems: list[str] = []
    values: dict[str, dict[str, Any]] = {s: {} for s in _SECTIONS}
    asked = [*_from_file(path, problems), *_from_overrides(overrides, problems), *_from_dict(given or {}, problems)]
    for origin, section, key, value in asked:
        if section not in _SECTIONS or key not in {f.name for f in fields(_SECTIONS[section])}:
            problems.append(f"{origin}: unknown setting '{section}.{key}'{_nearest(f'{section}.{key}')}")
        else:
            values[section][key] = _checked(origin, section, key, value, problems)
    config = Config(**{s: cls(**_known(values[s])) for s, cls in _SECTIONS.items()})
    if not problems:
        problems.extend(_contradictions(config))
    if problems:
        raise ConfigError(problems)
    return config


def _contradictions(config: Config) -> list[str]:
    problems = _contradictions_of_extract(config.extract) + _contradictions_of_vectors(config)
    if config.extract.bytes_from == "spark" and config.inventory.source != "binary_file":
        problems.append(
            f"extract.bytes_from=spark needs inventory.source=binary_file, which is {config.inventory.source}: Spark "
            "reads the files that Spark has listed, and no members of tar files or tables"
        )
    if config.match.min_similarity > config.cluster.min_similarity:
        problems.append(
            f"match.min_similarity ({config.match.min_similarity}) is above cluster.min_similarity "
            f"({config.cluster.min_similarity}): pairs that clusters need would not be found; lower the first"
        )
    problems += _wrong_share("match", config.match.gpus_per_task) + _contradictions_of_faiss(config.match)
    problems += _wrong_share("index", config.index.gpus_per_task) + _contradictions_of_index(config.index)
    if len(config.cluster.prior) not in (0, _PRIOR_NUMBERS):
        problems.append(f"cluster.prior must hold {_PRIOR_NUMBERS} numbers or none, got {len(config.cluster.prior)}")
    return problems


def _contradictions_of_extract(extract: ExtractSettings) -> list[str]:
    problems = _wrong_share("extract", extract.gpus_per_task)
    if 0 < extract.input_px < _LEAST_INPUT_PX:
        problems.append(
            f"extract.input_px must be 0 (the model's own) or between {_LEAST_INPUT_PX} and 1024, "
            f"got {extract.input_px}"
        )
    if extract.weights_sha256 and not re.fullmatch("[0-9a-fA-F]{64}", extract.weights_sha256):
        problems.append("extract.weights_sha256 must be 64 hexadecimal digits, as sha256sum prints them")
    return problems


def _contradictions_of_vectors(config: Config) -> list[str]:
    embedding, vectors, problems = config.extract.embedding, config.vectors, []
    if embedding == "table" and not vectors.table:
        problems.append("extract.embedding=table needs vectors.table: the table with one vector per image")
    if embedding == "table" and not vectors.model.strip():
        problems.append("extract.embedding=table needs vectors.model: the name of the model that made the vectors")
    if embedding != "table" and vectors.table:
        problems.append(f"vectors.table is not read with extract.embedding={embedding}; set extract.embedding=table")
    if 0 < vectors.dimensions < MIN_DIMENSIONS:
        problems.append(f"vectors.dimensions must be {MIN_DIMENSIONS} or more, or 0, got {vectors.dimensions}")
    return problems


_FAISS_LONGEST = 2048
_FAISS_INDEX = re.compile(r"(IVF(\d*),)?(Flat|SQ(4|6|8|fp16|bf16)|PQ[1-9]\d*(x([4-9]|1[0-2]))?)")


def _contradictions_of_index(index: IndexSettings) -> list[str]:
    found = _FAISS_INDEX.fullmatch(index.faiss_index)
    if not found:
        return [
            f"index.faiss_index={index.faiss_index}: expected Flat, SQ4, SQ6, SQ8, SQfp16, SQbf16 or PQ<n>, alone or "
            "behind IVF, or IVF<cells>, as in IVF,SQfp16 or IVF1024,PQ64. Transforms, graphs, other quantisers and "
            "refinement are left out: see docs/faiss.md"
        ]
    if found[2] and not 1 <= int(found[2]) <= _MOST_CELLS:
        return [f"index.faiss_index={index.faiss_index}: cells must be between 1 and {_MOST_CELLS:,}"]
    if found[2] and index.n_cells not in (0, int(found[2])):
        return [f"index.faiss_index={index.faiss_index} and index.n_cells={index.n_cells} name two numbers of cells"]
    return []


def _contradictions_of_faiss(match: MatchSettings) -> list[str]:
    problems = []
    if 0 < match.faiss_k <= match.neighbours:
        problems.append(
            f"match.faiss_k ({match.faiss_k}) must be above match.neighbours ({match.neighbours}), or 0: an image is "
            "among its own nearest"
        )
    if match.engine == "faiss_ivf" and match.gpus_per_task > 0:
        problems += [
            f"match.{name} ({getattr(match, name):,}) is above {_FAISS_LONGEST:,}, the longest list of FAISS on a GPU: "
            "lower it, or use match.gpus_per_task=0"
            for name in ("faiss_k", "faiss_probes")
            if getattr(match, name) > _FAISS_LONGEST
        ]
    return problems


def _wrong_share(section: str, gpus: float) -> list[str]:
    if gpus in (-1, 0) or 0 < gpus <= 1 or gpus == int(gpus) > 0:
        return []
    return [
        f"{section}.gpus_per_task ({gpus:g}) must be a share of one GPU (0.5: two tasks on each), a whole number, "
        "0 (CPU) or -1 (one where executors have GPUs)"
    ]


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def _from_file(path: str | None, problems: list[str]) -> list[tuple[str, str, str, Any]]:
    if path is None:
        return []
    try:
        tree = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))  # editors write a mark in front
    except FileNotFoundError:
        problems.append(f"--config {path}: no such file")
        return []
    except UnicodeDecodeError:
        problems.append(f"--config {path}: not readable as TOML: it is no text in UTF-8")
        return []
    except OSError as e:
        why = "it is a folder" if isinstance(e, IsADirectoryError) else e.strerror or str(e)
        problems.append(f"--config {path}: cannot be read: {why}")
        return []
    except (tomllib.TOMLDecodeError, RuntimeError) as e:
        problems.append(f"--config {path}: not readable as TOML: {e}")
        return []
    found = []
    for section, entries in tree.items():
        if isinstance(entries, dict):
            found += [(path, section, key, value) for key, value in entries.items()]
        else:
            problems.append(f"{path}: '{section}' stands outside a [section]{_nearest(section)}")
    return found


def _from_overrides(overrides: Sequence[str], problems: list[str]) -> list[tuple[str, str, str, Any]]:
    found = []
    for text in overrides:
        name, equals, raw = text.partition("=")
        section, dot, key = name.strip().partition(".")
        if not equals or not dot:
            meant = " or ".join(_homes(name.strip())) if equals else ""
            hint = f"; did you mean {meant}?" if meant else ", for example --set match.min_similarity=0.4"
            problems.append(f"--set {text}: expected section.key=value{hint}")
            continue
        found.append((f"--set {text}", section, key, _parse(raw.strip())))
    return found


def _from_dict(given: Mapping[str, Any], problems: list[str]) -> list[tuple[str, str, str, Any]]:
    found = []
    for name, value in given.items():
        section, dot, key = str(name).partition(".")
        if dot:
            found.append(("settings", section, key, value))
        elif isinstance(value, Mapping):
            found += [("settings", section, str(inner), inner_value) for inner, inner_value in value.items()]
        else:
            problems.append(f"settings: '{name}' stands outside a section{_nearest(section)}")
    return found


def _parse(raw: str) -> Any:
    """A TOML value where the text is one, else the text itself (so that strings need no quotes)."""
    try:
        return tomllib.loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        return raw


_LEAST_INPUT_PX = 64
_PRIOR_NUMBERS = 4
_PLURAL = {str: "strings", float: "numbers"}
_NAMED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _checked(origin: str, section: str, key: str, value: Any, problems: list[str]) -> Any:
    """The value in its field's type; None where it is not acceptable, with the reason added to `problems`."""
    wanted = typing.get_type_hints(_SECTIONS[section])[key]
    spec = next(f.metadata for f in fields(_SECTIONS[section]) if f.name == key)
    if isinstance(wanted, types.GenericAlias):
        kind = typing.get_args(wanted)[0]
        items = [value] if isinstance(value, str | float | int) else list(value) if isinstance(value, tuple) else value
        if kind is float and isinstance(items, list):
            items = [float(i) if type(i) is int else i for i in items]
        if isinstance(items, list) and all(type(i) is kind for i in items):
            return tuple(items)
        problems.append(f"{origin}: {section}.{key} must be a list of {_PLURAL[kind]}, got {value!r}")
        return None
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        problems.append(f"{origin}: {section}.{key} must be {_NAMED[wanted]}, got {value!r}")
        return None
    if spec["choices"] and value not in spec["choices"]:
        listed, hint = ", ".join(spec["choices"]), did_you_mean(str(value), spec["choices"])
        problems.append(f"{origin}: {section}.{key} must be one of {listed}, got {value!r}{hint}")
        return None
    low, high = spec["low"], spec["high"]
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"between {low} and {high}" if high is not None else f"at least {low}"
        problems.append(f"{origin}: {section}.{key} must be {bounds}, got {value}")
        return None
    return value


_REPLACED = {"extract.fetch_attempts": "extract.fetch_patience_seconds"}
"""Settings of earlier versions, and the settings that replaced them."""


def _nearest(name: str) -> str:
    """What to say behind a name that is no setting: the one that was meant, or what there is."""
    if name in _REPLACED:
        return f"; it was replaced by '{_REPLACED[name]}'"
    section, _, key = name.rpartition(".")
    if section not in _SECTIONS and (meant := nearest(section or key, _SECTIONS)):
        section, key = meant, key if section else ""
    if section in _SECTIONS and (near := nearest(key, _keys(section))):
        return f"; did you mean '{section}.{near}'?"
    if homes := _homes(key):  # a right key in the wrong section
        return f"; did you mean '{homes[0]}'?"
    if section in _SECTIONS:
        return f"; [{section}] has {', '.join(_keys(section))}"
    return f"; sections are {', '.join(_SECTIONS)}"


def _homes(key: str) -> list[str]:
    """The settings of that name, in whatever section; of a name near it where there is none."""
    names = {k: [f"{s}.{k}" for s in _SECTIONS if k in _keys(s)] for s in _SECTIONS for k in _keys(s)}
    return names.get(nearest(key, names) or "", [])


def _keys(section: str) -> list[str]:
    return [f.name for f in fields(_SECTIONS[section])]
