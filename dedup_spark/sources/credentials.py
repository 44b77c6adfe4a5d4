"""Credentials that a store no longer takes: filesystems are made anew, and look for those of now."""

from __future__ import annotations

import configparser
import logging
import math
import threading
import time

import fsspec

from dedup_spark.sources import addresses
from dedup_spark.store import files

log = logging.getLogger(__name__)

_RENEWAL_SECONDS = 1.0
"""New credentials are searched for at most this often: where there are none, every image would ask for it."""
_renewed_at = -math.inf
_lock = threading.Lock()


def find_credentials_anew(began: float) -> None:
    """Forget all filesystems of this process, unless that was done since `began`: new ones find credentials again.

    A filesystem keeps the credentials that it found when it was made: those of a role are renewed in it, but a token
    in a file or in fsspec's configuration is not.
    """
    global _renewed_at
    with _lock:
        if _renewed_at >= began - _RENEWAL_SECONDS:
            return
        try:
            fsspec.config.set_conf_files(fsspec.config.conf_dir, fsspec.config.conf)
        except (ValueError, configparser.Error, OSError) as e:  # a file that somebody is just writing
            log.warning("fsspec's configuration in %s cannot be read: %s", fsspec.config.conf_dir, e)
        fsspec.config.set_conf_env(fsspec.config.conf)  # over the files, as when fsspec was loaded
        files.find_credentials_anew()
        addresses.open_for_reading.cache_clear()
        _renewed_at = time.monotonic()
