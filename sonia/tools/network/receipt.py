"""What left this machine, counted where it leaves."""

from __future__ import annotations

import msgspec

from sonia.tools.interface import Sent


class Line(msgspec.Struct, kw_only=True, eq=False):
    """One request on its way. `address` is there once it was dialled."""

    method: str
    url: str
    address: str = ""
    sent_bytes: int = 0
    received_bytes: int = 0


class Receipt:
    """What one run of a tool sent, in order."""

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def begin(self, method: str, url: str) -> Line:
        """Note a request before anything of it leaves, the look-up of its host included."""
        line = Line(method=method, url=url)
        self._lines.append(line)
        return line

    def sent(self) -> tuple[Sent, ...]:
        """All of it, as it is by now."""
        return tuple(msgspec.convert(line, Sent, from_attributes=True) for line in self._lines)
