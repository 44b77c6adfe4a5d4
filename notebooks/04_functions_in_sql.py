# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Functions in SQL
#
# This notebook asks images for their hashes, thumbnails and embeddings in queries of its own, over the files as Spark
# itself reads them. No run is needed for that; at the end the answers are compared with what a run has kept.
#
# `DEDUP_LAKE` names the lake and `DEDUP_TABLES` the tables; by default they are those of `make demo`.

# %%
import os
from pathlib import Path

import dedup_spark
import dedup_spark.functions as dedup

project = Path.cwd().parent if Path.cwd().name == "notebooks" else Path.cwd()
lake = os.environ.get("DEDUP_LAKE", str(project / "demo" / "lake"))
tables_root = os.environ.get("DEDUP_TABLES", str(project / "demo" / "tables"))
spark = dedup_spark.get_session("notebook")

# %% [markdown]
# ## Give the functions their names
#
# One call does it for a session. Spark sends the files of a task to Python in batches; the second line makes them
# small, as 64 MB are, where Spark does not do so by itself.

# %%
print(dedup.register(spark))
spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", "64m")

# %% [markdown]
# ## Files as Spark reads them
#
# `binaryFile` gives one row per file with its bytes in `content`. It lists all files on the driver, so it is for
# folders of up to some hundred thousand files.

# %%
files = spark.read.format("binaryFile").option("recursiveFileLookup", True).load(lake)
files.createOrReplaceTempView("files")
spark.sql("SELECT path, length FROM files ORDER BY path LIMIT 5").show(truncate=False)

# %% [markdown]
# ## One value each
#
# What decodes gives a struct: `value`, or the reason why there is none.

# %%
spark.sql(
    "SELECT regexp_extract(path, '[^/]*$', 0) AS file, hex(phash(content).value) AS phash, "
    "hex(dhash(content).value) AS dhash, length(thumbnail(content).value) AS thumbnail_bytes FROM files "
    "ORDER BY path LIMIT 5"
).show(truncate=40)
spark.sql(
    "SELECT phash(content).reject_reason AS reason, count(*) AS n_files FROM files GROUP BY ALL ORDER BY n_files DESC"
).show()

# %% [markdown]
# ## Several values of one decoding
#
# Each call decodes anew. `signature` decodes once for all. The result is small, so it is worth keeping: every query
# below would decode the lake again.

# %%
signed = spark.sql("SELECT path, signature(content) AS s, embed(content) AS e FROM files").cache()
signed.createOrReplaceTempView("signed")
spark.sql(
    "SELECT s.format, s.width_px, s.height_px, count(*) AS n_files FROM signed "
    "GROUP BY ALL ORDER BY n_files DESC LIMIT 5"
).show()

# %% [markdown]
# ## Equal pixels, and equal hashes
#
# `pixel_hash` is equal for lossless copies in other formats, `phash` also for many that were encoded again.

# %%
spark.sql(
    "SELECT count(*) AS n_files, count(DISTINCT s.pixel_hash) AS n_pictures, "
    "collect_list(regexp_extract(path, '[^/]*$', 0)) AS files FROM signed WHERE s.phash IS NOT NULL "
    "GROUP BY s.phash HAVING n_files > 1 ORDER BY n_files DESC LIMIT 5"
).show(truncate=100)

# %% [markdown]
# ## Compare two images
#
# `hamming` counts the bits in which two hashes differ, `cosine` compares two embeddings. All pairs of a small lake are
# quick; for a large one run the pipeline, which does not compare all with all.

# %%
spark.sql(
    "SELECT hamming(a.s.phash, b.s.phash) AS bits, round(cosine(a.e.value, b.e.value), 3) AS cosine, "
    "regexp_extract(a.path, '[^/]*$', 0) AS image_a, regexp_extract(b.path, '[^/]*$', 0) AS image_b "
    "FROM signed a JOIN signed b ON a.path < b.path WHERE a.e.value IS NOT NULL AND b.e.value IS NOT NULL "
    "ORDER BY cosine DESC, image_a, image_b LIMIT 5"
).show(truncate=40)

# %% [markdown]
# ## The values of a run are the same
#
# `features` holds what the step extract made of the same files.

# %%
dedup_spark.open_views(spark, tables=tables_root)
spark.sql(
    "SELECT count(*) AS n_images, count_if(s.phash = f.phash) AS same_phash, "
    "count_if(s.pixel_hash = f.pixel_hash) AS same_pixels, count_if(s.thumbnail = f.thumbnail) AS same_thumbnail, "
    "round(min(cosine(e.value, f.embedding)), 4) AS least_cosine "
    "FROM signed JOIN images i ON substr(path, length('file:/')) = substr(i.uri, length('file:///')) "
    "JOIN features f USING (image_id) WHERE f.status = 'ok'"
).show()
