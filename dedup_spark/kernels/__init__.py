"""Arrays in, arrays out: the algorithms, with no Spark and no files, each testable in one line."""
