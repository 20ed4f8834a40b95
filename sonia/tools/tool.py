"""What every tool is: arguments with a schema, a tier, and the verbs plan, run and verify."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Coroutine
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from sonia.control import Tier
from sonia.tools.interface import ArgumentsInvalid, Asked, ToolFailed, ToolInfo
from sonia.tools.network.receipt import Receipt
from sonia.types import Origin, Value

A = TypeVar("A", bound="Arguments")
R = TypeVar("R")

_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")
_AT = re.compile(r" - at `\$\.?([^`]*)`$")


class Arguments(Value):
    """Base of a tool's arguments: plain fields only, so that the schema stands alone."""


class Intent(Value):
    """What a call would do: shown to the person, and the files whose content it depends on.

    `digests` maps a file that exists to its SHA-256. `tier` is this call's own, where that is
    not the tool's. `programs` are those of a command line, as `Plan` has them.
    """

    preview: str
    digests: dict[str, str] = {}
    tier: Tier | None = None
    programs: tuple[str, ...] = ()


class Grant(Value):
    """What a run may rely on: the files as they were when it was decided, and its time.

    What leaves this machine goes on the `receipt`; `action_id` is what it will be undone by.
    """

    digests: dict[str, str]
    timeout_s: float
    receipt: Receipt = msgspec.field(default_factory=Receipt)
    action_id: str = ""
    asked: Asked = Asked()


class Kept(Value):
    """What undoing needs, taken before the effect. `before` is what a file held."""

    facts: dict[str, Any]
    before: bytes | None = None


class TimedOut(ToolFailed):
    """Its time ran out; `details` is what there was by then."""


class Tool(Generic[A]):
    """One thing Sonia can do. Subclass it, set the class variables, write the verbs.

    `keeps_time` is true when `run` ends by itself at `grant.timeout_s`, raising `TimedOut`.
    One that `undoes` has `keep` and `undo` too.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    arguments: ClassVar[type[Arguments]]
    tier: ClassVar[Tier] = 0
    side_effects: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[tuple[str, ...]] = ()
    brings: ClassVar[Origin | None] = None
    outbound: ClassVar[bool] = False
    undoes: ClassVar[bool] = False
    keeps_time: ClassVar[bool] = False

    async def ready(self) -> None:
        """Raise a `SoniaError` when this can't run here, whatever the arguments."""

    async def plan(self, args: A) -> Intent:
        """Say what would happen, changing nothing. Raises `ArgumentsInvalid`."""
        raise NotImplementedError

    async def run(self, args: A, grant: Grant) -> dict[str, Any]:
        """Do it. Raises a `SoniaError` that says why it could not."""
        raise NotImplementedError

    async def verify(self, args: A, result: dict[str, Any]) -> dict[str, Any] | None:
        """Look whether it happened: at least `{"ok": bool}`, None when there is nothing to see."""
        return None

    async def keep(self, args: A, grant: Grant) -> Kept:
        """What `undo` will need; written down before `run`."""
        raise NotImplementedError

    async def undo(self, kept: Kept) -> dict[str, Any]:
        """Make it as it was, and say what that came to.

        Raises a `SoniaError` when the world has moved on; then nothing has changed.
        """
        raise NotImplementedError

    def timeout_s(self, args: A) -> float | None:
        """The time that the arguments ask for, if they do."""
        return None

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the arguments, of type object."""
        return schema(self.arguments)

    def read(self, args: dict[str, Any]) -> A:
        """Check `args` strictly. Raises `ArgumentsInvalid` naming the field."""
        return read_arguments(self, args)


async def finished(work: Coroutine[Any, Any, R]) -> R:
    """Do `work` to its end, even when who waits is cancelled: nothing is said to be undone before
    it is."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    finally:
        if not task.done():
            await asyncio.wait([task])


def schema(kind: type[Arguments]) -> dict[str, Any]:
    """The JSON Schema of `kind`, of type object and without references."""
    (_,), parts = msgspec.json.schema_components((kind,), ref_template="#/{name}")
    (whole,) = parts.values()
    return {
        "type": "object",
        "properties": whole["properties"],
        "required": whole["required"],
        "additionalProperties": False,
    }


def info(tool: Tool[Any], timeout_s: float) -> ToolInfo:
    """What a client is told of `tool`."""
    return ToolInfo(
        name=tool.name,
        description=tool.description,
        arguments=tool.schema(),
        risk_tier=tool.tier,
        side_effects=tool.side_effects,
        timeout_ms=round(timeout_s * 1000),
        aliases=tool.aliases,
        brings=tool.brings,
        outbound=tool.outbound,
        undoes=tool.undoes,
    )


def digest(tool: Tool[Any]) -> str:
    """The SHA-256 of a tool's definition: what was approved for one is not for another."""
    parts = (tool.name, tool.description, tool.schema(), tool.tier, tool.side_effects)
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def read_arguments(tool: Tool[A], args: dict[str, Any]) -> A:
    """Check `args` strictly. Raises `ArgumentsInvalid` naming the field."""
    try:
        msgspec.json.encode(args)  # a lone surrogate passes as str and fails on the way out
        return msgspec.convert(args, tool.arguments)  # type: ignore[return-value]
    except (msgspec.ValidationError, UnicodeError) as error:
        raise _explain(tool, str(error)) from error
    except (OverflowError, TypeError, RecursionError) as error:
        raise ArgumentsInvalid(f"{tool.name}: the arguments are not plain JSON.") from error


def _explain(tool: Tool[Any], what: str) -> ArgumentsInvalid:
    fields = tool.arguments.__struct_fields__
    takes = ", ".join(fields) if fields else "no arguments"
    if match := _UNKNOWN.search(what):
        field, why = match[1], f"unknown argument '{match[1][:80]}'"
    elif match := _MISSING.search(what):
        field, why = match[1], f"argument '{match[1]}' is missing"
    elif match := _AT.search(what):
        field, why = match[1], f"argument '{match[1]}': {_AT.sub('', what).replace('`', '')}"
    else:
        field, why = "", what.replace("`", "")
    return ArgumentsInvalid(f"{tool.name}: {why}. It takes {takes}.", field=field, tool=tool.name)
