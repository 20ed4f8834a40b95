"""The tools, opened: what they stand on, made in the order of need and left in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sonia.config import OpenClaw
from sonia.control import Control
from sonia.control import Tasks as Planned
from sonia.tools.apart import data_apart, own_apart
from sonia.tools.builtin import builtin_tools
from sonia.tools.catalogue import Catalogue
from sonia.tools.files import Workspace
from sonia.tools.interface import Remembering
from sonia.tools.journal import Journal
from sonia.tools.letters import Letters
from sonia.tools.mcp import Around, open_servers
from sonia.tools.network import GuardedClient, Reach
from sonia.tools.packs import for_others, pack_tools
from sonia.tools.sandbox import Limits, Sandbox
from sonia.tools.service import GuardedTools
from sonia.tools.store import Actions
from sonia.tools.tasks import Tasks
from sonia.tools.trash import TRASH, Trash

if TYPE_CHECKING:
    from sonia.db import Database


@asynccontextmanager
async def open_tools(
    config: OpenClaw,
    control: Control,
    db: Database,
    workspace: Path,
    *,
    own: tuple[Path, ...] = (),
    client: GuardedClient | None = None,
    remembering: Remembering | None = None,
    planned: Planned | None = None,
) -> AsyncIterator[GuardedTools]:
    """Serve the tools for files below `workspace`, which is made if it is not there.

    `own` are files and folders that no tool may ever change. `client` is the way out, one of the
    configuration's reach when there is none; `remembering` is for the pack `memory`, `planned`
    for `reminders`. Leaving stops what runs. Raises `ConfigurationError` when Sonia's data or one
    of her own is in the workspace.
    """
    hidden = await asyncio.to_thread(data_apart, workspace, db.path.parent)
    await asyncio.to_thread(own_apart, workspace, own)
    files = Workspace(workspace, config.max_file_bytes)
    actions = Actions(db)
    sandbox = Sandbox(
        workspace, hidden=(hidden,), limits=Limits(output_bytes=config.max_output_bytes)
    )
    client = client or GuardedClient(Reach(mode=config.egress, hosts=config.egress_hosts))
    await asyncio.to_thread(files.prepare)
    await actions.settle_left_over()
    letters = Letters(db)
    await letters.settle_left_over()
    async with Tasks() as tasks:
        trash = Trash(hidden / TRASH, files)
        catalogue = Catalogue(
            (
                *builtin_tools(files, sandbox, client, trash, config.search_url),
                *pack_tools(config, files, remembering, planned),
            ),
            timeout_s=config.timeout_s,
            folder=workspace,
            for_others=for_others(config, remembering),
        )
        tools = GuardedTools(
            config,
            control,
            actions,
            tasks,
            files,
            sandbox,
            catalogue,
            trash,
            Journal(db),
            letters,
        )
        tasks.begin(tools.tidy())
        around = Around(workspace=workspace, hidden=(hidden,), own=own)
        opening = open_servers(config, around, tools.offer, control, db, tasks)
        async with opening as tools.servers:
            try:
                yield tools
            finally:
                await tools.close()
