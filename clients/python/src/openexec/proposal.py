"""What the service says of one proposal, held to itself: its id is the hash of what was asked, its receipts are those of their
results, and its state is one that this client knows."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from openexec import errors, exact

# The states in which something may still come.
OPEN = frozenset({"pending", "executing"})
OUTCOMES = frozenset({"executed", "failed", "indeterminate"})
_OVER: Mapping[str, type[errors.Ended]] = {
    "rejected": errors.Rejected,
    "withdrawn": errors.Withdrawn,
    "expired": errors.Expired,
    "refused": errors.Refused,
}
STATES = OPEN | OUTCOMES | frozenset(_OVER)


@dataclasses.dataclass(frozen=True)
class Completion:
    """What became of a job, by somebody's word: `by` is `worker` or `operator`, `at` a time (RFC 3339)."""

    outcome: str
    result: Mapping[str, Any]
    by: str
    at: str


@dataclasses.dataclass(frozen=True)
class Proposal:
    """One call and how it stands. `id` follows it from the first answer to the completion of its job."""

    id: str
    state: str
    action: str
    result: Mapping[str, Any] | None = None
    receipt: str | None = None
    completion: Completion | None = None
    rejection: Mapping[str, Any] | None = None
    # How many approvals are missing, where the service has said so.
    missing: int | None = None
    # Of one that enough have approved: what keeps it, such as `frozen`.
    blocked: str | None = None
    expires_at: str | None = None
    # The answer is one that was given before: nothing ran for this call.
    is_replayed: bool = False

    @property
    def has_open_job(self) -> bool:
        """It has executed and left a job for a worker, and nobody has said what became of it."""
        return self.state == "executed" and "queued" in (self.result or {}) and self.completion is None

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.state not in OPEN and not self.has_open_job

    def checked(self) -> "Proposal":
        """Itself, unless it has ended otherwise than asked: then its `Ended`."""
        if self.state in _OVER:
            raise _OVER[self.state](self.state, self)
        if self.state == "failed":
            raise errors.Failed(f"failed: {_reason(self.result)}", self)
        if self.state == "indeterminate":
            raise errors.Indeterminate(f"nobody knows whether it happened: {_reason(self.result)}", self)
        if self.completion and self.completion.outcome == "failed":
            raise errors.JobFailed(f"its job has failed: {exact.canonical(self.completion.result, exact.ANSWER_DEPTH_MAX)}", self)
        if self.completion and self.completion.outcome == "indeterminate":
            raise errors.JobIndeterminate("nobody knows whether its job was done", self)
        return self


def _reason(result: Mapping[str, Any] | None) -> str:
    return exact.canonical(result, exact.ANSWER_DEPTH_MAX)


def of_answer(body: Mapping[str, Any], id: str, action: str, is_replayed: bool) -> Proposal:
    """From what `/execute` answers: 200, 202, or the problem of an outcome. Raises `WrongAnswer`."""
    hold(body.get("id") == id, "the answer is of another call")
    if "outcome" not in body:
        state = _text(body, "state")
        hold(state in OPEN, "a pending call has no such state")
        return Proposal(id, str(state), action)
    outcome, result = _outcome(body, id)
    hold(outcome == "executed" or body.get("approved") is None, "what failed is not approved")
    hold(outcome != "executed" or (body.get("approved") is True and body.get("action") == action), "another action was executed")
    return Proposal(id, outcome, action, result, body["receipt"], is_replayed=is_replayed)


def of_view(body: Mapping[str, Any], id: str) -> Proposal:
    """From what `GET /proposals/{id}` answers. Raises `WrongAnswer`."""
    action, nonce, state = _text(body, "action"), _text(body, "nonce"), _text(body, "state")
    hold(body.get("id") == id, "it is not the proposal that was asked for")
    try:
        hold(exact.exec_id(action or "", body.get("payload"), nonce or "") == id, "its id is not the hash of what it says")
    except exact.Unsendable as error:
        raise errors.WrongAnswer(f"what it says has no hash: {error.code}") from None
    hold(state in STATES, "it is in no state that this client knows")
    result = None
    if state in OUTCOMES:
        outcome, result = _outcome(body, id)
        hold(outcome == state, "its state is not its outcome")
    missing = (_object(_object(body, "approvals") or {}, "missing") or {}).get("count")
    hold(missing is None or type(missing) is int, "how many approvals are missing is no number")
    return Proposal(
        id, str(state), str(action), result, _text(body, "receipt"), _completion(body.get("completion"), id), _object(body, "rejection"),
        missing, _text(body, "blocked"), _text(body, "expires_at"),
    )


def _outcome(body: Mapping[str, Any], id: str) -> tuple[str, Mapping[str, Any]]:
    outcome, result = _text(body, "outcome"), _object(body, "result")
    if outcome not in OUTCOMES or result is None:
        raise errors.WrongAnswer("it has no outcome that this client knows")
    hold(_receipt(id, result) == body.get("receipt"), "its receipt is not that of its result")
    return str(outcome), result


def _completion(body: Any, id: str) -> Completion | None:
    if body is None:
        return None
    if not isinstance(body, dict):
        raise errors.WrongAnswer("its completion is no object")
    outcome, result = _text(body, "outcome"), _object(body, "result")
    if outcome not in OUTCOMES or result is None:
        raise errors.WrongAnswer("its completion is none that this client knows")
    said = {"completion": {"outcome": outcome, "result": result}}
    hold(_receipt(id, said) == body.get("receipt"), "the receipt of its completion is not that of its result")
    return Completion(str(outcome), result, _text(body, "by") or "", _text(body, "at") or "")


def _receipt(id: str, result: object) -> str:
    try:
        return exact.receipt(id, result)
    except exact.Unsendable as error:
        raise errors.WrongAnswer(f"its result has no hash: {error.code}") from None


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    hold(value is None or isinstance(value, str), f"its {name} is no text")
    return value


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = body.get(name)
    hold(value is None or isinstance(value, dict), f"its {name} is no object")
    return value


def hold(is_so: bool, otherwise: str) -> None:
    """Raises `WrongAnswer` unless it is so."""
    if not is_so:
        raise errors.WrongAnswer(otherwise)


def is_id(id: object) -> bool:
    """64 digits of hex, in lower case."""
    return isinstance(id, str) and re.fullmatch("[0-9a-f]{64}", id) is not None
