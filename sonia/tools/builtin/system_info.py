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

MAX_DISKS = 16


class SystemInfoArguments(Arguments):
    """Nothing to say."""


class SystemInfo(Tool[SystemInfoArguments]):
    """Time, host, processor, memory, disks and battery."""

    name: ClassVar = "system.info"
    description: ClassVar = (
        "Tell the local time and date, and this machine's name, system, memory, disk and battery."
    )
    arguments: ClassVar = SystemInfoArguments
    aliases: ClassVar = ("system.status", "system.time")

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
    boot = dt.datetime.fromtimestamp(psutil.boot_time(), dt.UTC).astimezone()
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return {
        "time": local.isoformat(timespec="seconds"),
        "weekday": f"{local:%A}",
        "utc_offset": f"{local:%z}",
        "hostname": platform.node(),
        "up_since": boot.isoformat(timespec="seconds"),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": {"total": memory.total, "available": memory.available},
        "workspace_disk_bytes": {"total": disk.total, "free": disk.free},
        "disks": _disks(psutil),
        "battery": battery
        and {"percent": round(battery.percent), "plugged_in": battery.power_plugged},
    }


def _disks(psutil: Any) -> list[dict[str, Any]]:
    """Every real disk that is mounted, once; one that does not answer is left out."""
    seen: dict[str, dict[str, Any]] = {}
    for part in psutil.disk_partitions(all=False):
        if part.device in seen or len(seen) >= MAX_DISKS:
            continue
        try:
            usage = shutil.disk_usage(part.mountpoint)
        except OSError:
            continue
        seen[part.device] = {
            "mounted_at": part.mountpoint,
            "total_bytes": usage.total,
            "free_bytes": usage.free,
        }
    return list(seen.values())
