"""Which images of a finished run does an upload show? Answers in milliseconds, without Spark and Java."""
