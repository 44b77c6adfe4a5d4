"""Spark's `binaryFile` reader as a lister: the simple mode, for stores that only Hadoop knows, and for small lakes.

Spark reads only path, length and modification time here. Extract gets the bytes from Spark too (`spark_bytes.py`);
with extract.bytes_from=fsspec, and in commands that read single images, they are fetched like those of a folder, and
executors need fsspec's package for the scheme.

Cost: Spark lists every file on the driver, which takes about 1 KB of its heap per file, and gives 30 files to a task.
Therefore the files are counted before Spark begins (in stores one by one, some thousands per second), and the run is
refused above `inventory.max_binary_files`. Spark never sees names that begin with `_` or `.`, nor what is in such
folders: a warning counts them, and the folder source finds them. On a disk Spark follows links: what it finds through
one is passed over, because it is no file of its own.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError, GuardError
from dedup_spark.sources import addresses, spark_reader
from dedup_spark.sources.base import Address, Listed
from dedup_spark.sources.limits import MOST_BYTES
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.other_files import without_other_kinds
from dedup_spark.sources.spelling import without_links

log = logging.getLogger(__name__)

_QUICK_TO_COUNT = ("file", "hdfs")


@dataclass(frozen=True)
class BinaryFileSource(Listed):
    """`lake` is a folder (or one file), given by a path or a URI that Hadoop knows; subfolders are included."""

    lake: str
    max_files: int = 1_000_000

    @functools.cached_property
    def root(self) -> str:
        uri = addresses.to_uri(self.lake)
        if not addresses.is_remote(uri) and addresses.kind_of(uri) is None:
            raise ConfigError(f"lake {self.lake}: no such folder")
        return uri

    def list_images(self, spark: SparkSession) -> DataFrame:
        n_files = self._count_up_to_cap(spark)
        files = spark_reader.load(spark, [self.root], "binaryFile", recursiveFileLookup=True)
        n_unseen = n_files - len(files._jdf.inputFiles())
        if n_unseen > 0:
            log.warning("%s: Spark does not see %d files: their names begin with _ or .", self.root, n_unseen)
        uri = addresses.from_hadoop(F.col("path"), self.root)
        facts = {"size_bytes": F.col("length"), "modified_at": F.col("modificationTime")}
        listing = spark_reader.listing(files, uri=uri, **facts)
        return without_other_kinds(listing if addresses.is_remote(self.root) else without_links(listing))

    def fetch(self, address: Address, max_bytes: int = MOST_BYTES) -> bytes:
        return read_object(address.uri, max_bytes=max_bytes)

    def _count_up_to_cap(self, spark: SparkSession) -> int:
        """The number of files, hidden ones too; counting stops above the cap.

        Raises:
            GuardError: above `max_files`.
            ConfigError: Hadoop cannot list them.
        """
        jvm: Any = spark.sparkContext._jvm
        path = jvm.org.apache.hadoop.fs.Path(addresses.to_hadoop(spark, self.root, literal=False))
        n_files = 0
        try:
            filesystem = path.getFileSystem(addresses.hadoop_conf(spark))
            if filesystem.getScheme() in _QUICK_TO_COUNT:
                n_files = filesystem.getContentSummary(path).getFileCount()
            else:  # page by page, and no further than the cap
                files = filesystem.listFiles(path, True)
                while n_files <= self.max_files and files.hasNext():
                    files.next()
                    n_files += 1
        except Py4JJavaError as e:
            raise ConfigError(f"lake {self.lake}: Hadoop cannot list it: {e.java_exception.toString()}") from e
        if n_files > self.max_files:
            raise GuardError(
                f"lake {self.lake}: more than {self.max_files:,} files (inventory.max_binary_files), and Spark would "
                "list them in the driver's memory; give a manifest or an S3 Inventory, or use the folder source"
            )
        return n_files
