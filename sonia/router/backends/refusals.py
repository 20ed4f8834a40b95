"""What a provider's HTTP answer or a broken connection means, as our errors; no key in them."""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from sonia.config import Secret
from sonia.errors import RateLimited, SoniaError, Unavailable, UpstreamError, UpstreamTimeout
from sonia.log import redact
from sonia.router.interface import AnswerCut, ContextExceeded, ModelNotFound
from sonia.types import now

LONGEST_MESSAGE_CHARS = 300
_TOO_LONG = ("context_length", "context length", "prompt is too long", "context window")


class KeyRefused(UpstreamError):
    """The provider did not accept our key: asking again does not help."""

    retryable = False


class NotConfigured(Unavailable):
    """A key or an address is missing, or nothing outside may be called."""

    retryable = False


class RequestRefused(UpstreamError):
    """The provider found fault with the request: asking again does not help."""

    retryable = False


class Refusals:
    """Translates the failures of one provider."""

    def __init__(self, provider: str, where: str, api_key: Secret, key_variable: str) -> None:
        self.provider = provider
        self._where = where
        self._api_key = api_key
        self._key_variable = key_variable

    def redacted(self, text: str) -> str:
        """One short line of the provider's words, without our key or anything like one."""
        text = redact(text)
        if self._api_key:
            text = text.replace(self._api_key.reveal(), "***")
        return " ".join(text.split())[:LONGEST_MESSAGE_CHARS]

    def cut(self, why: str) -> AnswerCut:
        """What arrived is not a whole answer."""
        return AnswerCut(f"The answer of {self.provider} was cut: {why}.", provider=self.provider)

    def unreachable(self) -> Unavailable:
        """No connection could be made."""
        return Unavailable(f"{self.provider} can't be reached at {self._where}.")

    def unreadable(self, why: str) -> UpstreamError:
        """The answer is not its protocol."""
        return UpstreamError(f"{self.provider} answered what is not its protocol: {why}")

    def of_status(self, status: int, body: bytes, retry_after: str = "") -> SoniaError:
        """What an answer with this status means."""
        told = self.redacted(told_of(body))
        if status == 429:
            return RateLimited(
                f"{self.provider} allows no more requests for now.",
                retry_after_s=retry_after_s(retry_after),
                provider=self.provider,
            )
        if status in (401, 403):
            check = f"check {self._key_variable}" if self._key_variable else "it wants a key"
            return KeyRefused(f"{self.provider} refused our key: {check}.", provider=self.provider)
        if status == 404:
            return ModelNotFound(f"{self.provider} has no such model: {told}")
        if status in (400, 413, 422) and any(words in told.lower() for words in _TOO_LONG):
            return ContextExceeded(f"The prompt is too long for {self.provider}: {told}")
        if status in (408, 504):
            return UpstreamTimeout(f"{self.provider} did not answer in time.")
        if 400 <= status < 500:
            return RequestRefused(f"{self.provider} refused the request ({status}): {told}")
        if status < 400:
            return self.unreadable(f"status {status}")
        return UpstreamError(f"{self.provider} failed ({status}): {told}")


def retry_after_s(header: str) -> int:
    """Whole seconds from a `Retry-After` of seconds or an HTTP date; 1 when it says nothing."""
    try:
        return max(0, round(float(header)))
    except (ValueError, OverflowError):
        pass
    try:
        at = parsedate_to_datetime(header)
    except (ValueError, TypeError):
        return 1
    if at.tzinfo is None:
        at = at.replace(tzinfo=dt.UTC)
    return max(0, round((at - now()).total_seconds()))


def told_of(body: bytes) -> str:
    """The message in an error's body: OpenAI's and Anthropic's object, Ollama's string."""
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[:LONGEST_MESSAGE_CHARS].decode(errors="replace")
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        words = [str(error[name]) for name in ("code", "type", "message") if error.get(name)]
        return ": ".join(words) or str(error)
    return str(error)
