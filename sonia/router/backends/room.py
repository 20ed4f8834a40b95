"""Memory for local models: who may stay, who has to make way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sonia.errors import Unavailable

MIB = 1_048_576


class ModelTooLarge(Unavailable):
    """More memory than all local models may have; `details` has both, in MiB."""

    retryable = False


class Tenant:
    """One model's share. `busy` counts the answers being given."""

    def __init__(self, name: str, leave: Callable[[], None]) -> None:
        self.name = name
        self.leave = leave
        self.needed_bytes = 0
        self.busy = 0
        self.used_s = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Since it last answered."""
        return time.monotonic() - self.used_s


class Room:
    """The budget. Whoever is longest unused and not answering makes way for who comes."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._tenants: list[Tenant] = []
        self._changed = asyncio.Condition()

    @property
    def taken_bytes(self) -> int:
        return sum(tenant.needed_bytes for tenant in self._tenants)

    async def enter(self, tenant: Tenant, needed_bytes: int) -> None:
        """Wait until there is room. Raises `ModelTooLarge` when there can't be."""
        if needed_bytes > self.budget_bytes:
            needed, budget = -(-needed_bytes // MIB), self.budget_bytes // MIB
            raise ModelTooLarge(
                f"The model local/{tenant.name} needs {needed} MiB and local models may take "
                f"{budget} MiB. Raise memory_budget_mb, lower context_tokens or parallel, or "
                "choose a smaller model.",
                needed_mb=needed,
                budget_mb=budget,
            )
        async with self._changed:
            while self.taken_bytes + needed_bytes > self.budget_bytes:
                self._make_way()
                await self._changed.wait()
            tenant.needed_bytes, tenant.used_s = needed_bytes, time.monotonic()
            self._tenants.append(tenant)

    async def left(self, tenant: Tenant) -> None:
        """The tenant's memory is free again."""
        async with self._changed:
            if tenant in self._tenants:
                self._tenants.remove(tenant)
            self._changed.notify_all()

    async def calm(self, tenant: Tenant) -> None:
        """The tenant has answered: who waits may look again."""
        tenant.used_s = time.monotonic()
        async with self._changed:
            self._changed.notify_all()

    def _make_way(self) -> None:
        """Ask one to leave, if any may; asking twice does no harm."""
        idle = [tenant for tenant in self._tenants if not tenant.busy]
        if idle:
            min(idle, key=lambda tenant: tenant.used_s).leave()
