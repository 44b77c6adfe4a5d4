"""Make coarse cells and FAISS shard files.

./spark-submit.sh 03_index -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("index")
