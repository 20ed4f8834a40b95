"""What litellm and httpx raise, as our errors; and no key in any of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sonia.config import Secret
from sonia.errors import RateLimited, SoniaError, Unavailable, UpstreamError, UpstreamTimeout
from sonia.router.backends.refusals import KeyRefused, RequestRefused, retry_after_s
from sonia.router.interface import AnswerCut, ContextExceeded, ModelNotFound

LONGEST_MESSAGE_CHARS = 300


class Seam:
    """Translates the failures of one provider."""

    def __init__(self, provider: str, base_url: str, api_key: Secret, key_variable: str) -> None:
        self.provider = provider
        self._where = base_url or provider
        self._api_key = api_key
        self._key_variable = key_variable

    @contextmanager
    def translated(self, *, begun: bool = False) -> Iterator[None]:
        """Enter around every use of litellm; once `begun`, a broken stream is `AnswerCut`.

        The foreign error is not kept as a cause: its text and request may hold the key.
        """
        import httpx
        import openai

        try:
            yield
        except openai.APIError as error:
            raise self._ours(error, begun) from None
        except httpx.HTTPError as error:
            raise self._ours(error, begun) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._unreadable(error, begun) from None

    def redacted(self, text: str) -> str:
        """One short line of the provider's words, without our key."""
        if self._api_key:
            text = text.replace(self._api_key.reveal(), "***")
        return " ".join(text.split())[:LONGEST_MESSAGE_CHARS]

    def cut(self, why: str) -> AnswerCut:
        """What arrived is not a whole answer."""
        return AnswerCut(f"The answer of {self.provider} was cut: {why}.", provider=self.provider)

    def _ours(self, error: Exception, begun: bool) -> SoniaError:
        import httpx
        import openai

        if isinstance(error, openai.APITimeoutError | httpx.TimeoutException):
            return UpstreamTimeout(f"{self.provider} did not answer in time.")
        status = getattr(error, "status_code", None)
        if isinstance(error, openai.RateLimitError):
            return self._rate_limited(error)
        if status in (401, 403):
            check = f"check {self._key_variable}" if self._key_variable else "it wants a key"
            return KeyRefused(f"{self.provider} refused our key: {check}.", provider=self.provider)
        if begun:
            return self.cut(self.redacted(str(error)) or "the connection broke")
        return self._refused(error, status)

    def _refused(self, error: Exception, status: int | None) -> SoniaError:
        import litellm
        import openai

        told = self.redacted(str(error))
        if isinstance(error, litellm.exceptions.ContextWindowExceededError):
            return ContextExceeded(f"The prompt is too long for {self.provider}: {told}")
        if isinstance(error, openai.NotFoundError):
            return ModelNotFound(f"{self.provider} has no such model: {told}")
        if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError):
            return RequestRefused(f"{self.provider} refused the request: {told}")
        if _unconnected(error):
            return Unavailable(f"{self.provider} can't be reached at {self._where}.")
        return UpstreamError(f"{self.provider} failed ({status or 'no status'}): {told}")

    def _rate_limited(self, error: Exception) -> RateLimited:
        headers = getattr(error, "litellm_response_headers", None) or {}
        wait = str(headers.get("retry-after", ""))
        return RateLimited(
            f"{self.provider} allows no more requests for now.",
            retry_after_s=retry_after_s(wait),
            provider=self.provider,
        )

    def _unreadable(self, error: Exception, begun: bool) -> SoniaError:
        told = f"{type(error).__name__}: {self.redacted(str(error))}"
        if begun:
            return self.cut(told)
        return UpstreamError(f"{self.provider} answered what is not its protocol: {told}")


def _unconnected(error: Exception) -> bool:
    """litellm has no class of its own for this; the words of its two HTTP clients tell it."""
    words = str(error).lower()
    return "cannot connect to host" in words or "all connection attempts failed" in words
