"""The configuration: what is right loads, what is wrong is named, secrets stay secret."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonia.config import Config, Document, Secret, find_file, load, parse, shown
from sonia.config_errors import keys_of
from sonia.errors import ConfigurationError

SHIPPED = Path(__file__).parents[2] / "sonia.toml"
KEY_PATH = "services.model_router.providers.anthropic.api_key"
GUIDE = """
{
  "services": {
    "api_gateway": {"port": 7000, "host": "127.0.0.1", "version": "1.0.0"},
    "model_router": {
      "port": 7010,
      "providers": {
        "ollama": {"base_url": "http://127.0.0.1:11434"},
        "anthropic": {"api_key": "required"},
        "openrouter": {"api_key": "required"}
      }
    },
    "memory_engine": {
      "port": 7020,
      "embeddings": {"provider": "ollama", "model": "nomic-embed-text"}
    },
    "pipecat": {"port": 7030},
    "openclaw": {"port": 7040},
    "eva_os": {"port": 7050}
  },
  "logging": {"level": "INFO", "format": "json"}
}
"""


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def refusal(raw: dict[str, Any], environ: dict[str, str] | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse(raw, environ)
    return caught.value


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# --- what is right -----------------------------------------------------------------------


def test_the_shipped_file_says_exactly_the_defaults() -> None:
    shipped = tomllib.loads(SHIPPED.read_text())

    assert parse(shipped) == parse({})


def test_every_key_of_every_section_is_in_the_shipped_file() -> None:
    written: dict[str, set[str]] = {"": set()}
    for line in SHIPPED.read_text().splitlines():
        if header := re.fullmatch(r"\[(.+)\]", line):
            written[header[1]] = names = set()
        elif key := re.match(r"(?:# )?([a-z0-9_]+) =", line):
            names.add(key[1])

    for path, keys in sections():
        assert keys - {"version"} <= written.get(path, set()), path
    assert "version" in written["services.api_gateway"]


def sections(kind: Any = Document, path: str = "") -> list[tuple[str, set[str]]]:
    """Every section's path, with the keys that are no sections themselves."""
    keys = keys_of(kind) or {}
    inner = {
        key: kind
        for key, kind in keys.items()
        if keys_of(kind) or key in ("profiles", "custom", "mcp")
    }
    found = [(path, set(keys) - set(inner))]
    for key, kind in inner.items():
        found.extend(sections(kind, f"{path}.{key}" if path else key))
    return found


def test_every_line_of_the_shipped_file_that_looks_like_a_key_is_one() -> None:
    text = SHIPPED.read_text()
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith(("# version =", "# careful =")) else line
        for line in text.splitlines()
    )

    assert "careful" in parse(tomllib.loads(uncommented)).services.model_router.profiles


def test_the_deployment_guides_example_loads_as_it_stands(tmp_path: Path) -> None:
    config = load(write(tmp_path / "sonia-config.json", GUIDE), {})

    assert not config.services.model_router.providers.anthropic.api_key
    assert config.services.memory_engine.embeddings.provider == "ollama"
    assert config.services.memory_engine.embeddings.model == "nomic-embed-text"
    assert config.services.model_router.providers.ollama.base_url == "http://127.0.0.1:11434"


def test_the_deployment_guides_search_knobs_load_below_services(tmp_path: Path) -> None:
    tuned = {"batch_size": 64, "hnsw_ef": 128, "bm25_k1": 1.5, "bm25_b": 0.75}
    text = json.dumps({"services": {"memory_engine": {"search": tuned}}})

    config = load(write(tmp_path / "sonia.json", text), {})

    assert msgspec.to_builtins(config.services.memory_engine.search) == tuned


@pytest.mark.parametrize(("name", "text"), [("a.toml", ""), ("a.json", " \n"), ("a.json", "{}")])
def test_an_empty_file_is_the_defaults(tmp_path: Path, name: str, text: str) -> None:
    config = load(write(tmp_path / name, text), {})

    assert shown(config) == shown(parse({}))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbf[logging]\nlevel = "DEBUG"\n')

    assert load(str(tmp_path / "a.toml"), {}).logging.level == "DEBUG"


# --- where it is from --------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_without_any_file_everything_is_below_the_home_folder(home: Path) -> None:
    config = load(None, {})

    assert config.source is None
    assert config.data == home / ".sonia/data"
    assert config.logs == home / ".sonia/logs"
    assert config.workspace == home / ".sonia/workspace"
    assert config.models == home / ".cache/sonia/models"


