"""`sonia.toml` as frozen structs.

The same structure may be written as JSON. Environment variables named
`SONIA__SECTION__KEY` (upper case, two underscores between levels) override the file;
`ANTHROPIC_API_KEY`, `OPENROUTER_API_KEY`, `OPENAI_API_KEY` and `OLLAMA_BASE_URL` fill in a
provider that the file leaves empty. An unknown key, a wrong type or an impossible value is a
`ConfigurationError` that names the key's path and what would be right; all of a
document's mistakes are told at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sonia.config_checks import check
from sonia.config_errors import mistakes, refuse
from sonia.config_reading import Secret, decode, encode, overlay, read
from sonia.errors import ConfigurationError

__all__ = ["Config", "Secret", "find_file", "load", "parse", "shown"]

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
Days = Annotated[float, msgspec.Meta(gt=0, le=36_500)]
Minutes = Annotated[float, msgspec.Meta(gt=0, le=525_600)]
Hours = Annotated[float, msgspec.Meta(gt=0, le=8_760)]
Slight = Annotated[float, msgspec.Meta(ge=0, le=0.2)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Host = Annotated[str, msgspec.Meta(pattern=r"^(\*\.)?[A-Za-z0-9.-]+(:[0-9]{1,5})?$")]
Pack = Literal["memory", "reminders", "clipboard", "desktop", "processes", "unsandboxed"]
Egress = Literal["offline", "lan", "allow-list", "open"]
Clocked = Annotated[
    str,
    msgspec.Meta(pattern=r"^$|^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"),
]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: an unknown key is an error."""


class Listen(Section, frozen=True, kw_only=True):
    """Where a service listens. Port 0 takes any free port."""

    host: str = "127.0.0.1"
    port: Port = 0
    version: str | None = None  # accepted from older files; `/version` answers the package's


class Caching(Section, frozen=True, kw_only=True):
    """Answers of models kept for the same question again, under the names of the guide.

    `store` is `memory`, or a Valkey server's URL; its room is then the server's own affair.
    """

    enabled: bool = True
    ttl_seconds: Seconds = 300.0
    max_size_mb: Positive = 100
    store: Text = "memory"
    store_password: Secret = Secret("")


class ApiKey(Section, frozen=True, kw_only=True):
    """A key that the API takes: its SHA-256 in hexadecimal, and for whom it speaks."""

    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    user: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = "owner"


class ApiGateway(Listen, frozen=True, kw_only=True):
    """The edge and the turn."""

    port: Port = 7000
    max_body_bytes: Positive = 1_048_576
    request_timeout_s: Seconds = 15.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    recall_budget_ms: Positive = 150
    recall_limit: Positive = 5
    recall_least_fit: Share = 0.02
    max_tool_rounds: Annotated[int, msgspec.Meta(ge=0, le=32)] = 4
    max_turn_s: Seconds = 300.0
    max_turn_usd: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    max_answer_tokens: Positive = 512
    caching: Caching = Caching()
    api_keys: dict[str, ApiKey] = {}


class Local(Section, frozen=True, kw_only=True):
    """llama.cpp in this process. `models` are names of the weights catalogue.

    `folder` holds further GGUF files of the user's own, each a model by its name in lower case.
    """

    models: tuple[str, ...] = ("qwen2.5-coder-0.5b-instruct",)
    folder: str = ""
    threads: Positive = 2
    gpu: bool = True
    context_tokens: Annotated[int, msgspec.Meta(ge=512)] = 8192
    parallel: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    warm: bool = True
    memory_budget_mb: Annotated[int, msgspec.Meta(ge=0)] = 0
    idle_unload_s: Seconds = 900.0
    stall_s: Seconds = 60.0


class Ollama(Section, frozen=True, kw_only=True):
    """An Ollama server. Used when a profile names one of its models as `ollama/<name>`."""

    base_url: str = ""
    models: tuple[str, ...] = ()


class Paid(Section, frozen=True, kw_only=True):
    """A provider with a key. Never called unless a profile or a request names its model."""

    api_key: Secret = Secret("")
    base_url: str = ""
    models: tuple[str, ...] = ()


