"""How images are found and how their bytes are fetched.

Where things stand:

- The interface: `base.py`. A source is a small class with `root`, `list_images`, `fetch`, `has_own_etags` and `as_of`;
  it lists rows of `LISTING` and fetches by `Address`. `registry.py` chooses the source of a lake.
- The kinds of lake, one file for each: `folder.py` (a disk, or what fsspec opens, such as `s3://` or `sftp://`;
  `entries.py` and `store_entries.py` list one folder of it), `tar.py` (over `tar_headers.py`), `table.py` (images in
  Parquet or Delta), `manifest.py` (a list of addresses), `s3_inventory.py`, `binary_file.py` (Spark's own lister).
- Addresses: `addresses.py` gives every object one spelling, `names.py` turns file names that are not UTF-8 into text.
- Fetching and its faults: `objects.py` (one request) over `disk.py` and `streams.py`, which end at a limit
  (`limits.py`), `parquet_rows.py` (one value of a table's file), `random_access.py` (files read at any place),
  `faults.py` (what an error means), `pacing.py` (how fast), `patience.py` (how long), `fetching.py` (all of them for
  one image), `object_state.py` (what is at an address now).
- Bytes that Spark reads, for stores that Python cannot open: `spark_bytes.py`.
- What listings share: `spark_reader.py` (Spark's readers, columns of LISTING), `spelling.py` (addresses that others
  spelled), `passed_over.py` (entries that are no images), `times.py` (modification times of fsspec).

To add a kind of lake, write a file with a class that derives from `base.Listed` and fulfils `base.Source`, name it in
`registry._MAKERS` and in the choices of `inventory.source` in `config.py`, and say in `registry.py` by which address
`auto` finds it. Another scheme that fsspec opens is no new kind: `addresses.py` has what is special to its addresses,
`store/stores.py` what to install for it.
"""
