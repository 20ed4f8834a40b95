"""A reader of the documents' `curl` lines, which sends what curl would: no test needs curl."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import msgspec

from sonia.config import Config
from tests.e2e.conftest import SERVICES, Server

PORTS: dict[int, str] = {
    getattr(Config().services, key.lower()).port: name for name, key in SERVICES.items()
}


class Curl:
    """Sends lines to a server, wherever its ports are. Files are those in `folder`.

    An id such as `mem_…` stands for the last of its kind that an answer had.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._seen: dict[str, str] = {}

    def run(self, line: str) -> httpx.Response:
        """The answer to `curl …`; a flag that is not known here is an error."""
        said = re.sub(r"\b([a-z]+)_…", lambda found: self._seen[found[1]], line)
        words = iter(shlex.split(said)[1:])
        sent: dict[str, Any] = {"headers": {}, "files": {}, "form": {}}
        method = url = None
        for word in words:
            if word == "-X":
                method = next(words)
            elif word == "-d":
                sent["content"] = next(words).encode()
            elif word == "-H":
                name, _, value = next(words).partition(":")
                sent["headers"][name] = value.strip()
            elif word == "-F":
                name, _, value = next(words).partition("=")
                sent["form" if value[:1] != "@" else "files"][name] = value
            elif word.startswith("http://"):
                url = httpx.URL(word)
            else:
                raise ValueError(f"{word}: not read here: {line}")
        assert url is not None, line
        return self._send(method, url, sent)

    def post(self, path: str, body: str) -> httpx.Response:
        """JSON to the memory engine's port."""
        kind = {"content-type": "application/json"}
        sent = {"headers": kind, "files": {}, "form": {}, "content": body.encode()}
        return self._send("POST", httpx.URL(f"http://localhost:7020{path}"), sent)

    def _send(self, method: str | None, url: httpx.URL, sent: dict[str, Any]) -> httpx.Response:
        files = {
            name: (value[1:], (self._folder / value[1:]).read_bytes())
            for name, value in sent["files"].items()
        }
        has_body = "content" in sent or files
        with self._server.client(PORTS[url.port or 80]) as client:
            answer = client.request(
                method or ("POST" if has_body else "GET"),
                url.raw_path.decode(),
                headers=sent["headers"],
                content=sent.get("content"),
                files=files or None,
                data=sent["form"] or None,
            )
        for kind, rest in re.findall(r'"id": ?"([a-z]+)_(\w+)"', answer.text):
            self._seen[kind] = f"{kind}_{rest}"
        return answer


def data(answer: httpx.Response) -> Any:
    """What is in the envelope."""
    return msgspec.json.decode(answer.content)["data"]
