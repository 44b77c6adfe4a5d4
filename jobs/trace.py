"""Print one image's rows in every table.

./spark-submit.sh trace -- --tables s3a://bucket/dedup --uri photos/cat.jpg
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["trace", *sys.argv[1:]]))
