"""The tool calls of a model, run through the boundary.

What a model writes is a proposal and nothing more: its arguments go to the service as they are, and what comes back is told in
words that keep the three apart which a model must not mix up: it has happened, it has not, and nobody knows yet. What an action
returned stays inside `result`, as data; the words beside it are the service's and this client's.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from openexec import errors
from openexec.client import Client, Format, read_arguments
from openexec.exact import Unsendable, exec_id
from openexec.proposal import Proposal

_PENDING = (
    "It has not happened. People have been asked to approve it, and it executes by itself once they have. "
    "Do not call again for the same thing."
)
_WAS_PENDING = (
    "It had not happened when the service was last heard, and it executes by itself once people have approved it. "
    "Do not call again for the same thing."
)
_EXECUTING = "It is being executed. Nobody knows yet whether it happened. Do not call again for the same thing."
_QUEUED = "It was approved and is queued for a worker. Nobody has said yet that it is done. Do not call again for the same thing."
UNKNOWN = "Nobody knows yet whether it happened. Do not call again for the same thing: it could happen twice. Tell the user."
_NOTHING = "It has not happened."
_OVER = "It has not happened and will not. Do not propose it again unless the user asks for it."


@dataclasses.dataclass(frozen=True)
class ToolAnswer:
    """What to tell the model, as JSON in `text`.

    `state` is a proposal's, or `refused` (also unread), `unavailable` (nothing was started) or `unknown` (run the same tool call
    again, with the same id, or ask `answer_of`). `id` is the proposal's, where there is one.
    """

    text: str
    state: str
    is_error: bool
    id: str | None = None

    @property
    def is_open(self) -> bool:
        """It is pending, executing, not known to be done, or not known at all: `Tools.answer_of` its `id` tells more later."""
        return self.id is not None and self.state in ("pending", "executing", "queued", "unknown")


class Tools:
    """The tools of one conversation.

    `conversation` names it, and no other conversation ever: with the id of a tool call it makes the nonce, so that the same call
    run again, also by a process that was started anew, is the same proposal. Ids of tool calls alone are not unique: some models
    count them from nought in each conversation.

    With `wait_seconds` a call waits so long for its approval and its job before the model hears that it is pending.
    """

    def __init__(self, client: Client, conversation: str, *, wait_seconds: float = 0.0, justification: str | None = None) -> None:
        if not conversation:
            raise errors.ConfigurationError("a conversation has a name of its own")
        self._client = client
        self._conversation = conversation
        self._wait_seconds = wait_seconds
        self._justification = justification

    def list(self, format: Format) -> Any:
        """The `tools` array for a model: `openai` (chat completions), `openai-responses` or `anthropic`."""
        return self._client.tools(format)

    def run_openai(self, call: Any) -> dict[str, Any]:
        """A tool call of chat completions, an object or a dict. Gives the message with role `tool` that answers it."""
        answer = self.run(_of(call, "function", "name"), _of(call, "function", "arguments"), _of(call, "id"))
        return {"role": "tool", "tool_call_id": _of(call, "id"), "content": answer.text}

    def run_openai_response(self, item: Any) -> dict[str, Any]:
        """A `function_call` item of the Responses API. Gives the `function_call_output` item that answers it."""
        answer = self.run(_of(item, "name"), _of(item, "arguments"), _of(item, "call_id"))
        return {"type": "function_call_output", "call_id": _of(item, "call_id"), "output": answer.text}

    def run_anthropic(self, block: Any) -> dict[str, Any]:
        """A `tool_use` block. Gives the `tool_result` block that answers it."""
        answer = self.run(_of(block, "name"), _of(block, "input"), _of(block, "id"))
        return {"type": "tool_result", "tool_use_id": _of(block, "id"), "content": answer.text, "is_error": answer.is_error}

    def run(self, name: Any, arguments: Any, call_id: Any) -> ToolAnswer:
        """A tool call of any model: `arguments` are an object, or the text of one.

        Whatever the model wrote, this gives an answer. It raises where the agent's operator must act: `ConfigurationError`,
        `WrongAnswer`, and `Problem` with `unauthenticated`; `may_have_executed` says then whether the call may have been.
        """
        if not isinstance(name, str) or not isinstance(call_id, str) or not call_id:
            return _refused("invalid_request", "A tool call has a name and an id")
        if arguments is not None and not isinstance(arguments, str | Mapping):
            return _refused("invalid_request", "The arguments are an object")
        try:
            if isinstance(arguments, str):
                arguments = read_arguments(arguments)
            made = self._client.propose(name, arguments, nonce=self.nonce(call_id), justification=self._justification)
        except Unsendable as error:
            return failure(error)
        except errors.OpenExecError as error:
            return failure(error, exec_id(name, arguments or {}, self.nonce(call_id)) if error.may_have_executed else None)
        if made.is_over:
            return _told(made)
        try:
            followed = self.answer_of(made.id, wait_seconds=self._wait_seconds)
        except errors.ConfigurationError:
            return _told(made, is_new=False)
        except errors.OpenExecError as error:
            error.may_have_executed = True
            raise
        # The service has gone away since, or does not tell: it stands as it said.
        return _told(made, is_new=False) if followed.state == "unknown" else followed

    def answer_of(self, id: str, *, wait_seconds: float = 0.0) -> ToolAnswer:
        """What became of an earlier call, by its proposal's id: for a conversation that went on while it was pending."""
        try:
            return _told(self._client.wait(id, timeout_seconds=wait_seconds))
        except (errors.NotYet, errors.Ended) as error:
            return failure(error)
        except errors.OpenExecError as error:
            if is_the_operators(error):
                raise
            # A no to the question is none to the call.
            return unknown(error, id)

    def nonce(self, call_id: str) -> str:
        """The nonce of a tool call: readable where both names are plain and short, else a hash of both."""
        plain = f"{self._conversation}:{call_id}"
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,100}:[A-Za-z0-9_.-]{1,100}", plain):
            return plain
        return "tool:" + hashlib.sha256(json.dumps([self._conversation, call_id]).encode()).hexdigest()


