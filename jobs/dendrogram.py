"""Write the hierarchy inside one cluster.

./spark-submit.sh dendrogram -- --tables s3a://bucket/dedup --cluster 1234567 --out cat.svg
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["dendrogram", *sys.argv[1:]]))
