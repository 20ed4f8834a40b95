"""Which definitions of other servers' tools were accepted: the table, and asking about new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import msgspec

from sonia.control import Control, Plan
from sonia.errors import PolicyDenied, SoniaError
from sonia.log import get_logger
from sonia.tools.mcp.definitions import Definition
from sonia.tools.tasks import Tasks
from sonia.types import ApprovalId, now, rfc3339

if TYPE_CHECKING:
    import apsw

    from sonia.db import Database

ACCEPT = "tools.accept"  # what an approval of a changed definition is given for


class Pins:
    """What is accepted. `tasks` outlives every caller."""

    def __init__(self, db: Database, control: Control, tasks: Tasks) -> None:
        self._db = db
        self._control = control
        self._tasks = tasks
        self._asked: dict[tuple[str, str], ApprovalId] = {}
        self._following: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Wait for no more answers: what is open is asked again when it is needed again."""
        for task in self._following:
            task.cancel()

    async def known(self, server: str) -> dict[str, str]:
        """Digests by the server's own names."""

        def work(c: apsw.Connection) -> dict[str, str]:
            rows = c.execute("SELECT tool, digest FROM tools_mcp_pins WHERE server = ?", (server,))
            return {cast(str, tool): cast(str, digest) for tool, digest in rows}

        return await self._db.read(work)

    async def accept(self, server: str, *definitions: Definition) -> None:
        """From now on these are the ones, on the record."""
        rows = [(server, item.theirs, item.digest, rfc3339(now())) for item in definitions]
        if not rows:
            return

        def work(c: apsw.Connection) -> None:
            c.executemany("INSERT OR REPLACE INTO tools_mcp_pins VALUES (?, ?, ?, ?)", rows)

        account = {"server": server, "tools": {item.theirs: item.digest for item in definitions}}
        await self._control.record("mcp.accepted", account)
        await self._db.write(work)

    async def ask(
        self, server: str, definition: Definition, accepted: Callable[[], None]
    ) -> ApprovalId:
        """Ask the person about a definition that changed, once at a time.

        `accepted` is called when they approved it.
        """
        key = (server, definition.digest)
        if key in self._asked:
            return self._asked[key]
        plan = Plan(
            tool=ACCEPT,
            arguments={"server": server, "tool": definition.theirs, "digest": definition.digest},
            tier=2,
            working_directory="",
            tool_digest=definition.digest,
            preview=_shown(server, definition),
            origins=("tool",),  # so that no rule accepts it by itself
        )
        decision = await self._control.judge(plan)
        if decision.approval_id is None:
            raise PolicyDenied(decision.reason)
        self._asked[key] = decision.approval_id
        following = self._tasks.begin(
            self._follow(key, plan, decision.approval_id, definition, accepted)
        )
        self._following.add(following)
        following.add_done_callback(self._following.discard)
        return decision.approval_id

    async def _follow(
        self,
        key: tuple[str, str],
        plan: Plan,
        approval_id: ApprovalId,
        definition: Definition,
        accepted: Callable[[], None],
    ) -> None:
        try:
            approval = await self._control.decided(approval_id)
            if approval.state == "approved":
                await self._control.redeem(approval_id, plan)
                await self.accept(key[0], definition)
                accepted()
        except SoniaError as error:
            get_logger("openclaw").error("definition not accepted", why=error.message)
        finally:
            self._asked.pop(key, None)


def _shown(server: str, definition: Definition) -> str:
    schema = msgspec.json.format(msgspec.json.encode(definition.schema), indent=2).decode()
    return (
        f"Accept that {definition.theirs} of the MCP server {server} is now defined so:\n"
        f"{definition.description}\n{schema}"
    )
