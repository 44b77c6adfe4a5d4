"""The parts of the benchmarks that decide what their figures mean."""
