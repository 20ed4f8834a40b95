"""Nothing runs without control's decision on exactly what runs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from sonia.config import OpenClaw
from sonia.control import Control, DeadLetter, Decision, LetterState, Plan, Replayed
from sonia.errors import PolicyDenied, SoniaError, Unavailable
from sonia.events import Forgotten, ReminderDue, TaskFinished
from sonia.tools.attempt import Ending, failure
from sonia.tools.builtin.notification_send import show
from sonia.tools.catalogue import Catalogue
from sonia.tools.files import Workspace
from sonia.tools.followup import FollowUp
from sonia.tools.interface import (
    ActionError,
    ArgumentsInvalid,
    Call,
    Outcome,
    ToolInfo,
)
from sonia.tools.journal import Journal
from sonia.tools.letters import Letters
from sonia.tools.mcp import Servers
from sonia.tools.runner import Runner, outcome_of
from sonia.tools.sandbox import Sandbox
from sonia.tools.store import Actions, Claim
from sonia.tools.tasks import Tasks
from sonia.tools.trash import Trash
from sonia.tools.undoing import Undoing
from sonia.tools.waiting import Action, Waiting
from sonia.types import Origin, ToolSpec, new_id

MAX_TIMEOUT_MS = 600_000
MAX_KEY_CHARS = 200


class GuardedTools:
    """Use `open_tools`."""

    def __init__(
        self,
        config: OpenClaw,
        control: Control,
        actions: Actions,
        tasks: Tasks,
        workspace: Workspace,
        sandbox: Sandbox,
        catalogue: Catalogue,
        trash: Trash,
        journal: Journal,
        letters: Letters,
    ) -> None:
        self._control = control
        self._actions = actions
        self._letters = letters
        self._workspace = workspace
        self._sandbox = sandbox
        self._catalogue = catalogue
        self._waiting = Waiting()
        self._runner = Runner(config, control, actions, journal, letters, tasks)
        self._followup = FollowUp(control, self._catalogue, self._runner, self._waiting, tasks)
        self._undoing = Undoing(control, self._catalogue, actions, journal, trash, tasks)
        self._keys: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._calls: set[asyncio.Task[Outcome]] = set()
        self._closed = False
        self.offer = self._catalogue.offer
        self.watch = self._catalogue.watch
        self.servers: Servers | None = None

    # --- the catalogue -------------------------------------------------------------------

    def catalogue(self) -> tuple[ToolInfo, ...]:
        return self._catalogue.infos()

    def describe(self, name: str) -> ToolInfo:
        return self._catalogue.info(name)

    def specs(self) -> tuple[ToolSpec, ...]:
        return self._catalogue.specs()

    async def plan(
        self,
        tool_name: str,
        args: dict[str, Any],
        *,
        origins: tuple[Origin, ...] = ("owner",),
        session_id: str | None = None,
    ) -> Plan:
        return (await self._catalogue.prepare(tool_name, args, origins, session_id)).plan

    # --- acting --------------------------------------------------------------------------

    async def execute(self, call: Call) -> Outcome:
        if self._closed:
            raise Unavailable("Sonia is stopping.")
        if call.timeout_ms is not None and not 0 < call.timeout_ms <= MAX_TIMEOUT_MS:
            raise ArgumentsInvalid(
                f"timeout_ms must be between 1 and {MAX_TIMEOUT_MS}.", field="timeout_ms"
            )
        if call.idempotency_key is None or call.dry_run:
            return await self._stoppable(self._execute(call, new_id("act")))
        if not 0 < len(call.idempotency_key) <= MAX_KEY_CHARS:
            raise ArgumentsInvalid(
                f"idempotency_key must have 1 to {MAX_KEY_CHARS} characters.",
                field="idempotency_key",
            )
        return await self._stoppable(self._keyed(call, call.idempotency_key))

    async def _stoppable(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Do `work` until it ends, its caller goes away, or these tools are left."""
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closed and caller and not caller.cancelling():
                raise Unavailable("Sonia is stopping; this was stopped with her.") from None
            raise

    async def _keyed(self, call: Call, key: str) -> Outcome:
        lock = self._keys.setdefault(key, asyncio.Lock())
        async with lock:
            return await self._once(call, key)

    async def _once(self, call: Call, key: str) -> Outcome:
        tool, args = self._catalogue.check(call.tool_name, call.args)
        canonical = msgspec.json.encode((tool.name, args, call.session_id), order="sorted")
        claim = await self._actions.claim(
            key,
            action_id=new_id("act"),
            tool=tool.name,
            call_hash=hashlib.sha256(canonical).hexdigest(),
        )
        if claim.outcome is not None and not _continues(call, claim.outcome):
            return claim.outcome
        if claim.outcome is None and not claim.mine:
            raise Unavailable("The first call with this key has no outcome yet. Try again.")
        return await self._claimed(call, claim)

    async def _claimed(self, call: Call, claim: Claim) -> Outcome:
        try:
            return await self._execute(call, claim.action_id)
        except BaseException:
            await asyncio.shield(self._actions.release(claim.action_id))
            raise

    async def _execute(self, call: Call, action_id: str) -> Outcome:
        prepared = await self._catalogue.prepare(
            call.tool_name, call.args, call.origins, call.session_id
        )
        plan = msgspec.structs.replace(
            prepared.plan, user_id=call.user_id, private=call.private, unattended=call.unattended
        )
        prepared = msgspec.structs.replace(prepared, plan=plan)
        action = Action(id=action_id, call=call, prepared=prepared)
        try:
            await prepared.tool.ready()
        except SoniaError as error:
            return await self._refuse(action, error)
        if call.approval_id is not None and not call.dry_run:
            return await self._followup.redeem(action, call.approval_id)
        decision = await self._control.judge(prepared.plan, ask=not call.dry_run)
        if decision.verdict == "denied":
            why = ActionError(code=PolicyDenied.code, message=decision.reason)
            denied = Ending(status="denied", error=why)
            return await self._runner.save(action, outcome_of(action, decision, denied))
        if call.dry_run:
            return await self._dry(action, decision)
        if decision.verdict == "approval_required":
            return await self._followup.wait(action, decision)
        return await self._runner.run(action, decision)

    async def _dry(self, action: Action, decision: Decision) -> Outcome:
        """What would happen: `executed` stands for "would run", and says so in the result."""
        asks = decision.verdict == "approval_required"
        ending = Ending(
            status="approval_required" if asks else "executed", result={"dry_run": True}
        )
        return await self._runner.save(action, outcome_of(action, decision, ending))

    async def _refuse(self, action: Action, error: SoniaError) -> Outcome:
        """This host can't do it, or not safely, so nobody is asked."""
        plan = action.prepared.plan
        decision = Decision(
            verdict="denied",
            risk_tier=plan.tier,
            rule="host",
            reason=error.message,
            scope_hash="",
        )
        return await self._runner.save(action, outcome_of(action, decision, failure(error)))

    # --- afterwards ----------------------------------------------------------------------

    async def settled(self, action_id: str) -> Outcome:
        if action := self._waiting.find(action_id):
            await action.done.wait()
            if action.outcome:
                return action.outcome
        return await self._actions.find(action_id)

    async def withdraw(self, action_id: str) -> None:
        if action := self._waiting.find(action_id):
            await self._followup.withdraw(action, "Who asked for it took it back")
        else:
            await self._actions.find(action_id)

    async def undo(self, action_id: str, *, by: str) -> Outcome:
        if self._closed:
            raise Unavailable("Sonia is stopping.")
        return await self._undoing.undo(action_id, by)

    async def remind(self, due: ReminderDue) -> str | None:
        """Show a reminder on the desktop, where there is one; how it was told."""
        return "notification" if await show("Reminder", due.text) else None

    async def ask(self, waits: TaskFinished) -> None:
        """Show on the desktop that unattended work waits for an answer."""
        if waits.status == "waiting":
            await show("Sonia asks", f"{waits.text}\nsonia approvals show {waits.approval_id}")

    # --- what failed ---------------------------------------------------------------------

    async def letters(
        self, state: LetterState | None = "open", limit: int = 100
    ) -> tuple[DeadLetter, ...]:
        return await self._letters.newest(state, limit)

    async def dismiss(self, letter_id: str) -> DeadLetter:
        return await self._letters.dismiss(letter_id)

    async def replay(self, letter_id: str) -> Replayed:
        action_id = new_id("act")
        again = await self._letters.take(letter_id, action_id)
        call = Call(
            tool_name=again.tool,
            args=again.arguments,
            origins=again.origins,
            session_id=again.session_id,
            follow_up=True,
        )
        try:
            outcome = await self._stoppable(self._execute(call, action_id))
        except SoniaError:
            await self._letters.put_back(letter_id)
            raise
        return Replayed(
            letter=await self._letters.find(letter_id),
            action_id=action_id,
            status=outcome.status,
            message=outcome.error.message if outcome.error else outcome.decision.reason,
            approval_id=outcome.approval_id,
        )

    async def tidy(self) -> None:
        """Let go of what is too old to be undone; `open_tools` calls it."""
        await self._undoing.tidy()

    async def forget(self, fact: Forgotten) -> None:
        """What the trash kept of what is forgotten goes too."""
        await self._undoing.forget(fact)

    async def action(self, action_id: str) -> Outcome:
        action = self._waiting.find(action_id)
        if action and action.outcome:
            return action.outcome
        return await self._actions.find(action_id)

    async def actions(self, limit: int = 50) -> tuple[Outcome, ...]:
        return await self._actions.newest(limit)

    # --- health --------------------------------------------------------------------------

    async def probe(self) -> dict[str, object]:
        """What `/healthz` asks. Raises `Unavailable` when the workspace can't be used."""
        await asyncio.to_thread(self._workspace.prepare)
        try:
            await self._sandbox.check()
            sandbox = "available"
        except SoniaError as error:
            sandbox = error.message
        return {
            "tools": len(self.catalogue()),
            "workspace": str(self._workspace.root),
            "sandbox": sandbox,
            **({"mcp": states} if self.servers and (states := self.servers.states()) else {}),
            "landlock": self._sandbox.landlocked,
        }

    async def close(self) -> None:
        """Stop what runs and what is watched; `open_tools` calls it."""
        self._closed = True
        self._waiting.close()
        for task in self._calls:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls)


def _continues(call: Call, first: Outcome) -> bool:
    """Whether `call` comes back with the approval that `first` asked for."""
    return first.status == "approval_required" and first.approval_id == call.approval_id
