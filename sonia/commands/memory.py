"""`sonia memory …`: what Sonia remembers: looking, adding, showing, forgetting."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any
from urllib.parse import quote

from sonia.commands import backup, check, ingesting, terminal, upkeep
from sonia.commands.server import Server
from sonia.config import Config
from sonia.errors import InvalidRequest

SHOWN_CHARS = 400
POLL_S = 0.3
ERASE_TIMEOUT_S = 600.0  # a large document is read once more, for what quotes it
ROOT = "/memory/v1"
EPILOG = """\
examples:
  sonia memory search "what does Ada like"       by words and by meaning
  sonia memory search tea --type fact --explain  why each stands where it does
  sonia memory search rent --as-of 2025-01-01    what was true then
  sonia memory add "The boiler is serviced in May" --type fact
  sonia memory ingest manual.pdf notes/          files, and folders with all in them
  sonia memory documents                         what was ingested, and how far it is
  sonia memory show mem_…                        one memory, or doc_… a document
  sonia memory forget mem_…                      erase it everywhere, or doc_… a document
  sonia memory forget --entity Biscuit           everything that names it
  sonia memory stats                             how much there is, and what is done by itself
  sonia memory jobs run merge                    do now what is done by itself
  sonia memory snapshots create ses_…            keep a session as it is
  sonia memory reindex                           make the text index and all vectors anew
  sonia memory check                             is everything what was written?

