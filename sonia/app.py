"""The composition root: the only file that knows every module.

Parts are entered in the order in which they need each other and left in the reverse one.
Nothing here waits for a model: weights are fetched and warmed behind.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import apsw
import msgspec

from sonia.backups import Backups, open_backups
from sonia.config import Config, Local, ModelRouter
from sonia.control import PLACES as CONTROLS_PLACES
from sonia.control import Control, Operator, Tasks, chain, open_control, open_operator, open_tasks
from sonia.db import Database, open_database
from sonia.errors import ConfigurationError
from sonia.events import Bus, Forgotten, ReminderDue, TaskFinished
from sonia.forgetting import apply_tombstones
from sonia.gateway import PLACES as GATEWAYS_PLACES
from sonia.gateway import (
    Answers,
    Keyring,
    MemoryOfWhoAsks,
    Responses,
    Turns,
    open_answers,
    open_turns,
)
from sonia.health import Probe
from sonia.memory import PLACES as MEMORYS_PLACES
from sonia.memory import Documents, Memory, after_restore, damaged, open_memory
from sonia.purging import Purging
from sonia.router import PLACES as ROUTERS_PLACES
from sonia.router import JsonAnswers, Router, open_router
from sonia.running import holding
from sonia.tools import PLACES as TOOLS_PLACES
from sonia.tools import Tools, open_tools
from sonia.voice import PLACES as VOICES_PLACES
from sonia.voice import Speech, TalkingSessions, open_home, open_speech, open_voice
from sonia.weights import Weights, needed

# Each module, and the key of its section in the configuration.
KEYS = {
    "gateway": "api_gateway",
    "router": "model_router",
    "memory": "memory_engine",
    "voice": "pipecat",
    "tools": "openclaw",
    "control": "eva_os",
}
MODULES = tuple(KEYS)
# What each can't do its job without, by the same keys.
NEEDS = {
    "api_gateway": ("model_router", "memory_engine", "openclaw", "eva_os"),
    "pipecat": ("api_gateway",),
    "openclaw": ("eva_os",),
}
HERE = Path(__file__).parent
# Beside the package in a checkout, inside it when installed.
MIGRATIONS = HERE / "_migrations"
if not MIGRATIONS.is_dir():
    MIGRATIONS = HERE.parent / "migrations"
# Where something may be that is to be forgotten, in the order in which one leads to the next.
ELSEWHERE = (*CONTROLS_PLACES, *TOOLS_PLACES, *GATEWAYS_PLACES, *ROUTERS_PLACES, *VOICES_PLACES)
PLACES = (*MEMORYS_PLACES, *ELSEWHERE)
MEMORY_OPS = "memory_ops"  # the profile whose models read turns and sum up
# How the rows of a database are checked, all of it.
CHECKERS = (damaged, chain)
TALKING = frozenset({"gateway", "voice", "router"})


class Sonia(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that runs, whoever it serves.

    `turns` is the assistant; the rest are its parts, each behind its module's interface.
    """

    config: Config
    bus: Bus
    weights: Weights
    db: Database
    control: Control
    operator: Operator
    tasks: Tasks
    router: Router
    memory: Memory
    documents: Documents
    tools: Tools
    turns: Turns
    answers: Answers
    responses: Responses
    keyring: Keyring
    voice: TalkingSessions
    speech: Speech
    backups: Backups
    purging: Purging

    def probes(self) -> dict[str, Probe]:
        """Each module's own account of itself, by the module's name."""
        return {
            "gateway": self._edge,
            "router": self.router.probe,
            "memory": self.memory.probe,
            "voice": self._talking,
            "tools": self.tools.probe,
            "control": self.control.probe,
        }

    async def _talking(self) -> dict[str, object]:
        return {**await self.voice.probe(), **self.speech.states()}

    async def _edge(self) -> dict[str, object]:
        progress = [self.weights.progress(name) for name in needed(self.config)]
        return {"weights": {item.name: msgspec.to_builtins(item) for item in progress}}


def check_modules(names: Collection[str]) -> tuple[str, ...]:
    """Return `names` in our order. Raises `ConfigurationError` for one that is no module."""
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        raise ConfigurationError(
            f"No module {unknown[0]!r}. There are {', '.join(MODULES)}.", unknown=unknown
        )
    return tuple(name for name in MODULES if name in names)


def database(config: Config) -> Path:
    """The one file that is the truth."""
    return config.data / "sonia.db"


def mend(c: apsw.Connection, known: Mapping[bytes, int]) -> dict[str, int]:
    """Tell a restored database what was forgotten since, and each module of it; counts by place."""
    counts = clean(c, known)
    after_restore(c)
    return counts


def clean(c: apsw.Connection, known: Mapping[bytes, int]) -> dict[str, int]:
    """Forget in a copy of the database what was forgotten since; counts by place."""
    return apply_tombstones(c, known, PLACES)


