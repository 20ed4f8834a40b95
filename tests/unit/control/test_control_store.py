"""Whatever the order of asking, answering, using, giving up and time passing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from sonia.control import Approval, Plan, store
from sonia.control.ledger import stored

MIGRATIONS = Path(__file__).parents[3] / "migrations"
OURS = ("0001_control.sql", "0027_control_trust.sql")
START = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
TTL_S = 10
TERMINAL = {"denied", "expired", "cancelled", "consumed"}
SCOPES = st.sampled_from(["scope-a", "scope-b"])
SESSIONS = st.sampled_from([None, "ses_1"])


class Machine(RuleBasedStateMachine):
    """The table beside a dictionary that follows the rules in the plainest way."""

    asked = Bundle("asked")
    answered = Bundle("answered")

    def __init__(self) -> None:
        super().__init__()
        self.connection = apsw.Connection(":memory:")
        for name in OURS:
            self.connection.execute((MIGRATIONS / name).read_text())
        self.now = START
        self.model: dict[str, Approval] = {}

    def state(self, name: str) -> str:
        known = self.model[name]
        over = known.state in ("pending", "approved") and self.now >= known.expires_at
        return "expired" if over else known.state

    def follow(self, sql: str, name: str, leaves: set[str], to: str, **bindings: object) -> bool:
        may = self.state(name) in leaves
        went = store.change(self.connection, sql, id=name, now=stored(self.now), **bindings)
        assert went == ([name] if may else [])
        if may:
            self.model[name] = _with(self.model[name], to)
        return may

    @rule(target=asked, scope=SCOPES, session_id=SESSIONS)
    def ask(self, scope: str, session_id: str | None) -> object:
        plan = Plan(
            tool="file.write",
            arguments={},
            tier=2,
            working_directory="/w",
            tool_digest="d",
            preview="p",
            session_id=session_id,
        )
        same = store.same_question(
            self.connection, plan, risk_tier=2, scope_hash=scope, now=self.now
        )
        pending = [
            name
            for name, known in self.model.items()
            if self.state(name) == "pending"
            and (known.scope_hash, known.session_id) == (scope, session_id)
        ]
        assert [same.id] if same else pending == []
        if same:
            assert pending == [same.id]
            return multiple()
        new = store.insert(
            self.connection,
            plan,
            risk_tier=2,
            scope_hash=scope,
            reason="r",
            now=self.now,
            ttl_s=TTL_S,
        )
        self.model[new.id] = new
        return new.id

    @rule(target=answered, name=asked, yes=st.booleans())
    def settle(self, name: str, yes: bool) -> str:
        to = "approved" if yes else "denied"
        self.follow(store.SETTLE, name, {"pending"}, to, state=to, by="me", reason="")
        return name

    @rule(name=st.one_of(asked, answered))
    def mistype_too_often(self, name: str) -> None:
        may = self.state(name) == "pending"
        left = store.mistake(self.connection, name, by="me", now=stored(self.now), most=1)
        assert left == 0
        if may:
            self.model[name] = _with(self.model[name], "denied")

    @rule(name=answered)
    def consume_rightly(self, name: str) -> None:
        self.consume(name, self.model[name].scope_hash, self.model[name].session_id)

    @rule(name=answered)
    def consume_for_another_call(self, name: str) -> None:
        known = self.model[name]
        other = "scope-a" if known.scope_hash == "scope-b" else "scope-b"
        self.consume(name, other, known.session_id)

    @rule(name=answered)
    def consume_in_another_session(self, name: str) -> None:
        known = self.model[name]
        self.consume(name, known.scope_hash, None if known.session_id else "ses_1")

    @rule(name=st.one_of(asked, answered), scope=SCOPES, session_id=SESSIONS)
    def consume(self, name: str, scope: str, session_id: str | None) -> None:
        known = self.model[name]
        fits = (known.scope_hash, known.session_id) == (scope, session_id)
        self.follow(
            store.CONSUME,
            name,
            {"approved"} if fits else set(),
            "consumed",
            scope_hash=scope,
            session_id=session_id,
        )

    @rule(name=asked)
    def withdraw(self, name: str) -> None:
        self.follow(store.WITHDRAW, name, {"pending", "approved"}, "cancelled", reason="r")

    @rule(name=asked)
    def lapse(self, name: str) -> None:
        if self.model[name].state in ("pending", "approved"):
            self.model[name] = _with(self.model[name], "expired")
        store.change(self.connection, store.LAPSE, id=name)

    @rule(seconds=st.sampled_from([1, TTL_S - 1, TTL_S]))
    def wait(self, seconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds)

    @rule(name=answered)
    def use_at_the_deadline(self, name: str) -> None:
        self.now = max(self.now, self.model[name].expires_at)
        self.consume_rightly(name)

    @rule()
    def restart(self) -> None:
        store.change(self.connection, store.CANCEL_OPEN, reason="restart")
        for name, known in self.model.items():
            if known.state in ("pending", "approved"):
                self.model[name] = _with(known, "cancelled")

    @invariant()
    def the_table_says_what_the_model_says(self) -> None:
        shown = store.newest(self.connection, state=None, limit=1000, now=self.now)
        assert {each.id: each.state for each in shown} == {
            name: self.state(name) for name in self.model
        }


def _with(approval: Approval, state: str) -> Approval:
    return Approval(
        **{f: getattr(approval, f) for f in approval.__struct_fields__} | {"state": state}
    )


QUICK = settings(
    max_examples=250,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


# A mutant is looked for longer; a found one ends the search at once.
PATIENT = settings(QUICK, max_examples=5_000)


def test_t09_ten_thousand_interleavings_follow_the_rules() -> None:
    run_state_machine_as_test(Machine, settings=QUICK)


@pytest.mark.parametrize(
    ("statement", "clause"),
    [
        ("SETTLE", "AND state = 'pending'"),
        ("SETTLE", "AND expires_at > :now"),
        ("CONSUME", "AND state = 'approved'"),
        ("CONSUME", "AND expires_at > :now"),
        ("CONSUME", "AND scope_hash = :scope_hash"),
        ("CONSUME", "AND session_id IS :session_id"),
        ("MISTAKE", "AND state = 'pending'"),
        ("MISTAKE", "AND expires_at > :now"),
        ("WITHDRAW", "AND state IN ('pending', 'approved')"),
        ("WITHDRAW", "AND expires_at > :now"),
        ("LAPSE", "AND state IN ('pending', 'approved')"),
        ("CANCEL_OPEN", "WHERE state IN ('pending', 'approved')"),
        ("SAME_QUESTION", "AND expires_at > :now"),
        ("SAME_QUESTION", "AND session_id IS :session_id"),
    ],
)
def test_t09_every_condition_is_needed(
    monkeypatch: pytest.MonkeyPatch, statement: str, clause: str
) -> None:
    sql = getattr(store, statement)
    assert sql.count(clause) == 1
    monkeypatch.setattr(store, statement, sql.replace(clause, ""))

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=PATIENT)
