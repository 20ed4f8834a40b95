"""What the doctor looks at: the deployment guide's six groups, each a function of its own."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from sonia import supply
from sonia.bootstrap import CHECKOUT, WANTED
from sonia.commands.status import SERVICES
from sonia.config import HOME, Config, Listen
from sonia.errors import ConfigurationError, SoniaError
from sonia.running import read

GIB = 1024**3
LOW_DISK_BYTES, NO_DISK_BYTES = 2 * GIB, GIB // 4
LOW_MEMORY_BYTES = 4 * 10**9


class Mark(IntEnum):
    """How bad a finding is."""

    WELL = 0
    WORTH_KNOWING = 1
    WRONG = 2


class Finding(NamedTuple):
    """One line, and what to do about it."""

    mark: Mark
    what: str
    advice: str = ""


class Subject:
    """What is examined. `config` is the defaults where the real one is broken."""

    def __init__(self, config: Config | ConfigurationError) -> None:
        self.broken: ConfigurationError | None = None
        if isinstance(config, ConfigurationError):
            self.broken, config = config, Config(root=str(HOME.expanduser()))
        self.config: Config = config


Examination = Callable[[Subject], Iterator[Finding]]


def foundations(subject: Subject) -> Iterator[Finding]:
    """Python, the configuration, folders and who may read them."""
    version = platform.python_version()
    right = sys.version_info >= WANTED
    yield Finding(
        Mark.WELL if right else Mark.WRONG,
        f"Python {version} ({sys.executable})",
        "" if right else "Install Python 3.11 or newer.",
    )
    if subject.broken:
        yield Finding(Mark.WRONG, f"Configuration: {subject.broken.message}", "Mend that key.")
        return
    config = subject.config
    yield Finding(Mark.WELL, f"Configuration: {config.source or 'built-in defaults'}")
    for key, folder in (
        ("paths.data", config.data),
        ("paths.models", config.models),
        ("services.openclaw.workspace", config.workspace),
    ):
        yield _folder(key, folder)
    for path in (config.data, config.data / "operator.token", config.data / "sonia.db"):
        if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
            mode = "700" if path.is_dir() else "600"
            yield Finding(
                Mark.WRONG if path.name == "operator.token" else Mark.WORTH_KNOWING,
                f"{path} can be read by other users of this machine",
                f"chmod {mode} {path}",
            )


def _folder(key: str, folder: Path) -> Finding:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = f"{key}: {folder} can't be {'written' if there == folder else 'made'}"
        return Finding(Mark.WRONG, what, f"Change the owner of {there}, or {key}.")
    return Finding(Mark.WELL, f"{key}: {folder}" + ("" if there == folder else " (will be made)"))


def dependencies(subject: Subject) -> Iterator[Finding]:
    """Packages: what is installed against what is required."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in _requirements()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    bad = 0
    for one in wanted:
        try:
            found = version(one.name)
        except PackageNotFoundError:
            found = ""
        if not found or not one.specifier.contains(found, prereleases=True):
            bad += 1
            what = f"{one.name} {found or 'is missing'}: {one.specifier or 'any'} is required"
            yield Finding(Mark.WRONG, what, _reinstall())
    if not bad:
        yield Finding(Mark.WELL, f"All {len(wanted)} required packages, in required versions")
    yield from _supplied()


def _supplied() -> Iterator[Finding]:
    """What should not be among the packages at all."""
    import sysconfig
    from importlib.metadata import distributions

    installed = {dist.name.lower(): dist.version for dist in distributions()}
    for name, version in supply.denied(installed):
        yield Finding(Mark.WRONG, f"{name} {version} carried malware", _reinstall())
    for path in supply.self_starting(Path(sysconfig.get_path("purelib"))):
        what = f"{path} runs code whenever Python starts"
        yield Finding(Mark.WORTH_KNOWING, what, "Find out which package put it there.")


def _requirements() -> list[str]:
    """From the clone's `pyproject.toml`, else from the installed package's metadata."""
    import tomllib
    from importlib.metadata import requires

    project = CHECKOUT / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text())["project"]["dependencies"])
    return requires("sonia") or []


def _reinstall() -> str:
    if (CHECKOUT / "requirements.lock").is_file():
        return "python3 -m sonia.bootstrap"
    return "pip install --force-reinstall sonia"


def services(subject: Subject) -> Iterator[Finding]:
    """Running: does every service answer? Not running: are the ports free?"""
    from sonia.commands.server import Server
    from sonia.commands.status import ask

    running = read(subject.config.data)
    if running is None:
        yield Finding(Mark.WORTH_KNOWING, "Sonia is not running", "Start her with: sonia serve")
        for name in SERVICES:
            yield _port(name, getattr(subject.config.services, name.replace("-", "_")))
        return
    yield Finding(Mark.WELL, f"Sonia is running (pid {running.pid})")
    for name in SERVICES:
        health = ask(Server(running), name)
        if health.ok:
            yield Finding(Mark.WELL, f"{name} answers on {health.port} in {health.latency_ms} ms")
        elif health.port is None:
            yield Finding(Mark.WORTH_KNOWING, f"{name} is not served", "Restart without --only.")
        else:
            logs = subject.config.logs / "services" / f"{name}.log"
            yield Finding(Mark.WRONG, f"{name} ({health.port}): {health.reason}", f"See {logs}")


