"""Print the clusters, the largest first, or one of them with its images.

./spark-submit.sh clusters -- --tables s3a://bucket/dedup --database main.dedup --sort frees
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("clusters")
