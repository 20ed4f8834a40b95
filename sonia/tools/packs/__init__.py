"""Tools beyond the standard ones, which the configuration turns on: a file a pack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sonia.config import OpenClaw
from sonia.control import Tasks
from sonia.errors import ConfigurationError
from sonia.tools.files import Workspace
from sonia.tools.interface import Remembering
from sonia.tools.tool import Tool


def pack_tools(
    config: OpenClaw,
    workspace: Workspace,
    remembering: Remembering | None,
    planned: Tasks | None = None,
) -> Iterator[Tool[Any]]:
    """Those of the packs in the configuration. Raises `ConfigurationError`."""
    for name in dict.fromkeys(config.packs):
        match name:
            case "memory":
                from sonia.tools.packs import memory

                if remembering is None:
                    raise ConfigurationError(
                        "services.openclaw.packs: there is no memory here for the pack 'memory'.",
                        key="services.openclaw.packs",
                    )
                yield from memory.tools(remembering)
            case "reminders":
                from sonia.tools.packs import reminders

                if planned is None:
                    raise ConfigurationError(
                        "services.openclaw.packs: nothing here keeps tasks for 'reminders'.",
                        key="services.openclaw.packs",
                    )
                yield from reminders.tools(planned)
            case "clipboard":
                from sonia.tools.packs import clipboard

                yield from clipboard.tools()
            case "desktop":
                from sonia.tools.packs import desktop

                yield from desktop.tools(workspace)
            case "processes":
                from sonia.tools.packs import processes

                yield from processes.tools()
            case "unsandboxed":
                from sonia.tools.packs import unsandboxed

                yield from unsandboxed.tools(workspace, config.max_output_bytes)


def for_others(config: OpenClaw, remembering: Remembering | None) -> tuple[Tool[Any], ...]:
    """What other programs may use though no pack tells Sonia's own model of it: her memory."""
    if remembering is None or "memory" in config.packs:
        return ()
    from sonia.tools.packs import memory

    return memory.MemorySearch(remembering), memory.MemoryRemember(remembering)
