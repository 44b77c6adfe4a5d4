"""Compute all embeddings again with another model; hashes and thumbnails stay.

./spark-submit.sh embed -- --lake s3a://bucket/photos --tables s3a://bucket/dedup --set extract.embedding=sscd_distilled
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("embed")
