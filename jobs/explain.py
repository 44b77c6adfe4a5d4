"""Print why two images are joined, or are not.

./spark-submit.sh explain -- --tables s3a://bucket/dedup --uri photos/cat.jpg --uri web/cat_small.jpg
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["explain", *sys.argv[1:]]))
