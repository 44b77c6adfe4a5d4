"""Parts of a picture at full size, from its middle: what is measured on them costs the same for any picture."""

from __future__ import annotations

from PIL import Image

from dedup_spark.kernels.decoding.orientation import turn

_BACK = {6: 8, 8: 6}
"""The EXIF orientation that undoes one; the others undo themselves."""
_BLOCK_PX = 8


def middle(image: Image.Image, box: tuple[int, int, int, int], side_px: int) -> Image.Image:
    """The middle of a box (left, top, right, bottom) of an image, `side_px` wide and high where it is that large."""
    left, top, right, bottom = _box((max(1, box[2] - box[0]), max(1, box[3] - box[1])), side_px, 1)
    return _cut(image, (box[0] + left, box[1] + top, box[0] + right, box[1] + bottom))


def stored_middle(upright: Image.Image, orientation: int, side_px: int) -> Image.Image:
    """The middle as it lies in the file, before the EXIF orientation 1-8 turned it, from a whole block on."""
    size = upright.size if orientation < 5 else upright.size[::-1]
    left, top, right, bottom = _box(size, side_px, _BLOCK_PX)
    corners = [_turned(x, y, size, orientation) for x, y in ((left, top), (right, bottom))]
    (xs, ys) = zip(*corners, strict=True)
    return turn(_cut(upright, (min(xs), min(ys), max(xs), max(ys))), _BACK.get(orientation, orientation))


def _cut(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The image itself where the box is all of it: a sample is read, and not changed."""
    return image if box == (0, 0, *image.size) else image.crop(box)


def _box(size: tuple[int, int], side_px: int, step_px: int) -> tuple[int, int, int, int]:
    left, top = ((max(0, n - side_px) // 2) // step_px * step_px for n in size)
    return left, top, min(size[0], left + side_px), min(size[1], top + side_px)


def _turned(x: int, y: int, size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Where the corner (x, y) of a box in the stored picture of this size lies in the upright one."""
    width, height = size
    return {
        1: (x, y), 2: (width - x, y), 3: (width - x, height - y), 4: (x, height - y),
        5: (y, x), 6: (height - y, x), 7: (height - y, width - x), 8: (y, width - x),
    }[orientation]  # fmt: skip
