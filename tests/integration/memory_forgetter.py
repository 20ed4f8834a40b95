"""A process that remembers a secret, forgets it, and is killed on entering one step of that."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sonia.db import Database
from sonia.memory import Forget, NewDocument, NewMemory
from sonia.memory import forgetting as module
from sonia.memory.documents import shelf
from sonia.memory.following import TextFollower
from tests.memory_given import opened

# In the order in which they are entered, once the secret is remembered.
STEPS: dict[str, tuple[Any, str]] = {
    "erase": (module.Forgets, "_erase_rows"),
    "chunks": (shelf, "erase_some"),
    "text": (TextFollower, "cleared"),
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
        meant = Forget(entity="Xylographer")
        if step == "chunks":
            async with memory.incoming() as incoming:
                await incoming.write(SECRET.encode())
                made = await memory.ingest(incoming, NewDocument(name="safe.txt"))
            meant = Forget(document_id=made.document.id)
        else:
            await memory.store(NewMemory(type="fact", content=SECRET))
        await memory.store(NewMemory(type="fact", content="My other word is tea"))
        await memory.settled()
        setattr(*STEPS[step], die)
        await memory.erase(meant, wait_s=60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
