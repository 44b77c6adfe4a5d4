"""Read each new object once: hashes, facts, thumbnail, embedding.

./spark-submit.sh 02_extract -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("extract")
