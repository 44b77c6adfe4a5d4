"""Computes what a run will cost: hours, bytes, memory and dollars of every step, from counts and measured rates.

Every step has a time bound by computation and one bound by the network; the longer counts. A cluster is paid for as
long as the step runs, whether the step keeps it busy or not. Nothing is read or measured here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dedup_spark.config import IndexSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.joins.stored import ROW
from dedup_spark.stages.match.engine_choice import CHEAP_CORE_SECONDS
from dedup_spark.store.shards import rows_per_shard, rows_within_memory, usual_cells

HOUR = 3600.0
CORES_PER_GPU = 16
"""Cores of a GPU node; clouds offer 16 to 26 with one H100."""

_OWN_TIME = {"inventory": 1.0, "extract": 1.0, "index": 2.0, "match": 2.5, "cluster, report": 9.0}
"""What Spark's own jobs and commits take in a step, however large the lake is, times `Rates.step_seconds`. Measured on
two cores (made_features.py): `index` and `match` of 300,000 images and `cluster` of 100,000 took so much longer than
their work."""

_CLUSTER = re.compile(r"(\d+)x(?:(\d+)cpu|gpu)")
_ROW_BYTES_PER_IMAGE = 700
"""Bytes of a row of `images` and one of `features`, without embedding and thumbnail, as Parquet. Assumed: 1,500 photos
in one folder took 33 and 181 bytes, where names are short and alike."""
_THUMBNAIL_BYTES = 12_600
"""A 256 px JPEG of quality 80: the mean of 1,500 photos and edits of them."""
_KEYPOINTS_BYTES = 60_000
"""144 for each keypoint: a thumbnail has 500 of them at most, and mostly 300 to 500."""
_SENT_PER_PAIR = 0.8
"""Thumbnails with their keypoints that the parts of spatial verification get, for each pair weighed: 0.56 of 17,673
pairs and 0.78 of 74,760 (made_features.py)."""
_PAIR_BYTES = 40
"""Bytes of a row of `pairs` or `clusters` in a shuffle or table, with its ids and scores."""
_PHASH_KEY_BYTES = 240
"""The pHash join sends 10 keys of 24 bytes per image through one shuffle."""
_SHUFFLES_OF_PAIRS = 5
"""Pairs are shuffled for each of the two pHashes, to keep each pair once, for components and for linkage."""
_STORED_BYTES = ROW.itemsize
"""Bytes of a vector in a shard beside its numbers: id, cell, sketch."""
_DENSITY_BYTES = 150
"""Bytes of a row of `densities`: 32 cosines at most (match.neighbours)."""


@dataclass(frozen=True)
class SparkCluster:
    """Machines of one kind that run Spark. A GPU node has one GPU."""

    n_nodes: int
    cores_per_node: int
    gpus_per_node: int = 0

    @property
    def n_cores(self) -> int:
        return self.n_nodes * self.cores_per_node

    @property
    def n_gpus(self) -> int:
        return self.n_nodes * self.gpus_per_node

    def __str__(self) -> str:
        node = f"1 GPU and {self.cores_per_node} cores" if self.gpus_per_node else f"{self.cores_per_node} cores"
        return f"{self.n_nodes:,} node{'s' if self.n_nodes != 1 else ''} of {node}"


def parse_cluster(text: str) -> SparkCluster:
    """`100x16cpu`: 100 nodes of 16 cores. `100xgpu`: 100 nodes of one GPU and 16 cores. Raises ConfigError."""
    found = _CLUSTER.fullmatch(text.strip().lower())
    n_nodes, n_cores = (int(found[1]), int(found[2] or CORES_PER_GPU)) if found else (0, 0)
    if n_nodes < 1 or n_cores < 1:
        raise ConfigError(f"--cluster {text}: expected <nodes>x<cores>cpu or <nodes>xgpu, e.g. 100x16cpu or 100xgpu")
    return SparkCluster(n_nodes, n_cores, 0 if found and found[2] else 1)


@dataclass(frozen=True)
class Rates:
    """Speeds of one core, GPU or node.

    `plan` measures what it can on the executors and replaces those. The defaults marked M were measured as processor
    time of one thread on a cloud machine (AMD EPYC with AVX2, no VNNI), those marked G on one H100 (docs/benchmarks.md,
    "Speed on one H100"); those marked A are assumed, with the reason.
    """

    list_seconds: float = 2e-4  # per object, listed and written. A: S3 gives 1,000 keys in about 0.1 s
    decode_seconds: float = 0.003  # M, besides decode_byte_seconds: hashes, decode, facts, thumbnail of a small JPEG
    decode_byte_seconds: float = 7.2e-8  # M: of a JPEG, 25 to 630 kB; extract.pixels=scaled: 3.5e-8, above 0.0046
    embed_seconds: float = 0.05  # M: SSCD int8 at 224 px by ONNX Runtime; the distilled model takes 0.007
    gpu_embed_seconds: float = 1e-4  # G: SSCD's ResNet-50 at 224 px, float16, batches of 256; distilled: 4e-5
    core_flop: float = 3e10  # A: products inside Spark reach half of what a bare one does (M: 7e10)
    exact_pair_ns: float = 14.3  # M: 512 dimensions, float32
    gpu_pair_ns: float = 0.007  # G: exact_gpu, of 1,000,000 vectors of 512 dimensions, float16
    sketch_pair_ns: float = 4.6  # M: joins/sketches.py on 500 photos at the default threshold and floor; 1.3 at 0.7
    routed_share: float = 0.25  # M: of all pairs; 128 of 1,024 cells both ways find 0.9996 at cosine 0.7
    faiss_pair_ns: float = 29.0  # M: FAISS scans a vector of a cell in about twice the time of a product
    weigh_seconds: float = 0.004  # M: two thumbnails of 256 px, of strangers for the most part, aligned and compared
    describe_seconds: float = 0.02  # M: one thumbnail decoded, and its keypoints
    pair_seconds: float = 2e-5  # A: per found pair in one step, 50,000/s through its joins and writes
    vector_seconds: float = 1.1e-4  # M: per vector, from a table through a shuffle into a shard, with its sketch
    row_seconds: float = 2e-5  # A: per image in cluster and report, 50,000/s through their joins and writes
    moved_byte_seconds: float = 2.5e-8  # M: of thumbnails with keypoints; what else cluster of 100,000 images took
    step_seconds: float = 10.0  # A: of inventory and extract with nothing to do, for Spark's jobs and commits
    node_bytes: float = 1e9  # A: per second into or out of a node, 10 Gbit/s less protocol


@dataclass(frozen=True)
class Workload:
    """The counts of a lake that decide the cost of a run.

    Attributes:
        n_distinct: Images that are left when those of the same pixels are joined.
        n_pairs: Near pairs that match keeps, down to its floor.
        n_weighed: Of them those whose thumbnails are compared: in doubt, and within cluster.max_verified_pairs.
        n_described: Images in those.
        max_shard_rows: index.max_shard_rows.
    """

    n_images: int
    n_bytes: int
    n_distinct: int
    n_pairs: int
    n_dimensions: int = 512
    n_weighed: int = 0
    n_described: int = 0
    max_shard_rows: int = IndexSettings().max_shard_rows


@dataclass(frozen=True)
class Shards:
    """The files that index would write on a cluster, and the work items of a match of everything."""

    n_rows: int
    n_shards: int
    file_bytes: int

    @property
    def n_items(self) -> int:
        return self.n_shards * (self.n_shards + 1) // 2


def shards_of(lake: Workload, cluster: SparkCluster) -> Shards:
    """As the step index makes them: `file_bytes` are those that match reads of each, numbers and stored rows."""
    most = rows_within_memory(lake.max_shard_rows, 2 * lake.n_dimensions)
    rows = rows_per_shard(lake.n_distinct, cluster.n_cores, most)
    n_shards = max(1, -(-lake.n_distinct // rows))
    held = min(rows, max(1, lake.n_distinct))
    return Shards(held, n_shards, held * (2 * lake.n_dimensions + _STORED_BYTES))


@dataclass(frozen=True)
class StepCost:
    """One step (and engine) on one cluster; `is_chosen` marks the engine that the total counts."""

    step: str
    engine: str
    core_hours: float
    gpu_hours: float
    hours: float
    read_bytes: float
    shuffle_bytes: float
    table_bytes: float
    node_memory_bytes: float
    dollars: float = 0.0
    is_chosen: bool = True


@dataclass(frozen=True)
class Prices:
    """US dollars; a GPU's includes the node around it."""

    dollars_per_core_hour: float
    dollars_per_gpu_hour: float

    def of(self, cluster: SparkCluster, hours: float) -> float:
        per_hour = (
            cluster.n_gpus * self.dollars_per_gpu_hour
            if cluster.n_gpus
            else cluster.n_cores * self.dollars_per_core_hour
        )
        return hours * per_hour


