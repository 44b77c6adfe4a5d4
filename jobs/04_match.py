"""Find the pairs of images that are near each other, and score each exactly.

./spark-submit.sh 04_match -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("match")
