"""Mend tables in which two runs wrote at once.

./spark-submit.sh repair -- --tables s3a://bucket/dedup
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["repair", *sys.argv[1:]]))
