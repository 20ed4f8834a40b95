"""Confirmation codes: six digits that a person types or says, so that a yes is meant.

A code is no authority, only a second factor beside the operator's token: few tries, and it is
shown to nobody but the operator.
"""

from __future__ import annotations

import hmac
import re
import secrets

TRIES = 5
_DIGITS = 6
_SPOKEN = {
    word: str(digit)
    for digit, words in enumerate(
        (
            ("zero", "oh", "o"), ("one",), ("two", "to", "too"), ("three",), ("four", "for"),
            ("five",), ("six",), ("seven",), ("eight", "ate"), ("nine",),
        )
    )
    for word in words
}  # fmt: skip


def new_code() -> str:
    """Six digits, each as likely as any other."""
    return f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"


def fits(code: str, given: str | None) -> bool:
    """Whether `given` is `code`; takes as long whatever is wrong."""
    return bool(code) and hmac.compare_digest(code.encode(), heard(given or "").encode())


def heard(text: str) -> str:
    """The digits of what was typed or said: `Yes, four two, 77 zero nine` is `427709`."""
    words = re.findall(r"[a-z]+|\d", text.casefold())
    return "".join(word if word.isdigit() else _SPOKEN.get(word, "") for word in words)
