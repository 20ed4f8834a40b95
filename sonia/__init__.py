"""Sonia: a whole personal assistant in one process.

Embedded, without HTTP:

    async with sonia.open() as s:
        async with s.turns.turn(TurnRequest(text="Hello")) as events:
            async for event in events:
                ...
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonia.app import Sonia
    from sonia.config import Config


def open(config: Config | None = None) -> AbstractAsyncContextManager[Sonia]:
    """Enter to have all of Sonia in this process; the configuration is found as `serve` finds it.

    Raises `ConfigurationError`, and `AlreadyRunning` when a server has the same data folder.
    """
    from sonia.app import open_sonia
    from sonia.config import load

    return open_sonia(config if config is not None else load())
