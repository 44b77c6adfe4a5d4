"""From bytes to upright RGB pixels, or the reason why not. Begin with `images.decode_image`.

It runs in a process of its own, stages/reading/decoder_child.py.
"""
