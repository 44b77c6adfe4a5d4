"""Coarse cells and FAISS shard files.

./spark-submit.sh 03_index -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["index", *sys.argv[1:]]))
