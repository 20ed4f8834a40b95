"""Clients of the older era: what each began, and what it is told."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from sonia.envelope import current
from sonia.gateway import mcp_wire as wire
from sonia.gateway.mcp_streams import Told
from sonia.gateway.mcp_wire import Mistake
from sonia.types import new_id

MOST_SESSIONS = 256
MOST_STREAMS = 32  # of one session, those whose answer came included
IDLE_S = 24 * 3600.0
STANDING = "all"  # the stream that belongs to no call
PRIMED_SINCE = "2025-11-25"  # clients before that do not take an event without data


class Session:
    """One client. Only who opened it may use it."""

    def __init__(self, version: str, *, can_ask: bool) -> None:
        self.id = new_id("mcps")
        self.version = version
        self.can_ask = can_ask
        self.user_id = current().user_id
        self.used_s = time.monotonic()
        self._calls: dict[wire.Id, asyncio.Task[Any]] = {}
        self.asked: dict[wire.Id, str] = {}
        self.standing = Told(STANDING)
        self._streams: OrderedDict[str, Told] = OrderedDict()
        self._numbers = 0

    @property
    def primed(self) -> bool:
        """Whether its streams begin with an id, so that it can come back from the start."""
        return self.version >= PRIMED_SINCE

    def number(self, what: str) -> str:
        """A name that this session had not before."""
        self._numbers += 1
        return f"{what}-{self._numbers}"

    def began(self, request_id: wire.Id, work: asyncio.Task[Any]) -> None:
        """Remember a call for as long as it lasts."""
        self._calls[request_id] = work
        work.add_done_callback(lambda _: self._over(request_id, work))

    def _over(self, request_id: wire.Id, work: asyncio.Task[Any]) -> None:
        if self._calls.get(request_id) is work:
            del self._calls[request_id]
        if not work.cancelled():
            work.exception()  # whoever waited has it

    def cancel(self, request_id: Any) -> None:
        """Cancel a call, if it still lasts."""
        if call := self._calls.get(request_id if isinstance(request_id, int | str) else ""):
            call.cancel()

    def opened(self) -> Told:
        """The stream of a new call."""
        told = Told(self.number("call"))
        assert told.name  # noqa: S101  it was just given
        self._streams[told.name] = told
        while len(self._streams) > MOST_STREAMS:
            self._streams.popitem(last=False)
        return told

    def resumed(self, event_id: str) -> tuple[Told, int]:
        """The stream that an event was on, and its number there. Raises `Mistake`."""
        name, _, number = event_id.rpartition(".")
        told = self.standing if name == STANDING else self._streams.get(name)
        if told is None or not number.isascii() or not number.isdigit():
            raise Mistake(wire.INVALID_REQUEST, "Last-Event-ID names no event of this session.")
        if told.ended(int(number)):
            raise Mistake(wire.INVALID_REQUEST, "That stream has ended.", status=404)
        return told, int(number)

    def changed(self) -> None:
        """Tell it, once for all that it has not heard of yet, that there are other tools now."""
        if self.standing.given == self.standing.last:
            self.standing.say(wire.notification(wire.TOOLS_CHANGED, {}))

    def end(self) -> None:
        """Cancel its calls and end its streams."""
        for call in list(self._calls.values()):
            call.cancel()
        self.standing.end()


class Sessions:
    """All of them; the one that was not used for longest is let go first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def open(self, version: str, *, can_ask: bool) -> Session:
        """A new one for who asks now."""
        session = Session(version, can_ask=can_ask)
        self._sessions[session.id] = session
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)[1].end()
        return session

    def find(self, headers: wire.Headers) -> Session:
        """The one that a request names. Raises `Mistake`."""
        session_id = headers.get("mcp-session-id", "")
        if not session_id:
            why = "Begin with initialize, or say io.modelcontextprotocol/protocolVersion in _meta."
            raise Mistake(wire.INVALID_REQUEST, why)
        session = self._sessions.get(session_id)
        stale = session is not None and time.monotonic() - session.used_s > IDLE_S
        if session is None or stale or session.user_id != current().user_id:
            raise Mistake(wire.INVALID_REQUEST, "No such session. Begin anew.", status=404)
        wire.check_version(headers.get("mcp-protocol-version", session.version))
        session.used_s = time.monotonic()
        self._sessions.move_to_end(session_id)
        return session

    def close(self, session: Session) -> None:
        """End it."""
        del self._sessions[session.id]
        session.end()
