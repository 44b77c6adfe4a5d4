"""Bring tables that an older version wrote to the format of this one.

./spark-submit.sh upgrade -- --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("upgrade")
