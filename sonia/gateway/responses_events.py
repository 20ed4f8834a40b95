"""Responses on their way out: whole, or as the full sequence of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from sonia.client import UntilGone
from sonia.errors import SoniaError
from sonia.gateway.answering import Answers
from sonia.gateway.openai_answers import cache_header
from sonia.gateway.openai_items import call_item, text_item, text_part
from sonia.gateway.openai_responses import Wanted
from sonia.gateway.responses_store import Responses
from sonia.gateway.sending import Header, send_events, send_whole
from sonia.router import Finished, TextDelta, ToolCallProposed
from sonia.types import ToolCall, new_id


async def send_response(
    answers: Answers, responses: Responses, wanted: Wanted, receive: Any, send: Any
) -> None:
    """Answer `POST /v1/responses`."""
    if wanted.stream:
        headers: list[Header] = []
        told = _Told(wanted)
        chunks = _events(answers, responses, told, headers)
        await send_events(receive, send, chunks, headers, told.failed)
        return
    async with UntilGone(receive):
        answer = await answers.whole(wanted.asked, one_call=wanted.one_call)
        output = [text_item(new_id("msg"), answer.text, _status(answer.finished))]
        if answer.calls:
            output = output if answer.text else []
            output += [call_item(new_id("fc"), call) for call in answer.calls]
        shown = wanted.object(_status(answer.finished), output, answer.finished)
        if wanted.store:
            await responses.keep(wanted.kept(shown, answer.text, list(answer.calls)))
    await send_whole(send, msgspec.json.encode(shown), cache_header(answer.cache))


def _status(finished: Finished) -> str:
    return "incomplete" if finished.reason in ("length", "content_filter") else "completed"


class _Told:
    """One streamed response: numbers its events, and knows what it has said."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.output: list[dict[str, Any]] = []
        self.text = ""
        self.calls: list[ToolCall] = []
        self._number = 0
        self._item_id = ""
        self._pieces: list[str] = []

    @property
    def anything(self) -> bool:
        """Whether something was said or called."""
        return bool(self.output or self._item_id)

    def event(self, kind: str, **data: Any) -> bytes:
        """One server-sent event."""
        body = {"type": kind, "sequence_number": self._number, **data}
        self._number += 1
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(body))

    def begins(self) -> bytes:
        """The first two."""
        shown = self.wanted.object("in_progress", [])
        return self.event("response.created", response=shown) + self.event(
            "response.in_progress", response=shown
        )

    def says(self, text: str) -> bytes:
        """A piece of text, after what has to come before the first."""
        before = b"" if self._item_id else self._speaks()
        self._pieces.append(text)
        return before + self._piece("response.output_text.delta", delta=text, logprobs=[])

    def calls_tool(self, call: ToolCall) -> bytes:
        """A call, whole: its arguments are one piece."""
        before = self.stops()
        item_id, index = new_id("fc"), len(self.output)
        item = call_item(item_id, call)
        where = {"item_id": item_id, "output_index": index}
        self.output.append(item)
        self.calls.append(call)
        arguments = item["arguments"]
        begun = call_item(item_id, call, begun=True)
        kind = "response.function_call_arguments"
        return b"".join(
            [
                before,
                self.event("response.output_item.added", output_index=index, item=begun),
                self.event(f"{kind}.delta", **where, delta=arguments),
                self.event(f"{kind}.done", **where, name=call.name, arguments=arguments),
                self.event("response.output_item.done", output_index=index, item=item),
            ]
        )

    def stops(self, status: str = "completed") -> bytes:
        """The end of the text, if there was any."""
        if not self._item_id:
            return b""
        self.text = "".join(self._pieces)
        part, item = text_part(self.text), text_item(self._item_id, self.text, status)
        data = self._piece("response.output_text.done", text=self.text, logprobs=[])
        data += self._piece("response.content_part.done", part=part)
        data += self.event("response.output_item.done", output_index=len(self.output), item=item)
        self.output.append(item)
        self._item_id = ""
        return data

    def failed(self, error: SoniaError) -> bytes:
        """The last event of a response that broke; what was said stays said."""
        told = {"code": error.reason or "server_error", "message": error.message}
        data = self.stops("incomplete")
        shown = self.wanted.object("failed", self.output, error=told)
        return data + self.event("response.failed", response=shown)

    def _speaks(self) -> bytes:
        self._item_id = new_id("msg")
        item = text_item(self._item_id, "", "in_progress")
        added = self.event("response.output_item.added", output_index=len(self.output), item=item)
        return added + self._piece("response.content_part.added", part=text_part(""))

    def _piece(self, kind: str, **data: Any) -> bytes:
        return self.event(
            kind, item_id=self._item_id, output_index=len(self.output), content_index=0, **data
        )


async def _events(
    answers: Answers, responses: Responses, told: _Told, headers: list[Header]
) -> AsyncGenerator[bytes, None]:
    wanted = told.wanted
    async with answers.open(wanted.asked) as opened:
        headers += cache_header(opened.cache)
        yield told.begins()
        async for event in opened.events:
            if isinstance(event, TextDelta):
                yield told.says(event.text)
            elif isinstance(event, ToolCallProposed):
                if not (told.calls and wanted.one_call):
                    yield told.calls_tool(event.call)
            else:
                finished = event
    status = _status(finished)
    if not told.anything:
        yield told.says("")
    yield told.stops(status)
    shown = wanted.object(status, told.output, finished)
    if wanted.store:
        await responses.keep(wanted.kept(shown, told.text, told.calls))
    yield told.event(f"response.{status}", response=shown)
