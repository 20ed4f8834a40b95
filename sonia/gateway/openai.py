"""The routes of OpenAI's protocol: models, chat completions, embeddings, responses."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp

from sonia.client import ClientGone, UntilGone
from sonia.envelope import current
from sonia.gateway.answering import ASSISTANT, Answers, cache_wishes
from sonia.gateway.embedding import embedded, wanted_embeddings
from sonia.gateway.openai_answers import send_completion
from sonia.gateway.openai_chat import completion
from sonia.gateway.openai_responses import wanted_response
from sonia.gateway.responses_events import send_response
from sonia.gateway.responses_store import Responses
from sonia.router import ModelNotFound
from sonia.types import now, rfc3339

STARTED_S = int(time.time())  # models say since when they are there: since this process is


def openai_routes(answers: Answers) -> list[HTTPRouteHandler]:
    """To be mounted below `/v1`."""

    completing = completions(answers)

    @post("/chat/completions", status_code=200)
    async def chat_completions() -> ASGIApp:
        return completing

    @post("/embeddings", status_code=200)
    async def embeddings(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        wanted = await wanted_embeddings(await request.body(), answers.router)
        async with UntilGone(request.receive):
            return Response(await embedded(wanted, answers.router))

    @get("/models")
    async def list_models(request: Request[Any, Any, Any]) -> dict[str, Any]:
        rows = _models(answers)
        if "anthropic-version" in request.headers:
            return _anthropic_list(rows)
        return {"object": "list", "data": rows}

    @get("/models/{model_id:path}")
    async def show_model(model_id: FromPath[str], request: Request[Any, Any, Any]) -> Any:
        name = str(model_id).lstrip("/")
        row = next((row for row in _models(answers) if row["id"] == name), None)
        if row is None:
            row = _row(answers.resolve(name).shown)
            if row["id"].count("/") and row["id"] not in {m.id for m in answers.router.models()}:
                raise ModelNotFound(f"The model {name!r} does not exist.", field="model")
        return _anthropic_row(row) if "anthropic-version" in request.headers else row

    return [chat_completions, embeddings, list_models, show_model]


def completions(answers: Answers) -> ASGIApp:
    """`POST /v1/chat/completions`, complete in itself."""

    async def complete(scope: Any, receive: Any, send: Any) -> None:
        wishes = cache_wishes(_cache_control(scope["headers"]))
        wanted = completion(await _body(receive), answers, current().user_id, wishes)
        await send_completion(answers, wanted, receive, send)

    return complete


async def _body(receive: Any) -> bytes:
    """All of it; the front door has it already, and bounded."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("The client went away before all of its request had come.")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _cache_control(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found = [value.decode("latin-1") for name, value in headers if name == b"cache-control"]
    return {"cache-control": ", ".join(found)} if found else {}


def responses_routes(answers: Answers, responses: Responses) -> list[HTTPRouteHandler]:
    """To be mounted below `/v1`."""

    @post("/responses", status_code=200)
    async def create_response(request: Request[Any, Any, Any]) -> ASGIApp:
        user_id, wishes = current().user_id, cache_wishes(request.headers)
        data = await request.body()
        wanted = await wanted_response(data, answers, responses, user_id, wishes)

        async def respond(scope: Any, receive: Any, send: Any) -> None:
            await send_response(answers, responses, wanted, receive, send)

        return respond

    @get("/responses/{response_id:str}")
    async def show_response(response_id: FromPath[str]) -> dict[str, Any]:
        return (await responses.find(response_id, current().user_id)).body

    @delete("/responses/{response_id:str}", status_code=200)
    async def delete_response(response_id: FromPath[str]) -> dict[str, Any]:
        await responses.delete(response_id, current().user_id)
        return {"id": response_id, "object": "response.deleted", "deleted": True}

    @get("/responses/{response_id:str}/input_items")
    async def input_items(response_id: FromPath[str]) -> dict[str, Any]:
        items = (await responses.find(response_id, current().user_id)).input[::-1]
        ends = [items[0]["id"], items[-1]["id"]] if items else [None, None]
        return {
            "object": "list",
            "data": items,
            "first_id": ends[0],
            "last_id": ends[1],
            "has_more": False,
        }

    return [create_response, show_response, delete_response, input_items]


def _models(answers: Answers) -> list[dict[str, Any]]:
    """The assistant, every model, and the profiles that no model is named like."""
    names = [ASSISTANT, *(info.id for info in answers.router.models())]
    names += [name for name in answers.profiles if name not in names]
    return [_row(name) for name in names]


def _row(name: str) -> dict[str, Any]:
    owner, slash, _ = name.partition("/")
    return {
        "id": name,
        "object": "model",
        "created": STARTED_S,
        "owned_by": owner if slash else ASSISTANT,
    }


def _anthropic_list(rows: list[dict[str, Any]]) -> dict[str, Any]:
    data = [_anthropic_row(row) for row in rows]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
    return {"data": data, "has_more": False, **ends}


def _anthropic_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "model",
        "id": row["id"],
        "display_name": row["id"],
        "created_at": rfc3339(now()),
        "lifecycle": "active",
    }
