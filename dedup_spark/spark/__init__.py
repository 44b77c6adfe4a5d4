"""What we need of Spark that is no step: sessions, GPUs, progress lines, Python workers, small tables of the driver."""
