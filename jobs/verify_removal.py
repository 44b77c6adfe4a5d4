"""Look again at what may be removed, and write the list of what is still true.

./spark-submit.sh verify_removal -- --tables s3a://bucket/dedup --out removals.csv
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["verify-removal", *sys.argv[1:]]))
