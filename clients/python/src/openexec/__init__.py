"""Client of OpenExec. An agent proposes; people approve; the service executes once."""

from openexec.client import Client
from openexec.errors import (
    ConfigurationError,
    Ended,
    Expired,
    Failed,
    Indeterminate,
    JobFailed,
    JobIndeterminate,
    NoAnswer,
    NotYet,
    OpenExecError,
    Problem,
    Refused,
    Rejected,
    Unavailable,
    Withdrawn,
    WrongAnswer,
)
from openexec.exact import Unsendable, canonical, exec_id, receipt
from openexec.proposal import Completion, Proposal
from openexec.tools import ToolAnswer, Tools

__all__ = [
    "Client",
    "Completion",
    "ConfigurationError",
    "Ended",
    "Expired",
    "Failed",
    "Indeterminate",
    "JobFailed",
    "JobIndeterminate",
    "NoAnswer",
    "NotYet",
    "OpenExecError",
    "Problem",
    "Proposal",
    "Refused",
    "Rejected",
    "ToolAnswer",
    "Tools",
    "Unavailable",
    "Unsendable",
    "Withdrawn",
    "WrongAnswer",
    "canonical",
    "exec_id",
    "receipt",
]
