"""Find every object of the lake.

./spark-submit.sh 01_inventory -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["inventory", *sys.argv[1:]]))
