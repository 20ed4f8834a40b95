"""Routes of the backups. All of them need the operator's token: a backup is everything."""

from __future__ import annotations

from typing import Any

from litestar import Router, delete, get, post
from litestar.params import FromPath

from sonia.backups import Backup, Backups, Verified
from sonia.control import Operator, operator_only
from sonia.envelope import Envelope, answer
from sonia.purging import Purged, Purging
from sonia.types import Value


class Removed(Value):
    """A backup that is gone."""

    name: str
    removed: bool = True


def backup_routes(backups: Backups, purging: Purging, operator: Operator) -> Router:
    """Everything below `/backups`."""

    @post("/", status_code=200)
    async def create_backup() -> Envelope[Backup]:
        return answer(await backups.create())

    @get("/")
    async def list_backups() -> Envelope[tuple[Backup, ...]]:
        return answer(await backups.every())

    @get("/{name:str}")
    async def show_backup(name: FromPath[str]) -> Envelope[Backup]:
        return answer(await backups.one(name))

    @post("/{name:str}/verify", status_code=200)
    async def verify_backup(name: FromPath[str]) -> Envelope[Verified]:
        return answer(await backups.verify(name))

    @delete("/{name:str}", status_code=200)
    async def remove_backup(name: FromPath[str]) -> Envelope[Removed]:
        await backups.remove(name)
        return answer(Removed(name=name))

    @post("/purge", status_code=200)
    async def purge_backups() -> Envelope[Purged]:
        return answer(await purging.purge())

    handlers: list[Any] = [
        create_backup,
        list_backups,
        show_backup,
        verify_backup,
        remove_backup,
        purge_backups,
    ]
    return Router(path="/backups", route_handlers=handlers, guards=[operator_only(operator)])
