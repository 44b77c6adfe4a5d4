"""Read each new object once: hashes, facts, thumbnail, embedding.

./spark-submit.sh 02_extract -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["extract", *sys.argv[1:]]))
