"""Run all six steps in order; run it again to continue.

./spark-submit.sh run_pipeline -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("run")
