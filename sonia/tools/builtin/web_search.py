"""web.search: what a SearXNG server of the owner's choice finds."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from sonia.errors import Unavailable, UpstreamError
from sonia.tools import addresses
from sonia.tools.addresses import Address
from sonia.tools.network import GuardedClient
from sonia.tools.tool import Arguments, Grant, Intent, Tool

MAX_BYTES = 2 * 1024 * 1024
MAX_SNIPPET_CHARS = 500


class SearchMissing(Unavailable):
    """No server is configured that could be asked."""

    retryable = False


class WebSearchArguments(Arguments):
    """What to look for."""

    query: Annotated[str, Meta(min_length=1, max_length=500, description="What to look for.")]
    limit: Annotated[int, Meta(ge=1, le=20)] = 5


class _Result(msgspec.Struct):
    url: str
    title: str = ""
    content: str | None = None


class _Answer(msgspec.Struct):
    results: list[_Result]


class WebSearch(Tool[WebSearchArguments]):
    """The query goes to the configured server and nowhere else; asks like `web.fetch`."""

    name: ClassVar = "web.search"
    description: ClassVar = "Search the web."
    arguments: ClassVar = WebSearchArguments
    aliases: ClassVar = ("search.web",)
    brings: ClassVar = "web"
    outbound: ClassVar = True

    def __init__(self, client: GuardedClient, server: str) -> None:
        self._client = client
        self._server = server.rstrip("/")

    async def ready(self) -> None:
        if not self._server:
            raise SearchMissing(
                "No search server is configured. Set services.openclaw.search_url to a SearXNG "
                "server that answers in JSON, like http://127.0.0.1:8888."
            )

    async def plan(self, args: WebSearchArguments) -> Intent:
        host = self._address(args).host if self._server else "a search server"
        return Intent(preview=f"Ask {host} to search the web for:\n\n{args.query}")

    async def run(self, args: WebSearchArguments, grant: Grant) -> dict[str, Any]:
        address = self._address(args)
        fetched = await self._client.get(
            address,
            grant.receipt,
            limit_s=grant.timeout_s,
            max_bytes=MAX_BYTES,
            accept="application/json",
            own=address,
        )
        if fetched.status != 200:
            raise UpstreamError(
                f"The search server answered {fetched.status}. It has to allow format=json."
            )
        try:
            answer = msgspec.json.decode(fetched.content, type=_Answer)
        except msgspec.DecodeError as error:
            raise UpstreamError("The search server's answer is not SearXNG's JSON.") from error
        found = [
            {
                "title": result.title[:200],
                "url": result.url[: addresses.MAX_CHARS],
                "text": (result.content or "")[:MAX_SNIPPET_CHARS],
            }
            for result in answer.results
        ]
        return {"query": args.query, "results": found[: args.limit], "count": len(found)}

    def _address(self, args: WebSearchArguments) -> Address:
        asked = urlencode({"q": args.query, "format": "json"})
        return addresses.parse(f"{self._server}/search?{asked}")
