"""Is she well: every watched part asked at once, each with a second to answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import msgspec

from sonia.control.interface import Node, Probe, Undo, Vital
from sonia.errors import SoniaError
from sonia.log import get_logger

PROBE_S = 1.0
FAILURES = 3  # in a row, and it is left alone
LEFT_ALONE_S = 10.0


class _Watched(msgspec.Struct):
    """A part, and how it was the last times."""

    probe: Probe
    needs: tuple[str, ...]
    failures: int = 0
    last: Vital | None = None
    asked_s: float = 0.0


class Vitals:
    """The watched parts, by name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    def watch(self, name: str, probe: Probe, needs: tuple[str, ...] = ()) -> Undo:
        """Ask `probe` from now on; a later one of the same name replaces it."""
        watched = _Watched(probe, needs)
        self._watched[name] = watched

        def undo() -> None:
            if self._watched.get(name) is watched:
                del self._watched[name]

        return undo

    async def ask(self) -> dict[str, Vital]:
        """Ask all of them at once, but for those that are left alone."""
        parts = dict(self._watched)
        answers = await asyncio.gather(*(self._one(name, part) for name, part in parts.items()))
        return dict(zip(parts, answers, strict=True))

    async def graph(self) -> tuple[Node, ...]:
        """See `Control.graph`."""
        vitals = await self.ask()
        needs = {name: part.needs for name, part in self._watched.items() if name in vitals}
        down = {name for name, vital in vitals.items() if not vital.ok}
        return tuple(
            Node(
                name=name,
                ok=vitals[name].ok,
                needs=needs[name],
                impaired_by=tuple(sorted(_reached(name, needs) & down)),
                reason=vitals[name].reason,
            )
            for name in sorted(needs)
        )

    async def _one(self, name: str, part: _Watched) -> Vital:
        failed = part.last is not None and part.failures >= FAILURES
        if failed and self._clock() < part.asked_s + LEFT_ALONE_S:
            assert part.last is not None  # noqa: S101  told just before
            return msgspec.structs.replace(part.last, breaker="open", duration_ms=0.0)
        part.asked_s = self._clock()
        vital = await _ask(name, part.probe)
        part.failures = 0 if vital.ok else part.failures + 1
        part.last = vital
        return msgspec.structs.replace(vital, breaker="half_open") if failed else vital


def _reached(name: str, needs: Mapping[str, tuple[str, ...]]) -> set[str]:
    """All that a part needs, directly or not."""
    found: set[str] = set()
    ahead = list(needs.get(name, ()))
    while ahead:
        if (next_one := ahead.pop()) not in found:
            found.add(next_one)
            ahead.extend(needs.get(next_one, ()))
    return found - {name}


async def _ask(name: str, probe: Probe) -> Vital:
    started_s = time.perf_counter()
    (answer,) = await asyncio.gather(asyncio.wait_for(probe(), PROBE_S), return_exceptions=True)
    duration_ms = round((time.perf_counter() - started_s) * 1000, 2)
    if isinstance(answer, BaseException):
        reason = _why(name, answer)
        return Vital(ok=False, duration_ms=duration_ms, detail={}, reason=reason)
    return Vital(ok=True, duration_ms=duration_ms, detail=answer)


def _why(name: str, error: BaseException) -> str:
    match error:
        case SoniaError():
            return error.message
        case TimeoutError():
            return f"No answer within {PROBE_S:g} s."
        case _:
            get_logger("eva-os").error("probe failed", part=name, exc_info=error)
            return f"Its probe failed ({type(error).__name__}). The log has the details."
