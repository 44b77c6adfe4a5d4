"""Views for SQL, and the page.

./spark-submit.sh 06_report -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
