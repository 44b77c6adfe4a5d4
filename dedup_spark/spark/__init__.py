"""What we need of Spark besides the steps: sessions, GPUs, progress, Python workers, small tables of the driver."""
