"""The routes of dead letters, below `/control/dead-letters`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import delete, get, post
from litestar.params import FromPath, QueryParameter

from sonia.control.letters import DeadLetter, DeadLetters, LetterState, Replayed
from sonia.envelope import Envelope, answer
from sonia.whose import check_owners

State = Annotated[LetterState | None, QueryParameter(name="state")]
Limit = Annotated[int, QueryParameter(ge=1, le=1_000)]


def routes(letters: DeadLetters) -> Sequence[Any]:
    """`/dead-letters…` for `letters`. Trying again is a call like any other, so it may ask."""

    @get("/dead-letters")
    async def list_letters(
        letter_state: State = None, limit: Limit = 100
    ) -> Envelope[tuple[DeadLetter, ...]]:
        check_owners()
        return answer(await letters.letters(letter_state, limit))

    @post("/dead-letters/{letter_id:str}/replay", status_code=200)
    async def replay_letter(letter_id: FromPath[str]) -> Envelope[Replayed]:
        check_owners()
        return answer(await letters.replay(letter_id))

    @delete("/dead-letters/{letter_id:str}", status_code=200)
    async def dismiss_letter(letter_id: FromPath[str]) -> Envelope[DeadLetter]:
        check_owners()
        return answer(await letters.dismiss(letter_id))

    return list_letters, replay_letter, dismiss_letter
