"""Vectors of a provider that litellm speaks with."""

from __future__ import annotations

from collections.abc import Sequence

from sonia.config import Secret
from sonia.errors import Unavailable
from sonia.router.backends.remote import load_litellm
from sonia.router.backends.remote_errors import Seam

TIMEOUT_S = 60.0


class EmbeddingProvider:
    """One model of one provider. `missing` says why it can't be called."""

    def __init__(
        self, provider: str, model: str, base_url: str, api_key: Secret, missing: str = ""
    ) -> None:
        self._model = f"{provider}/{model}"
        self._base_url = base_url
        self._api_key = api_key
        self._missing = missing
        self._seam = Seam(provider, base_url, api_key, f"{provider.upper()}_API_KEY")

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, as the provider makes them."""
        if self._missing:
            raise Unavailable(f"{self._model} can't be called: {self._missing}.")
        litellm = await load_litellm()
        with self._seam.translated():
            answer = await litellm.aembedding(
                model=self._model,
                input=list(texts),
                api_base=self._base_url or None,
                api_key=self._api_key.reveal() or None,
                encoding_format="float",
                drop_params=True,
                num_retries=0,
                max_retries=0,
                timeout=TIMEOUT_S,
            )
            return [row["embedding"] for row in sorted(answer.data, key=lambda row: row["index"])]
