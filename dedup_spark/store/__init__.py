"""The only door to the tables and to the files beside them: schema, tables, views, runs, shards, lease."""
