# Databricks notebook source
# MAGIC %md
# MAGIC # Duplicate images of a lake
# MAGIC
# MAGIC Needs a cluster as in `job.json`. A cell that was interrupted goes on where it stopped when it is run again.

# COMMAND ----------

import dedup_spark

lake = "s3://CHANGE-ME/photos"
tables = "s3://CHANGE-ME/dedup"

done = dedup_spark.run(spark, lake=lake, tables=tables, settings={"extract.cpus_per_gpu_task": 16})
print(f"run {done.run_id}: {done.groups} groups; {done.removable} images, {done.removable_bytes} bytes, may go")

# COMMAND ----------

# MAGIC %md
# MAGIC Every table and view is open in the session by its name now.

# COMMAND ----------

spark.sql("SELECT * FROM duplicates WHERE removable ORDER BY freed_bytes DESC LIMIT 100").show(truncate=60)
