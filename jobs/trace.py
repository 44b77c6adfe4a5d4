"""Print what became of one image, from its listing to its cluster.

./spark-submit.sh trace -- --tables s3a://bucket/dedup --uri photos/cat.jpg
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("trace")
