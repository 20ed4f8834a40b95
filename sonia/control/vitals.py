"""Is she well: every watched part asked at once, each with a second to answer."""

from __future__ import annotations

import asyncio
import time

from sonia.control.interface import Probe, Undo, Vital
from sonia.errors import SoniaError
from sonia.log import get_logger

PROBE_S = 1.0


class Vitals:
    """The watched parts, by name."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}

    def watch(self, name: str, probe: Probe) -> Undo:
        """Ask `probe` from now on; a later one of the same name replaces it."""
        self._probes[name] = probe

        def undo() -> None:
            if self._probes.get(name) is probe:
                del self._probes[name]

        return undo

    async def ask(self) -> dict[str, Vital]:
        """Ask all of them at once."""
        probes = dict(self._probes)
        answers = await asyncio.gather(*(_ask(name, probe) for name, probe in probes.items()))
        return dict(zip(probes, answers, strict=True))


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
