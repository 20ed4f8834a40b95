"""Which tools there are, and calls made exact."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from sonia.control import Plan
from sonia.tools import tool as tools
from sonia.tools.interface import ToolInfo, ToolNotFound
from sonia.tools.tool import Arguments, Tool
from sonia.types import Origin, ToolSpec, Value


class Prepared(Value):
    """A call made exact: who does it, with which checked arguments, and the plan to judge."""

    tool: Any
    args: Any
    plan: Plan


class Catalogue:
    """A closed set of names: another spelling or case is another, unknown, name."""

    def __init__(
        self,
        known: tuple[Tool[Any], ...],
        *,
        timeout_s: float,
        folder: Path,
        for_others: tuple[Tool[Any], ...] = (),
    ) -> None:
        self._untold = frozenset(tool.name for tool in for_others)
        known = (*known, *for_others)
        self._timeout_s = timeout_s
        self._folder = str(folder)
        self._watchers: list[Callable[[], None]] = []
        self._hold(known)

    def _hold(self, known: Iterable[Tool[Any]]) -> None:
        self._tools = {tool.name: tool for tool in sorted(known, key=lambda tool: tool.name)}
        self._aliases = {
            alias: tool.name for tool in self._tools.values() for alias in tool.aliases
        }
        timeout_s = self._timeout_s
        self._infos = {name: tools.info(tool, timeout_s) for name, tool in self._tools.items()}
        self._digests = {name: tools.digest(tool) for name, tool in self._tools.items()}

    def offer(self, prefix: str, found: tuple[Tool[Any], ...]) -> None:
        """From now on these are the tools whose names begin so."""
        others = (tool for name, tool in self._tools.items() if not name.startswith(prefix))
        before = self._digests
        self._hold([*others, *found])
        if self._digests != before:
            for changed in tuple(self._watchers):
                changed()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See `Tools.watch`."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def infos(self) -> tuple[ToolInfo, ...]:
        """Every tool, by name."""
        return tuple(self._infos.values())

    def info(self, name: str) -> ToolInfo:
        """Raises `ToolNotFound`."""
        return self._infos[self.find(name).name]

    def specs(self) -> tuple[ToolSpec, ...]:
        """What Sonia's own model is told: not of what is there for other programs only."""
        return tuple(
            ToolSpec(name=info.name, description=info.description, parameters=info.arguments)
            for info in self._infos.values()
            if info.name not in self._untold
        )

    def find(self, name: str) -> Tool[Any]:
        """The tool of this name or alias. Raises `ToolNotFound`."""
        found = self._tools.get(self._aliases.get(name, name))
        if found is None:
            near = difflib.get_close_matches(name[:100].lower(), self._tools, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            shown = name[:100].encode("unicode_escape", "backslashreplace").decode()
            raise ToolNotFound(f"There is no tool '{shown}'.{hint}", known=list(self._tools))
        return found

    def check(self, name: str, args: dict[str, Any]) -> tuple[Tool[Any], Arguments]:
        """Raises `ToolNotFound`, `ArgumentsInvalid`."""
        tool = self.find(name)
        return tool, tool.read(args)

    async def prepare(
        self,
        name: str,
        args: dict[str, Any],
        origins: tuple[Origin, ...],
        session_id: str | None,
    ) -> Prepared:
        """Make a call exact, reading what it depends on. Raises what `check` and `plan` do."""
        tool, checked = self.check(name, args)
        intent = await tool.plan(checked)
        plan = Plan(
            tool=tool.name,
            arguments=msgspec.to_builtins(checked),
            tier=tool.tier if intent.tier is None else intent.tier,
            working_directory=self._folder,
            tool_digest=self._digests[tool.name],
            preview=intent.preview,
            digests=intent.digests,
            origins=origins,
            session_id=session_id,
            outbound=tool.outbound,
            programs=intent.programs,
        )
        return Prepared(tool=tool, args=checked, plan=plan)
