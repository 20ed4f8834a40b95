"""What is made ready before anybody asks for it, and gives way to who does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from sonia.errors import SoniaError
from sonia.gateway.prompt import compose
from sonia.log import get_logger
from sonia.memory import Memory
from sonia.router import ChatRequest, Router
from sonia.tools import Tools
from sonia.types import Message

HISTORY_LIMIT = 60
REST_S = 2.0  # what is made ahead can't be stopped at once, so it is not begun between two words


class Ahead:
    """A local model's spare time: it evaluates what the next prompts will begin with.

    Never asks a remote model, and never has one loaded that would otherwise wait.
    """

    def __init__(self, router: Router, memory: Memory, tools: Tools) -> None:
        self._router = router
        self._memory = memory
        self._tools = tools
        self._asking = 0
        self._free = asyncio.Event()
        self._free.set()
        self._warmed = False
        self._resting: asyncio.TimerHandle | None = None
        self._works: set[asyncio.Task[None]] = set()

    def soon(self) -> None:
        """Somebody is about to need the model: nothing is made ahead until that has passed."""
        self._stop()
        self._rest()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Enter while somebody needs the model: nothing is made ahead until all have left."""
        self._asking += 1
        self._stop()
        try:
            yield
        finally:
            self._asking -= 1
            self._rest()

    def _stop(self) -> None:
        self._free.clear()
        for work in self._works:
            work.cancel()

    def _rest(self) -> None:
        """Be free again in a while, if nobody asks by then."""
        if self._resting:
            self._resting.cancel()
        self._resting = asyncio.get_running_loop().call_later(REST_S, self._rested)

    def _rested(self) -> None:
        if not self._asking:
            self._free.set()

    async def warm(self) -> None:
        """What every prompt begins with, if a model is just being loaded; it takes seconds."""
        if self._local_state() != "warming":
            return
        await self._router.ready()
        for request in self._prompts((), ""):
            await self._spare(request)
        self._warmed = True

    async def expect(self, session_id: str, so_far: str) -> None:
        """What the session's next prompt begins with; `so_far` is what was understood of it."""
        if self._local_state() != "ready":
            return
        self.soon()
        said = await self._memory.history(session_id, limit=HISTORY_LIMIT)
        if not said and not so_far:
            return
        history = [Message(role=one.role, content=one.content) for one in said]
        speaking, *choosing = self._prompts(history, so_far)
        for request in (speaking, *(choosing if self._warmed else ())):
            if not await self._begin(request):
                return

    def _local_state(self) -> str | None:
        """Of the local models, if one would answer."""
        if self._router.route().provider != "local":
            return None
        infos = self._router.providers()
        return next((info.state for info in infos if info.name == "local"), None)

    def _prompts(self, history: Sequence[Message], so_far: str) -> Iterator[ChatRequest]:
        """That for an answer in words, then that which chooses a tool, which few questions need."""
        before, asks = compose(so_far or "Hello", history, ())
        request = ChatRequest(messages=(*before, asks), max_tokens=1)
        yield request
        if tools := self._tools.specs():
            yield msgspec.structs.replace(request, tools=tools, tool_choice="required")

    async def _spare(self, request: ChatRequest) -> None:
        """Evaluate it when nobody needs the model; once more each time somebody came between."""
        await self._free.wait()
        while not await self._begin(request):
            await self._free.wait()

    async def _begin(self, request: ChatRequest) -> bool:
        """Evaluate it now. False: somebody came between."""
        work = asyncio.create_task(self._evaluate(request), name="evaluate ahead")
        self._works.add(work)
        try:
            await asyncio.wait([work])
        finally:
            self._works.discard(work)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        return not work.cancelled()

    async def _evaluate(self, request: ChatRequest) -> None:
        try:
            async with self._router.chat(request) as answer:
                async for _ in answer:
                    pass
        except SoniaError as error:
            get_logger("api-gateway").warning("prompt not warmed", reason=error.message)