def _port(name: str, listen: Listen) -> Finding:
    if not listen.port:
        return Finding(Mark.WELL, f"{name}: any free port")
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError as error:
            key = f"services.{name.replace('-', '_')}.port"
            what = f"Port {listen.port} ({name}): {error.strerror}{_holder(listen.port)}"
            return Finding(Mark.WRONG, what, f"Stop that program, or set {key} to another port.")
    return Finding(Mark.WELL, f"Port {listen.port} ({name}) is free")


def _holder(port: int) -> str:
    import psutil

    try:
        for link in psutil.net_connections("tcp"):
            if link.status == psutil.CONN_LISTEN and link.laddr.port == port and link.pid:
                return f", held by {psutil.Process(link.pid).name()} (pid {link.pid})"
    except psutil.Error:
        return ""  # only the superuser may see it here
    return ""


def logs(subject: Subject) -> Iterator[Finding]:
    """The log files."""
    folder = subject.config.logs
    yield _folder("paths.logs", folder)
    files = sorted((folder / "services").glob("*.log"))
    closed = [path for path in files if not os.access(path, os.R_OK | os.W_OK)]
    for path in closed:
        yield Finding(Mark.WRONG, f"{path} can't be read and written", "Change its owner.")
    if files and not closed:
        size = sum(path.stat().st_size for path in files)
        yield Finding(Mark.WELL, f"{len(files)} log files, {size / 1e6:.1f} MB")


def system(subject: Subject) -> Iterator[Finding]:
    """Disk, memory, processors."""
    import psutil

    seen: set[int] = set()
    for folder in (subject.config.data, subject.config.models):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(there).free
        mark = Mark.WELL if free >= LOW_DISK_BYTES else Mark.WORTH_KNOWING
        mark = Mark.WRONG if free < NO_DISK_BYTES else mark
        advice = "" if mark is Mark.WELL else "Make room, or move the folder (paths)."
        yield Finding(mark, f"{free / GIB:.1f} GiB free for {folder}", advice)
    memory = psutil.virtual_memory()
    enough = memory.total >= LOW_MEMORY_BYTES
    yield Finding(
        Mark.WELL if enough else Mark.WORTH_KNOWING,
        f"{memory.total / GIB:.1f} GiB of memory, {memory.available / GIB:.1f} GiB available",
        "" if enough else "Choose a small model: services.model_router.providers.local.models.",
    )
    yield Finding(Mark.WELL, f"{os.cpu_count()} processors")


def upstream(subject: Subject) -> Iterator[Finding]:
    """Who can answer: weights on this disk, Ollama, keys."""
    from sonia.weights import Weights, needed

    config = subject.config
    weights = Weights(config.models)
    for name in needed(config):
        try:
            here = weights.present(name)
        except SoniaError as error:
            yield Finding(Mark.WRONG, error.message, "See: sonia models list")
            continue
        advice = "" if here else "It is fetched when first needed, or now by: sonia models pull"
        state = "here" if here else "not here yet"
        yield Finding(Mark.WELL if here else Mark.WORTH_KNOWING, f"Weights {name}: {state}", advice)
    router = config.services.model_router
    named = {model.partition("/")[0] for models in router.profiles.values() for model in models}
    if config.services.memory_engine.embeddings.provider == "ollama":
        named.add("ollama")
    if url := router.providers.ollama.base_url:
        yield _ollama(url, "ollama" in named)
    elif "ollama" in named:
        advice = "Set OLLAMA_BASE_URL, for example to http://127.0.0.1:11434."
        yield Finding(Mark.WRONG, "ollama: a profile names it and no base_url is set", advice)
    for provider in ("anthropic", "openrouter"):
        key = bool(getattr(router.providers, provider).api_key)
        if key:
            yield Finding(Mark.WELL, f"{provider}: a key is set")
        elif provider in named:
            advice = f"Set {provider.upper()}_API_KEY, or take it out of the profiles."
            yield Finding(Mark.WRONG, f"{provider}: a profile names it and no key is set", advice)


def _ollama(base_url: str, used: bool) -> Finding:
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(base_url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    line = kind(parts.hostname or "", parts.port, timeout=3)
    try:
        line.request("GET", f"{parts.path.rstrip('/')}/api/tags")
        status = line.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        advice = "Start it with `ollama serve`, or change its base_url."
        mark = Mark.WRONG if used else Mark.WORTH_KNOWING
        return Finding(mark, f"Ollama at {parts.netloc} does not answer: {error}", advice)
    finally:
        line.close()
    right = status == 200
    return Finding(
        Mark.WELL if right else Mark.WRONG,
        f"Ollama at {parts.netloc} answers" + ("" if right else f" with status {status}"),
        "" if right else "Is it Ollama that listens there?",
    )


GROUPS: tuple[tuple[str, Examination], ...] = (
    ("Foundations", foundations),
    ("Dependencies", dependencies),
    ("Services", services),
    ("Upstream", upstream),
    ("Logs", logs),
    ("System", system),
)
