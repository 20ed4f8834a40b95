"""What keeps memory in order, at the terminal: counts, jobs, snapshots, indexes made anew."""

from __future__ import annotations

import argparse
import time
from typing import Any
from urllib.parse import quote, urlencode

from sonia.commands import ingesting, terminal
from sonia.commands.server import Server
from sonia.config import Config

ROOT = "/memory/v1"
POLL_S = 0.3
JOB_TIMEOUT_S = 3600.0


def add(actions: Any) -> None:
    """Add the actions `stats`, `jobs`, `snapshots` and `reindex`."""
    stats = actions.add_parser("stats", help="how much there is, and what is done by itself")
    stats.add_argument("--json", action="store_true", help="for programs")
    stats.set_defaults(run=run_stats)
    _add_jobs(actions)
    _add_snapshots(actions)
    about = "Make the text index and all vectors anew. Nothing is lost: they are derived."
    reindex = actions.add_parser("reindex", help="make the indexes anew", description=about)
    reindex.add_argument("--text", action="store_true", help="the text index only")
    reindex.add_argument("--vectors", action="store_true", help="the vectors only")
    reindex.set_defaults(run=run_reindex)


def _add_jobs(actions: Any) -> None:
    about = "What memory does by itself: when it is due, when it was last done, what came of it."
    jobs = actions.add_parser("jobs", help="what is done by itself, and when", description=about)
    jobs.add_argument("--json", action="store_true", help="for programs")
    jobs.set_defaults(run=run_jobs)
    run = jobs.add_subparsers(title="actions", metavar="run").add_parser("run", help="do one now")
    run.add_argument("name", metavar="NAME", help="as 'sonia memory jobs' lists it")
    run.set_defaults(run=run_job)


def _add_snapshots(actions: Any) -> None:
    about = "Sessions as they were: keep one, list them, put one into a session again."
    snapshots = actions.add_parser("snapshots", help="sessions as they were", description=about)
    snapshots.add_argument("--session", metavar="ID", help="of this session only")
    snapshots.add_argument("--json", action="store_true", help="for programs")
    snapshots.set_defaults(run=run_snapshots)
    more = snapshots.add_subparsers(title="actions", metavar="create|restore")
    create = more.add_parser("create", help="keep a session as it is now")
    create.add_argument("of", metavar="SESSION", help="ses_…")
    create.add_argument("--name", default="", help="what to call it")
    create.set_defaults(run=run_create)
    restore = more.add_parser("restore", help="put copies of what it holds into a session")
    restore.add_argument("id", metavar="ID", help="as 'sonia memory snapshots' lists it")
    restore.add_argument("--into", metavar="SESSION", help="at its end; else into a new one")
    restore.set_defaults(run=run_restore)


# --- stats, jobs -------------------------------------------------------------------------


def run_stats(args: argparse.Namespace, config: Config) -> int:
    """Print counts, what is behind, and the jobs."""
    server = Server.find(config)
    stats, jobs = server.get("/memory/query/stats"), server.get("/memory/jobs")
    if args.json:
        terminal.print_json({"stats": stats, "jobs": jobs})
        return 0
    by_type = ", ".join(f"{count} {name}" for name, count in stats["by_type"].items())
    print(f"memories   {stats['memories']}" + (f" ({by_type})" if by_type else ""))
    print(f"documents  {stats['documents']}")
    print(f"sessions   {stats['sessions']}")
    print(f"ledger     {stats['events']} rows")
    print(f"vectors    {stats['vectors']} of {stats['embedding_space']}", end="")
    print(f", {stats['unembedded']} to come" if stats["unembedded"] else "")
    if stats.get("coming_space"):
        print(f"           {stats['coming_vectors']} of {stats['coming_space']}, which will follow")
    print(f"database   {stats['database_bytes'] / 1e6:,.1f} MB")
    if stats["damaged"]:
        print(f"damaged    {stats['damaged']} rows: sonia memory check")
    print("\nby itself")
    for job in jobs:
        _print_job(job)
    return 0


def run_jobs(args: argparse.Namespace, config: Config) -> int:
    """Print a line or two for each."""
    jobs = Server.find(config).get("/memory/jobs")
    if args.json:
        terminal.print_json(jobs)
        return 0
    for job in jobs:
        _print_job(job)
        print(f"  {'':<10} {terminal.harmless(job['about'])}, every {_every(job['every_s'])}")
    return 0


def run_job(args: argparse.Namespace, config: Config) -> int:
    """Do it now, and say what came of it; 1 when it failed."""
    path = f"/memory/jobs/{quote(args.name, safe='')}/run"
    job = Server.find(config).post(path, timeout_s=JOB_TIMEOUT_S)
    _print_job(job)
    return 1 if job["failure"] else 0


def _print_job(job: dict[str, Any]) -> None:
    last = f"last {job['ended_at'][:16]}" if job["ended_at"] else "not yet"
    if job["running"]:
        last = "running"
    done = ", ".join(f"{count} {name}" for name, count in job["outcome"].items() if count)
    if job["failure"]:
        done = f"failed: {terminal.harmless(job['failure'])}"
    print(f"  {job['name']:<10} next {job['next_at'][:16]}  {last}{f'  {done}' if done else ''}")


def _every(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"


# --- snapshots ---------------------------------------------------------------------------


def run_snapshots(args: argparse.Namespace, config: Config) -> int:
    """A line per snapshot, newest first."""
    narrow = f"?{urlencode({'session_id': args.session})}" if args.session else ""
    found = Server.find(config).get(f"{ROOT}/snapshots{narrow}")
    if args.json:
        terminal.print_json(found)
        return 0
    for item in found:
        _print_snapshot(item)
    if not found:
        print("There are none. Keep a session as it is: sonia memory snapshots create ses_…")
    return 0


def run_create(args: argparse.Namespace, config: Config) -> int:
    """Keep it, and print what was kept."""
    body = {"session_id": args.of, "name": args.name}
    _print_snapshot(Server.find(config).post(f"{ROOT}/snapshots/create", body))
    return 0


def run_restore(args: argparse.Namespace, config: Config) -> int:
    """Put it into a session, and print which."""
    path = f"{ROOT}/snapshots/restore/{quote(args.id, safe='')}"
    done = Server.find(config).post(path, {"session_id": args.into} if args.into else None)
    print(f"{done['session_id']}: {done['utterances']} said, {done['memories']} memories")
    if done["damaged"]:
        print(f"{done['damaged']} items are not what was written, and were left out.")
    return 0


def _print_snapshot(item: dict[str, Any]) -> None:
    name = f"  {terminal.harmless(item['name'])}" if item["name"] else ""
    print(
        f"{item['id']}  {item['created_at'][:16]}  {item['session_id']}  "
        f"{item['utterances']} said, {item['memories']} memories{name}"
    )


# --- reindex -----------------------------------------------------------------------------


def run_reindex(args: argparse.Namespace, config: Config) -> int:
    """Have them made anew, and tell how far that is until it is done."""
    server = Server.find(config)
    both = args.text == args.vectors
    server.post(f"{ROOT}/reindex", {"text": both or args.text, "vectors": both or args.vectors})
    line = ingesting.Line()
    while True:
        stats = server.get("/memory/query/stats")
        status = server.bare("api-gateway", "/memory/status")[1]
        text = (status.get("detail") or status).get("text_index", "ready")
        waiting, every = stats["unembedded"], stats["memories"]
        line.show(f"text index: {text}; vectors: {every - waiting} of {every}")
        if not waiting and text == "ready":
            break
        time.sleep(POLL_S)
    line.end(f"{stats['memories']} memories are indexed.")
    return 0