def test_the_file_here_goes_before_the_one_at_home(home: Path) -> None:
    (home / ".sonia").mkdir()
    (home / ".sonia/sonia.toml").touch()
    at_home = load(None, {})
    Path("sonia.toml").touch()

    here = load(None, {})

    assert at_home.data == home / ".sonia/data"
    assert here.data == Path.cwd() / "data"


def test_the_flag_goes_before_the_variable_and_the_variable_before_files(home: Path) -> None:
    for name in ("sonia.toml", "variable.toml", "flag.toml"):
        Path(name).touch()
    environ = {"SONIA_CONFIG": "variable.toml"}

    assert find_file("flag.toml", environ) == Path.cwd() / "flag.toml"
    assert find_file(None, environ) == Path.cwd() / "variable.toml"
    assert find_file(None, {}) == Path.cwd() / "sonia.toml"


def test_a_named_file_that_is_not_there_is_refused(home: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: no such configuration file"):
        load("nowhere.toml", {})


def test_relative_folders_are_below_the_file_and_absolute_ones_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", '[paths]\ndata = "deep/data"\nlogs = "/var/log/sonia"\n')

    config = load(path, {})

    assert config.data == tmp_path / "deep/data"
    assert config.logs == Path("/var/log/sonia")


# --- what is wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("logging.level", "verbose", 'one of "DEBUG", "INFO", "WARNING", "ERROR", found "verbose"'),
        ("services.pipecat.port", 65536, "an integer, at least 0, at most 65535, found 65536"),
        ("services.pipecat.port", "7030", 'an integer, at least 0, at most 65535, found "7030"'),
        ("services.pipecat.port", True, "found true"),
        ("shutdown.grace_s", float("nan"), "a number, above 0, at most 604800, found nan"),
        ("shutdown.grace_s", float("inf"), "found inf"),
        ("paths.data", "", "a string that is not empty"),
        ("services.memory_engine.search.hnsw_ef", 0, "an integer, at least 1, at most 4096"),
        ("services.memory_engine.search.bm25_b", 1.5, "a number, at least 0, at most 1"),
        ("services", [], "expected a table, found a list"),
        ("services.model_router.profiles", {"x": "a/b"}, "a list like"),
        (KEY_PATH, 12345, "expected a string (the secret itself"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(path: str, value: Any, said: str) -> None:
    error = refusal(nested(path, value))

    assert path.partition(".x")[0] in error.details["key"]
    assert error.details["key"] in error.message
    assert said in error.message


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("service", "services"),
        ("services.apigateway", "api_gateway"),
        ("services.pipecat.prot", "port"),
        ("services.model_router.providers.openruter", "openrouter"),
        ("source", "services"),
    ],
)
def test_an_unknown_key_is_named_with_the_known_ones(path: str, near: str) -> None:
    error = refusal(nested(path, {}))

    assert error.details["key"] == path
    assert error.details["pointer"] == "/" + path.replace(".", "/")
    assert near in error.message


def test_all_mistakes_are_told_at_once() -> None:
    raw = {"logging": {"level": "loud"}, "paths": {"date": "x"}, "shutdown": {"grace_s": 0}}

    error = refusal(raw)

    keys = [one["key"] for one in error.details["errors"]]
    assert keys == ["logging.level", "paths.date", "shutdown.grace_s"]
    assert len(error.message.splitlines()) == 3


