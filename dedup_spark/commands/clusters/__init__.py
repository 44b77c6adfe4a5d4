"""`dedup-spark clusters`: lists clusters, the largest first, or shows one of them with all its images and why."""
