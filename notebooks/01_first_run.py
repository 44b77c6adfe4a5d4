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
# # 1. First run
#
# This notebook runs the six steps over a small lake and shows what each of them has written.
#
# The defaults are the lake and the tables of `make demo`. For a lake of your own, set `DEDUP_LAKE` and
# `DEDUP_TABLES` before you start.

# %%
import os
from pathlib import Path

import dedup_spark

project = Path.cwd().parent if Path.cwd().name == "notebooks" else Path.cwd()
lake = os.environ.get("DEDUP_LAKE", str(project / "demo" / "lake"))
tables_root = os.environ.get("DEDUP_TABLES", str(project / "demo" / "tables"))

# %% [markdown]
# ## Run
#
# This is the same as `dedup-spark run --lake ... --tables ...` in a shell. Progress goes to standard error.
# Work that is done is not done again: over a finished lake this takes a few seconds. Where the platform has a
# session (`spark` on Databricks), pass that one: `run` neither makes nor stops it.

# %%
spark = dedup_spark.get_session("notebook")
done = dedup_spark.run(spark, lake=lake, tables=tables_root)
print(f"run {done.run_id}: {done.clusters} groups; {done.removable} images, {done.removable_bytes} bytes, may go")

# %% [markdown]
# ## Open the tables
#
# After a run every table and view is open in the session by its name. In another session `open_views` opens them.

# %%
dedup_spark.open_views(spark, tables=tables_root)

# %% [markdown]
# ## Step 1, inventory: what is there
#
# There is one row per object. The step lists the objects and reads none of them.

# %%
spark.sql("SELECT image_id, uri, size_bytes, modified_at FROM images ORDER BY uri LIMIT 5").show(truncate=60)

# %% [markdown]
# ## Step 2, extract: what was read
#
# Every row of `images` has one row in `features`, even where the file is broken. So the two counts are equal.

# %%
spark.sql("SELECT (SELECT count(*) FROM images) AS images, (SELECT count(*) FROM features) AS features").show()
spark.sql("SELECT status, reject_reason, count(*) AS n_images FROM features GROUP BY ALL ORDER BY n_images DESC").show()
spark.sql(
    "SELECT image_id, format, width_px, height_px, round(sharpness) AS sharpness, hex(phash) AS phash "
    "FROM features WHERE status = 'ok' ORDER BY width_px * height_px DESC LIMIT 5"
).show()

# %% [markdown]
# ## Step 3, index: vectors in files
#
# From here on one image, the representative, stands for all images of the same pixels: `n_images` counts
# representatives, not files.

# %%
spark.sql("SELECT shard, path, n_images, size_bytes, size(cells) AS n_cells FROM shards ORDER BY shard").show(
    truncate=False
)

# %% [markdown]
# ## Step 4, match: pairs
#
# Each pair has the method that found it and both scores.

# %%
spark.sql(
    "SELECT method, count(*) AS n_pairs, round(min(similarity), 3) AS lowest_cosine, "
    "max(hamming_bits) AS most_bits FROM pairs GROUP BY method ORDER BY method"
).show()

# %% [markdown]
# ## Step 5, cluster: groups, each with a keeper

# %%
spark.sql(
    "SELECT cluster_size, count(*) AS n_clusters FROM clusters WHERE is_keeper GROUP BY ALL ORDER BY cluster_size"
).show()
spark.sql(
    "SELECT relation, removal_tier, is_removable, count(*) AS n_images, sum(size_bytes) AS size_bytes FROM clusters "
    "WHERE NOT is_keeper GROUP BY ALL ORDER BY n_images DESC"
).show()

# %% [markdown]
# ## Step 6, report: views and a page
#
# This is the page to open in a browser.

# %%
print(done.report)

# %% [markdown]
# ## What ran
#
# `runs` has one row for the start of a step and one for its end, with counts and seconds.

# %%
spark.sql(
    "SELECT run_id, step, status, round(elapsed_seconds, 1) AS seconds, counts FROM runs "
    "WHERE status <> 'started' ORDER BY at DESC LIMIT 14"
).show(truncate=70)