@asynccontextmanager
async def open_sonia(config: Config, *, modules: Collection[str] = MODULES) -> AsyncIterator[Sonia]:
    """Open everything in this process, without HTTP.

    Takes the data folder for itself: raises `AlreadyRunning` when another process has it. With
    `modules` that don't talk, no chat model is loaded.
    """
    services = config.services
    bus = Bus()
    weights = Weights(config.models, offline=services.model_router.offline)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(_alone(config.data))
        db = await enter(open_database(database(config), MIGRATIONS))
        operator = await asyncio.to_thread(open_operator, config.data)
        keyring = Keyring(services.api_gateway.api_keys, config.data, operator)
        await keyring.reload()
        control = await enter(
            open_control(services.eva_os, db, bus=bus, rules_file=_rules_file(config))
        )
        tasks = await enter(open_tasks(db, bus, paused=lambda: control.maintenance().on))
        routing = _with_folder(config)
        if not TALKING.intersection(modules):
            routing = _without_chat(config)
        router = await enter(open_router(routing, services.memory_engine.embeddings, weights, db))
        stack.callback(bus.subscribe(Forgotten, router.forget))
        kept, every_s = config.backups.keep, config.backups.every_hours * 3600
        backups = await enter(
            open_backups(db.path, config.backups_folder, CHECKERS, keep=kept, every_s=every_s)
        )
        purging = Purging(backups, db.path, MIGRATIONS, CHECKERS, clean, keep=kept, every_s=every_s)
        memory = await enter(
            open_memory(
                services.memory_engine,
                db,
                router.embeddings,
                bus,
                config.data / "text-index",
                places=ELSEWHERE,
                held=purging.held,
                earlier=router.embeddings_of,
                model=_reader(routing, router),
            )
        )
        tools = await enter(
            open_tools(
                services.openclaw,
                control,
                db,
                config.workspace,
                own=_own(config),
                remembering=MemoryOfWhoAsks(memory),
                planned=tasks,
            )
        )
        stack.callback(bus.subscribe(Forgotten, tools.forget))
        turns = await enter(
            open_turns(services.api_gateway, router=router, memory=memory, tools=tools, bus=bus)
        )
        answers = await enter(
            open_answers(
                services.api_gateway,
                router=router,
                turns=turns,
                profiles=routing.profiles,
                bus=bus,
            )
        )
        files = weights.entry("kokoro-voices").files
        speech = await enter(open_speech(weights, [file.path for file in files]))
        voice = await enter(open_voice(services.pipecat, turns, speech, db, control))
        stack.callback(bus.subscribe(ReminderDue, voice.remind))
        stack.callback(bus.subscribe(ReminderDue, tools.remind))
        stack.callback(bus.subscribe(TaskFinished, tools.ask))
        await enter(tasks.serving(turns))
        await enter(open_home(services.pipecat, speech, turns))
        stack.callback(control.plan_with(tools))
        sonia = Sonia(
            config=config,
            bus=bus,
            weights=weights,
            db=db,
            control=control,
            operator=operator,
            tasks=tasks,
            router=router,
            memory=memory,
            documents=memory,
            tools=tools,
            turns=turns,
            answers=answers,
            responses=Responses(db),
            keyring=keyring,
            voice=voice,
            speech=speech,
            backups=backups,
            purging=purging,
        )
        for module, probe in sonia.probes().items():
            stack.callback(control.watch(KEYS[module], probe, NEEDS.get(KEYS[module], ())))
        yield sonia


def _own(config: Config) -> tuple[Path, ...]:
    """What no tool may change: the program, what it runs on, its settings and what it writes."""
    source = (Path(config.source),) if config.source else ()
    return (*source, HERE, Path(sys.prefix), config.logs, config.backups_folder, config.models)


@asynccontextmanager
async def _alone(data: Path) -> AsyncIterator[None]:
    """Hold the data folder's lock, taken and let go off the event loop."""
    held = holding(data)
    await asyncio.to_thread(held.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(held.__exit__, None, None, None)


def _with_folder(config: Config) -> ModelRouter:
    """The router's section with its folder of models made absolute."""
    routing = config.services.model_router
    local = routing.providers.local
    if not local.folder:
        return routing
    local = msgspec.structs.replace(local, folder=str(config.folder(local.folder)))
    providers = msgspec.structs.replace(routing.providers, local=local)
    return msgspec.structs.replace(routing, providers=providers)


def _rules_file(config: Config) -> Path | None:
    name = config.services.eva_os.rules_file
    return config.folder(name) if name else None


def _reader(routing: ModelRouter, router: Router) -> JsonAnswers | None:
    """The models that read turns for memories, if a profile names any."""
    return JsonAnswers(router, MEMORY_OPS) if MEMORY_OPS in routing.profiles else None


def _without_chat(config: Config) -> ModelRouter:
    routing = config.services.model_router
    providers = msgspec.structs.replace(routing.providers, local=Local(models=()))
    return msgspec.structs.replace(routing, providers=providers)
