"""The event loop never waits for a disk, a model or a process: all of Sonia, watched while used."""

from __future__ import annotations

from pathlib import Path

from blockbuster import blockbuster_ctx

from sonia import app
from sonia.config import parse
from sonia.memory import NewMemory, Query
from sonia.tools import Call
from sonia.turn import TurnDone, TurnRequest


async def test_nothing_blocks_the_loop_while_she_is_used(tmp_path: Path) -> None:
    config = parse(
        {
            "paths": {"data": str(tmp_path / "data")},
            "services": {"openclaw": {"workspace": str(tmp_path / "workspace")}},
        },
        root=str(tmp_path),
    )
    answered = None

    with blockbuster_ctx("sonia"):
        async with app.open_sonia(config) as s:
            await s.router.ready()
            await s.memory.store(NewMemory(type="fact", content="Owls see at night."))
            await s.memory.search(Query(query="owls"))
            for name, args in (
                ("file.list", {"path": "."}),
                ("system.info", {}),
                ("math.evaluate", {"expression": "2^10"}),
            ):
                outcome = await s.tools.execute(Call(tool_name=name, args=args))
                assert outcome.status == "executed"
            asked = await s.tools.execute(
                Call(tool_name="shell.run", args={"command": "touch made"}, follow_up=True)
            )
            assert asked.approval_id is not None
            await s.control.settle(asked.approval_id, approve=True, by="test")
            assert (await s.tools.settled(asked.action_id)).status == "executed"
            async with s.turns.turn(TurnRequest(text="Hello")) as events:
                async for event in events:
                    if isinstance(event, TurnDone):
                        answered = event.data.response
            await s.control.vitals()

    assert answered
