"""The files that explain an exported index: manifest.json for programs and README.txt for people."""

from __future__ import annotations

import json

import dedup_spark
from dedup_spark.commands.export_index.values import ExportedIndex
from dedup_spark.kernels.faiss_index import DEFAULT
from dedup_spark.stages.report.values import readable_bytes

SCRIPT = """\
import json, sys
import faiss, numpy as np, pyarrow.dataset as ds

folder, query = sys.argv[1], np.load(sys.argv[2]).astype("float32").reshape(1, -1)
about = json.load(open(f"{folder}/manifest.json"))
parts = [faiss.read_index(f"{folder}/{file['name']}") for file in about["files"]]
index = faiss.IndexShards(about["dimensions"], False, False)  # False: the ids in the files are kept
for part in parts:
    index.add_shard(part)
cosines, ids = index.search(query / np.linalg.norm(query), 5)
names = ds.dataset(f"{folder}/ids").to_table(filter=ds.field("faiss_id").isin(ids[0].tolist())).to_pylist()
for cosine, faiss_id in zip(cosines[0], ids[0]):
    print(f"{cosine:.3f}", *(row["uri"] for row in names if row["faiss_id"] == faiss_id))
"""
"""A program for somebody who has faiss, numpy and pyarrow, and not this package: the nearest images of a vector."""


def manifest_of(exported: ExportedIndex) -> str:
    """JSON for programs."""
    return json.dumps(
        {
            "model_id": exported.model_id,
            "dimensions": exported.n_dimensions,
            "metric": "inner product of vectors of length 1: the cosine",
            "query": "a vector of the same model, divided by its L2 norm, as float32",
            "index": "IndexIVFScalarQuantizer, float16",
            "cells": exported.n_cells,
            "nprobe": exported.nprobe,
            "vectors": exported.n_vectors,
            "images": exported.n_images,
            "ids": "Parquet in the folder ids: file, faiss_id, image_id, uri, member",
            "files": [
                {"name": f.name, "vectors": f.n_vectors, "size_bytes": f.size_bytes, "sha256": f.sha256}
                for f in exported.files
            ],
            "made_by": f"dedup-spark {dedup_spark.__version__}",
        },
        indent=1,
    )


def readme_of(exported: ExportedIndex) -> str:
    """The same for people, with a program that searches."""
    indented = "".join(f"    {line}\n" for line in SCRIPT.splitlines())
    return f"""\
{exported.n_vectors:,} vectors of {exported.n_images:,} images, by model {exported.model_id}.

*.faiss       FAISS indexes: faiss.read_index opens them, and each answers a search by itself. Their vectors have
              {exported.n_dimensions} dimensions and length 1, so the inner product that a search gives is the cosine.
ids/          Parquet: the images behind the ids that a search gives (file, faiss_id, image_id, uri, member), ordered by
              faiss_id, which counts from 0 over all files. Images of equal pixels share one vector, so an id can have
              several rows.
manifest.json model, dimensions, number of vectors, and each file with its size and SHA-256. It was written last.

A query is a vector of the same model; divide it by its L2 norm. A search visits the {exported.nprobe} nearest of
{exported.n_cells:,} cells; faiss.extract_index_ivf(index).nprobe = n changes that. More find more and take longer.

This finds the five nearest images of the vector in query.npy: python search.py FOLDER query.npy

{indented}"""


def describe_export(exported: ExportedIndex) -> str:
    """The answer of the command line."""
    size = readable_bytes(sum(f.size_bytes for f in exported.files))
    n = len(exported.files)
    return (
        f"{exported.n_vectors:,} vectors of {exported.n_images:,} images were written to {exported.to}: "
        f"{n:,} FAISS {'file' if n == 1 else 'files'}, {size}; README.txt there says how to search them"
        f"{_other_type(exported)}"
    )


def _other_type(exported: ExportedIndex) -> str:
    """What is said where the tables hold an index of another type too."""
    if exported.searched_type == DEFAULT:
        return ""
    return (
        f". The files are float16 by cells ({DEFAULT}), as of every export; the index of type {exported.searched_type} "
        "that match searches stays in the tables, in the files of shards.index_path, whose ids are image_id"
    )
