"""Who there is outside this process, by the configuration."""

from __future__ import annotations

from sonia.config import Custom, Paid, Providers
from sonia.router.backends.anthropic_dialect import AnthropicDialect
from sonia.router.backends.base import Backend
from sonia.router.backends.dialect import Dialect
from sonia.router.backends.direct import DirectBackend, Provider
from sonia.router.backends.facts import ModelFacts, Price
from sonia.router.backends.ollama_dialect import OllamaDialect
from sonia.router.backends.openai_dialect import OpenAiDialect
from sonia.router.backends.remote import RemoteBackend
from sonia.router.backends.wire import Wire, is_loopback

OFFLINE = "services.model_router.offline is true"


def remote_backends(config: Providers, wire: Wire, *, offline: bool = False) -> list[Backend]:
    """Every remote provider, configured or not. `offline`: only this machine's own servers."""
    missing = "" if config.ollama.base_url else "set OLLAMA_BASE_URL, e.g. http://127.0.0.1:11434"
    named = [
        Provider(
            name="ollama",
            dialect=OllamaDialect(),
            base_url=config.ollama.base_url,
            models=config.ollama.models,
            missing=missing,
            free=True,
            lists="ollama",
        ),
        _paid("anthropic", config.anthropic, AnthropicDialect(), "https://api.anthropic.com"),
        _paid(
            "openrouter",
            config.openrouter,
            OpenAiDialect(counts_cost=True),
            "https://openrouter.ai/api/v1",
            lists="openai",
        ),
        _paid("openai", config.openai, OpenAiDialect(own=True), "https://api.openai.com/v1"),
    ]
    backends: list[Backend] = [_backend(one, wire, offline) for one in named]
    for name, custom in config.custom.items():
        if custom.dialect == "litellm":
            backends.append(RemoteBackend.foreign(name, custom, OFFLINE if offline else ""))
        else:
            backends.append(_backend(_custom(name, custom), wire, offline))
    return backends


def _backend(provider: Provider, wire: Wire, offline: bool) -> DirectBackend:
    if offline and not provider.missing and not is_loopback(provider.base_url):
        import msgspec

        provider = msgspec.structs.replace(provider, missing=OFFLINE)
    return DirectBackend(provider, wire)


def _paid(name: str, config: Paid, dialect: Dialect, usual: str, lists: str = "") -> Provider:
    variable = f"{name.upper()}_API_KEY"
    return Provider(
        name=name,
        dialect=dialect,
        base_url=config.base_url or usual,
        models=config.models,
        api_key=config.api_key,
        key_variable=variable,
        missing="" if config.api_key else f"set {variable}",
        lists=lists,
    )


def _custom(name: str, config: Custom) -> Provider:
    dialects: dict[str, Dialect] = {"anthropic": AnthropicDialect(), "openai": OpenAiDialect()}
    return Provider(
        name=name,
        dialect=dialects[config.dialect],
        base_url=config.base_url,
        models=config.models,
        api_key=config.api_key,
        key_variable=f"services.model_router.providers.custom.{name}.api_key",
        lists="" if config.context_tokens else "openai",
        facts=custom_facts(config),
    )


def custom_facts(config: Custom) -> ModelFacts | None:
    """What the configuration says of a custom provider's models; None when it says nothing."""
    if not config.context_tokens:
        return None
    price = None
    if config.input_usd is not None and config.output_usd is not None:
        price = Price(input=config.input_usd, output=config.output_usd)
    return ModelFacts(context_tokens=config.context_tokens, vision=config.vision, price=price)
