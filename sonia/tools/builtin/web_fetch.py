"""web.fetch: the text of a page."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.parsing import Limits, NotReadable, ReadingFailed, Wish
from sonia.parsing.process import chunks_in, parse
from sonia.tools import addresses
from sonia.tools.network import Fetched, GuardedClient
from sonia.tools.tool import Arguments, Grant, Intent, Tool

MAX_BYTES = 4 * 1024 * 1024
ACCEPTED = "text/html,application/xhtml+xml,text/plain,application/pdf,application/json,*/*;q=0.5"
READING = Limits(memory_bytes=1024**3, seconds=20.0, output_bytes=16 * 1024 * 1024)


class WebFetchArguments(Arguments):
    """Which page, and how much of it."""

    url: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=addresses.MAX_CHARS,
            description="Like https://example.org/page.",
        ),
    ]
    max_chars: Annotated[int, Meta(ge=100, le=60_000)] = 20_000


class WebFetch(Tool[WebFetchArguments]):
    """What a reader would see of a page; it is read in a process of its own.

    It only reads, so it runs unasked, until something private has come into the turn.
    """

    name: ClassVar = "web.fetch"
    description: ClassVar = "Read the text of a web page."
    arguments: ClassVar = WebFetchArguments
    aliases: ClassVar = ("http.get", "web.get", "browser.fetch")
    brings: ClassVar = "web"
    outbound: ClassVar = True

    def __init__(self, client: GuardedClient) -> None:
        self._client = client

    async def plan(self, args: WebFetchArguments) -> Intent:
        address = addresses.parse(args.url)
        self._client.reach.check(address)
        return Intent(preview=f"Ask {address.host} for a page:\n\n{address}")

    async def run(self, args: WebFetchArguments, grant: Grant) -> dict[str, Any]:
        fetched = await self._client.get(
            addresses.parse(args.url),
            grant.receipt,
            limit_s=grant.timeout_s,
            max_bytes=MAX_BYTES,
            accept=ACCEPTED,
        )
        kind = fetched.headers.get("content-type", "")
        title, text = await _readable(fetched, kind)
        return {
            "url": fetched.url,
            "status": fetched.status,
            "content_type": kind[:100],
            "title": title,
            "text": text[: args.max_chars],
            "bytes": len(fetched.content),
            "truncated": fetched.truncated or len(text) > args.max_chars,
        }

    async def verify(self, args: WebFetchArguments, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": 200 <= result["status"] < 300, "status": result["status"]}


async def _readable(fetched: Fetched, kind: str) -> tuple[str, str]:
    """Title and text; both are empty for what has none."""
    if not fetched.content:
        return "", ""
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="sonia-page-")
    try:
        page, chunks = Path(folder.name) / "page", Path(folder.name) / "chunks"
        await asyncio.to_thread(page.write_bytes, fetched.content)
        wish = Wish(media_type=kind or None, overlap_chars=0, limits=READING)
        parsed = await parse(page, chunks, wish)
        return parsed.title, await asyncio.to_thread(_joined, chunks)
    except (NotReadable, ReadingFailed) as error:
        return "", f"({error.message})"
    finally:
        await asyncio.to_thread(folder.cleanup)


def _joined(chunks: Path) -> str:
    text, end = [], 0
    for chunk in chunks_in(chunks):
        if chunk.start > end:
            text.append("\n")
        text.append(chunk.content)
        end = chunk.end
    return "".join(text)