class Custom(Section, frozen=True, kw_only=True):
    """A provider by its address. Its models are `<its name>/<theirs>`.

    `dialect` litellm is for those that speak neither format; the provider's name is then litellm's.
    Without `context_tokens` it is asked for its list of models. Prices are US dollars per million
    tokens; without them a call's cost is unknown, unless Sonia knows the model.
    """

    base_url: str = ""
    api_key: Secret = Secret("")
    dialect: Literal["openai", "anthropic", "litellm"] = "openai"
    models: tuple[str, ...] = ()
    context_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    vision: bool = False
    input_usd: Annotated[float, msgspec.Meta(ge=0)] | None = None
    output_usd: Annotated[float, msgspec.Meta(ge=0)] | None = None


class Providers(Section, frozen=True, kw_only=True):
    """Everyone who can answer. `custom` are those at an address of your own."""

    local: Local = Local()
    ollama: Ollama = Ollama()
    anthropic: Paid = Paid()
    openrouter: Paid = Paid()
    openai: Paid = Paid()
    custom: dict[str, Custom] = {}


DEFAULT_PROFILE = "chat_low_latency"
LOCAL_DEFAULT = "local/qwen2.5-coder-0.5b-instruct"


def _default_profiles() -> dict[str, tuple[str, ...]]:
    return {DEFAULT_PROFILE: (LOCAL_DEFAULT,)}


class Limit(Section, frozen=True, kw_only=True):
    """The most that may be used; 0 is no limit."""

    usd: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    tokens: Annotated[int, msgspec.Meta(ge=0)] = 0


class Budgets(Section, frozen=True, kw_only=True):
    """What models outside may take. A day is one of UTC."""

    on_limit: Literal["refuse", "ask", "local"] = "refuse"
    day: Limit = Limit()
    user_day: Limit = Limit()
    session: Limit = Limit()


class ModelRouter(Listen, frozen=True, kw_only=True):
    """Which model answers."""

    port: Port = 7010
    providers: Providers = Providers()
    profiles: dict[str, tuple[str, ...]] = msgspec.field(default_factory=_default_profiles)
    first_token_timeout_s: Seconds = 60.0
    total_timeout_s: Seconds = 300.0
    retries: Annotated[int, msgspec.Meta(ge=0, le=5)] = 1
    breaker_failures: Positive = 5
    breaker_open_s: Seconds = 30.0
    offline: bool = False
    budgets: Budgets = Budgets()


class EmbeddingModel(Section, frozen=True, kw_only=True):
    """Who turns text into vectors: `local`, `ollama`, or a provider by litellm's name for it.

    `api_key` and `base_url` are for the latter; what is empty is taken from the provider's own
    section, if it has one.
    """

    provider: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")] = "local"
    model: Text = "all-minilm-l6-v2"
    api_key: Secret = Secret("")
    base_url: str = ""


class Ranking(Section, frozen=True, kw_only=True):
    """How found memories are ordered."""

    candidates: Positive = 50
    recency_weight: Share = 0.1
    importance_weight: Share = 0.05
    diversity_weight: Share = 0.1
    access_weight: Slight = 0.05
    access_half_life_days: Days = 30.0


class Search(Section, frozen=True, kw_only=True):
    """How memories are taken up and looked for.

    `batch_size` texts are embedded at once; `hnsw_ef` vectors are compared exactly for each
    question. `bm25_k1` is how soon a repeated word stops counting, `bm25_b` how much a long text
    is held against it (Robertson and Zaragoza, 2009).
    """

    batch_size: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    hnsw_ef: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 200
    bm25_k1: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.2
    bm25_b: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.75


class Jobs(Section, frozen=True, kw_only=True):
    """How often memory does what it does by itself."""

    merge_every_minutes: Minutes = 10.0
    summarise_every_hours: Hours = 6.0
    decay_every_hours: Hours = 6.0


class HalfLives(Section, frozen=True, kw_only=True):
    """After how long a memory counts half, by type; `other` is for every other type."""

    fact: Days = 1460.0
    preference: Days = 1460.0
    summary: Days = 730.0
    episode: Days = 60.0
    task: Days = 60.0
    other: Days = 1460.0


class Decay(Section, frozen=True, kw_only=True):
    """What fades, and what becomes of it."""

    half_life_days: HalfLives = HalfLives()
    auto_archive: bool = True
    archive_after_days: Days = 90.0
    archive_below: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05


class Summaries(Section, frozen=True, kw_only=True):
    """When the episodes of a session are summed up."""

    after_days: Days = 30.0
    at_least: Annotated[int, msgspec.Meta(ge=2, le=256)] = 4


