"""Find every object of the lake.

./spark-submit.sh 01_inventory -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("inventory")
