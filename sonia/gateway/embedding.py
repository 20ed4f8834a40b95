"""`POST /v1/embeddings`: texts, or tokens of OpenAI's tokenizer, as vectors."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from sonia.errors import InvalidRequest
from sonia.gateway.bodies import decode
from sonia.router import ModelNotFound, Router

MOST_INPUTS = 2048
BATCH = 64  # between two of them others get their turn, and a client that left is noticed
_TOKENIZER = "cl100k_base"


class EmbeddingsBody(msgspec.Struct):
    """The request. `input`: a text, texts, one text's tokens, or several's."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None


class WantedEmbeddings(msgspec.Struct):
    """Texts of a model that is there."""

    model: str
    texts: list[str]
    base64: bool


_decoder = msgspec.json.Decoder(EmbeddingsBody)


async def wanted_embeddings(data: bytes, router: Router) -> WantedEmbeddings:
    """Read a body. Raises `InvalidRequest` that names the parameter, and `ModelNotFound`."""
    body = decode(_decoder, data)
    model = _model(body.model, router)
    texts = await _texts(body.input)
    if body.dimensions is not None and body.dimensions != router.embeddings.dimensions:
        raise InvalidRequest(
            f"{model} has {router.embeddings.dimensions} dimensions, and cutting its vectors would "
            "spoil them. Leave 'dimensions' out.",
            param="dimensions",
        )
    return WantedEmbeddings(model=model, texts=texts, base64=body.encoding_format == "base64")


async def embedded(wanted: WantedEmbeddings, router: Router) -> dict[str, Any]:
    """The answer. Raises what the embedding model raises."""
    texts = wanted.texts
    batches = [
        await router.embeddings.embed(texts[start : start + BATCH])
        for start in range(0, len(texts), BATCH)
    ]
    vectors = np.concatenate(batches)
    tokens = await router.embeddings.count_tokens(texts)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(row, wanted.base64)}
            for index, row in enumerate(vectors)
        ],
        "model": wanted.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _written(row: Any, as_base64: bool) -> Any:
    """A list of numbers, or little-endian float32 in base64."""
    if as_base64:
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return row.tolist()


def _model(name: str, router: Router) -> str:
    known = [info.id for info in router.models() if info.embedding]
    for model in known:
        if name in (model, model.partition("/")[2], "embeddings"):
            return model
    raise ModelNotFound(
        f"There is no embedding model {name!r}. There are: {', '.join(known)}.",
        field="model",
        known=known,
    )


async def _texts(given: str | list[str | int | list[int]]) -> list[str]:
    items: Sequence[str | int | list[int]] = [given] if isinstance(given, str) else given
    if items and all(isinstance(item, int) for item in items):
        items = [[item for item in items if isinstance(item, int)]]
    if not 1 <= len(items) <= MOST_INPUTS:
        raise InvalidRequest(f"Send 1 to {MOST_INPUTS} inputs, not {len(items)}.", param="input")
    if any(item == "" or item == [] for item in items):
        raise InvalidRequest("An input may not be empty.", param="input")
    texts = [item for item in items if isinstance(item, str)]
    tokens = [item for item in items if isinstance(item, list)]
    if len(texts) == len(items):
        return texts
    if len(tokens) == len(items):
        return await asyncio.to_thread(_untokenized, tokens)
    raise InvalidRequest("Send texts or arrays of tokens, not both.", param="input")


def _untokenized(tokens: Sequence[list[int]]) -> list[str]:
    """What clients cut into tokens of OpenAI's embedding models (LangChain does), as text."""
    tokenizer = _tokenizer()
    try:
        return [tokenizer.decode(row) or " " for row in tokens]
    except (KeyError, OverflowError) as error:
        told = f"A token is not one of {_TOKENIZER}, the tokenizer of OpenAI's embedding models."
        raise InvalidRequest(told, param="input") from error


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    """Its table is in litellm's package: nothing is fetched, and litellm is not imported."""
    found = find_spec("litellm")
    if found and found.submodule_search_locations:
        folder = Path(found.submodule_search_locations[0]) / "litellm_core_utils/tokenizers"
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(folder))
    import tiktoken

    return tiktoken.get_encoding(_TOKENIZER)
