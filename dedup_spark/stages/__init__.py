"""The six steps on Spark. `run(spark, config, run)` reads tables and writes tables; nothing else passes."""
