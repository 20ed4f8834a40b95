"""`sonia.toml` as frozen structs.

The same structure may be written as JSON. Environment variables named
`SONIA__SECTION__KEY` (upper case, two underscores between levels) override the file;
`ANTHROPIC_API_KEY`, `OPENROUTER_API_KEY` and `OLLAMA_BASE_URL` fill in a provider that
the file leaves empty. An unknown key or a wrong type is a `ConfigurationError` that names
the key's path and what would be right.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sonia.errors import ConfigurationError

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]

PLACEHOLDERS = frozenset({"", "required", "optional", "changeme"})


class Secret:
    """A string that never shows itself: `repr`, `str` and encoders see `***`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself; for the one line that sends it."""
        return self._text

    def __bool__(self) -> bool:
        return self._text.strip().lower() not in PLACEHOLDERS

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret('')"

    def __str__(self) -> str:
        return "***" if self else ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: an unknown key is an error."""


class Listen(Section, frozen=True, kw_only=True):
    """Where a service listens. Port 0 takes any free port."""

    host: str = "127.0.0.1"
    port: Port = 0
    version: str | None = None  # accepted from older files; `/version` answers the package's


class ApiGateway(Listen, frozen=True, kw_only=True):
    """The edge and the turn."""

    port: Port = 7000
    max_body_bytes: Positive = 1_048_576
    request_timeout_s: Seconds = 15.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    recall_budget_ms: Positive = 150
    recall_limit: Positive = 5
    max_tool_rounds: Annotated[int, msgspec.Meta(ge=0, le=32)] = 4
    max_answer_tokens: Positive = 512


class Local(Section, frozen=True, kw_only=True):
    """llama.cpp in this process. `models` are names of the weights catalogue."""

    models: tuple[str, ...] = ("qwen2.5-coder-0.5b-instruct",)
    threads: Positive = 2
    context_tokens: Annotated[int, msgspec.Meta(ge=512)] = 8192
    parallel: Positive = 1


class Ollama(Section, frozen=True, kw_only=True):
    """An Ollama server. Used when a profile names one of its models as `ollama/<name>`."""

    base_url: str = ""
    models: tuple[str, ...] = ()


class Paid(Section, frozen=True, kw_only=True):
    """A provider with a key. Never called unless a profile or a request names its model."""

    api_key: Secret = Secret("")
    base_url: str = ""
    models: tuple[str, ...] = ()


class Providers(Section, frozen=True, kw_only=True):
    """Everyone who can answer."""

    local: Local = Local()
    ollama: Ollama = Ollama()
    anthropic: Paid = Paid()
    openrouter: Paid = Paid()


LOCAL_DEFAULT = "local/qwen2.5-coder-0.5b-instruct"


class ModelRouter(Listen, frozen=True, kw_only=True):
    """Which model answers."""

    port: Port = 7010
    providers: Providers = Providers()
    profiles: dict[str, tuple[str, ...]] = msgspec.field(
        default_factory=lambda: {"chat_low_latency": (LOCAL_DEFAULT,)}
    )
    first_token_timeout_s: Seconds = 60.0
    total_timeout_s: Seconds = 300.0


class EmbeddingModel(Section, frozen=True, kw_only=True):
    """Who turns text into vectors."""

    provider: Literal["local", "ollama"] = "local"
    model: str = "all-minilm-l6-v2"


class Ranking(Section, frozen=True, kw_only=True):
    """How found memories are ordered."""

    candidates: Positive = 50
    half_life_days: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    recency_weight: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1


class MemoryEngine(Listen, frozen=True, kw_only=True):
    """What was said, and finding it again."""

    port: Port = 7020
    embeddings: EmbeddingModel = EmbeddingModel()
    ranking: Ranking = Ranking()


class Pipecat(Listen, frozen=True, kw_only=True):
    """Voice sessions."""

    port: Port = 7030
    max_sessions: Positive = 64
    max_message_bytes: Positive = 1_048_576


class OpenClaw(Listen, frozen=True, kw_only=True):
    """What Sonia can do. Files are read and written below `workspace` only."""

    port: Port = 7040
    workspace: str = "workspace"
    timeout_s: Seconds = 30.0
    max_file_bytes: Positive = 1_048_576
    max_output_bytes: Positive = 65_536


class EvaOs(Listen, frozen=True, kw_only=True):
    """What Sonia may do."""

    port: Port = 7050
    approval_ttl_s: Seconds = 300.0
    max_pending: Positive = 20


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

    data: str = "data"
    logs: str = "logs"
    models: str = "~/.cache/sonia/models"


class Shutdown(Section, frozen=True, kw_only=True):
    """How long in-flight work may take after the first signal."""

    grace_s: Seconds = 10.0


class Config(Section, frozen=True, kw_only=True):
    """All of it. `source` is the file it came from, `root` what relative paths are below."""

    services: Services = Services()
    logging: Logging = Logging()
    paths: Paths = Paths()
    shutdown: Shutdown = Shutdown()

    source: str | None = None
    root: str = ""

    def folder(self, path: str) -> Path:
        """Return `path` made absolute: `~` is the home folder, relative is below `root`."""
        return (Path(self.root or Path.cwd()) / Path(path).expanduser()).absolute()

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder(self.paths.data)

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


