"""Erase images from the tables and everything beside them; the lake stays as it is.

./spark-submit.sh forget -- --tables s3a://bucket/dedup --prefix s3://bucket/users/42/ --yes
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("forget")
