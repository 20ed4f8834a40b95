"""Everything Sonia raises on purpose, one tree.

    SoniaError
    ├── InvalidRequest        invalid_request    400   the caller's input; say what would be right
    │   └── ConfigurationError                         sonia.toml, the environment, a flag
    ├── Unauthorized          unauthorized       401
    ├── Forbidden             forbidden          403
    ├── PolicyDenied          policy_denied      403   control said no
    ├── NotFound              not_found          404
    ├── Conflict              conflict           409
    ├── PayloadTooLarge       payload_too_large  413
    ├── RateLimited           rate_limited       429
    ├── Internal              internal           500   ours; the log has the rest
    ├── UpstreamError         upstream_error     502   a provider or a download answered wrongly
    ├── Unavailable           unavailable        503   not now; try again
    │   └── StorageFull                          507   the disk or its quota is full
    └── UpstreamTimeout       upstream_timeout   504

A module derives its own facts from these (`EntryNotFound(NotFound)`), so a caller
may catch the fact and the envelope still knows the status.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SoniaError(Exception):
    """A failure with a place in the wire contract.

    `message` is shown to the caller: what was wrong and what would be right, never a
    secret or a stack trace. `details` is JSON-able and says which field, id or limit.
    `reason` is a finer code, for protocols that have one: `model_not_found`.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    reason: ClassVar[str | None] = None

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidRequest(SoniaError):
    """The request, not the server, has to change."""

    code = "invalid_request"
    status = 400


class ConfigurationError(InvalidRequest):
    """A setting is unknown, of the wrong type or impossible; `message` names its key."""


class Unauthorized(SoniaError):
    """No credential, or a wrong one."""

    code = "unauthorized"
    status = 401


class Forbidden(SoniaError):
    """A caller that may not come in at all: a foreign web page, a wrong host name."""

    code = "forbidden"
    status = 403


class PolicyDenied(SoniaError):
    """The control plane refuses this action, whoever asks."""

    code = "policy_denied"
    status = 403


class NotFound(SoniaError):
    """No such route, entry, session, tool or model."""

    code = "not_found"
    status = 404


class Conflict(SoniaError):
    """The state moved on: already answered, already running, already used."""

    code = "conflict"
    status = 409


class PayloadTooLarge(SoniaError):
    """The body is over the limit that `details` names, in bytes."""

    code = "payload_too_large"
    status = 413


class RateLimited(SoniaError):
    """Too many at once; `retry_after_s` goes out as `Retry-After`."""

    code = "rate_limited"
    status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after_s: int = 1, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class Internal(SoniaError):
    """A fault of ours. The cause is in the log, under the correlation id."""


class UpstreamError(SoniaError):
    """Somebody else's service answered wrongly."""

    code = "upstream_error"
    status = 502
    retryable = True


class Unavailable(SoniaError):
    """Not now: still loading, shutting down, or a needed part is down."""

    code = "unavailable"
    status = 503
    retryable = True


class StorageFull(Unavailable):
    """The disk is full: reads go on, this write was not made."""

    status = 507


class UpstreamTimeout(SoniaError):
    """Somebody else's service did not answer in time."""

    code = "upstream_timeout"
    status = 504
    retryable = True