FILE_SECTIONS = ("services", "logging", "paths", "shutdown")
HOME = Path("~/.sonia")


def find_file(explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file to use: the flag, `SONIA_CONFIG`, `./sonia.toml`, `~/.sonia/sonia.toml`.

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
    raw = _read(path) if path else {}
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
    for key in raw:
        if key not in FILE_SECTIONS:
            raise _unknown(key, FILE_SECTIONS, source)
    merged = _from_environment(raw, environ or {})
    try:
        config: Config = msgspec.convert(merged, Config, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise _explain(error, merged, source) from error
    return msgspec.structs.replace(config, source=source, root=root)


def shown(config: Config) -> dict[str, Any]:
    """The effective configuration as plain values, secrets as `***`, for `config show`."""
    plain: dict[str, Any] = msgspec.to_builtins(config, enc_hook=_encode)
    return {key: plain[key] for key in FILE_SECTIONS}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        raw = msgspec.json.decode(data) if path.suffix == ".json" else tomllib.loads(data.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path}: {error}", path=str(path)) from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path}: expected an object with the keys {', '.join(FILE_SECTIONS)}.")
    return raw


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def _encode(value: Any) -> Any:
    if isinstance(value, Secret):
        return str(value)
    raise TypeError(type(value).__name__)


# --- the environment -------------------------------------------------------------------


def _from_environment(raw: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    merged: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(raw))
    for name in sorted(environ):
        if name.startswith("SONIA__"):
            _put(merged, name, environ[name])
    for path, name in (
        (("anthropic", "api_key"), "ANTHROPIC_API_KEY"),
        (("openrouter", "api_key"), "OPENROUTER_API_KEY"),
        (("ollama", "base_url"), "OLLAMA_BASE_URL"),
    ):
        if environ.get(name):
            _fill(merged, ("services", "model_router", "providers", *path), environ[name])
    return merged


def _put(document: dict[str, Any], name: str, text: str) -> None:
    path = name.removeprefix("SONIA__").lower().split("__")
    kind: Any = Config
    for key in path:
        fields = _keys(kind)
        if key not in fields or (kind is Config and key not in FILE_SECTIONS):
            known = FILE_SECTIONS if kind is Config else tuple(fields)
            raise _unknown(key, known, f"environment variable {name}")
        kind = fields[key]
    try:
        value = msgspec.convert(text, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError:
        try:
            value = msgspec.json.decode(text)
            msgspec.convert(value, kind, dec_hook=_decode)
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"environment variable {name}: {_plain(str(error))}.", variable=name
            ) from error
    _at(document, tuple(path[:-1]), name)[path[-1]] = text if isinstance(value, Secret) else value


def _fill(document: dict[str, Any], path: tuple[str, ...], text: str) -> None:
    section = _at(document, path[:-1], path[-1])
    current = section.get(path[-1], "")
    if isinstance(current, str) and current.strip().lower() in PLACEHOLDERS:
        section[path[-1]] = text


def _at(document: dict[str, Any], path: tuple[str, ...], name: str) -> dict[str, Any]:
    for key in path:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise ConfigurationError(f"{key} must be a table to set {name} in it.", key=key)
    return document


def _keys(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return typing.get_type_hints(kind, include_extras=True)
    if typing.get_origin(kind) is dict:
        return _AnyKey(typing.get_args(kind)[1])
    return {}


class _AnyKey(dict[str, Any]):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self._kind = kind

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Any:
        return self._kind


# --- saying what is wrong --------------------------------------------------------------

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"unknown field `(?P<field>[^`]*)`")


def _explain(
    error: msgspec.ValidationError, document: dict[str, Any], source: str | None
) -> ConfigurationError:
    match = _WHERE.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    field = _FIELD.search(what)
    keys = [key for key in path.split(".") if key]
    if field:
        kind: Any = Config
        for key in keys:
            kind = _keys(kind)[key]
        return _unknown(".".join([*keys, field["field"]]), tuple(_keys(kind)), source)
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    secret = "key" in (keys[-1] if keys else "")
    got = "" if secret or isinstance(value, dict) else f" (found {value!r})"
    return ConfigurationError(
        f"{_in(source)}{path or 'the document'}: {_plain(what)}{got}.", key=path, source=source
    )


def _plain(what: str) -> str:
    text = _WHERE.sub(lambda match: match["what"], what).replace("`", "")
    for ours, theirs in {"int": "an integer", "str": "a string", "float": "a number", "bool": "true or false"}.items():
        text = re.sub(rf"\b{ours}\b", theirs, text)
    return text.replace("Expected", "expected").replace("object", "a table")


def _unknown(path: str, known: tuple[str, ...], source: str | None) -> ConfigurationError:
    near = difflib.get_close_matches(path.rpartition(".")[2], known, n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return ConfigurationError(
        f"{_in(source)}{path}: unknown key. {hint}Known keys here: {', '.join(known)}.",
        key=path,
        source=source,
    )


def _in(source: str | None) -> str:
    return f"{source}: " if source else ""


