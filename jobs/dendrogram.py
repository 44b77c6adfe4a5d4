"""Write the tree of merges inside one cluster.

./spark-submit.sh dendrogram -- --tables s3a://bucket/dedup --cluster 1234567 --out cat.svg
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("dendrogram")
