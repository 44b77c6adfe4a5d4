"""A clock of one module: threads that belong to others (py4j's sleep for ever) go on by the real one."""

import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest


def set_clock(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **functions: Callable[..., object]) -> None:
    """Let `module`, and nobody else in this process, call these functions where it calls those of `time`."""
    monkeypatch.setattr(module, "time", SimpleNamespace(**(vars(time) | functions)))
