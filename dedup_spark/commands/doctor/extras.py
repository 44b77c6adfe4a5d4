"""What each extra is for, in words; a test compares the names with pyproject.toml."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """`part`: the heading that it is told under; `without`: what cannot be done without it."""

    part: str
    what: str
    without: str


MODEL, SPARK, DECODERS, QUESTIONS, STORES, GPU, OTHERS = (
    "Model and index", "Spark", "Decoders", "Questions", "Stores", "GPU", "Others",
)  # fmt: skip

_RAW = "camera RAW (DNG, CR2, CR3, CRW, NEF, ARW, PEF, SRW, ORF, RW2, RAF, MRW, X3F, RAW)"

EXTRAS = {
    "cpu": Extra(MODEL, "FAISS and ONNX Runtime", "no run: the model and the index need them"),
    "weights": Extra(MODEL, "weights of the default model", "no run with the default model"),
    "spark": Extra(SPARK, "PySpark", "no run"),
    "delta": Extra(SPARK, "delta-spark", "nothing: the jar of Delta Lake is what counts"),
    "raw": Extra(DECODERS, _RAW, "camera RAW is rejected as unsupported_format"),
    "heif": Extra(DECODERS, "HEIF (HEIC)", "HEIC and HEIF are rejected as unsupported_format"),
    "jxl": Extra(DECODERS, "JXL (JPEG XL)", "JPEG XL is rejected as unsupported_format"),
    "reader": Extra(QUESTIONS, "tables without Spark", "sql, clusters, trace, ... need --engine spark"),
    "serve": Extra(QUESTIONS, "look-ups over HTTP", "no dedup-spark serve"),
    "s3": Extra(STORES, "S3", "no lake and no tables at s3://"),
    "azure": Extra(STORES, "Azure", "no lake and no tables at abfss://"),
    "gcs": Extra(STORES, "Google", "no lake and no tables at gs://"),
    "hdfs": Extra(STORES, "webhdfs", "no lake at webhdfs://"),
    "gpu": Extra(GPU, "PyTorch and FAISS for CUDA", "models and FAISS run on the CPU"),
    "torch": Extra(OTHERS, "PyTorch", "no model of your own in PyTorch, and no SSCD in other numbers than int8"),
    "demo": Extra(OTHERS, "sample photos", "dedup-spark demo needs --lake"),
}  # fmt: skip
"""By name. What the default run needs is in `checks.py`."""
