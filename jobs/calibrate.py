"""Measure how well edited copies of this lake's own images are found; write settings for the precision asked for.

./spark-submit.sh calibrate -- --lake s3a://bucket/photos --tables s3a://bucket/dedup --out calibrated.toml
"""

from dedup_spark.cli import job

if __name__ == "__main__":
    job("calibrate")
