"""What is known of models before anyone asks them: context, vision, price.

`facts.json` is dated and says where it is from. Providers change prices and models; what a
configuration or the provider itself says goes first.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from sonia.types import Usage, Value

UNKNOWN_CONTEXT_TOKENS = 8192
PER = 1_000_000
_FILE = Path(__file__).with_name("facts.json")


class Price(Value):
    """US dollars per million tokens. Cached tokens cost `input` where nothing else is said."""

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None

    def cost_usd(self, usage: Usage) -> float:
        """What a call cost."""
        fresh = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
        cached = self.input if self.cached is None else self.cached
        kept = self.input if self.cache_write is None else self.cache_write
        return (
            max(fresh, 0) * self.input
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * kept
            + usage.completion_tokens * self.output
        ) / PER


FREE = Price(input=0.0, output=0.0)


class ModelFacts(Value):
    """One model. `vision` and `price` None are not known."""

    context_tokens: int = UNKNOWN_CONTEXT_TOKENS
    vision: bool | None = None
    price: Price | None = None


class _Row(Price, kw_only=True):
    context_tokens: int = UNKNOWN_CONTEXT_TOKENS
    vision: bool = False


class _Facts(Value):
    source: str
    dated: str
    unit: str
    models: dict[str, _Row]


@cache
def load_facts() -> _Facts:
    """Read the file. Call it off the event loop the first time."""
    return msgspec.json.decode(_FILE.read_bytes(), type=_Facts)


def known_facts(model: str) -> ModelFacts | None:
    """Of a full id. OpenRouter's ids name the maker's model: `openrouter/openai/gpt-4o`."""
    name = model.removeprefix("openrouter/")
    models = load_facts().models
    row = models.get(name) or models.get(name.replace(".", "-"))
    if row is None:
        return None
    price = Price(
        input=row.input, output=row.output, cached=row.cached, cache_write=row.cache_write
    )
    return ModelFacts(context_tokens=row.context_tokens, vision=row.vision, price=price)