def test_a_mistake_in_a_list_names_its_place() -> None:
    error = refusal({"services": {"model_router": {"profiles": {"a/b": ["local/x", 3]}}}})

    assert "services.model_router.profiles.a/b[1]" in error.message
    assert error.details["pointer"] == "/services/model_router/profiles/a~1b/1"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", b'[logging]\nlevel = "INFO"\nlevel = "INFO"\n', "line 3"),
        ("a.toml", b"[logging\n", "line 1"),
        ("a.toml", b"\n\n\xff", "not UTF-8 on line 3"),
        ("a.toml", b"a = " + b"[" * 5000, "not TOML"),
        ("a.json", b'{\n  "logging": {,}\n}', "line 2, column 15"),
        ("a.json", b'{"logging": {},\n "logging": {}}', "'logging' stands twice"),
        ("a.json", b'{"shutdown": {"grace_s": NaN}}', "NaN is not a JSON number"),
        ("a.json", b"[]", "expected an object"),
        ("a.json", b'{"a":' * 100_000, "not JSON"),
    ],
)
def test_a_malformed_file_is_named_with_the_place(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        load(str(tmp_path / name), {})

    assert said in caught.value.message
    assert name in caught.value.message


def test_two_services_on_one_port_are_refused_and_port_0_may_be_shared() -> None:
    error = refusal({"services": {"pipecat": {"port": 7000}}})
    several_free = {"pipecat": {"port": 0}, "openclaw": {"port": 0}}

    assert "7000 is already the port of services.api_gateway" in error.message
    assert parse({"services": several_free}).services.pipecat.port == 0


@pytest.mark.parametrize(
    ("server", "egress", "said"),
    [
        ({}, "open", "either a command or a url"),
        ({"command": ["a"], "network": True}, "lan", 'egress is "lan"'),
        ({"url": "http://127.0.0.1:1/mcp", "network": True}, "open", "there is a url"),
        ({"command": ["a"], "sandbox": False, "reads": ["b"]}, "open", "there is sandbox = false"),
    ],
)
def test_walls_that_would_hold_nothing_are_refused(
    server: dict[str, Any], egress: str, said: str
) -> None:
    error = refusal(nested("services.openclaw", {"egress": egress, "mcp": {"x": server}}))

    assert "services.openclaw.mcp.x" in error.message
    assert said in error.message


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "sonia.home", ""])
def test_only_this_machine_may_be_listened_to(host: str) -> None:
    error = refusal(nested("services.eva_os.host", host))

    assert "services.eva_os.host" in error.message
    assert "127.0.0.1, ::1 or localhost" in error.message


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gpt", "is not a model id"),
        ("anthropic/", "is not a model id"),
        ("opnai/gpt", 'unknown provider "opnai". Known providers: local, ollama'),
        ("local/elsewhere", "is not in services.model_router.providers.local.models"),
    ],
)
def test_a_profile_names_models_that_can_be_asked(model: str, said: str) -> None:
    error = refusal(nested("services.model_router.profiles", {"chat_low_latency": [model]}))

    assert "services.model_router.profiles.chat_low_latency[0]" in error.message
    assert said in error.message


def test_there_is_always_a_model_for_a_request_without_a_profile() -> None:
    config = parse(nested("services.model_router.profiles", {"other": ["ollama/a"]}))

    assert config.services.model_router.profiles == {
        "chat_low_latency": ("local/qwen2.5-coder-0.5b-instruct",),
        "other": ("ollama/a",),
    }
    assert "at least one model" in str(
        refusal(nested("services.model_router.profiles", {"chat_low_latency": []}))
    )


@pytest.mark.parametrize(
    "url",
    ["localhost:11434", "ftp://a", "http://", "http://a b", "http://me:pw@host", "http://a:99999"],
)
def test_a_base_url_is_a_plain_url(url: str) -> None:
    error = refusal(nested("services.model_router.providers.ollama.base_url", url))

    assert "Expected a URL like" in error.message
    assert "pw" not in error.message


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("redis://localhost", "expected"),
        ("valkey://", "expected"),
        ("unix://", "expected"),
        ("valkey://ann:secret@localhost:6379/0", "store_password"),
        ("valkey://[::1", "not a URL"),
    ],
)
def test_a_store_of_kept_answers_is_memory_or_a_plain_url(store: str, said: str) -> None:
    told = refusal(nested("services.api_gateway.caching.store", store)).message

    assert "services.api_gateway.caching.store" in told
    assert said in told
    assert "secret" not in told


def test_offline_keeps_the_store_of_kept_answers_on_this_machine() -> None:
    def document(store: str) -> dict[str, Any]:
        caching = {"caching": {"store": store}}
        return {"services": {"api_gateway": caching, "model_router": {"offline": True}}}

    assert "this machine" in refusal(document("valkey://cache.example:6379/0")).message
    parse(document("valkey://localhost:6379/0"), {})
    parse(document("unix:///run/valkey.sock"), {})


def test_ollama_needs_its_address_to_make_vectors() -> None:
    error = refusal(nested("services.memory_engine.embeddings.provider", "ollama"))

    assert "services.model_router.providers.ollama.base_url" in error.message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("paths.logs", "~nobody-of-that-name/logs", "no such user's home folder"),
        ("paths.data", "a\0b", "no control characters"),
        ("services.openclaw.workspace", ".", "paths.data lies in it"),
    ],
)
def test_an_impossible_folder_is_refused(path: str, value: str, said: str) -> None:
    error = refusal(nested(path, value))

    assert path in error.message
    assert said in error.message


# --- the environment ---------------------------------------------------------------------


