"""A line to an MCP server at an address: streamable HTTP, a request at a time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from sonia.errors import SoniaError
from sonia.tools.interface import ToolFailed
from sonia.tools.mcp.line import MAX_MESSAGE_BYTES, Line, Refused, ServerGone, result_of

if TYPE_CHECKING:
    import httpx

ACCEPT = "application/json, text/event-stream"


class WebLine(Line):
    """`headers` go with every request; the session's and the version's are added once known."""

    def __init__(self, url: str, headers: Mapping[str, str], changed: Callable[[], None]) -> None:
        import httpx

        super().__init__(changed)
        self._url = url
        self._client = httpx.AsyncClient(
            headers={**headers, "accept": ACCEPT},
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(10.0, read=None),  # how long a call may take is the caller's
        )
        self._numbers = itertools.count(1)

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        async for told in self._post(message, _routing(method, params)):
            if isinstance(told, dict) and told.get("id") == number and "method" not in told:
                return result_of(told)
            if reply := self.heard(told):
                async for _ in self._post(reply, {}):
                    pass
        raise ServerGone("The server's answer ended before it was whole.")

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        async for _ in self._post(message, _routing(method, params)):
            pass

    async def close(self) -> None:
        self.closed.set()
        await self._client.aclose()

    async def _post(
        self, message: dict[str, Any], routing: Mapping[str, str]
    ) -> AsyncIterator[Any]:
        import httpx

        sent = {"content-type": "application/json", **routing}
        body = msgspec.json.encode(message)
        try:
            async with self._client.stream("POST", self._url, content=body, headers=sent) as answer:
                if session := answer.headers.get("mcp-session-id"):
                    self._client.headers["mcp-session-id"] = session
                async for told in self._read(answer):
                    yield told
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise ServerGone(f"{self._url} does not answer: {why}.") from error

    async def _read(self, answer: httpx.Response) -> AsyncIterator[Any]:
        """Each message of the answer. Raises `Refused`, `ServerGone`."""
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            async for data in _events(answer):
                yield msgspec.json.decode(data)
            return
        body = await _whole(answer)
        if answer.status_code == 404 and "mcp-session-id" in self._client.headers:
            self.why = "The server ended the session."
            self.closed.set()
            raise ServerGone(self.why)
        try:
            told = msgspec.json.decode(body) if body else None
        except msgspec.DecodeError:
            told = None
        if answer.status_code >= 400:
            if isinstance(told, dict) and "error" in told:
                result_of(told)
            raise Refused(f"The server answered with status {answer.status_code}.", 0)
        if told is not None:
            yield told

    def speaks(self, version: str) -> None:
        """Say the version with every request from now on."""
        self._client.headers["mcp-protocol-version"] = version


def _routing(method: str, params: Mapping[str, Any]) -> dict[str, str]:
    """What the newer era repeats in headers; the older one ignores it."""
    named = {"mcp-method": method}
    if method == "tools/call":
        named["mcp-name"] = str(params.get("name", ""))
    return named


async def _whole(answer: httpx.Response) -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > MAX_MESSAGE_BYTES:
            raise _too_much()
        parts.append(part)
    return b"".join(parts)


async def _events(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The data of each server-sent event."""
    size = 0
    data: list[str] = []
    async for line in answer.aiter_lines():
        size += len(line)
        if size > MAX_MESSAGE_BYTES:
            raise _too_much()
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            yield "\n".join(data).encode()
            data = []


def _too_much() -> SoniaError:
    return ToolFailed(f"The server's answer is longer than {MAX_MESSAGE_BYTES} bytes.")
