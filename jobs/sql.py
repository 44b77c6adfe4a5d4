"""Ask the tables and views by name.

./spark-submit.sh sql -- --tables s3a://bucket/dedup 'SELECT * FROM duplicates LIMIT 20'
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("sql")
