"""The keys that clients of the API send: made, kept as hashes in a file of their own, revoked.

A key has 256 random bits, so one SHA-256 of it is enough; the key itself is shown once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path

import msgspec

from sonia.errors import ConfigurationError, Conflict, NotFound, StorageFull
from sonia.types import DEFAULT_USER, Value, now, rfc3339

FILE_NAME = "api-keys.json"
PREFIX = "sk-sonia-"
MAX_FILE_BYTES = 1024 * 1024


class KeyRecord(Value):
    """What is kept of a key: its name, whose it is, its SHA-256 in hexadecimal."""

    name: str
    digest: str
    user: str = DEFAULT_USER
    created_at: str = ""


class _File(Value):
    keys: tuple[KeyRecord, ...] = ()


def digest_of(key: str) -> str:
    """What stands in the file for a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(data: Path) -> tuple[KeyRecord, ...]:
    """Those of the data folder, oldest first.

    Reads a file. Raises `ConfigurationError` when others may write it, or it is not ours.
    """
    path = data / FILE_NAME
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.geteuid():
                raise _refused(path, "others than its owner may have changed it; use mode 0600")
            return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=_File).keys
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _refused(path, f"it can't be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise _refused(path, f"it is damaged ({error})") from error


def create_key(data: Path, name: str, user: str) -> str:
    """Make a key and return it: nobody can read it again. Raises `Conflict` for a known name."""
    known = read_keys(data)
    if any(record.name == name for record in known):
        raise Conflict(f"There is a key named {name!r}. Revoke it first, or choose another name.")
    key = PREFIX + secrets.token_urlsafe(32)
    made = KeyRecord(name=name, digest=digest_of(key), user=user, created_at=rfc3339(now()))
    _write(data, (*known, made))
    return key


def revoke_key(data: Path, name: str) -> None:
    """Raises `NotFound`."""
    known = read_keys(data)
    kept = tuple(record for record in known if record.name != name)
    if len(kept) == len(known):
        names = ", ".join(record.name for record in known) or "none"
        raise NotFound(f"There is no key named {name!r}. There are: {names}.")
    _write(data, kept)


def _write(data: Path, keys: tuple[KeyRecord, ...]) -> None:
    path = data / FILE_NAME
    draft = path.with_name(f".{FILE_NAME}.{secrets.token_hex(8)}")
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(_File(keys=keys))) + b"\n")
                file.flush()
                os.fsync(descriptor)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFull(f"{path}: the keys can't be written ({error.strerror}).") from error


def _refused(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: refused as the list of keys: {why}.", path=str(path))
