"""Estimate what a run will cost and find, before you pay for it.

./spark-submit.sh plan -- --lake s3a://bucket/photos --tables s3a://bucket/dedup --cluster 100xgpu
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("plan")
