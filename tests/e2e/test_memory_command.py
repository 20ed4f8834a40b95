"""`sonia memory`, as a person types it, against a server."""

from __future__ import annotations

import json
from pathlib import Path

from tests.documents_given import pdf
from tests.e2e.conftest import Server


def test_files_are_ingested_found_shown_and_forgotten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "book.pdf").write_bytes(pdf([["Axolotls regrow limbs."], ["Newts too."]], "Newts"))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    (tmp_path / ".hidden.md").write_text("# no")
    (tmp_path / "picture.bin").write_bytes(b"\0\1")

    ingested = server.command("memory", "ingest", str(tmp_path))
    again = server.command("memory", "ingest", str(tmp_path / "book.pdf"))

    lines = ingested.stdout.splitlines()
    assert ingested.returncode == 1, ingested.stderr
    assert [line.split(": ")[1][:7] for line in lines[:2]] == [
        "doc_" + lines[0].split("doc_")[1][:3],
        "refused",
    ]
    assert "2 chunks, 2 pages" in lines[0]
    assert lines[2:] == ["All 2 chunks have their vectors."]
    assert "is there already" in again.stdout
    found = server.command("memory", "search", "axolotl", "limbs", "--type", "document")
    assert "Axolotls regrow limbs." in found.stdout
    assert "from Newts, page 1 (doc_" in found.stdout
    document = lines[0].split(": ")[1].split(",")[0]
    assert document in server.command("memory", "documents").stdout
    shown = json.loads(server.command("memory", "show", document, "--json").stdout)
    assert (shown["state"], shown["pages"]) == ("ready", 2)
    unasked = server.command("memory", "forget", document)
    assert (unasked.returncode, "Add --yes" in unasked.stderr) == (1, True)
    gone = server.command("memory", "forget", document, "--yes")
    assert "Erased: 1 documents, 2 chunks." in gone.stdout
    assert server.command("memory", "documents").stdout.startswith("There are none")


def test_a_memory_is_added_explained_and_forgotten_with_a_receipt(server: Server) -> None:
    added = server.command("memory", "add", "The quokka sleeps in the shed", "--type", "note")
    name = added.stdout.strip()

    found = server.command("memory", "search", "quokka", "--mode", "text", "--explain")
    as_json = server.command("memory", "search", "quokka", "--json")

    assert name in found.stdout
    assert "recency" in found.stdout
    assert json.loads(as_json.stdout)["hits"][0]["entry"]["id"] == name
    assert "The quokka sleeps" in server.command("memory", "show", name).stdout
    assert "note" in server.command("memory", "stats").stdout
    saved = server.command("backup", "create").stdout.split()[0]
    receipt = server.command("memory", "forget", name, "--yes").stdout
    assert "1 memories" in receipt
    assert " backups hold it until" in receipt
    purged = server.command("backup", "purge").stdout
    assert f"{saved} was written anew" in purged
    assert receipt.startswith("fgt_")
    assert server.command("memory", "search", "quokka", "--mode", "text").stdout == (
        "Nothing is found.\n"
    )
    assert server.command("memory", "forget").returncode == 1


def test_its_help_teaches(server: Server) -> None:
    helped = server.command("memory", "--help")

    assert "sonia memory ingest manual.pdf" in helped.stdout
    assert "can't be undone" in helped.stdout


def test_jobs_are_run_and_sessions_kept_and_put_back(server: Server) -> None:
    body = {"type": "note", "content": "The numbat naps at noon", "session_id": "ses_numbat"}
    with server.client() as gateway, server.client("memory-engine") as memory:
        opened = gateway.post("/v1/sessions", json={"session_id": "ses_numbat"})
        assert opened.status_code == 200, opened.text
        assert memory.post("/store", json=body).status_code == 200

    listed = server.command("memory", "jobs")
    ran = server.command("memory", "jobs", "run", "decay")
    unknown = server.command("memory", "jobs", "run", "nap")
    made = server.command("memory", "snapshots", "create", "ses_numbat", "--name", "noon")
    name = made.stdout.split()[0]
    found = server.command("memory", "snapshots", "--session", "ses_numbat")
    restored = server.command("memory", "snapshots", "restore", name)

    assert "every 6 h" in listed.stdout, listed.stderr
    assert (ran.returncode, ran.stdout.split()[0]) == (0, "decay")
    assert "last 20" in ran.stdout
    assert (unknown.returncode, "No job has this name" in unknown.stderr) == (1, True)
    assert "0 said, 1 memories  noon" in made.stdout, made.stderr
    assert found.stdout == made.stdout
    assert restored.stdout.startswith("ses_"), restored.stderr
