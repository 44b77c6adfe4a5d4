"""Settings as the functions take them: a dict, a file, or a whole Config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError

if TYPE_CHECKING:
    from dedup_spark.commands.apart import Place

Settings = Config | Mapping[str, Any] | None


def config_of(settings: Settings, settings_file: Place | None) -> Config:
    """The settings asked for, on top of the defaults. Raises ConfigError with all that is wrong in them."""
    if isinstance(settings, Config):
        if settings_file:
            raise ConfigError("settings: found a whole Config and a settings_file; give one of the two")
        return settings
    return load_config(os.fspath(settings_file) if settings_file else None, given=settings)
