"""system.info: this machine and what time it is on it."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import platform
import shutil
from pathlib import Path
from typing import Any, ClassVar

from sonia.tools.tool import Arguments, Grant, Intent, Tool


class SystemInfoArguments(Arguments):
    """Nothing to say."""


class SystemInfo(Tool[SystemInfoArguments]):
    """Time, host, processor, memory, disk and battery."""

    name: ClassVar = "system.info"
    description: ClassVar = (
        "Tell the local time and date, and this machine's name, system, memory, disk and battery."
    )
    arguments: ClassVar = SystemInfoArguments

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace

    async def plan(self, args: SystemInfoArguments) -> Intent:
        return Intent(preview="Look at this machine's clock, processor, memory, disk and battery")

    async def run(self, args: SystemInfoArguments, grant: Grant) -> dict[str, Any]:
        return await asyncio.to_thread(_look, self._workspace)


def _look(workspace: Path) -> dict[str, Any]:
    import psutil  # type: ignore[import-untyped,unused-ignore]

    local = dt.datetime.now().astimezone()
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(workspace)
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return {
        "time": local.isoformat(timespec="seconds"),
        "weekday": f"{local:%A}",
        "utc_offset": f"{local:%z}",
        "hostname": platform.node(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": {"total": memory.total, "available": memory.available},
        "workspace_disk_bytes": {"total": disk.total, "free": disk.free},
        "battery": battery
        and {"percent": round(battery.percent), "plugged_in": battery.power_plugged},
    }