def forecast(lake: Workload, cluster: SparkCluster, rates: Rates, prices: Prices) -> list[StepCost]:
    """All steps in order; match once for each engine that the cluster can run, the quicker of the first two chosen.

    `routed` is shown and not counted: how many cells it must visit for the recall asked for depends on the lake, and
    only the survey that match makes can measure that. `faiss_ivf` is shown for comparison.
    """
    certain = [_exact(lake, cluster, rates), _sketch(lake, cluster, rates)]
    exactly = is_compared_exactly(lake, rates) and not cluster.n_gpus
    quickest = certain[0] if exactly else min(certain, key=lambda cost: cost.hours)
    engines = [*certain, _routed(lake, cluster, rates), _faiss(lake, cluster, rates)]
    steps = [_inventory(lake, cluster, rates), _extract(lake, cluster, rates), _index(lake, cluster, rates)]
    steps += [replace(cost, is_chosen=cost is quickest) for cost in engines]
    steps.append(_cluster(lake, cluster, rates))
    return [replace(cost, dollars=prices.of(cluster, cost.hours)) for cost in steps]


def is_compared_exactly(lake: Workload, rates: Rates) -> bool:
    """Whether match takes the exact join on cores, as it costs next to nothing; whatever others would cost."""
    return _products_ns(lake, rates.exact_pair_ns) * 1e-9 <= CHEAP_CORE_SECONDS


