"""Find and verify the pairs of near-duplicates.

./spark-submit.sh 04_match -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["match", *sys.argv[1:]]))
