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
# # 3. Look at a cluster
#
# This notebook shows one group of duplicates: its thumbnails, the evidence of its pairs, and the trace of one member.
#
# `DEDUP_TABLES` names the tables; by default they are those of `make demo`.

# %%
import io
import os
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

import dedup_spark
from dedup_spark.commands.trace import describe_trace

project = Path.cwd().parent if Path.cwd().name == "notebooks" else Path.cwd()
tables_root = os.environ.get("DEDUP_TABLES", str(project / "demo" / "tables"))

spark = dedup_spark.open_views(tables=tables_root)

# %% [markdown]
# ## Choose a cluster
#
# This is the cluster of the copy that is most in doubt. You can put any `cluster_id` in its place.

# %%
cluster_id = spark.sql("SELECT cluster_id FROM doubtful_first LIMIT 1").first()[0]
members = spark.sql(
    "SELECT c.image_id, regexp_extract(c.uri, '[^/]*$', 0) AS file, c.is_keeper, c.relation, "
    "round(c.similarity, 3) AS cosine, c.hamming_bits, f.width_px, f.height_px, f.format, c.size_bytes, c.uri, "
    "f.thumbnail FROM clusters c JOIN features f USING (image_id) "
    f"WHERE c.cluster_id = {cluster_id} ORDER BY c.is_keeper DESC, c.similarity DESC, c.image_id LIMIT 24"
)
members.drop("thumbnail", "uri", "image_id").show(24, truncate=40)

# %% [markdown]
# ## See its pictures
#
# The thumbnails come keeper first, then from the most to the least similar. They are kept in `features`, so the lake is
# not read again.

# %%
rows = members.collect()
side_px, columns = 160, 6
sheet = Image.new("RGB", (columns * side_px, -(-len(rows) // columns) * side_px), "white")
for i, member in enumerate(rows):
    thumbnail = ImageOps.pad(Image.open(io.BytesIO(member.thumbnail)), (side_px - 8, side_px - 8), color="white")
    sheet.paste(thumbnail, (i % columns * side_px + 4, i // columns * side_px + 4))
picture = Path(tempfile.gettempdir(), "dedup_spark_cluster.png")
sheet.save(picture)
print(picture)
sheet  # noqa: B018 - Jupyter shows the last value of a cell

# %% [markdown]
# ## Why are they together?
#
# `reason` states what decided between each member and the keeper.

# %%
spark.sql(
    "SELECT regexp_extract(uri, '[^/]*$', 0) AS file, reason FROM clusters "
    f"WHERE cluster_id = {cluster_id} ORDER BY is_keeper DESC, copy_probability DESC, image_id LIMIT 24"
).show(24, truncate=False)

# %% [markdown]
# These are the pairs inside the cluster. Not every two members need to be a pair: average linkage requires that two
# groups are similar enough *on average*. Identical images appear once each, paired with the smallest `image_id` of
# their pixels.

# %%
spark.sql(
    "SELECT p.method, round(p.similarity, 3) AS cosine, p.hamming_bits, "
    "regexp_extract(a.uri, '[^/]*$', 0) AS image_a, regexp_extract(b.uri, '[^/]*$', 0) AS image_b "
    "FROM pairs p JOIN clusters a ON p.image_id_a = a.image_id JOIN clusters b ON p.image_id_b = b.image_id "
    f"WHERE a.cluster_id = {cluster_id} AND b.cluster_id = {cluster_id} "
    "ORDER BY p.similarity DESC, p.image_id_a, p.image_id_b"
).show(20, truncate=40)

# %% [markdown]
# ## Did anything nearly join?
#
# These pairs cross the border of the cluster: they are near enough to be a pair, and not near enough to be merged.

# %%
spark.sql(
    "SELECT round(p.similarity, 3) AS cosine, p.hamming_bits, a.uri AS image_a, b.uri AS image_b FROM pairs p "
    "JOIN images a ON p.image_id_a = a.image_id JOIN images b ON p.image_id_b = b.image_id "
    "LEFT JOIN clusters ca ON p.image_id_a = ca.image_id LEFT JOIN clusters cb ON p.image_id_b = cb.image_id "
    f"WHERE {cluster_id} IN (ca.cluster_id, cb.cluster_id) AND NOT (ca.cluster_id <=> cb.cluster_id) "
    "ORDER BY p.similarity DESC LIMIT 10"
).show(truncate=60)

# %% [markdown]
# ## Trace one member
#
# This is the same as `dedup-spark trace --tables ... --uri ...`: the rows of this image in every table, in the order of
# the steps.

# %%
[trace] = dedup_spark.trace(spark, rows[-1].uri, tables=tables_root)
print(describe_trace(trace))
