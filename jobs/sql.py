"""Answer a SQL query over all tables and views.

./spark-submit.sh sql -- --tables s3a://bucket/dedup 'SELECT * FROM duplicates LIMIT 20'
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("sql")
