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
# # 2. Ask with SQL
#
# Here are questions that people have about a lake, each answered by one query on a table or a view.
# The same queries work in `dedup-spark sql`, in `spark-sql -i report/views.sql` and in a catalog.
#
# `DEDUP_TABLES` names the tables; by default they are those of `make demo`.

# %%
import os
from pathlib import Path

import dedup_spark

project = Path.cwd().parent if Path.cwd().name == "notebooks" else Path.cwd()
tables_root = os.environ.get("DEDUP_TABLES", str(project / "demo" / "tables"))

spark = dedup_spark.open_views(tables=tables_root)

# %% [markdown]
# ## Which columns are there?
#
# Each column has a comment with its meaning and unit.

# %%
spark.sql("DESCRIBE TABLE duplicates").show(100, truncate=False)

# %% [markdown]
# ## Where could most be freed?
#
# `reclaimable_by_prefix` has the sums by the first folders below the lake (`report.prefix_depth`, two by default).

# %%
spark.sql("SELECT * FROM reclaimable_by_prefix ORDER BY removable_bytes DESC LIMIT 20").show(truncate=60)

# %% [markdown]
# ## Which files could go, and what stays in their place?

# %%
spark.sql(
    "SELECT uri, keeper_uri, relation, round(similarity, 3) AS cosine, size_bytes "
    "FROM duplicates WHERE removable ORDER BY size_bytes DESC LIMIT 10"
).show(truncate=60)

# %% [markdown]
# ## What is safe beyond doubt?
#
# `same_bytes` and `same_pixels` do not depend on any threshold. `freed_bytes` leaves out hard links to files that stay.

# %%
spark.sql(
    "SELECT count(*) AS n_images, sum(freed_bytes) AS freed_bytes FROM duplicates "
    "WHERE removable AND removal_tier IN ('same_bytes', 'same_pixels')"
).show()

# %% [markdown]
# ## Which files have the same bytes?
#
# `relation` compares a member with the file that is kept for it, its *keeper*. Two byte copies of each other may both
# go for a better file, of which each is `same_pixels` or an `edited_copy`. The table `features` has the byte copies
# among all files:

# %%
spark.sql(
    "SELECT content_hash, count(*) AS n_files, first(read_bytes) * (count(*) - 1) AS spare_bytes "
    "FROM features WHERE content_hash IS NOT NULL GROUP BY content_hash HAVING count(*) > 1 "
    "ORDER BY spare_bytes DESC LIMIT 10"
).show(truncate=20)

# %% [markdown]
# ## Which decisions were most in doubt?
#
# Check these before you trust the rest. `doubtful_first` has the most doubtful rows first. A low cosine alone is no
# doubt: a small crop has one, and its thumbnail may agree with that of the keeper on all that both show. `reason` is
# what decided.

# %%
spark.sql("SELECT round(doubt, 3) AS doubt, doubts, uri, keeper_uri, reason FROM doubtful_first LIMIT 10").show(
    truncate=60
)

# %% [markdown]
# ## What could not be read?

# %%
spark.sql("SELECT reject_reason, count(*) AS n_images FROM quarantine GROUP BY reject_reason ORDER BY 2 DESC").show()
spark.sql("SELECT reject_reason, reject_message, uri FROM quarantine ORDER BY uri LIMIT 10").show(truncate=80)

# %% [markdown]
# ## Which images show little?
#
# They are blank or blurred. All three facts are measured on the grey thumbnail.

# %%
spark.sql(
    "SELECT i.uri, round(f.luma_stddev, 1) AS luma_stddev, round(f.entropy_bits, 2) AS entropy_bits, "
    "round(f.sharpness, 1) AS sharpness FROM features f JOIN images i USING (image_id) "
    "WHERE f.status = 'ok' ORDER BY f.luma_stddev LIMIT 5"
).show(truncate=60)
