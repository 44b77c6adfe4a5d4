"""`index export`: the index as plain FAISS files, with a map from ids to addresses, for people without dedup_spark."""
