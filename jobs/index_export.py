"""Write the index as plain FAISS files, with a map from their ids to addresses.

./spark-submit.sh index_export -- --tables s3a://bucket/dedup --to s3a://bucket/faiss
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("index export")