Forgetting can't be undone. A correction needs none: say or add what is true now.
"""


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "What Sonia remembers: search, add, ingest, show, forget."
    parser = subparsers.add_parser("memory", help=about, description=about, epilog=EPILOG)
    actions = parser.add_subparsers(
        title="actions",
        required=True,
        dest="action",
        metavar="search|add|ingest|documents|show|forget|stats|jobs|snapshots|reindex|check",
    )
    _add_search(actions)
    _add_add(actions)
    ingesting.add(actions)
    show = actions.add_parser("show", help="one memory or document, whole")
    show.add_argument("id", metavar="ID", help="mem_… or doc_…")
    show.add_argument("--versions", action="store_true", help="what it said before, too")
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(run=run_show)
    _add_forget(actions)
    upkeep.add(actions)
    about = "Read everything that is kept, and compare it with what was written."
    checking = actions.add_parser("check", help="the same as: sonia check", description=about)
    checking.set_defaults(run=check.run)


def _add_search(actions: Any) -> None:
    search = actions.add_parser("search", help="find by words, by meaning, or both")
    search.add_argument("words", nargs="*", metavar="WORD", help="none: the newest")
    search.add_argument("--limit", type=int, default=10, metavar="N", help="at most (10)")
    search.add_argument(
        "--type", action="append", default=[], dest="types", metavar="TYPE", help="fact, document …"
    )
    search.add_argument("--user", metavar="NAME", help="of this person only")
    search.add_argument("--session", metavar="ID", help="of this session only")
    search.add_argument("--mode", choices=("hybrid", "vector", "text"), default="hybrid")
    search.add_argument("--as-of", metavar="WHEN", help="what was true then: 2026-02-08[T09:30]")
    search.add_argument("--archived", action="store_true", help="what was archived, too")
    search.add_argument("--explain", action="store_true", help="every part of each score")
    search.add_argument("--json", action="store_true", help="for programs")
    search.set_defaults(run=run_search)


def _add_add(actions: Any) -> None:
    adding = actions.add_parser("add", help="remember a text")
    adding.add_argument("text", nargs="+", metavar="TEXT", help="'-' reads standard input")
    adding.add_argument("--type", default="fact", metavar="TYPE", help="fact, preference, task …")
    adding.add_argument("--user", default="owner", metavar="NAME", help="whose it is")
    adding.add_argument("--session", metavar="ID", help="in which session")
    adding.add_argument("--importance", type=float, default=0.5, metavar="0-1", help="(0.5)")
    adding.set_defaults(run=run_add)


def _add_forget(actions: Any) -> None:
    about = (
        "Erase memories, or a document, with all that was made from them: from the database, the "
        "indexes, the ledgers' payloads, and from backups when they are restored. It can't be "
        "undone."
    )
    forget = actions.add_parser("forget", help="erase for good", description=about)
    forget.add_argument("ids", nargs="*", metavar="ID", help="mem_… or doc_…")
    forget.add_argument("--entity", metavar="NAME", help="everything that names it")
    forget.add_argument("--session", metavar="ID", help="everything of a session")
    forget.add_argument("--person", metavar="NAME", help="everything of a person")
    forget.add_argument(
        "--purge-backups", action="store_true", help="write the backups anew without it, too"
    )
    forget.add_argument("--yes", action="store_true", help="don't ask")
    forget.set_defaults(run=run_forget)


# --- search, add, show -------------------------------------------------------------------


def run_search(args: argparse.Namespace, config: Config) -> int:
    """Print what is found, best first."""
    query: dict[str, Any] = {
        "query": " ".join(args.words),
        "limit": args.limit,
        "types": args.types,
        "user_id": args.user,
        "session_id": args.session,
        "mode": args.mode,
        "archived": args.archived,
        "explain": args.explain,
    }
    if args.as_of:
        query["as_of"] = moment(args.as_of)
    found = Server.find(config).post("/memory/search", query)
    if args.json:
        terminal.print_json(found)
        return 0
    for place, hit in enumerate(found["hits"], 1):
        _print_hit(place, hit)
    if not found["hits"]:
        print("Nothing is found.")
    elif found["mode"] != args.mode:
        terminal.note("By words only: the embedding model is not ready yet.")
    return 0


def moment(text: str) -> str:
    """A day or a moment as a person writes it, in RFC 3339. Without an offset it is local time."""
    import datetime as dt

    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(
            f"'{text}' is no moment. Write it as 2026-02-08 or 2026-02-08T09:30."
        ) from error
    return found.astimezone(dt.UTC).isoformat()


def _print_hit(place: int, hit: dict[str, Any]) -> None:
    entry = hit["entry"]
    day = entry["valid_from"][:10]
    print(f"{place:>2}. {hit['score']:.3f}  {entry['type']}  {day}  {entry['id']}")
    print(f"    {_short(entry['content'])}")
    if where := standing(entry):
        print(f"    from {where}")
    if parts := hit.get("parts"):
        print("    " + "  ".join(f"{name} {value:.4g}" for name, value in parts.items()))


def standing(entry: dict[str, Any]) -> str:
    """Where a memory is from, if that is known: a document, its page and headings; a page."""
    source, metadata = entry["source"], entry["metadata"]
    if source.get("document_id"):
        told = [str(metadata.get("title", "a document"))]
        if metadata.get("page"):
            told.append(f"page {metadata['page']}")
        if metadata.get("heading"):
            told.append(" > ".join(map(str, metadata["heading"])))
        return terminal.harmless(f"{', '.join(told)} ({source['document_id']})")
    return terminal.harmless(str(source.get("url") or source.get("path") or ""))


def _short(content: str) -> str:
    words = " ".join(content.split())
    cut = words if len(words) <= SHOWN_CHARS else words[:SHOWN_CHARS].rsplit(" ", 1)[0] + " …"
    return terminal.harmless(cut)


def run_add(args: argparse.Namespace, config: Config) -> int:
    """Store it, and print its id."""
    text = sys.stdin.read() if args.text == ["-"] else " ".join(args.text)
    body = {
        "type": args.type,
        "content": text,
        "user_id": args.user,
        "session_id": args.session,
        "importance": args.importance,
    }
    print(Server.find(config).post("/memory/store", body)["id"])
    return 0


def run_show(args: argparse.Namespace, config: Config) -> int:
    """Print all that is known of it."""
    server, name = Server.find(config), quote(args.id, safe="")
    if args.id.startswith("doc_"):
        found = server.get(f"{ROOT}/workspace/documents/{name}")
        shown = [found]
    else:
        path = f"/memory/recall/{name}"
        shown = server.get(f"{path}/versions") if args.versions else [server.get(path)]
    if args.json:
        terminal.print_json(shown if args.versions else shown[0])
        return 0
    for number, item in enumerate(shown):
        if number:
            print()
        content = item.get("content")
        for field, value in item.items():
            if field != "content" and value not in (None, {}, ""):
                told = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
                print(f"{field:<14} {terminal.harmless(str(told))}")
        if content is not None:
            print(f"\n{terminal.harmless(content)}")
    return 0


# --- forget ------------------------------------------------------------------------------


def run_forget(args: argparse.Namespace, config: Config) -> int:
    """Ask, erase, and print the receipt."""
    meant = [name for name in ("entity", "session", "person") if getattr(args, name)]
    if len(meant) + bool(args.ids) != 1:
        raise InvalidRequest("Give ids, or one of --entity, --session and --person.")
    server = Server.find(config)
    documents = [name for name in args.ids if name.startswith("doc_")]
    memories = [name for name in args.ids if not name.startswith("doc_")]
    if not args.yes and not _sure(server, args, memories, documents):
        print("Nothing was erased.")
        return 1
    receipts: list[Any] = []
    for name in documents:
        path = f"{ROOT}/workspace/documents/{quote(name, safe='')}"
        receipts.append(server.delete(path, timeout_s=ERASE_TIMEOUT_S))
    if memories or not args.ids:
        body: dict[str, Any] = {"memory_ids": memories} if memories else _whole(args)
        receipts.append(server.post(f"{ROOT}/forget", body, timeout_s=60.0))
    for receipt in receipts:
        _print_receipt(receipt, purging=args.purge_backups)
    if not args.purge_backups:
        return 0
    for receipt in receipts:
        while receipt["state"] != "done":
            time.sleep(POLL_S)
            receipt = server.get(f"{ROOT}/forget/{receipt['id']}")
    return backup.print_purged(backup.purge(config, server))


def _whole(args: argparse.Namespace) -> dict[str, Any]:
    if args.person:
        return {"user_id": args.person}
    return {"entity": args.entity} if args.entity else {"session_id": args.session}


def _sure(
    server: Server, args: argparse.Namespace, memories: list[str], documents: list[str]
) -> bool:
    for name in memories:
        entry = server.get(f"/memory/recall/{quote(name, safe='')}")
        print(f"{name}  {_short(entry['content'])}")
    for name in documents:
        told = server.get(f"{ROOT}/workspace/documents/{quote(name, safe='')}")
        print(f"{name}  {terminal.harmless(told['title'])}, {told['chunks']} chunks")
    what = "this"
    if args.entity:
        about = server.get(f"{ROOT}/search/entity/{quote(args.entity, safe='')}?limit=1")
        what = f"all that names {terminal.visible(args.entity)} ({about['count']} memories)"
    elif args.session or args.person:
        kind = "the session" if args.session else "the person"
        what = f"everything of {kind} {terminal.visible(args.session or args.person)}"
    if not terminal.is_interactive():
        raise InvalidRequest("Nobody can be asked here. Add --yes to erase without a question.")
    return terminal.confirm(f"Erase {what} for good? [y/N] ")


def _print_receipt(receipt: dict[str, Any], *, purging: bool) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in receipt["erased"].items())
    print(f"{receipt['id']}: {receipt['state']}. Erased: {counts or 'nothing was there'}.")
    if receipt["state"] != "done":
        print("Nothing finds it any more; the files are being rewritten without it.")
    print(f"digest {receipt['digest']}")
    if (kept := receipt["backups"]) and not purging:
        ends = [item["until"] for item in kept]
        until = f"until {max(ends)[:10]} at the latest" if all(ends) else "until you remove them"
        print(f"{len(kept)} backups hold it {until}; restored, they forget it first. To have them")
        print("written anew without it: sonia backup purge")