def test_the_environment_overrides_the_file_and_is_remembered() -> None:
    environ = {
        "SONIA__SERVICES__PIPECAT__PORT": "7031",
        "SONIA__SHUTDOWN__GRACE_S": "2.5",
        "SONIA__LOGGING__LEVEL": "DEBUG",
        "SONIA__SERVICES__MODEL_ROUTER__PROVIDERS__OLLAMA__MODELS": '["llama3.2"]',
        "SONIA__SERVICES__MODEL_ROUTER__PROFILES__CAREFUL": '["ollama/llama3.2"]',
        "OTHER": "ignored",
    }

    config = parse({"services": {"pipecat": {"port": 1}}}, environ)

    router = config.services.model_router
    assert config.services.pipecat.port == 7031
    assert config.shutdown.grace_s == 2.5
    assert router.providers.ollama.models == ("llama3.2",)
    assert router.profiles["careful"] == ("ollama/llama3.2",)
    assert config.overrides["services.pipecat.port"] == "SONIA__SERVICES__PIPECAT__PORT"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "SONIA__SERVICES__PIPECAT__PORT",
            "high",
            'an integer, at least 0, at most 65535, found "',
        ),
        ("SONIA__SERVICES__PIPECAT__PORT", "", "an integer"),
        ("SONIA__SERVICES__PIPECAT__PROT", "1", "Did you mean 'port'?"),
        ("SONIA__LOGGING__LEVEL", "loud", 'one of "DEBUG"'),
        ("SONIA__LOGGING__LEVEL__X", "1", "logging.level is a single value"),
        ("SONIA__SOURCE", "x", "unknown key"),
        ("SONIA__", "x", "unknown key"),
        (
            "SONIA__SERVICES__MODEL_ROUTER__PROVIDERS__LOCAL__MODELS",
            "one",
            'a list like ["a", "b"]',
        ),
        ("SONIA__SERVICES__PIPECAT__PORT", "7000", "already the port of services.api_gateway"),
    ],
)
def test_a_wrong_variable_is_named_with_what_would_be_right(
    name: str, text: str, said: str
) -> None:
    error = refusal({}, {name: text})

    assert f"environment variable {name}" in error.message
    assert said in error.message


def test_the_guides_variables_fill_in_only_what_the_file_leaves_empty() -> None:
    environ = {"ANTHROPIC_API_KEY": "from-environment", "OLLAMA_BASE_URL": "http://other:1"}
    given_key = nested(KEY_PATH, "from-file")

    kept = parse(given_key, environ).services.model_router.providers
    filled = parse(nested(KEY_PATH, "required"), environ).services.model_router.providers

    assert kept.anthropic.api_key.reveal() == "from-file"
    assert filled.anthropic.api_key.reveal() == "from-environment"
    assert filled.ollama.base_url == "http://other:1"


def test_the_document_given_is_not_changed() -> None:
    raw: dict[str, Any] = {"services": {"pipecat": {"port": 1}}}

    parse(raw, {"SONIA__SERVICES__PIPECAT__PORT": "2", "ANTHROPIC_API_KEY": "x"})

    assert raw == {"services": {"pipecat": {"port": 1}}}


# --- secrets -----------------------------------------------------------------------------

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60)


@given(SECRETS)
def test_t43_a_secret_never_shows_itself(text: str) -> None:
    canary = f"CANARY-{text}"
    config = parse(nested(KEY_PATH, canary), {"OPENROUTER_API_KEY": canary})

    said = [repr(config), str(config), repr(shown(config)), format(Secret(canary))]
    said.append(msgspec.json.encode(shown(config)).decode())

    assert not [one for one in said if "CANARY" in one]
    assert config.services.model_router.providers.openrouter.api_key.reveal() == canary


@given(SECRETS, st.sampled_from(["logging.level", "services.pipecat.port", "shutdown", KEY_PATH]))
def test_t43_a_secret_in_the_wrong_place_is_not_quoted(text: str, path: str) -> None:
    canary = f"CANARY with space {text}"

    error = refusal(nested(path, canary))

    assert "CANARY" not in error.message
    assert "CANARY" not in json.dumps(error.details)


def test_t43_a_secret_can_not_be_encoded_by_accident() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(Config())


def test_a_placeholder_is_no_secret() -> None:
    for text in ("required", "Optional ", "changeme", "", "  "):
        assert not Secret(text)
        assert Secret(text).reveal() == ""


def test_reading_the_configuration_does_not_import_what_it_does_not_need() -> None:
    program = "import sonia.config, sys; print([m for m in sys.modules if m in %r])"
    heavy = ("asyncio", "json", "tomllib", "difflib", "numpy", "structlog", "litestar", "filelock")

    done = subprocess.run(
        [sys.executable, "-c", program % (heavy,)], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
