"""Check again what may be removed, and write the list of what is still true.

./spark-submit.sh verify_removal -- --tables s3a://bucket/dedup --out removals.csv
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("verify-removal")
