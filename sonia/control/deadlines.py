"""When open approvals lapse, and who waits for an answer.

Time here is the event loop's, which no change of the wall clock moves: an approval lives as
long as it was given, even when the clock is set back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from sonia.types import ApprovalId


class Deadlines:
    """Used from one event loop."""

    def __init__(self) -> None:
        self._lapse_at_s: dict[ApprovalId, float] = {}
        self._answered: dict[ApprovalId, asyncio.Event] = {}
        self._changed = asyncio.Event()

    def open(self, approval_id: ApprovalId, remaining_s: float) -> bool:
        """Have it lapse in `remaining_s`. Returns whether it was not open before."""
        new = approval_id not in self._lapse_at_s
        self._lapse_at_s[approval_id] = asyncio.get_running_loop().time() + remaining_s
        self._changed.set()
        return new

    def wake(self, approval_id: ApprovalId) -> None:
        """It is no longer pending: whoever waits for that goes on."""
        if event := self._answered.pop(approval_id, None):
            event.set()

    def close(self, approval_ids: Iterable[ApprovalId]) -> None:
        """They are settled for good."""
        for approval_id in approval_ids:
            self._lapse_at_s.pop(approval_id, None)
            self.wake(approval_id)

    def answered(self, approval_id: ApprovalId) -> asyncio.Event:
        """Set at the next `wake`. Take it before looking whether that has already happened."""
        return self._answered.setdefault(approval_id, asyncio.Event())

    async def lapsed(self) -> list[ApprovalId]:
        """Wait for the next that lapse; they stay here until they are closed."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            due = [name for name, at_s in self._lapse_at_s.items() if at_s <= loop.time()]
            if due:
                return due
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._lapse_at_s.values(), default=None)):
                    await self._changed.wait()
