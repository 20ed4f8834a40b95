"""Who may use the API: a key names its user; guesses are counted before they are looked at."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sonia.config import ApiKey
from sonia.control import Operator
from sonia.errors import RateLimited, Unauthorized
from sonia.gateway.receiving import one
from sonia.keys import digest_of, read_keys

MOST_GUESSES = 10
WINDOW_S = 60.0
MOST_PEERS = 1024
IN_PROTOCOL = "openai-insecure-api-key."
OPEN = ("/healthz", "/version")
Headers = Mapping[str, list[str]]
_Peer = tuple[str, str]


class Keyring:
    """The gate of the API. Without any key it is open, as this machine's own door is.

    The operator's token opens it, too: the command line has no other.
    """

    def __init__(
        self,
        configured: Mapping[str, ApiKey],
        data: Path,
        operator: Operator,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._configured = {key.digest: key.user for key in configured.values()}
        self._data = data
        self._operator = operator
        self._clock = clock
        self._users = dict(self._configured)
        self._guesses: OrderedDict[_Peer, deque[float]] = OrderedDict()

    async def reload(self) -> int:
        """Read the file again: what was revoked is void from here on. How many keys there are."""
        kept = await asyncio.to_thread(read_keys, self._data)
        self._users = {**self._configured, **{record.digest: record.user for record in kept}}
        return len(self._users)

    def admit(self, scope: Mapping[str, Any], headers: Headers) -> str | None:
        """Whose key came with the request; None where none is needed, and for the operator.

        Raises `Unauthorized`, and `RateLimited` after ten wrong ones in a minute: then a page's
        right key is not looked at either, so that guessing tells it nothing.
        """
        path = scope["path"]
        if not self._users or path.endswith(OPEN) or path == "/":
            return None
        given = _given(headers)
        if not given:
            raise Unauthorized(
                "This needs a key: send 'Authorization: Bearer sk-sonia-…' or 'x-api-key'. "
                "`sonia keys create NAME` makes one."
            )
        origin = one(headers, "origin")
        peer = (_address(scope), origin)
        wait_s = self._locked(peer)
        if wait_s and origin:
            raise _too_many(wait_s)
        user = self._users_key(given)
        if user is not None or self._operators(given):
            return user
        if wait_s:
            raise _too_many(wait_s)
        self._count(peer)
        raise Unauthorized("This is no key of Sonia's, or it was revoked.")

    def _users_key(self, given: str) -> str | None:
        digest = digest_of(given)
        found: str | None = None
        for known, user in self._users.items():
            if hmac.compare_digest(known, digest):
                found = user
        return found

    def _operators(self, given: str) -> bool:
        try:
            self._operator.check(f"Bearer {given}")
        except Unauthorized:
            return False
        return True

    def _locked(self, peer: _Peer) -> int:
        """Seconds until the next guess is looked at; 0 now."""
        guesses = self._guesses.get(peer)
        if not guesses:
            return 0
        oldest = self._clock() - WINDOW_S
        while guesses and guesses[0] <= oldest:
            guesses.popleft()
        if len(guesses) < MOST_GUESSES:
            return 0
        return max(1, round(guesses[0] - oldest))

    def _count(self, peer: _Peer) -> None:
        self._guesses.setdefault(peer, deque(maxlen=MOST_GUESSES)).append(self._clock())
        self._guesses.move_to_end(peer)
        while len(self._guesses) > MOST_PEERS:
            self._guesses.popitem(last=False)


def _given(headers: Headers) -> str:
    """The key of any of three headers; `Bearer` in any case."""
    scheme, _, key = one(headers, "authorization").strip().partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    if given := one(headers, "x-api-key").strip():
        return given
    for offered in one(headers, "sec-websocket-protocol").split(","):  # a page can't send headers
        name, _, key = offered.strip().partition(IN_PROTOCOL)
        if key and not name:
            return key
    return ""


def _address(scope: Mapping[str, Any]) -> str:
    """Of the connection itself: no header can change it."""
    client = scope.get("client")
    return str(client[0]).removeprefix("::ffff:") if client else ""


def _too_many(wait_s: int) -> RateLimited:
    return RateLimited("Too many wrong keys. Wait, then send a right one.", retry_after_s=wait_s)
