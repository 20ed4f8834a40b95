"""Whose things a request may see: a key speaks for its user and for nobody else.

Without keys, and with the operator's token, a request speaks for whom it names. What is
another person's is answered as if it were not there, so that an id tells nothing.
"""

from __future__ import annotations

from typing import TypeVar

from sonia.envelope import current
from sonia.errors import Forbidden, NotFound
from sonia.types import DEFAULT_USER

Name = TypeVar("Name", str, str | None)


def whose(named: Name) -> Name:
    """The user of the request's key, whatever it names; else whom it names."""
    return current().user_id or named


def check_theirs(user_id: str, missing: NotFound) -> None:
    """Raise `missing` when the request's key is not this user's."""
    if current().user_id not in (None, user_id):
        raise missing


def bound() -> bool:
    """Whether a key binds the request to one user."""
    return current().user_id is not None


def check_owners() -> None:
    """Raise `Forbidden` for other users' keys: for what shows or changes everybody's."""
    if current().user_id not in (None, DEFAULT_USER):
        raise Forbidden("This is about everybody. A key of the owner's opens it.")
