"""Taking an action back: in the ledger before, the undoing, the ledger after."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from sonia.control import Control, LedgerDown
from sonia.errors import Internal, SoniaError
from sonia.events import Forgotten
from sonia.log import get_logger
from sonia.tools.catalogue import Catalogue
from sonia.tools.interface import Outcome
from sonia.tools.journal import Journal
from sonia.tools.store import Actions
from sonia.tools.tasks import Tasks
from sonia.tools.trash import Trash


class Undoing:
    """Undoes what the journal kept, once. `tasks` outlives every caller."""

    def __init__(
        self,
        control: Control,
        catalogue: Catalogue,
        actions: Actions,
        journal: Journal,
        trash: Trash,
        tasks: Tasks,
    ) -> None:
        self._control = control
        self._catalogue = catalogue
        self._actions = actions
        self._journal = journal
        self._trash = trash
        self._tasks = tasks

    async def undo(self, action_id: str, by: str) -> Outcome:
        """See `Tools.undo`. It goes to its end whoever stops waiting."""
        outcome = await self._actions.find(action_id)
        return await asyncio.shield(self._tasks.begin(self._undo(outcome, by)))

    async def _undo(self, outcome: Outcome, by: str) -> Outcome:
        action_id = outcome.action_id
        name, kept = await self._journal.take(action_id)
        account: dict[str, Any] = {"action_id": action_id, "tool": name, "by": by}
        try:
            await self._control.record("undo.started", account)
            result = await self._catalogue.find(name).undo(kept)
        except Exception as error:
            await self._journal.leave(action_id, "possible")
            if not isinstance(error, SoniaError):
                get_logger("openclaw").error("undo broke", tool=name, exc_info=error)
                error = Internal(f"{name} could not be undone. The log has the details.")
            await self._note("undo.failed", {**account, "error": error.code})
            raise error from None
        await self._journal.leave(action_id, "undone")
        undone = msgspec.structs.replace(
            outcome, status="undone", result=result, undoable=False, verification=None
        )
        await self._actions.save(undone, None)
        await self._note("undo.finished", account)
        return undone

    async def _note(self, kind: str, account: dict[str, Any]) -> None:
        try:
            await self._control.record(kind, account)
        except LedgerDown as error:
            get_logger("openclaw").error("ledger not written", fact=kind, why=error.message)

    async def tidy(self) -> None:
        """Let go of what is too old to be undone, and begin anew what a stop interrupted."""
        await self._journal.tidy()
        await self._sweep()

    async def forget(self, fact: Forgotten) -> None:
        """What was deleted by an action that is forgotten is gone for good."""
        await self._sweep()

    async def _sweep(self) -> None:
        """Empty the trash of what is in no journal. What is in it now was in the journal first."""
        items = await asyncio.to_thread(self._trash.items)
        known = await self._journal.known()
        await asyncio.to_thread(self._trash.remove, set(items) - known)
