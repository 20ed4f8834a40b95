"""What holds just now beside the stored rules: the rules file, the mode, the hour, trust given."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from sonia.config import EvaOs
from sonia.control import store
from sonia.control import trust as granted
from sonia.control.interface import Maintenance, Plan, Policy, Rule
from sonia.control.modes import Situation, is_quiet
from sonia.control.risk import READ, Ruling, rule_on, trustable

if TYPE_CHECKING:
    import apsw


class Standing:
    """Rules for one run. Functions of a connection, for inside one transaction."""

    def __init__(
        self, config: EvaOs, file_rules: tuple[Rule, ...], clock: Callable[[], dt.datetime]
    ) -> None:
        self._quiet_hours = config.quiet_hours
        self._file_rules = file_rules
        self._clock = clock
        self.maintenance = Maintenance(on=False)

    @property
    def digest(self) -> str:
        """Of the rules file; "" without one."""
        if not self._file_rules:
            return ""
        return hashlib.sha256(msgspec.json.encode(self._file_rules)).hexdigest()

    def policy(self, connection: apsw.Connection) -> Policy:
        """The rules in force, those of the file included."""
        return msgspec.structs.replace(store.policy(connection), file_rules=self._file_rules)

    def situation(self, connection: apsw.Connection) -> Situation:
        """The mode and the hour."""
        quiet = is_quiet(self._quiet_hours, self._clock())
        return Situation(mode=store.mode(connection), quiet=quiet)

    def rule(
        self, connection: apsw.Connection, plan: Plan, policy: Policy, scope_hash: str
    ) -> Ruling:
        """Decide about `plan`, with the trust that covers it if it would be asked about."""
        situation = self.situation(connection)
        ruling = rule_on(plan, policy, situation)
        if self.maintenance.on and ruling.tier > READ:
            return _maintained(ruling, self.maintenance)
        if ruling.verdict != "approval_required" or not trustable(plan, ruling.tier):
            return ruling
        covered = granted.covers(
            connection, plan, tier=ruling.tier, scope_hash=scope_hash, now=self._clock()
        )
        if not covered:
            return ruling
        return rule_on(plan, policy, msgspec.structs.replace(situation, trusted=True))


def _maintained(ruling: Ruling, maintenance: Maintenance) -> Ruling:
    why = f" ({maintenance.reason})" if maintenance.reason else ""
    reason = f"Sonia is being maintained{why}: only reading is allowed until that ends."
    return msgspec.structs.replace(
        ruling, verdict="denied", rule="maintenance", reason=reason, steps=(*ruling.steps, reason)
    )