class Extraction(Section, frozen=True, kw_only=True):
    """How a model reads turns for memories, if the profile `memory_ops` names any."""

    idle_s: Seconds = 10.0
    deadline_s: Seconds = 60.0
    tries: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3


class Documents(Section, frozen=True, kw_only=True):
    """How documents are read and cut. Each is read in a process of its own, with these limits."""

    max_bytes: Positive = 268_435_456
    chunk_chars: Annotated[int, msgspec.Meta(ge=200, le=20_000)] = 1000
    overlap_chars: Annotated[int, msgspec.Meta(ge=0, le=5_000)] = 150
    max_read_s: Seconds = 300.0
    max_memory_mb: Annotated[int, msgspec.Meta(ge=256)] = 1536


class MemoryEngine(Listen, frozen=True, kw_only=True):
    """What was said, and finding it again."""

    port: Port = 7020
    embeddings: EmbeddingModel = EmbeddingModel()
    search: Search = Search()
    ranking: Ranking = Ranking()
    jobs: Jobs = Jobs()
    decay: Decay = Decay()
    summaries: Summaries = Summaries()
    extraction: Extraction = Extraction()
    documents: Documents = Documents()


class Pipecat(Listen, frozen=True, kw_only=True):
    """Voice sessions."""

    port: Port = 7030
    vad_threshold: Annotated[float, msgspec.Meta(ge=0.05, le=0.95)] = 0.5
    sample_rate: Literal[8000, 16000, 24000, 48000] = 16000
    chunk_size: Annotated[int, msgspec.Meta(ge=80, le=48_000)] = 512
    language: Text = "en"
    voice: Text = "af_heart"
    speed: Annotated[float, msgspec.Meta(ge=0.5, le=2)] = 1.0
    end_of_turn: Literal["quick", "balanced", "patient"] = "balanced"
    wake_word: Annotated[str, msgspec.Meta(max_length=64)] = ""
    interruption: Literal["words", "speech", "never"] = "words"
    idle_timeout_s: Seconds = 1800.0
    max_session_s: Seconds = 14_400.0
    max_sessions: Positive = 64
    max_message_bytes: Positive = 1_048_576
    max_audio_bytes: Positive = 104_857_600
    max_audio_s: Seconds = 3600.0
    wyoming_port: Port = 0


class McpServer(Section, frozen=True, kw_only=True):
    """A server whose tools become Sonia's: a program (`command`) or an address (`url`).

    `env` is added to the program's environment, `headers` to requests. In its sandbox a program
    has the network with `network` only, and sees `reads` and `writes`, relative to the workspace.
    """

    command: tuple[Text, ...] = ()
    sandbox: bool = True
    network: bool = False
    reads: tuple[Text, ...] = ()
    writes: tuple[Text, ...] = ()
    url: str = ""
    env: dict[str, Secret] = {}
    headers: dict[str, Secret] = {}
    timeout_s: Seconds = 30.0


class OpenClaw(Listen, frozen=True, kw_only=True):
    """What Sonia can do. Files are read and written below `workspace` only.

    `egress` is how far tools may reach; `egress_hosts` are `host`, `*.host` or `host:port`.
    """

    port: Port = 7040
    workspace: Text = "workspace"
    timeout_s: Seconds = 30.0
    max_file_bytes: Positive = 1_048_576
    max_output_bytes: Positive = 65_536
    egress: Egress = "open"
    egress_hosts: tuple[Host, ...] = ()
    search_url: str = ""
    packs: tuple[Pack, ...] = ()
    mcp: dict[str, McpServer] = {}


class EvaOs(Listen, frozen=True, kw_only=True):
    """What Sonia may do. `rules_file` "" is none, and `quiet_hours` "" never."""

    port: Port = 7050
    approval_ttl_s: Seconds = 300.0
    unattended_ttl_s: Seconds = 43_200.0
    max_pending: Positive = 20
    trust_ttl_s: Seconds = 3600.0
    quiet_hours: Clocked = ""
    rules_file: str = ""


class Services(Section, frozen=True, kw_only=True):
    """The six, under the names of the deployment guide."""

    api_gateway: ApiGateway = ApiGateway()
    model_router: ModelRouter = ModelRouter()
    memory_engine: MemoryEngine = MemoryEngine()
    pipecat: Pipecat = Pipecat()
    openclaw: OpenClaw = OpenClaw()
    eva_os: EvaOs = EvaOs()


