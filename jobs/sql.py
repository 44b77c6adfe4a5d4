"""Ask the tables and views by name.

./spark-submit.sh sql -- --tables s3a://bucket/dedup 'SELECT * FROM duplicates LIMIT 20'
"""

import sys

from dedup_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["sql", *sys.argv[1:]]))
