"""Web addresses, read once: what is shown is what is asked for."""

from __future__ import annotations

import httpx

from sonia.tools.interface import ArgumentsInvalid
from sonia.tools.paths import hides
from sonia.types import Value

MAX_CHARS = 4_096
PORTS = {"http": 80, "https": 443}


class AddressRefused(ArgumentsInvalid):
    """No address of a web page that may be asked for; `message` says what is wrong with it."""


class Address(Value):
    """An address in parts. `host` is in lower case ASCII, `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials belong to."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def parse(text: str, *, base: Address | None = None) -> Address:
    """Read an absolute address, or one relative to `base`. Raises `AddressRefused`.

    Only http and https, and no user or password in it; the fragment is dropped.
    """
    if not text or len(text) > MAX_CHARS:
        raise _refused(text, f"it has to have 1 to {MAX_CHARS} characters")
    if any(hides(char) or char in " \\" for char in text):
        raise _refused(text, "it has blanks, backslashes or characters that don't show")
    try:
        url = httpx.URL(str(base)).join(text) if base else httpx.URL(text)
        scheme, host = url.scheme, url.raw_host.decode("ascii").lower()
        target = url.raw_path.decode("ascii") or "/"
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise _refused(text, f"it can't be read ({error})") from error
    if scheme not in PORTS:
        raise _refused(text, "only http:// and https:// are possible")
    if url.userinfo:
        raise _refused(text, "a name or password before @ is not sent")
    if not host.strip("."):
        raise _refused(text, "it names no host")
    return Address(
        scheme=scheme, host=host.rstrip("."), port=url.port or PORTS[scheme], target=target
    )


def _refused(text: str, why: str) -> AddressRefused:
    shown = text[:120].encode("unicode_escape", "backslashreplace").decode()
    return AddressRefused(f"'{shown}' is refused: {why}. Give one like https://example.org/page.",
                          field="url")  # fmt: skip
