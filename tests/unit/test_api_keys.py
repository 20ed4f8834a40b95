"""Keys of the API: made, kept as hashes, looked at, guessed at, revoked."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import openai
import pytest

from sonia.config import ApiKey
from sonia.errors import ConfigurationError, Conflict, NotFound, RateLimited, Unauthorized
from sonia.gateway import Keyring
from sonia.gateway.answering import Answers
from sonia.gateway.cache import AnswerCache, BoundedStore
from sonia.gateway.openai import openai_routes
from sonia.keys import FILE_NAME, create_key, digest_of, read_keys, revoke_key
from tests.scripted import MODEL, ScriptedRouter
from tests.serving import serving

SCOPE = {"path": "/v1/models", "client": ("127.0.0.1", 5000)}


class OneOperator:
    """Whose token is `operators`."""

    def check(self, authorization: str | None) -> None:
        if authorization != "Bearer operators":
            raise Unauthorized("no")


class Clock:
    """A clock that is set."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def ring(data: Path, clock: Clock | None = None, **configured: ApiKey) -> Keyring:
    return Keyring(configured, data, OneOperator(), clock or Clock())


def bearer(key: str, **more: str) -> dict[str, list[str]]:
    return {"authorization": [f"Bearer {key}"], **{name: [value] for name, value in more.items()}}


def test_t36_a_key_is_kept_as_a_hash_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    key = create_key(tmp_path, "desk", "ann")

    path = tmp_path / FILE_NAME
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (record,) = read_keys(tmp_path)
    assert (record.name, record.user, record.digest) == ("desk", "ann", digest_of(key))


def test_a_name_is_taken_once_and_revoked_once(tmp_path: Path) -> None:
    create_key(tmp_path, "desk", "ann")

    with pytest.raises(Conflict, match="desk"):
        create_key(tmp_path, "desk", "ann")
    revoke_key(tmp_path, "desk")
    with pytest.raises(NotFound, match="desk"):
        revoke_key(tmp_path, "desk")
    assert read_keys(tmp_path) == ()


@pytest.mark.parametrize("wrong", ["mode", "content", "link"])
def test_a_file_of_keys_that_others_could_change_is_refused(tmp_path: Path, wrong: str) -> None:
    create_key(tmp_path, "desk", "ann")
    path = tmp_path / FILE_NAME
    if wrong == "mode":
        path.chmod(0o644)
    elif wrong == "content":
        path.write_text("{")
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError, match=FILE_NAME):
        read_keys(tmp_path)


async def test_without_keys_the_door_is_open_and_with_one_it_is_not(tmp_path: Path) -> None:
    keyring = ring(tmp_path)
    await keyring.reload()
    assert keyring.admit(SCOPE, {}) is None

    key = create_key(tmp_path, "desk", "ann")
    await keyring.reload()

    assert keyring.admit(SCOPE, bearer(key)) == "ann"
    assert keyring.admit(SCOPE, {"x-api-key": [key]}) == "ann"
    assert keyring.admit(SCOPE, bearer("operators")) is None
    assert keyring.admit({**SCOPE, "path": "/memory/healthz"}, {}) is None
    for headers in ({}, bearer("sk-sonia-wrong"), {"x-api-key": [""]}, {"x-api-key": [key, key]}):
        with pytest.raises(Unauthorized):
            keyring.admit(SCOPE, headers)
    revoke_key(tmp_path, "desk")
    create_key(tmp_path, "other", "ann")
    await keyring.reload()
    with pytest.raises(Unauthorized):
        keyring.admit(SCOPE, bearer(key))


async def test_a_key_of_the_configuration_is_taken_too(tmp_path: Path) -> None:
    keyring = ring(tmp_path, desk=ApiKey(digest=digest_of("mine"), user="bob"))

    assert keyring.admit(SCOPE, bearer("mine")) == "bob"


async def test_t37_a_thousand_guesses_are_locked_out_after_ten(tmp_path: Path) -> None:
    key, clock = create_key(tmp_path, "desk", "ann"), Clock()
    keyring = ring(tmp_path, clock)
    await keyring.reload()
    page = {"origin": "http://localhost:7000"}

    found: list[type[Exception]] = []
    for number in range(1000):
        spoofed = {"x-forwarded-for": f"10.0.0.{number % 250}", "forwarded": f"for={number}"}
        client = ("::ffff:127.0.0.1" if number % 2 else "127.0.0.1", number)
        try:
            keyring.admit({**SCOPE, "client": client}, bearer(f"guess-{number}", **page, **spoofed))
        except (Unauthorized, RateLimited) as error:
            found.append(type(error))

    assert found == [Unauthorized] * 10 + [RateLimited] * 990
    with pytest.raises(RateLimited):
        keyring.admit(SCOPE, bearer(key, **page))
    assert keyring.admit(SCOPE, bearer(key)) == "ann"  # programs are not shut out by a page
    clock.now_s = 61
    assert keyring.admit(SCOPE, bearer(key, **page)) == "ann"


async def test_what_is_remembered_of_guessers_is_bounded(tmp_path: Path) -> None:
    create_key(tmp_path, "desk", "ann")
    keyring = ring(tmp_path)
    await keyring.reload()

    for number in range(3000):
        with pytest.raises(Unauthorized):
            keyring.admit({**SCOPE, "client": (f"peer-{number}", 1)}, bearer("guess"))

    assert len(keyring._guesses) <= 1024


async def test_a_key_names_the_user_whatever_the_body_says(tmp_path: Path) -> None:
    ann, bob = create_key(tmp_path, "a", "ann"), create_key(tmp_path, "b", "bob")
    keyring = ring(tmp_path)
    await keyring.reload()
    router = ScriptedRouter(["one"], ["two"])
    cache = AnswerCache(BoundedStore(2**20), ttl_s=60, max_bytes=2**20)
    turns: Any = None
    answers = Answers(router, turns, (), cache)

    async with serving(openai_routes(answers), admit=keyring.admit) as url:

        async def ask(key: str) -> str | None:
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as it:
                answer = await it.chat.completions.create(
                    model=MODEL,
                    messages=[{"role": "user", "content": "Hi"}],
                    temperature=0,
                    user="somebody",
                )
            return answer.choices[0].message.content

        said = [await ask(ann), await ask(bob), await ask(ann)]
        with pytest.raises(openai.AuthenticationError) as refused:
            await ask("sk-wrong")

    assert said == ["one", "two", "one"]
    assert refused.value.code == "invalid_api_key"
