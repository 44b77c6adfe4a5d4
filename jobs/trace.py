"""Print the rows of one image in every table.

./spark-submit.sh trace -- --tables s3a://bucket/dedup --uri photos/cat.jpg
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("trace")
