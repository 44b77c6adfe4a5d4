"""Pairs to bounded groups with a keeper and reasons.

./spark-submit.sh 05_cluster -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["cluster", *sys.argv[1:]]))
