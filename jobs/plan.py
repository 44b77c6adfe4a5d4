"""What a run will cost and find, before paying for it.

./spark-submit.sh plan -- --lake s3a://bucket/photos --tables s3a://bucket/dedup --cluster 100xgpu
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["plan", *sys.argv[1:]]))
