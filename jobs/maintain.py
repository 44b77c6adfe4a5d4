"""Put small files of the tables together, and delete those of old versions.

./spark-submit.sh maintain -- --tables s3a://bucket/dedup --vacuum
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("maintain")
