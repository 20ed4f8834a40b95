"""A process that remembers a secret, forgets it, and is killed on entering one step of that."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sonia.db import Database
from sonia.memory import Forget, NewMemory
from sonia.memory import forgetting as module
from sonia.memory.following import TextFollower
from tests.memory_given import opened

# In the order in which they are entered, once the secret is remembered.
STEPS: dict[str, tuple[Any, str]] = {
    "erase": (module.Forgets, "_erase_rows"),
    "text": (TextFollower, "settled"),
    "tombstones": (module, "_leave_tombstones"),
    "compact": (Database, "compact"),
    "log": (Database, "empty_log"),
    "done": (module.receipts, "settled"),
}
SECRET = "My safe opens with xylographer"


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(folder: Path, step: str) -> None:
    async with opened(folder) as memory:
        await memory.store(NewMemory(type="fact", content=SECRET))
        await memory.store(NewMemory(type="fact", content="My other word is tea"))
        await memory.settled()
        setattr(*STEPS[step], die)
        await memory.erase(Forget(entity="Xylographer"), wait_s=60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
