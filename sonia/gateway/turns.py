"""The turn: recall → prompt → stream a model → tools as control decides → tell.

One code path for every way of talking to Sonia. Leaving the context manager cancels whatever
the turn was doing, and what had been handed out by then is what history keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress

import msgspec

from sonia.config import ApiGateway
from sonia.errors import SoniaError, Unavailable
from sonia.events import Bus, TurnFinished, Written
from sonia.gateway.acting import Acting
from sonia.gateway.ahead import HISTORY_LIMIT, Ahead
from sonia.gateway.prompt import compose, trim
from sonia.log import get_logger
from sonia.memory import Found, Memory, Query, Session
from sonia.router import ChatRequest, ContextExceeded, Finished, Router, TextDelta
from sonia.tools import Tools
from sonia.turn import (
    MemoryUse,
    Provenance,
    Reached,
    Reply,
    ResponseDelta,
    TurnDone,
    TurnEvent,
    TurnRequest,
    Turns,
    TurnStarted,
)
from sonia.types import DEFAULT_USER, Message, Origin, ToolCall, Usage, new_id, now

TEMPLATE_TOKENS = 64
MODEL_WAIT_S = 10.0
CHARS_PER_TOKEN = 3


class AssistantTurns:
    """The gateway's `Turns`."""

    def __init__(
        self, config: ApiGateway, router: Router, memory: Memory, tools: Tools, bus: Bus
    ) -> None:
        self.config = config
        self.router = router
        self.memory = memory
        self.tools = tools
        self.bus = bus
        self.ahead = Ahead(router, memory, tools)

    @asynccontextmanager
    async def turn(
        self, request: TurnRequest, *, reached: Reached | None = None
    ) -> AsyncIterator[AsyncIterator[TurnEvent]]:
        """See `Turns.turn`."""
        session = await self.memory.open_session(
            request.session_id, user_id=request.user_id, metadata=request.metadata
        )
        turn = _Turn(self, request, session, reached)
        try:
            async with aclosing(turn.events()) as events:
                yield events
        finally:
            if not turn.told:
                await asyncio.shield(turn.leave())

    async def expect(
        self, session_id: str, *, user_id: str = DEFAULT_USER, so_far: str = ""
    ) -> None:
        """See `Turns.expect`: a local model reads the session's history meanwhile."""
        await self.ahead.expect(session_id, so_far)

    def soon(self) -> None:
        """See `Turns.soon`."""
        self.ahead.soon()


@asynccontextmanager
async def open_turns(
    config: ApiGateway, *, router: Router, memory: Memory, tools: Tools, bus: Bus
) -> AsyncIterator[Turns]:
    """Take turns until left. The fixed beginning of every prompt is evaluated once, behind."""
    turns = AssistantTurns(config, router, memory, tools, bus)
    warming = asyncio.create_task(turns.ahead.warm(), name="warm the prompt")
    try:
        yield turns
    finally:
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)


