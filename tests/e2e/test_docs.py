"""The documentation says what there is: no route missing, none invented, every command real."""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from pathlib import Path

from sonia.config import parse
from tests.documents_given import pdf
from tests.e2e.conftest import ROOT, Server
from tests.e2e.curl import Curl, data

PLAIN = ("/healthz", "/status", "/version", "/")
DOCUMENTS = "http://localhost:7020/v1/workspace/documents"
PREFIXES = ("/router", "/memory", "/voice", "/tools", "/control")


def _documented() -> set[tuple[str, str]]:
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    return set(re.findall(r"`(GET|POST|PUT|DELETE) (/[^` ?]*)`", text))


def test_the_api_reference_lists_every_route_and_no_other(server: Server) -> None:
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]

    served = {(verb.upper(), path) for path, verbs in paths.items() for verb in verbs}
    plain = {("GET", prefix + path) for prefix in PREFIXES for path in PLAIN if path != "/"}
    plain |= {("GET", prefix) for prefix in PREFIXES}
    twins = {(verb, path) for verb, path in served if path.startswith("/memory/api/v1/")}
    documented = _documented() | plain

    assert served - twins - documented == set()
    assert documented - served == {("GET", "/openapi.json")}


def test_the_examples_of_the_routers_reference_work(server: Server) -> None:
    text = (ROOT / "docs/router.md").read_text(encoding="utf-8")
    calls = re.findall(r"^ {4,8}(GET|POST) (/router/\S+)(?: (\{.*\}))?$", text, re.MULTILINE)

    with server.client() as client:
        for verb, path, body in calls:
            sent = json.loads(body) if body else None
            answer = client.request(verb, path, json=sent, timeout=250)
            assert answer.status_code == 200, (verb, path, answer.text)

    assert len(calls) >= 8


def test_the_settings_of_the_routers_reference_are_settings() -> None:
    text = (ROOT / "docs/router.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    [\[a-z].*\n|^\n(?=    \[))+", text, re.MULTILINE)
    settings = [textwrap.dedent(block) for block in blocks if "[services." in block]

    for block in settings:
        parse(tomllib.loads(block), {})

    assert len(settings) == 3


def test_the_test_command_of_the_readme_is_the_one_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Run the tests")[2].partition("## ")[0]
    command = next(line.strip() for line in section.splitlines() if line.startswith("    "))

    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == command


def test_every_link_of_the_readme_leads_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    missing = [
        link for link in re.findall(r"\]\(([^)]+)\)", readme) if not Path(ROOT / link).exists()
    ]

    assert missing == []


def test_every_sonia_command_of_the_readme_exists(server: Server) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"python3 -m sonia ((?:[a-z]+ ?)+)", readme))

    for words in named:
        helped = server.command(*words.split(), "--help")
        assert helped.returncode == 0, words


def curls(page: str) -> list[str]:
    """The indented `curl` lines of a page, in order."""
    return re.findall(r"^    (curl .+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_examples_of_the_memorys_reference_work(server: Server, tmp_path: Path) -> None:
    (tmp_path / "manual.pdf").write_bytes(pdf([["Bleed the radiators."], ["Then wait."]], "Heat"))
    notes = server.folder / "workspace" / "notes"
    notes.mkdir(parents=True, exist_ok=True)
    (notes / "garden.md").write_text("# Shade\n\nMoss wants shade.\n")
    text = (ROOT / "docs/memory.md").read_text(encoding="utf-8")
    bodies = re.findall(r'^    (\{"(?:content|path)": .+\})$', text, re.MULTILINE)
    curl, answers = Curl(server, tmp_path), {}

    for line in curls("docs/memory.md"):
        answers[line] = answer = curl.run(line)
        assert answer.status_code == 200, (line, answer.text)
    ingested = [curl.post("/v1/workspace/ingest", body) for body in bodies]

    said = [data(answer) for answer in answers.values()]
    assert said[1]["hits"][0]["entry"]["content"] == "The boiler is serviced in May."
    assert {version["content"].split()[-1] for version in said[4]} == {"May.", "June."}
    assert (said[10]["what"], said[10]["erased"]["memories"]) == ("memories", 1)
    assert said[-1]["what"] == "document"
    assert [data(answer)["created"] for answer in ingested] == [True, True]
    for answer in ingested:  # the server is others' too
        name = data(answer)["document"]["id"]
        assert curl.run(f"curl -X DELETE {DOCUMENTS}/{name}").status_code == 200
    assert len(answers) >= 16


def test_the_readmes_examples_of_memory_and_the_audit_work(server: Server, tmp_path: Path) -> None:
    lines = [line for line in curls("README.md") if re.search(r":(7020|7050)/|/v1/deps", line)]
    curl = Curl(server, tmp_path)

    for line in lines:
        answer = curl.run(line)
        assert (answer.status_code, data(answer) is not None) == (200, True), (line, answer.text)

    assert len(lines) >= 5
