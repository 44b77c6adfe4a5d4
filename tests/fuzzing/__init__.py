"""Damaged files by the thousand, the same ones in every run, and a place for those that a reader does not survive.

Why no library: atheris steers by the coverage of instrumented code, and the decoders are C libraries in wheels without
it; hypothesis draws values, not files, and takes milliseconds for each. What finds faults in readers of chunks, boxes
and directories is to change one of these and to repair the checksums around it: a few lines of Python per idea.
"""
