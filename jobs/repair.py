"""Mend tables in which two runs wrote at once.

./spark-submit.sh repair -- --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("repair")
