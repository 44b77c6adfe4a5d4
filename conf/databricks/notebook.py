# Databricks notebook source
# MAGIC %md
# MAGIC # Duplicate images of a lake
# MAGIC
# MAGIC Attach it to a cluster as in `databricks.yml`. To continue a cell that was interrupted, run it again.

# COMMAND ----------

import dedup_spark

lake = "/Volumes/CHANGE-ME/photos"
tables = "/Volumes/CHANGE-ME/dedup"

settings = {
    "extract.cpus_per_gpu_task": 16,
    "extract.embedding": "sscd",  # SSCD's ResNet-50
    "extract.input_px": 224,
    "extract.weights": "/Volumes/CHANGE-ME/models/sscd_disc_mixup.torchvision.pt",
}
done = dedup_spark.run(spark, lake=lake, tables=tables, settings=settings)
print(f"run {done.run_id}: {done.clusters} groups; {done.removable} images, {done.removable_bytes} bytes, may go")

# COMMAND ----------

# MAGIC %md
# MAGIC Now every table and view can be queried by its name in this session.

# COMMAND ----------

spark.sql("SELECT * FROM duplicates WHERE removable ORDER BY freed_bytes DESC LIMIT 100").show(truncate=60)
