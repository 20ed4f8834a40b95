"""Budgets: reserved before a call, settled after it, so that calls side by side can't overspend.

A reservation is the most that a call can take: a token is at least a byte. What is held of a
budget is written before it is used, a sixteenth of the limit at a time, so few calls wait for the
disk and a crash can't lose spending. Local models cost nothing and are in no budget.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from sonia.config import Budgets, Limit
from sonia.db import Database
from sonia.errors import Conflict, InvalidRequest, RateLimited, SoniaError
from sonia.log import get_logger
from sonia.router.backends.base import estimated_tokens
from sonia.router.backends.facts import PER, Price
from sonia.router.background import Background
from sonia.router.interface import BudgetInfo, BudgetScope, ChatRequest, Finished, UsageRow
from sonia.router.ledger import (
    Held,
    Purse,
    Tally,
    forget_users,
    grant,
    hold,
    read_held,
    read_usage,
    settle,
)
from sonia.types import Usage, now

IMAGE_TOKENS = 8192
MESSAGE_TOKENS = 32
SHARES = 16
DAY_S = 86_400
FLUSH_S = 1.0


class BudgetReached(RateLimited):
    """A call might take more than is left; `details` says of what, and until when."""


class PriceUnknown(InvalidRequest):
    """There is a budget in money, and nobody knows what this model costs."""


class Account(msgspec.Struct):
    """One budget in use. `held` is on the disk and never below what is spent and reserved."""

    limit: Limit
    held: Held
    spent_tokens: int = 0
    spent_usd: float = 0.0
    reserved_tokens: int = 0
    reserved_usd: float = 0.0

    def left(self) -> tuple[float, float]:
        """Tokens and money that may still be reserved; infinite without a limit."""
        tokens = self.limit.tokens + self.held.granted_tokens if self.limit.tokens else float("inf")
        usd = self.limit.usd + self.held.granted_usd if self.limit.usd else float("inf")
        return (
            tokens - self.spent_tokens - self.reserved_tokens,
            usd - self.spent_usd - self.reserved_usd,
        )

    def short(self) -> bool:
        """Whether more is used than is held."""
        return (
            self.spent_tokens + self.reserved_tokens > self.held.tokens
            or self.spent_usd + self.reserved_usd > self.held.usd
        )

    def hold_more(self) -> None:
        """Hold what is used and a share of the limit beyond."""
        self.held = msgspec.structs.replace(
            self.held,
            tokens=self.spent_tokens + self.reserved_tokens + self.limit.tokens // SHARES,
            usd=self.spent_usd + self.reserved_usd + self.limit.usd / SHARES,
        )


class Reservation:
    """For one call. Exactly one of `finished`, `broke`, `unspent` settles it."""

    def __init__(
        self,
        books: Books,
        request: ChatRequest,
        model: str,
        price: Price | None,
        accounts: tuple[Account, ...],
        tokens: int,
        usd: float,
    ) -> None:
        self._books = books
        self._request = request
        self._model = model
        self._price = price
        self._accounts = accounts
        self._tokens = tokens
        self._usd = usd
        self._open = True

    def finished(self, end: Finished) -> None:
        """The provider has counted."""
        self._settle(end.usage, end.cost_usd)

    def broke(self, said: str) -> None:
        """It answered in part, and counted nothing: take what it surely read and wrote."""
        usage = Usage(
            prompt_tokens=estimated_tokens(self._request.messages),
            completion_tokens=len(said) // 3,
        )
        self._settle(usage, self._price.cost_usd(usage) if self._price else None)

    def unspent(self) -> None:
        """It was not made, or refused."""
        if self._open:
            self._release()

    def _settle(self, usage: Usage, cost_usd: float | None) -> None:
        if not self._open:
            return
        self._release()
        for account in self._accounts:
            account.spent_tokens += usage.prompt_tokens + usage.completion_tokens
            account.spent_usd += cost_usd or 0.0
        self._books.count(self._model, self._request.user_id, usage, cost_usd)

    def _release(self) -> None:
        self._open = False
        for account in self._accounts:
            account.reserved_tokens -= self._tokens
            account.reserved_usd -= self._usd


class Books:
    """What was used and what may be. Without a database it forgets when it ends."""

    def __init__(
        self,
        config: Budgets,
        db: Database | None,
        clock: Callable[[], dt.datetime] = now,
    ) -> None:
        self.on_limit = config.on_limit
        self._limits: dict[BudgetScope, Limit] = {
            "day": config.day,
            "user": config.user_day,
            "session": config.session,
        }
        self._db = db
        self._clock = clock
        self._accounts: dict[Purse, Account] = {}
        self._tallies: dict[Purse, Tally] = {}

    async def reserve(
        self, request: ChatRequest, model: str, price: Price | None, *, local: bool
    ) -> Reservation:
        """Set aside the most that this call can take.

        Raises `BudgetReached`, `PriceUnknown`, and what the database raises.
        """
        purses = () if local else self._purses(request)
        if not purses:
            return Reservation(self, request, model, price, (), 0, 0.0)
        accounts = tuple([await self._account(purse) for purse in purses])
        tokens, usd = _most(request, price)
        if price is None and any(account.limit.usd for account in accounts):
            raise PriceUnknown(
                f"There is a budget in money, and the price of {model} is not known. Give its "
                "provider input_usd and output_usd, or use another model.",
                model=model,
            )
        for purse, account in zip(purses, accounts, strict=True):
            self._check(purse, account, tokens, usd)
        for account in accounts:  # nothing was awaited since the check
            account.reserved_tokens += tokens
            account.reserved_usd += usd
        reservation = Reservation(self, request, model, price, accounts, tokens, usd)
        try:
            await self._hold(purses, accounts)
        except BaseException:
            reservation.unspent()
            raise
        return reservation

    def count(self, model: str, user_id: str, usage: Usage, cost_usd: float | None) -> None:
        """Note a call, to be written with the next `flush`."""
        tally = self._tallies.setdefault((self.day(), model, user_id), Tally())
        tally.calls += 1
        tally.prompt_tokens += usage.prompt_tokens
        tally.completion_tokens += usage.completion_tokens
        tally.cached_tokens += usage.cached_tokens
        tally.cost_usd += cost_usd or 0.0
        tally.unpriced_calls += cost_usd is None

    async def flush(self, *, last: bool = False) -> None:
        """Write what was counted; `last` gives back what is held and was not used."""
        today = self.day()
        if self._db is None:
            return
        tallies, self._tallies = self._tallies, {}
        idle = [
            (purse, account)
            for purse, account in self._accounts.items()
            if not account.reserved_tokens and (last or purse[2] not in ("", today))
        ]
        rows = [(purse, one.spent_tokens, one.spent_usd) for purse, one in idle]
        for purse, _ in idle:
            del self._accounts[purse]
        if tallies or rows:
            await self._db.write(lambda c: settle(c, tallies, rows))

    async def used(self, since: str, user_id: str | None) -> tuple[UsageRow, ...]:
        """What was flushed; what was counted where there is no database."""
        if self._db:
            return await self._db.read(lambda c: read_usage(c, since, user_id))
        rows = [
            UsageRow(day=day, model=model, **msgspec.structs.asdict(tally))
            for (day, model, user), tally in self._tallies.items()
            if day >= since and user_id in (None, user)
        ]
        return tuple(rows)

    async def forget(self, user_ids: tuple[str, ...]) -> None:
        """Keep the sums, not whose they were."""
        if self._db:
            await self.flush()
            await self._db.write(lambda c: forget_users(c, user_ids))

    async def allow(self, scope: BudgetScope, key: str, tokens: int, usd: float) -> BudgetInfo:
        """Let a budget be passed by so much. Raises `Conflict` where limits are final."""
        if self.on_limit != "ask":
            raise Conflict("services.model_router.budgets.on_limit is not ask: limits are final.")
        limit = self._limits[scope]
        if not (limit.tokens or limit.usd):
            raise InvalidRequest(f"There is no budget for {scope}.", field="scope")
        purse = self._purse(scope, key)
        account = await self._account(purse)
        if self._db:
            await self._db.write(lambda c: grant(c, purse, tokens, usd))
        account.held = msgspec.structs.replace(
            account.held,
            granted_tokens=account.held.granted_tokens + tokens,
            granted_usd=account.held.granted_usd + usd,
        )
        return _info(purse, account)

    def budgets(self) -> tuple[BudgetInfo, ...]:
        """Those in use since the start."""
        return tuple(_info(purse, account) for purse, account in self._accounts.items())

    def day(self) -> str:
        """Today, UTC."""
        return self._clock().date().isoformat()

    # --- one reservation -------------------------------------------------------------------

    def _purses(self, request: ChatRequest) -> tuple[Purse, ...]:
        keys: dict[BudgetScope, str | None] = {
            "day": "",
            "user": request.user_id,
            "session": request.session_id,
        }
        return tuple(
            self._purse(scope, key)
            for scope, key in keys.items()
            if key is not None and (self._limits[scope].tokens or self._limits[scope].usd)
        )

    def _purse(self, scope: BudgetScope, key: str) -> Purse:
        return (scope, "" if scope == "day" else key, "" if scope == "session" else self.day())

    async def _account(self, purse: Purse) -> Account:
        if found := self._accounts.get(purse):
            return found
        held = await self._db.read(lambda c: read_held(c, purse)) if self._db else Held()
        limit: Limit = self._limits[purse[0]]  # type: ignore[index]
        fresh = Account(limit=limit, held=held, spent_tokens=held.tokens, spent_usd=held.usd)
        return self._accounts.setdefault(purse, fresh)

    def _check(self, purse: Purse, account: Account, tokens: int, usd: float) -> None:
        left_tokens, left_usd = account.left()
        if tokens <= left_tokens and usd <= left_usd:
            return
        whose = {"day": "today's budget", "user": f"the budget of {purse[1]} for today"}
        name = whose.get(purse[0], f"the budget of session {purse[1]}")
        left = f"{max(left_usd, 0):.4f} dollars" if usd > left_usd else f"{max(left_tokens, 0):.0f}"
        needs = f"{usd:.4f} dollars" if usd > left_usd else f"{tokens} tokens"
        way = " A person may allow more: sonia usage allow." if self.on_limit == "ask" else ""
        raise BudgetReached(
            f"This call may take {needs}; {name} has {left} left.{way}",
            retry_after_s=self._until_midnight_s(),
            scope=purse[0],
            key=purse[1],
            on_limit=self.on_limit,
        )

    async def _hold(self, purses: tuple[Purse, ...], accounts: tuple[Account, ...]) -> None:
        rows = []
        for purse, account in zip(purses, accounts, strict=True):
            if account.short():
                account.hold_more()
                rows.append((purse, account.held.tokens, account.held.usd))
        if rows and self._db:
            await self._db.write(lambda c: hold(c, rows))

    def _until_midnight_s(self) -> int:
        at = self._clock()
        return DAY_S - (at.hour * 3600 + at.minute * 60 + at.second)


@asynccontextmanager
async def open_books(
    config: Budgets, db: Database | None, background: Background
) -> AsyncIterator[Books]:
    """Write what is counted every second, and once more when left."""
    books = Books(config, db)
    background.start(_flushing(books), name="usage")
    try:
        yield books
    finally:
        try:
            await books.flush(last=True)
        except SoniaError as error:
            get_logger("model-router").error("usage lost", reason=error.message)


async def _flushing(books: Books) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        try:
            await books.flush()
        except SoniaError as error:
            get_logger("model-router").error("usage lost", reason=error.message)


def _most(request: ChatRequest, price: Price | None) -> tuple[int, float]:
    """Upper bounds: a token is at least a byte, and an answer has at most `max_tokens`."""
    size = sum(len(m.content.encode()) + MESSAGE_TOKENS for m in request.messages)
    size += sum(len(msgspec.json.encode(m.tool_calls)) for m in request.messages if m.tool_calls)
    size += IMAGE_TOKENS * sum(len(m.images) for m in request.messages)
    if request.tools:
        size += len(msgspec.json.encode(request.tools))
    if request.json_schema is not None:
        size += len(msgspec.json.encode(request.json_schema))
    usd = 0.0
    if price:
        dearest = max(price.input, price.cache_write or 0.0)
        usd = (size * dearest + request.max_tokens * price.output) / PER
    return size + request.max_tokens, usd


def _info(purse: Purse, account: Account) -> BudgetInfo:
    return BudgetInfo(
        scope=purse[0],
        key=purse[1],
        limit_tokens=account.limit.tokens + account.held.granted_tokens,
        limit_usd=account.limit.usd + account.held.granted_usd,
        spent_tokens=account.spent_tokens,
        spent_usd=account.spent_usd,
        reserved_tokens=account.reserved_tokens,
        reserved_usd=account.reserved_usd,
    )
