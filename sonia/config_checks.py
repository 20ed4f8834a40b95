"""What no single key can know: settings that are each right and together impossible."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sonia.config_errors import Mistake, quoted

if TYPE_CHECKING:
    from sonia.config import Config, Custom, Listen, McpServer, ModelRouter, Providers

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PROVIDERS = ("local", "ollama", "anthropic", "openrouter", "openai")


def check(config: Config) -> list[Mistake]:
    """Everything that would fail later, in the order of the sections."""
    services = {name: getattr(config.services, name) for name in config.services.__struct_fields__}
    router = config.services.model_router
    return [
        *_addresses(services),
        *_store(config),
        *_urls(router),
        *_search(config.services.openclaw.search_url),
        *_profiles(router),
        *_embeddings(config),
        *_documents(config),
        *_folders(config),
        *_mcp(config),
    ]


def _addresses(services: dict[str, Listen]) -> Iterator[Mistake]:
    taken: dict[int, str] = {}
    for name, listen in services.items():
        if listen.host not in LOOPBACK:
            yield Mistake(
                ("services", name, "host"),
                f"{quoted(listen.host)} would let other machines in, and there is no sign-in yet. "
                f"Use {', '.join(LOOPBACK[:-1])} or {LOOPBACK[-1]}.",
            )
        if listen.port in taken:
            yield Mistake(
                ("services", name, "port"),
                f"{listen.port} is already the port of services.{taken[listen.port]}. "
                "Give each service its own, or 0 for any free one.",
            )
        elif listen.port:
            taken[listen.port] = name


def _store(config: Config) -> Iterator[Mistake]:
    path = ("services", "api_gateway", "caching", "store")
    store = config.services.api_gateway.caching.store
    if store == "memory":
        return
    right = '"memory" or a URL like valkey://localhost:6379/0'
    try:
        parts = urlsplit(store)
        whole = bool(parts.path if parts.scheme == "unix" else parts.hostname and parts.port != 0)
    except ValueError:
        yield Mistake(path, f"not a URL. Expected {right}.")
        return
    if parts.scheme not in ("valkey", "valkeys", "unix") or not whole:
        yield Mistake(path, f"expected {right}.")
    elif "@" in parts.netloc or parts.query or parts.fragment:
        yield Mistake(path, "a name or a query does not belong here; see store_password.")
    elif config.services.model_router.offline and parts.hostname not in (None, *LOOPBACK):
        yield Mistake(path, "services.model_router.offline keeps to this machine, this does not.")


def _urls(router: ModelRouter) -> Iterator[Mistake]:
    for name in PROVIDERS[1:]:
        url = getattr(router.providers, name).base_url
        if url and (wrong := _wrong_url(url)):
            path = ("services", "model_router", "providers", name, "base_url")
            yield Mistake(path, f"{wrong} Expected a URL like http://127.0.0.1:11434.")
    for name, custom in router.providers.custom.items():
        yield from _custom(name, custom)


def _search(url: str) -> Iterator[Mistake]:
    if url and (wrong := _wrong_url(url)):
        path = ("services", "openclaw", "search_url")
        yield Mistake(path, f"{wrong} Expected a URL like http://127.0.0.1:8888.")


def _custom(name: str, custom: Custom) -> Iterator[Mistake]:
    path = ("services", "model_router", "providers", "custom", name)
    if name in PROVIDERS:
        yield Mistake(path, f"{name} is a provider already. Choose another name.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        yield Mistake(path, "a name has small letters, digits, - and _ only.")
    if not custom.base_url and custom.dialect != "litellm":
        yield Mistake((*path, "base_url"), "expected a URL like https://example.org/v1.")
    if custom.base_url and (wrong := _wrong_url(custom.base_url)):
        yield Mistake((*path, "base_url"), f"{wrong} Expected a URL like https://example.org/v1.")
    if (custom.input_usd is None) != (custom.output_usd is None):
        yield Mistake(path, "input_usd and output_usd are given together.")


def _mcp(config: Config) -> Iterator[Mistake]:
    for name, server in config.services.openclaw.mcp.items():
        path = ("services", "openclaw", "mcp", name)
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", name):
            yield Mistake(path, "a name has 1 to 32 small letters, digits, - and _ only.")
        if bool(server.command) == bool(server.url):
            yield Mistake(path, "expected either a command or a url.")
        if server.url and (wrong := _wrong_url(server.url)):
            what = f"{wrong} Expected a URL like http://127.0.0.1:8000/mcp."
            yield Mistake((*path, "url"), what)
        yield from _walls(path, server, config.services.openclaw.egress)


def _walls(path: tuple[str, ...], server: McpServer, egress: str) -> Iterator[Mistake]:
    given = [key for key in ("network", "reads", "writes") if getattr(server, key)]
    if given and (server.url or not server.sandbox):
        which = "a url" if server.url else "sandbox = false"
        yield Mistake((*path, given[0]), f"is for a program in its sandbox, and there is {which}.")
    elif server.network and egress != "open":
        yield Mistake(
            (*path, "network"),
            f'with it a program goes anywhere, and services.openclaw.egress is "{egress}".',
        )


def _wrong_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return "not a URL."
    if parts.scheme not in ("http", "https") or not whole or not url.isprintable() or " " in url:
        return "not an http or https URL."
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "a name, a password or a query does not belong here."
    return None


def _profiles(router: ModelRouter) -> Iterator[Mistake]:
    path = ("services", "model_router", "profiles")
    for profile, models in router.profiles.items():
        if not models:
            yield Mistake((*path, profile), "expected at least one model, found an empty list.")
        for index, model in enumerate(models):
            if wrong := _wrong_model(model, router.providers):
                yield Mistake((*path, profile, f"[{index}]"), wrong)


def _wrong_model(model: str, configured: Providers) -> str | None:
    local, known = configured.local, (*PROVIDERS, *configured.custom)
    provider, slash, name = model.partition("/")
    if not slash or not name or not model.isprintable() or " " in model:
        return (
            f'{quoted(model)} is not a model id. Expected "provider/model", '
            f"with a provider of {', '.join(known)}."
        )
    if provider not in known:
        return f"unknown provider {quoted(provider)}. Known providers: {', '.join(known)}."
    if provider == "local" and name not in local.models and not local.folder:
        return (
            f"the local model '{name}' is not in services.model_router.providers.local.models "
            f"({', '.join(local.models) or 'which is empty'}). Add it there or name one of those."
        )
    return None


def _embeddings(config: Config) -> Iterator[Mistake]:
    path = ("services", "memory_engine", "embeddings")
    embeddings = config.services.memory_engine.embeddings
    if (
        embeddings.provider == "ollama"
        and not config.services.model_router.providers.ollama.base_url
    ):
        yield Mistake(
            (*path, "provider"),
            "ollama needs services.model_router.providers.ollama.base_url, "
            "for example http://127.0.0.1:11434.",
        )
    if embeddings.provider == "anthropic":
        yield Mistake((*path, "provider"), "anthropic has no models that make vectors.")
    if embeddings.base_url and (wrong := _wrong_url(embeddings.base_url)):
        yield Mistake((*path, "base_url"), f"{wrong} Expected a URL like http://127.0.0.1:8000/v1.")


def _documents(config: Config) -> Iterator[Mistake]:
    documents = config.services.memory_engine.documents
    if documents.overlap_chars * 2 >= documents.chunk_chars:
        yield Mistake(
            ("services", "memory_engine", "documents", "overlap_chars"),
            f"{documents.overlap_chars} is not less than half of chunk_chars "
            f"({documents.chunk_chars}).",
        )


def _folders(config: Config) -> Iterator[Mistake]:
    folders = {
        ("paths", "data"): config.paths.data,
        ("paths", "logs"): config.paths.logs,
        ("paths", "models"): config.paths.models,
        ("services", "model_router", "providers", "local", "folder"): (
            config.services.model_router.providers.local.folder
        ),
        ("backups", "folder"): config.backups.folder,
        ("services", "openclaw", "workspace"): config.services.openclaw.workspace,
    }
    found: dict[tuple[str, ...], Path] = {}
    for path, folder in folders.items():
        if not folder.isprintable():
            yield Mistake(path, "a path has no control characters.")
        try:
            found[path] = config.folder(folder)
        except RuntimeError:
            yield Mistake(path, "there is no such user's home folder. Write the path in full.")
    if len(found) == len(folders) and config.data.is_relative_to(config.workspace):
        yield Mistake(
            ("services", "openclaw", "workspace"),
            "paths.data lies in it, so tools would reach Sonia's own data. Choose another folder.",
        )
    if len(found) == len(folders) and config.backups_folder.is_relative_to(config.workspace):
        yield Mistake(
            ("backups", "folder"),
            "it lies in services.openclaw.workspace, so tools would reach the backups. "
            "Choose another folder.",
        )
