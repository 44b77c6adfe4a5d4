"""Say how the last run ended and what to do next; exit code 1 where somebody should look.

./spark-submit.sh status -- --tables s3a://bucket/dedup --json
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("status")
