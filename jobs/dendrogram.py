"""Write the tree of merges of one component, as it was cut into clusters.

./spark-submit.sh dendrogram -- --tables s3a://bucket/dedup --cluster 1234567 --out cat.html
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("dendrogram")
