"""Everything that a call can end with beside a result. Each has a type; no sentence is ever to be parsed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openexec.proposal import Proposal

SHOWN_CHARACTERS_MAX = 1_000


def shown(text: str) -> str:
    """Somebody else's text for a terminal or a journal: one line, no control characters, cut."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:SHOWN_CHARACTERS_MAX])


class OpenExecError(Exception):
    """The root of all of these. With `may_have_executed` nobody knows whether the call was executed; else this says what became
    of it, or it was not."""

    may_have_executed = False


class ConfigurationError(OpenExecError):
    """The client is not set up right, or the service's certificate is not trusted. Nothing was sent of the call
    that raises it: where the setup breaks after a first try, that is `NoAnswer`."""


class NoAnswer(OpenExecError):
    """No answer of the service came, for as long as the client may repeat the call.

    With `may_have_executed` nobody knows whether the call arrived: make the same call again, with the same nonce.
    """

    def __init__(self, said: str, may_have_executed: bool) -> None:
        super().__init__(shown(said))
        self.may_have_executed = may_have_executed


class WrongAnswer(OpenExecError):
    """What answers is not the service, or its answer contradicts itself: a redirect, HTML, another call's id, a receipt that is
    not the result's, too many bytes. Nobody knows whether the call was executed; it is not repeated."""

    may_have_executed = True


class Problem(OpenExecError):
    """The service's own no: an RFC 9457 problem. Switch on `code`; `detail` is for people.

    `body` is the whole object. `may_have_executed` says that an earlier try of this same call got no answer, or that the problem
    is one of the service's own (5xx) of which it is not known that nothing was started.
    """

    def __init__(self, status: int, body: Mapping[str, Any], may_have_executed: bool = False) -> None:
        self.status = status
        self.body = body
        self.code: str = body["code"]
        self.title: str = body["title"]
        self.detail: str = body["detail"]
        self.type: str = body["type"]
        self.id: str | None = body.get("id")
        self.may_have_executed = may_have_executed
        super().__init__(f"{status} {shown(self.code)}: {shown(self.detail)}")

    def __str__(self) -> str:
        return super().__str__() + ("; nobody knows whether the call was executed" if self.may_have_executed else "")


class Unavailable(Problem):
    """503 or 507, for as long as the client may repeat the call: frozen, standby, busy, full, outcome unknown.

    Unless `may_have_executed`, nothing was started. Make the same call again later, with the same nonce.
    """


class Ended(OpenExecError):
    """The proposal has ended otherwise than with what was asked for. `proposal` is all that the service knows of it."""

    def __init__(self, said: str, proposal: "Proposal") -> None:
        super().__init__(shown(said))
        self.proposal = proposal


class Rejected(Ended):
    """An approver said no. It is final. `reason` is what the approver wrote, in their words."""

    def __init__(self, said: str, proposal: "Proposal") -> None:
        reason = (proposal.rejection or {}).get("justification")
        self.reason: str | None = reason if isinstance(reason, str) else None
        super().__init__(f"{said}: {self.reason}" if self.reason else said, proposal)


class Withdrawn(Ended):
    """The caller itself, or an operator, took the proposal back."""


class Expired(Ended):
    """Nobody decided in time."""


class Refused(Ended):
    """It was approved, and the service would not execute it any more: the action is not allowed now, or its payload not taken."""


class Failed(Ended):
    """It was executed, and has failed: nothing happened. To try again is a new proposal, under a new nonce."""


class Indeterminate(Ended):
    """It was executed, and nobody knows whether it happened. A person must look. Never repeat it by yourself."""

    may_have_executed = True


class JobFailed(Ended):
    """It was executed and left a job, and the job has failed: its completion says so, by a worker's or an operator's
    word."""


class JobIndeterminate(Ended):
    """It was executed and left a job, of which nobody knows whether it happened. A person must look."""

    may_have_executed = True


class NotYet(OpenExecError):
    """The time to wait is over, and it has not ended: nobody has decided it, or nobody has said what became of its job. `proposal`
    stands as it was seen last. Wait again, with its id."""

    def __init__(self, proposal: "Proposal") -> None:
        job = ", and nobody has said what became of its job" if proposal.has_open_job else ""
        super().__init__(f"{proposal.id} is still {proposal.state}{job}")
        self.proposal = proposal
