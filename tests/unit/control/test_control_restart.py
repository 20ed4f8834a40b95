"""A process that was killed leaves no approval that can be used."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from sonia.config import EvaOs
from sonia.control import ApprovalSettled
from sonia.control.service import open_control
from sonia.db import open_database
from sonia.types import ApprovalId

ASKS = """
import asyncio, sys
from pathlib import Path
from sonia.config import EvaOs
from sonia.control import Plan, open_control
from sonia.db import open_database

async def main() -> None:
    path, migrations = map(Path, sys.argv[1:])
    async with open_database(path, migrations) as db, open_control(EvaOs(), db) as control:
        for number in range(20):
            plan = Plan(tool="file.write", arguments={"n": number}, tier=2,
                        working_directory="/w", tool_digest="d", preview="p",
                        session_id=f"ses_{number % 2}")
            print((await control.judge(plan)).approval_id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_t10_nothing_asked_before_a_kill_can_be_approved(
    tmp_path: Path, migrations: Path
) -> None:
    path = tmp_path / "sonia.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASKS, str(path), str(migrations), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    asked = [(await process.stdout.readline()).decode().strip() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    await process.wait()

    async with open_database(path, migrations) as db, open_control(EvaOs(), db) as control:
        for approval_id in asked:
            with pytest.raises(ApprovalSettled) as refused:
                await control.settle(ApprovalId(approval_id), approve=True, by="test")
            assert refused.value.details["state"] == "cancelled"
        assert (await control.verify_ledger()).ok