def total(steps: list[StepCost]) -> StepCost:
    """The sums over the chosen steps; memory is the largest of theirs."""
    chosen = [cost for cost in steps if cost.is_chosen]
    sums = {
        name: sum(getattr(cost, name) for cost in chosen)
        for name in ("core_hours", "gpu_hours", "hours", "read_bytes", "shuffle_bytes", "table_bytes", "dollars")
    }
    return StepCost("all", "", node_memory_bytes=max(cost.node_memory_bytes for cost in chosen), **sums)


def _inventory(lake: Workload, cluster: SparkCluster, rates: Rates) -> StepCost:
    rows = 250 * lake.n_images
    return _on_cores(cluster, rates, "inventory", "", lake.n_images * rates.list_seconds, shuffle=rows, table=rows)


def _extract(lake: Workload, cluster: SparkCluster, rates: Rates) -> StepCost:
    """On GPU nodes the cores decode while the GPU embeds: the slower of the two counts."""
    vector = 2 * lake.n_dimensions
    table = lake.n_images * (_ROW_BYTES_PER_IMAGE + _THUMBNAIL_BYTES + vector)
    # A worker with its model and decoder takes 0.6 GB on small photos; the rest is for large ones.
    memory = cluster.cores_per_node * 1.5e9
    decode = lake.n_images * rates.decode_seconds + lake.n_bytes * rates.decode_byte_seconds
    on_gpu = lake.n_images * rates.gpu_embed_seconds if cluster.n_gpus else 0.0
    core_seconds = decode if cluster.n_gpus else decode + lake.n_images * rates.embed_seconds
    cost = _on_cores(
        cluster, rates, "extract", "", core_seconds, read=lake.n_bytes, table=table, memory=memory,
        shuffle=100 * lake.n_images,
    )  # fmt: skip
    if not cluster.n_gpus:
        return cost
    return replace(cost, gpu_hours=on_gpu / HOUR, hours=max(cost.hours, _gpu_hours(cost.step, on_gpu, cluster, rates)))


def _index(lake: Workload, cluster: SparkCluster, rates: Rates) -> StepCost:
    """k-means on the driver by the defaults of index.n_cells and index.max_train_rows (64 rows per cell, at most
    262,144, 10 rounds), then one assignment of every vector."""
    cells, d = usual_cells(lake.n_distinct), lake.n_dimensions
    trained = min(262_144, 64 * cells)
    on_driver = 10 * 2.0 * trained * cells * d / (rates.core_flop * cluster.cores_per_node)
    flop = 2.0 * lake.n_distinct * cells * d
    vectors, shards = 2 * d * lake.n_distinct, shards_of(lake, cluster)
    core_seconds = flop / rates.core_flop + lake.n_distinct * rates.vector_seconds
    written = shards.n_shards * shards.file_bytes + vectors + 8 * lake.n_distinct  # and FAISS's own file of each
    memory = cluster.cores_per_node * shards.n_rows * 4 * d
    cost = _on_cores(
        cluster, rates, "index", "", core_seconds, read=vectors, shuffle=vectors, table=written, memory=memory
    )
    return replace(cost, hours=cost.hours + on_driver / HOUR)


def _exact(lake: Workload, cluster: SparkCluster, rates: Rates) -> StepCost:
    """All pairs as products: on the GPUs where there are any, else on the cores."""
    if not cluster.n_gpus:
        return _match(lake, cluster, rates, "exact", _products_ns(lake, rates.exact_pair_ns))
    cost = _match(lake, cluster, rates, "exact", 0.0)
    on_gpu = _products_ns(lake, rates.gpu_pair_ns) * 1e-9
    return replace(cost, gpu_hours=on_gpu / HOUR, hours=max(cost.hours, _gpu_hours(cost.step, on_gpu, cluster, rates)))


