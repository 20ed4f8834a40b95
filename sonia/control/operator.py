"""The person's credential: a token in a file that only its owner can read.

It is made on the first start and read from then on. It is never in a model's context, a
tool's environment or a log line.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonia.config import Secret
from sonia.control.interface import Operator
from sonia.errors import ConfigurationError, StorageFull, Unauthorized
from sonia.log import hide

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection
    from litestar.handlers import BaseRouteHandler

FILE_NAME = "operator.token"
TOKEN_BYTES = 32

_TOKEN = re.compile(r"[!-~]{43,512}")
_MAX_FILE_BYTES = 1024


class FileOperator:
    """Checks against the token that was in the file when it was opened."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def check(self, authorization: str | None) -> None:
        """Compare in constant time."""
        scheme, _, given = (authorization or "").strip().partition(" ")
        right = hmac.compare_digest(
            given.strip().encode(errors="replace"), self._token.reveal().encode()
        )
        if scheme.lower() != "bearer" or not right:
            raise Unauthorized(
                "This needs the operator's token: send 'Authorization: Bearer <token>'. "
                f"It is in the data folder's {FILE_NAME}."
            )


def open_operator(data: Path) -> FileOperator:
    """Read the token below the folder `data`, made first when there is none.

    Reads a file. Raises `ConfigurationError` when others can read it, or it is no token.
    """
    path = data / FILE_NAME
    try:
        token = _read(path)
    except FileNotFoundError:
        token = _make(path)
    hide(token)
    return FileOperator(Secret(token))


def read_token(data: Path) -> Secret:
    """The token below the folder `data`, for the command line. Raises `ConfigurationError`."""
    path = data / FILE_NAME
    try:
        token = _read(path)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: there is no operator's token yet; the first 'serve' makes it.", path=str(path)
        ) from error
    hide(token)
    return Secret(token)


def operator_only(operator: Operator) -> Callable[[ASGIConnection[Any, Any, Any, Any], Any], None]:
    """A Litestar guard for routes that need the operator's token."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        operator.check(connection.headers.get("authorization"))

    return guard


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise  # it is made, or the caller says what makes it
    except OSError as error:
        raise _refused(path, f"it can't be read ({error.strerror})") from error
    try:
        _check_file(path, os.fstat(descriptor))
        text = os.read(descriptor, _MAX_FILE_BYTES).decode("ascii", errors="replace").strip()
    finally:
        os.close(descriptor)
    if not _TOKEN.fullmatch(text):
        raise _refused(path, "it is empty, cut off or no token")
    return text


def _check_file(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise _refused(path, "it is not a regular file")
    if mode & 0o077:
        raise _refused(path, f"others than its owner may have read it (mode {mode:04o})")
    if found.st_uid != os.geteuid():
        raise _refused(path, "it belongs to another user")


def _make(path: Path) -> str:
    token = secrets.token_hex(TOKEN_BYTES)
    draft = path.with_name(f".{FILE_NAME}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(token)
                file.flush()
                os.fsync(descriptor)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFull(f"{path}: the token can't be written ({error.strerror}).") from error
    return token


def _refused(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: refused as the operator's token: {why}. Delete it to have a new one made, or "
        "restore it as a file of yours with mode 0600.",
        path=str(path),
    )
