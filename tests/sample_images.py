"""Gives sample photos of scikit-image as the input of a model."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo

PX = 160
PHOTOS = (
    "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "brick.png", "coins.png", "page.png", "moon.png",
    "flower.jpg", "motorcycle_left.png", "hubble_deep_field.jpg", "retina.jpg",
)  # fmt: skip


@functools.cache
def sample_images(px: int = PX) -> np.ndarray:
    """(12, px, px, 3) uint8."""
    photos = [load_sample_photo(name).convert("RGB").resize((px, px), Image.Resampling.BICUBIC) for name in PHOTOS]
    return np.stack([np.asarray(photo) for photo in photos])
