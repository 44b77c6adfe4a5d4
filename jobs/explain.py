"""Print why two images are joined, or are not.

./spark-submit.sh explain -- --tables s3a://bucket/dedup --uri photos/cat.jpg --uri web/cat_small.jpg
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("explain")
