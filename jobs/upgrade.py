"""Bring tables that an older version wrote to the format of this one.

./spark-submit.sh upgrade -- --tables s3a://bucket/dedup
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["upgrade", *sys.argv[1:]]))