def _told(made: Proposal, is_new: bool = True) -> ToolAnswer:
    """How it stands, or stood, where that is not new."""
    said: dict[str, Any] = {"id": made.id}
    if made.state == "executing":
        return _answer(made.state, said | {"note": _EXECUTING}, False)
    if made.state != "executed":
        return _answer(made.state, said | {"note": _PENDING if is_new else _WAS_PENDING}, False)
    said["result"] = made.result
    if made.has_open_job:
        return _answer("queued", said | {"note": _QUEUED}, False)
    if made.completion:
        said["completion"] = made.completion.result
    return _answer("executed", said, False)


def is_the_operators(error: Exception) -> bool:
    """Whether the agent's operator must act, and no words to a model help."""
    is_unknown = isinstance(error, errors.Problem) and error.code == "unauthenticated"
    return is_unknown or isinstance(error, errors.ConfigurationError | errors.WrongAnswer)


def unknown(error: Exception, id: str | None) -> ToolAnswer:
    """What to tell the model where nobody knows."""
    known = {"code": error.code, "detail": error.detail} if isinstance(error, errors.Problem) else {}
    return _answer("unknown", {"id": id, **known, "note": UNKNOWN}, True)


def failure(error: Exception, id: str | None = None) -> ToolAnswer:
    """What to tell the model of what the call with this id has raised. Raises it again where the agent's operator must act."""
    if isinstance(error, Unsendable):
        return _refused(error.code, error.detail)
    if isinstance(error, errors.NotYet):
        return _told(error.proposal)
    if isinstance(error, errors.Ended):
        return _ended(error)
    if is_the_operators(error) or not isinstance(error, errors.NoAnswer | errors.Problem):
        raise error
    if error.may_have_executed:
        return unknown(error, id)
    if isinstance(error, errors.NoAnswer | errors.Unavailable):
        known = {"code": error.code, "detail": error.detail} if isinstance(error, errors.Problem) else {}
        return _answer("unavailable", known | {"note": f"{_NOTHING} The service is not available now."}, True)
    return _refused(error.code, error.detail, error.id)


def _ended(error: errors.Ended) -> ToolAnswer:
    made = error.proposal
    said: dict[str, Any] = {"id": made.id}
    if isinstance(error, errors.Rejected):
        return _answer("rejected", said | {"reason": error.reason, "note": f"A person said no. {_OVER}"}, True)
    if made.completion:
        said["completion"] = made.completion.result
    if isinstance(error, errors.Indeterminate | errors.JobIndeterminate):
        return _answer("indeterminate", said | {"result": made.result, "note": f"{UNKNOWN} A person must look."}, True)
    if isinstance(error, errors.JobFailed) and made.completion:
        return _answer("failed", said | {"note": f"{_NOTHING} That is the word of the {made.completion.by}."}, True)
    if isinstance(error, errors.Failed):
        return _answer("failed", said | {"result": made.result, "note": _NOTHING}, True)
    return _answer(made.state, said | {"note": _OVER}, True)


def _refused(code: str, detail: str, id: str | None = None) -> ToolAnswer:
    return _answer("refused", {"id": id, "code": code, "detail": detail, "note": _NOTHING}, True)


def _answer(state: str, said: Mapping[str, Any], is_error: bool) -> ToolAnswer:
    # In ASCII: nothing in it moves a cursor or hides.
    text = json.dumps({"state": state, **{name: value for name, value in said.items() if value is not None}})
    return ToolAnswer(text, state, is_error, said.get("id"))


def _of(call: Any, *names: str) -> Any:
    """A member, of an SDK's object or of a dict; None where there is none."""
    for name in names:
        call = call.get(name) if isinstance(call, Mapping) else getattr(call, name, None)
    return call


