"""Group the pairs into clusters, each with a keeper, a bound and reasons.

./spark-submit.sh 05_cluster -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("cluster")