class Logging(Section, frozen=True, kw_only=True):
    """One file per service, `<paths.logs>/services/<service>.log`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "console"] = "json"


class Paths(Section, frozen=True, kw_only=True):
    """Folders. A relative one is below the folder of the configuration file."""

    data: Text = "data"
    logs: Text = "logs"
    models: Text = "~/.cache/sonia/models"


class Backups(Section, frozen=True, kw_only=True):
    """Copies of the database. `folder` "" is the folder `backups` in the data folder."""

    every_hours: Annotated[float, msgspec.Meta(ge=0, le=8760)] = 24.0
    keep: Positive = 7
    folder: str = ""


class Shutdown(Section, frozen=True, kw_only=True):
    """How long in-flight work may take after the first signal."""

    grace_s: Seconds = 10.0


class Document(Section, frozen=True, kw_only=True):
    """What a configuration file may hold."""

    services: Services = Services()
    logging: Logging = Logging()
    paths: Paths = Paths()
    backups: Backups = Backups()
    shutdown: Shutdown = Shutdown()


class Config(Document, frozen=True, kw_only=True):
    """All of it, and where it came from.

    `source` is the file, `root` what relative paths are below; `overrides` maps a key's path to
    the environment variable that set it.
    """

    source: str | None = None
    root: str = ""
    overrides: dict[str, str] = {}

    def folder(self, path: str) -> Path:
        """Return `path` made absolute: `~` is the home folder, relative is below `root`."""
        return (Path(self.root or Path.cwd()) / Path(path).expanduser()).absolute()

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder(self.paths.data)

    @property
    def backups_folder(self) -> Path:
        """The folder of backups."""
        return self.folder(self.backups.folder) if self.backups.folder else self.data / "backups"

    @property
    def logs(self) -> Path:
        """The folder of log files."""
        return self.folder(self.paths.logs)

    @property
    def models(self) -> Path:
        """The folder of model weights, shared by every installation of this user."""
        return self.folder(self.paths.models)

    @property
    def workspace(self) -> Path:
        """The folder that file tools see."""
        return self.folder(self.services.openclaw.workspace)


FILE_SECTIONS = Document.__struct_fields__
HOME = Path("~/.sonia")


def find_file(explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file to use: the flag, `SONIA_CONFIG`, `./sonia.toml`, `~/.sonia/sonia.toml`.

    Raises `ConfigurationError` when one was named and is not there.
    """
    named = explicit or environ.get("SONIA_CONFIG")
    if named:
        path = Path(named).expanduser().absolute()
        if not path.is_file():
            raise ConfigurationError(f"{path}: no such configuration file.", path=str(path))
        return path
    for path in (Path("sonia.toml").absolute(), (HOME / "sonia.toml").expanduser()):
        if path.is_file():
            return path
    return None


def load(explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the file (if any), then the environment. Raises `ConfigurationError`."""
    path = find_file(explicit, environ)
    raw = read(path) if path else {}
    root = path.parent if path else HOME.expanduser()
    return parse(raw, environ, source=str(path) if path else None, root=str(root))


def parse(
    raw: dict[str, Any],
    environ: Mapping[str, str] | None = None,
    *,
    source: str | None = None,
    root: str = "",
) -> Config:
    """Check a decoded document and the environment over it. Raises `ConfigurationError`."""
    if found := mistakes(Document, raw):
        raise refuse(found, source)
    merged, overrides = overlay(raw, environ or {}, Document)
    _keep_default_profile(merged)
    config = msgspec.structs.replace(
        msgspec.convert(merged, Config, dec_hook=decode),
        source=source,
        root=root,
        overrides=overrides,
    )
    if found := check(config):
        raise refuse(found, source, overrides)
    return config


def _keep_default_profile(document: dict[str, Any]) -> None:
    """Profiles that are added leave the one that answers when none is named."""
    router = document.get("services", {}).get("model_router", {})
    if "profiles" in router:
        router["profiles"] = {**_default_profiles(), **router["profiles"]}


def shown(config: Config) -> dict[str, Any]:
    """The effective configuration as plain values, secrets as `***`, for `config show`."""
    plain: dict[str, Any] = msgspec.to_builtins(config, enc_hook=encode)
    return {key: plain[key] for key in FILE_SECTIONS}
