"""Work for later, once or again and again."""

from sonia.control.tasks.interface import (
    NewTask,
    NotATime,
    Run,
    Schedule,
    Task,
    TaskNotFound,
    Tasks,
    TooManyTasks,
)
from sonia.control.tasks.places import PLACES
from sonia.control.tasks.service import PlannedTasks, open_tasks

__all__ = [
    "PLACES",
    "NewTask",
    "NotATime",
    "PlannedTasks",
    "Run",
    "Schedule",
    "Task",
    "TaskNotFound",
    "Tasks",
    "TooManyTasks",
    "open_tasks",
]