def _sketch(lake: Workload, cluster: SparkCluster, rates: Rates) -> StepCost:
    return _match(lake, cluster, rates, "sketch", _all_pairs(lake) * rates.sketch_pair_ns)


def _routed(lake: Workload, cluster: SparkCluster, rates: Rates) -> StepCost:
    """The sketch engine over the pairs of cells that lie near each other."""
    return _match(lake, cluster, rates, "routed", _all_pairs(lake) * rates.routed_share * rates.sketch_pair_ns)


def _faiss(lake: Workload, cluster: SparkCluster, rates: Rates) -> StepCost:
    """Every vector is a query, so all pairs are compared twice, over the probed share."""
    scanned = 2 * _all_pairs(lake) * rates.routed_share * lake.n_dimensions / 512
    return _match(lake, cluster, rates, "faiss_ivf", scanned * rates.faiss_pair_ns)


def _match(lake: Workload, cluster: SparkCluster, rates: Rates, engine: str, compare_ns: float) -> StepCost:
    """A node reads each shard once, on its disk, however many items it is in; with few items not even each.

    Between two items a task keeps one of its shards, so an item asks for one more.
    """
    shards = shards_of(lake, cluster)
    n_reads = min(cluster.n_nodes * shards.n_shards, shards.n_items + shards.n_shards)
    core_seconds = compare_ns * 1e-9 + lake.n_pairs * rates.pair_seconds
    memory = cluster.cores_per_node * 2 * shards.file_bytes
    shuffle = lake.n_distinct * _PHASH_KEY_BYTES + _SHUFFLES_OF_PAIRS * _PAIR_BYTES * lake.n_pairs
    return _on_cores(
        cluster, rates, "match", engine, core_seconds, read=n_reads * shards.file_bytes, shuffle=shuffle,
        table=lake.n_pairs * _PAIR_BYTES + lake.n_distinct * _DENSITY_BYTES, memory=memory,
    )  # fmt: skip


def _cluster(lake: Workload, cluster: SparkCluster, rates: Rates) -> StepCost:
    """Of the pairs in doubt each thumbnail is described once, and goes with its keypoints to each part that needs it;
    to find them all are read, and once more for the images in components."""
    seconds = lake.n_weighed * rates.weigh_seconds + lake.n_described * rates.describe_seconds
    seconds += lake.n_pairs * rates.pair_seconds + lake.n_images * rates.row_seconds
    sent = max(lake.n_described, _SENT_PER_PAIR * lake.n_weighed) * (_THUMBNAIL_BYTES + _KEYPOINTS_BYTES)
    seconds += sent * rates.moved_byte_seconds
    of_pairs = _SHUFFLES_OF_PAIRS * _PAIR_BYTES * lake.n_pairs + _PAIR_BYTES * lake.n_images
    moved = of_pairs + _THUMBNAIL_BYTES * lake.n_described + sent
    read = 2 * lake.n_images * _THUMBNAIL_BYTES if lake.n_weighed else 0
    return _on_cores(
        cluster, rates, "cluster, report", "", seconds, read=read, shuffle=moved, table=4 * _PAIR_BYTES * lake.n_pairs
    )


def _on_cores(
    cluster: SparkCluster,
    rates: Rates,
    step: str,
    engine: str,
    core_seconds: float,
    *,
    read: float = 0.0,
    shuffle: float = 0.0,
    table: float = 0.0,
    memory: float = 0.0,
) -> StepCost:
    """Hours bound by cores or by the network; a shuffled byte leaves one node and enters another."""
    moved = (read + 2 * shuffle + table) / (cluster.n_nodes * rates.node_bytes)
    hours = (_OWN_TIME[step] * rates.step_seconds + max(core_seconds / cluster.n_cores, moved)) / HOUR
    memory = max(memory, 4e9)  # what Spark and Python take before any data
    return StepCost(step, engine, core_seconds / HOUR, 0.0, hours, read, shuffle, table, memory)


def _gpu_hours(step: str, gpu_seconds: float, cluster: SparkCluster, rates: Rates) -> float:
    return (_OWN_TIME[step] * rates.step_seconds + gpu_seconds / cluster.n_gpus) / HOUR


def _products_ns(lake: Workload, pair_ns: float) -> float:
    """Of every pair, where one of 512 dimensions takes `pair_ns`."""
    return _all_pairs(lake) * pair_ns * lake.n_dimensions / 512


def _all_pairs(lake: Workload) -> float:
    return lake.n_distinct * (lake.n_distinct - 1) / 2
