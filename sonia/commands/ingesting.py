"""`sonia memory ingest`: files and folders become documents of the running Sonia."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sonia.commands import terminal
from sonia.commands.forms import form
from sonia.commands.server import Refused, Server
from sonia.config import Config
from sonia.errors import InvalidRequest
from sonia.parsing.formats import SUFFIXES

INGEST = "/memory/v1/workspace/ingest"
DOCUMENT = "/memory/v1/workspace/documents"
PLAIN = {".txt", ".text", ".rst", ".log", ".csv", ".tsv", ".json", ".yaml", ".yml", ".toml", ".org"}
POLL_S = 0.3
PATIENCE_S = 30.0
EPILOG = """\
examples:
  sonia memory ingest manual.pdf
  sonia memory ingest notes/ --mine             every document in the folder, your own words
  sonia memory ingest page.html --source https://example.org/page
  sonia memory ingest --no-wait big.pdf         don't wait for the vectors

Text, Markdown, HTML, PDF, DOCX and source code. A file that was ingested before and is another now
takes the place of what it was; one that is the same is left alone. Of a folder, hidden files and
what is no document are passed over.
"""


def add(actions: Any) -> None:
    """Add the actions `ingest` and `documents`."""
    about = "Read files into memory: found by words at once, by meaning soon after."
    ingest = actions.add_parser("ingest", help="read files in", description=about, epilog=EPILOG)
    ingest.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files and folders")
    ingest.add_argument("--title", help="of a single file, instead of its own")
    ingest.add_argument("--source", metavar="URL", help="where a single file is from")
    ingest.add_argument("--type", metavar="MEDIA", help="such as text/markdown, if the name lies")
    ingest.add_argument("--user", default="owner", metavar="NAME", help="whose it is")
    ingest.add_argument("--session", metavar="ID", help="in which session")
    ingest.add_argument("--mine", action="store_true", help="these are your own words: trust them")
    ingest.add_argument("--no-wait", action="store_true", help="let the vectors follow behind")
    ingest.set_defaults(run=run)
    documents = actions.add_parser("documents", help="what was ingested, newest first")
    documents.add_argument("--limit", type=int, default=100, metavar="N", help="at most (100)")
    documents.add_argument("--user", metavar="NAME", help="of this person only")
    documents.set_defaults(run=run_documents)


def run_documents(args: argparse.Namespace, config: Config) -> int:
    """Print a line per document, newest first."""
    wanted = {"limit": args.limit, **({"user_id": args.user} if args.user else {})}
    found = Server.find(config).get(f"{DOCUMENT}?{urlencode(wanted)}")
    for item in found:
        told = terminal.harmless(item["title"])
        print(f"{item['id']}  {item['state']:<10} {item['chunks']:>6} chunks  {told}")
    if not found:
        print("There are none. Add some: sonia memory ingest FILE")
    return 0


class Line:
    """One line on the terminal that changes; nothing where nobody looks."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Put this in its place."""
        if self._live:
            sys.stderr.write(f"\r\x1b[K{terminal.harmless(text)[:110]}")
            sys.stderr.flush()

    def end(self, text: str) -> None:
        """Clear it, and print `text` to stay."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        print(terminal.harmless(text), flush=True)


def run(args: argparse.Namespace, config: Config) -> int:
    """Send one after the other, then wait for the vectors. Returns 1 when one was refused."""
    files = list(_files(args.paths))
    if len(files) != 1 and (args.title or args.source):
        raise InvalidRequest(f"--title and --source are for one file; these are {len(files)}.")
    if not files:
        raise InvalidRequest("There is no document in there.")
    server, line = Server.find(config), Line()
    refused, made = 0, []
    for file in files:
        try:
            taken = _send(server, file, args, line)
        except Refused as error:
            refused += 1
            line.end(f"{file}: refused. {error.message}")
            continue
        line.end(f"{file}: {_told(taken)}")
        if taken["created"]:
            made.append(taken["document"])
    if made and not args.no_wait:
        _wait(server, made, line)
    return 1 if refused else 0


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            for inner in sorted(path.rglob("*")):
                hidden = any(part.startswith(".") for part in inner.relative_to(path).parts)
                if not hidden and inner.suffix.lower() in {*SUFFIXES, *PLAIN} and inner.is_file():
                    yield inner
        elif path.is_file():
            yield path
        else:
            raise InvalidRequest(f"There is no file {path}.")


def _send(server: Server, file: Path, args: argparse.Namespace, line: Line) -> dict[str, Any]:
    fields = {
        "source": args.source or str(file.absolute()),
        "title": args.title or "",
        "media_type": args.type or "",
        "user_id": args.user,
        "session_id": args.session or "",
        "mine": "true" if args.mine else "false",
    }
    try:
        opened = file.open("rb")
    except OSError as error:
        raise InvalidRequest(f"{file} can't be read: {error.strerror}.") from error
    with opened:
        size = max(file.stat().st_size, 1)

        def told(sent: int) -> None:
            line.show(
                f"{file.name}: {'reading' if sent >= size else f'{100 * sent // size} % sent'}"
            )

        given = {name: value for name, value in fields.items() if value}
        headers, body = form(given, opened, file.name, told)
        with server.bytes(INGEST, body, headers) as answer:
            taken: dict[str, Any] = json.loads(answer.read())["data"]
    return taken


def _told(taken: dict[str, Any]) -> str:
    document = taken["document"]
    if not taken["created"]:
        return f"is there already, as {document['id']}."
    pages = f", {document['pages']} pages" if document["pages"] else ""
    instead = f", in the place of {taken['supersedes']}" if taken["supersedes"] else ""
    return f"{document['id']}, {document['chunks']} chunks{pages}{instead}."


def _wait(server: Server, made: list[dict[str, Any]], line: Line) -> None:
    """Until every chunk has its vector, or none came for a while: then they follow behind."""
    every = sum(document["chunks"] for document in made)
    best, since = -1, time.monotonic()
    while True:
        now = [server.get(f"{DOCUMENT}/{document['id']}") for document in made]
        done = sum(document["embedded"] for document in now)
        if done >= every:
            line.end(f"All {every} chunks have their vectors.")
            return
        if done > best:
            best, since = done, time.monotonic()
        if time.monotonic() - since > PATIENCE_S:
            line.end(
                f"{done} of {every} chunks have their vectors; the embedding model is not ready. "
                "All are found by their words, and the rest follows."
            )
            return
        line.show(f"vectors: {done} of {every}")
        time.sleep(POLL_S)
