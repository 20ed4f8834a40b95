"""The routes of Anthropic's protocol: messages, and counting their tokens."""

from __future__ import annotations

from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from sonia.envelope import current
from sonia.gateway.answering import Answers, cache_wishes
from sonia.gateway.anthropic_answers import send_message
from sonia.gateway.anthropic_messages import counted, wanted_message


def anthropic_routes(answers: Answers) -> list[HTTPRouteHandler]:
    """To be mounted below `/v1`."""

    @post("/messages", status_code=200)
    async def create_message(request: Request[Any, Any, Any]) -> ASGIApp:
        user_id, wishes = current().user_id, cache_wishes(request.headers)
        wanted = wanted_message(await request.body(), answers, user_id, wishes)

        async def respond(scope: Any, receive: Any, send: Any) -> None:
            await send_message(answers, wanted, receive, send)

        return respond

    @post("/messages/count_tokens", status_code=200)
    async def count_tokens(request: Request[Any, Any, Any]) -> dict[str, int]:
        return {"input_tokens": await counted(await request.body(), answers)}

    return [create_message, count_tokens]
