"""How images become signatures, by the settings of extract. No Spark: look-ups read images in the same way."""

from __future__ import annotations

from dataclasses import asdict

from dedup_spark.config import ExtractSettings
from dedup_spark.kernels.features.model_input import InputSettings
from dedup_spark.kernels.features.signature import SignatureSettings


def settings_of_signature(
    extract: ExtractSettings, made: InputSettings | None, *, from_thumbnail: bool = False
) -> SignatureSettings:
    """How images become signatures, with the input `made` for a model where there is one."""
    return SignatureSettings(
        max_pixels=extract.max_pixels,
        min_side_px=extract.min_side_px,
        thumbnail_px=extract.thumbnail_px,
        thumbnail_quality=extract.thumbnail_quality,
        from_thumbnail=from_thumbnail,
        pixels=extract.pixels,
        **(asdict(made) if made else {"input_px": 0}),
    )
