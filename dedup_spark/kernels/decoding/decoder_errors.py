"""What decoders raise where a file is damaged."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    NotImplementedError, AttributeError, ZeroDivisionError, AssertionError, RuntimeError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What the plugins raise on damaged files. Any other exception counts as a crash of the decoder."""