class _Turn:
    """One turn while it is being taken."""

    def __init__(
        self,
        parts: AssistantTurns,
        request: TurnRequest,
        session: Session,
        reached: Reached | None,
    ) -> None:
        self.parts = parts
        self.request = request
        self.session = session
        self.reached = reached
        self.id = new_id("turn")
        self.said: list[str] = []
        self.usage = Usage()
        self.cost_usd: float | None = 0.0
        self.acting = Acting(
            parts.tools,
            turn_id=self.id,
            session_id=session.id,
            wait=request.wait_for_approval,
            user_id=request.user_id,
            unattended=request.unattended,
        )
        self.acting.origins.update(request.origins)
        self.began_s = asyncio.get_running_loop().time()
        self.told = False
        self.found = Found(hits=(), mode="text", took_ms=0.0)
        self.finished: Finished | None = None

    async def events(self) -> AsyncGenerator[TurnEvent, None]:
        yield TurnStarted(turn_id=self.id, session_id=self.session.id)
        with self.parts.ahead.asking():
            async with aclosing(self._answer()) as steps:
                async for step in steps:
                    yield step
        if self.reached is not None:
            self.said = [await self.reached()]
        written = await asyncio.shield(self.tell(complete=True))
        yield TurnDone(turn_id=self.id, data=self._reply(written))

    async def _answer(self) -> AsyncGenerator[TurnEvent, None]:
        self.found = await self._recall()
        await self._model()
        messages = await self._prompt()
        for rounds_left in range(self.parts.config.max_tool_rounds, -1, -1):
            call: ToolCall | None = None
            async with self.parts.router.chat(self._ask(messages, tools=rounds_left > 0)) as answer:
                async for event in answer:
                    if isinstance(event, TextDelta):
                        yield self._say(event.text)
                    elif isinstance(event, Finished):
                        self._settle(event)
                    elif call is None:  # one call a round: what it finds may change the next
                        call = event.call
            if call is None:
                break
            async with aclosing(self.acting.use(call)) as steps:
                async for step in steps:
                    yield step
            if ends := self.acting.question or self._spent():
                yield self._say(ends)
                break
            messages = (*messages, *self.acting.exchange(call))

    def _spent(self) -> str | None:
        """Why the turn goes no further; None while it may."""
        config = self.parts.config
        took_s = asyncio.get_running_loop().time() - self.began_s - self.acting.waited_s
        if took_s > config.max_turn_s:
            return f"I stopped here: this took more than the {config.max_turn_s:g} s of a turn."
        if (self.cost_usd or 0.0) > config.max_turn_usd:
            return f"I stopped here: this cost more than the {config.max_turn_usd:g} $ of a turn."
        return None

    def _say(self, text: str) -> ResponseDelta:
        self.said.append(text)
        return ResponseDelta(turn_id=self.id, text=text)

    # --- before the model ----------------------------------------------------------------

    async def _recall(self) -> Found:
        config = self.parts.config
        query = Query(
            query=self.request.text[:2000],
            user_id=self.request.user_id,
            limit=config.recall_limit,
        )
        try:
            async with asyncio.timeout(config.recall_budget_ms / 1000):
                found = await self.parts.memory.search(query)
        except (TimeoutError, SoniaError) as error:
            get_logger("api-gateway").warning("recall skipped", reason=str(error) or "too slow")
            return self.found
        least = config.recall_least_fit
        fitting = tuple(h for h in found.hits if h.fit is None or h.fit >= least)
        found = msgspec.structs.replace(found, hits=fitting)
        foreign: set[Origin] = {hit.entry.origin for hit in found.hits}
        self.acting.private |= bool(found.hits)
        if foreign - {"owner", "model"}:
            self.acting.origins.add("memory")
        return found

    async def _model(self) -> None:
        """Wait a little for a model that is just being loaded, when there is no other."""
        request, router = self.request, self.parts.router
        if len(router.route(request.profile, request.model).candidates) == 1:
            with suppress(TimeoutError):  # the call itself then says what it waits for
                async with asyncio.timeout(MODEL_WAIT_S):
                    await router.ready(request.model)

    async def _count(self, messages: tuple[Message, ...]) -> int:
        try:
            return await self.parts.router.count_tokens(messages, self.request.model)
        except Unavailable:  # its tokenizer isn't there yet, and another model may answer
            return sum(len(message.content) for message in messages) // CHARS_PER_TOKEN

    async def _prompt(self) -> tuple[Message, ...]:
        request, router = self.request, self.parts.router
        history = await self._history()
        room = router.context_tokens(request.model, request.profile)
        room -= self._most_tokens() + TEMPLATE_TOKENS
        while True:
            before, asks = compose(request.text, history, self.found.hits)
            tokens = await self._count((*before, asks))
            if tokens <= room or not history:
                break
            history = trim(history, tokens - room, tokens)
        if tokens > room:
            raise ContextExceeded(
                f"This is about {tokens} tokens long; the model takes {room}. Shorten it.",
                tokens=tokens,
                limit=room,
            )
        return (*before, asks)

    async def _history(self) -> Sequence[Message]:
        if self.request.history is not None:  # the client's word for what was said
            return self.request.history[-HISTORY_LIMIT:]
        said = await self.parts.memory.history(self.session.id, limit=HISTORY_LIMIT)
        if any(utterance.tainted for utterance in said):
            self.acting.origins.add("memory")
            self.acting.private = True
        return [Message(role=utterance.role, content=utterance.content) for utterance in said]

    def _most_tokens(self) -> int:
        most = self.parts.config.max_answer_tokens
        return min(most, self.request.max_answer_tokens or most)

    def _ask(self, messages: tuple[Message, ...], *, tools: bool) -> ChatRequest:
        return ChatRequest(
            messages=messages,
            model=self.request.model,
            profile=self.request.profile,
            user_id=self.request.user_id,
            session_id=self.session.id,
            tools=self.parts.tools.specs() if tools else (),
            max_tokens=self._most_tokens(),
        )

    # --- afterwards ----------------------------------------------------------------------

    def _settle(self, finished: Finished) -> None:
        self.finished = finished
        known = self.cost_usd is not None and finished.cost_usd is not None
        self.cost_usd = (self.cost_usd or 0.0) + (finished.cost_usd or 0.0) if known else None
        self.usage = Usage(
            prompt_tokens=self.usage.prompt_tokens + finished.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens + finished.usage.completion_tokens,
            cached_tokens=self.usage.cached_tokens + finished.usage.cached_tokens,
        )

    async def leave(self) -> None:
        """Tell of a turn that was cut off."""
        if self.reached is not None:
            self.said = [await self.reached()]
        await self.tell(complete=False)

    async def tell(self, *, complete: bool) -> Written:
        """Publish the turn, once; return what was written because of it."""
        self.told = True
        if self.said:  # of what was shown to a model
            self.parts.memory.touch([hit.entry.id for hit in self.found.hits])
        answers = await self.parts.bus.publish(
            TurnFinished(
                session_id=self.session.id,
                turn_id=self.id,
                user_id=self.request.user_id,
                text=self.request.text,
                response="".join(self.said),
                complete=complete,
                at=now(),
                tainted=self.acting.tainted,
            )
        )
        written = [item for item in answers if isinstance(item, Written)]
        return Written(
            events=sum(item.events for item in written),
            memories=sum(item.memories for item in written),
        )

    def _reply(self, written: Written) -> Reply:
        finished = self.finished
        return Reply(
            response="".join(self.said),
            session_id=self.session.id,
            turn_id=self.id,
            model=finished.model if finished else "",
            provider=finished.provider if finished else "",
            usage=self.usage,
            cost_usd=self.cost_usd,
            memory=MemoryUse(retrieved=len(self.found.hits), written=written.memories),
            tool_calls=tuple(self.acting.used),
            provenance=Provenance(
                memories=tuple(hit.entry.id for hit in self.found.hits),
                tools=tuple(use.name for use in self.acting.used),
                tainted=self.acting.tainted,
            ),
        )
