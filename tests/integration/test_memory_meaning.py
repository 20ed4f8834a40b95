"""Memory with the real embedding model: found by meaning, not by a shared word."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonia.config import Config, Local, ModelRouter, Providers
from sonia.memory import NewMemory, Query, SearchMode
from sonia.router import open_router
from sonia.weights import Weights
from tests.memory_given import opened

SAID = (
    "My dog is called Biscuit.",
    "We moved to Ghent in May.",
    "I'm allergic to peanuts.",
    "My sister Anna plays the cello.",
    "The car needs new tyres before winter.",
)


@pytest.mark.parametrize(("mode", "within"), [("vector", 1), ("hybrid", 3)])
async def test_a_question_finds_what_answers_it(
    tmp_path: Path, mode: SearchMode, within: int
) -> None:
    config = Config()
    routing = ModelRouter(providers=Providers(local=Local(models=())), profiles={})
    embeddings = config.services.memory_engine.embeddings
    async with (
        open_router(routing, embeddings, Weights(config.models)) as router,
        opened(tmp_path, router.embeddings) as memory,
    ):
        for content in SAID:
            await memory.store(NewMemory(type="fact", content=content))
        await memory.settled()

        for question, answer in (
            ("what is my puppy's name?", SAID[0]),
            ("which city do I live in?", SAID[1]),
            ("which snacks should I avoid eating?", SAID[2]),
            ("who in my family is a musician?", SAID[3]),
        ):
            found = await memory.search(Query(query=question, mode=mode, limit=within))
            assert found.mode == mode
            assert answer in [hit.entry.content for hit in found.hits]
