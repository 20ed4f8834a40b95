"""What Sonia may do, and whether she is well."""

from sonia.control.credentials import guarded, starts
from sonia.control.interface import (
    Approval,
    ApprovalNotFound,
    ApprovalSettled,
    ApprovalState,
    ApprovalUnanswered,
    Control,
    Decision,
    LedgerCheck,
    LedgerDown,
    LedgerEntry,
    Operator,
    Plan,
    Planner,
    Policy,
    Probe,
    Rule,
    RuleVerdict,
    ScopeMismatch,
    Tier,
    TooManyPending,
    Undo,
    Verdict,
    Vital,
)
from sonia.control.ledger import chain
from sonia.control.operator import open_operator, operator_only, read_token
from sonia.control.places import PLACES as CONTROLS_OWN
from sonia.control.service import open_control
from sonia.control.tasks import PLACES as TASKS_PLACES
from sonia.control.tasks import NewTask, Run, Schedule, Task, TaskNotFound, Tasks, open_tasks

PLACES = (*TASKS_PLACES, *CONTROLS_OWN)

__all__ = [
    "PLACES",
    "Approval",
    "ApprovalNotFound",
    "ApprovalSettled",
    "ApprovalState",
    "ApprovalUnanswered",
    "Control",
    "Decision",
    "LedgerCheck",
    "LedgerDown",
    "LedgerEntry",
    "NewTask",
    "Operator",
    "Plan",
    "Planner",
    "Policy",
    "Probe",
    "Rule",
    "RuleVerdict",
    "Run",
    "Schedule",
    "ScopeMismatch",
    "Task",
    "TaskNotFound",
    "Tasks",
    "Tier",
    "TooManyPending",
    "Undo",
    "Verdict",
    "Vital",
    "chain",
    "guarded",
    "open_control",
    "open_operator",
    "open_tasks",
    "operator_only",
    "read_token",
    "starts",
]
