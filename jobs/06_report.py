"""Create the views for SQL, and write the page.

./spark-submit.sh 06_report -- --lake s3a://bucket/photos --tables s3a://bucket/dedup
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("report")
