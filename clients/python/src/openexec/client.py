"""The client: proposes under one nonce however often it must ask, and follows what it proposed to its end.

Invariant: it never makes a nonce, and never takes another for a second try.
"""

import dataclasses
import math
import os
import pathlib
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from openexec import exact
from openexec.errors import ConfigurationError, Ended, NoAnswer, NotYet, OpenExecError, Problem, Unavailable, WrongAnswer
from openexec.proposal import Proposal, hold, is_id, of_answer, of_view
from openexec.transport import Answer, Lost, Transport

URL = "http://127.0.0.1:5000"
BODY_BYTES_MAX = 1024 * 1024
NONCE_BYTES_MAX = 256
TRIES_MAX = 100
BACKOFF_SECONDS, BACKOFF_SECONDS_MAX = 0.2, 10.0
# A service that says "in a year" is asked again no later than this.
RETRY_AFTER_SECONDS_MAX = 60.0
# Nothing was started, or nobody knows: the same call again does no harm.
_AGAIN = frozenset({408, 502, 503, 504, 507})
# Of these alone the service promises that nothing was started: in a refusal, or where nobody has looked at the call.
_STARTED_NOTHING = frozenset({503, 507})
_UNSEEN = frozenset({"busy", "standby"})
Format = Literal["openai", "openai-responses", "anthropic"]


class Client:
    """One service. Safe to use from several threads.

    `url` is `http://HOST:PORT` (this machine alone, unless `plain_http`), `https://HOST:PORT` or `unix:PATH`. The token is
    `token`, or what `token_file` holds at each request. What is not given comes from OPENEXEC_URL, OPENEXEC_TOKEN,
    OPENEXEC_TOKEN_FILE and OPENEXEC_CA_FILE. `timeout_seconds` is for one request with its answer; `retry_seconds` for all
    tries of one call, with the pauses in between.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        plain_http: bool = False,
        timeout_seconds: float = 30.0,
        retry_seconds: float = 60.0,
        poll_seconds: float = 1.0,
    ) -> None:
        if token is not None and token_file is not None:
            raise ConfigurationError("a token and a token file: give one")
        if token is None and token_file is None:
            token, token_file = os.environ.get("OPENEXEC_TOKEN"), os.environ.get("OPENEXEC_TOKEN_FILE")
            if token and token_file:
                raise ConfigurationError("OPENEXEC_TOKEN and OPENEXEC_TOKEN_FILE: set one")
        if min(timeout_seconds, poll_seconds) <= 0 or retry_seconds < 0:
            raise ConfigurationError("a time is not above zero")
        self._token = token or None
        self._token_file = token_file or None
        ca_file = ca_file or os.environ.get("OPENEXEC_CA_FILE")
        self._transport = Transport(
            url or os.environ.get("OPENEXEC_URL") or URL, os.fspath(ca_file) if ca_file else None, plain_http
        )
        self._timeout_seconds = timeout_seconds
        self._retry_seconds = retry_seconds
        self._poll_seconds = poll_seconds
        self._clock: Callable[[], float] = time.monotonic
        self._sleep: Callable[[float], None] = time.sleep
        self._bearer()

    def propose(
        self,
        action: str,
        payload: Mapping[str, Any] | str | None = None,
        *,
        nonce: str,
        justification: str | None = None,
        expires_at: str | None = None,
    ) -> Proposal:
        """Asks for an action. Gives the proposal as it stands: `executed`, or `pending` until people have approved it.

        `nonce` (1 to 256 bytes) names this one intention: take it from something that exists, and keep it. `payload` may be the
        text that a model wrote. `justification` is for the approver; `expires_at` (RFC 3339) ends the proposal sooner.
        Raises `Unsendable` before anything is sent, `NoAnswer` and `Unavailable` where it had no answer for `retry_seconds`,
        `Problem` for a refusal, and an `Ended` for what is over.
        """
        if isinstance(payload, str):
            payload = read_arguments(payload)
        if not isinstance(action, str) or not isinstance(nonce, str):
            raise exact.Unsendable("invalid_request", "an action and a nonce are text")
        if not 1 <= len(nonce.encode("utf-8", "replace")) <= NONCE_BYTES_MAX or re.search(r"[\x00-\x1f\x7f-\x9f]", nonce):
            raise exact.Unsendable("invalid_request", "a nonce has 1 to 256 bytes and no control characters")
        call = {"action": action, "payload": {} if payload is None else payload, "nonce": nonce}
        if not isinstance(call["payload"], Mapping):
            raise exact.Unsendable("invalid_request", "a payload is an object")
        id = exact.exec_id(action, call["payload"], nonce)
        call |= {
            name: value for name, value in (("justification", justification), ("expires_at", expires_at)) if value is not None
        }
        answer, body = self._ask("POST", "/execute", call, {"Prefer": "respond-async"})
        if answer.status in (200, 202):
            hold((answer.status == 200) == ("outcome" in body), "it is 200 where it has executed, and 202 where not")
            return of_answer(body, id, action, answer.headers.get("idempotent-replayed") == "true").checked()
        problem = self._problem(answer, body)
        hold(problem.id in (None, id), "the refusal is of another call")
        if "outcome" in body:
            of_answer(body, id, action, False).checked()
            raise WrongAnswer("what has executed is no error")
        if answer.status == 403 and problem.code in ("rejected", "withdrawn", "expired", "refused"):
            try:
                self.proposal(id).checked()
            except (Ended, WrongAnswer):
                raise
            except OpenExecError:
                # How it ended is not heard; that it has is.
                raise problem from None
        raise problem

    def proposal(self, id: str) -> Proposal:
        """How a proposal stands. Raises `Problem` (404) where this caller has none of this id."""
        return self._view(id, None)[0]

    def wait(self, id: str, *, timeout_seconds: float, for_job: bool = True) -> Proposal:
        """Follows a proposal to its end, and with `for_job` to the completion of the job that it leaves.

        Raises what it ended with instead (`Rejected` with its reason, `Expired`, `Failed`, `JobFailed`, ...), and `NotYet`
        where it has not ended by then. While the service is away it goes on asking; then `NoAnswer` or `Unavailable`. It looks
        at least once, and its last look may take `timeout_seconds` of the client longer.
        """
        deadline = self._clock() + timeout_seconds
        seen: Proposal | None = None
        etag: str | None = None
        has_looked = False
        while True:
            away: OpenExecError | None = None
            pause = self._poll_seconds
            try:
                seen, etag, pause = self._view(id, etag, seen, deadline)
            except (NoAnswer, Unavailable) as error:
                away = error
            except ConfigurationError as error:
                if not has_looked:
                    raise
                away = NoAnswer(str(error), False)
            has_looked = True
            if away is None and seen is not None and (seen.is_over or (seen.state == "executed" and not for_job)):
                return seen.checked()
            left = deadline - self._clock()
            if left <= 0:
                if away is not None or seen is None:
                    raise away or AssertionError("one of both is there")
                raise NotYet(seen)
            self._sleep(min(pause, left))

    def execute(
        self, action: str, payload: Mapping[str, Any] | str | None = None, *, nonce: str, timeout_seconds: float,
        justification: str | None = None, for_job: bool = True,
    ) -> Proposal:
        """`propose`, then `wait`. What `wait` raises of itself comes with `may_have_executed`: it was proposed."""
        made = self.propose(action, payload, nonce=nonce, justification=justification)
        if made.is_over or (made.state == "executed" and not for_job):
            return made
        try:
            return self.wait(made.id, timeout_seconds=timeout_seconds, for_job=for_job)
        except ConfigurationError as error:
            raise NoAnswer(str(error), True) from None
        except OpenExecError as error:
            error.may_have_executed |= not isinstance(error, Ended)
            raise

    def withdraw(self, id: str) -> None:
        """Takes back what is pending. Raises `Problem` (409 `not_pending`) where it is not pending any more."""
        _held(id)
        answer, body = self._ask("DELETE", f"/proposals/{id}")
        if answer.status != 200:
            raise self._problem(answer, body)
        hold(body.get("id") == id and body.get("state") == "withdrawn", "another proposal was withdrawn")

    def actions(self) -> list[dict[str, Any]]:
        """Every action that this caller may see, with `payload_schema`, `effect` and whether it is `allowed`."""
        answer, body = self._ask("GET", "/actions")
        if answer.status != 200:
            raise self._problem(answer, body)
        found = body.get("actions")
        hold(isinstance(found, list) and all(isinstance(one, dict) for one in found), "it is no list of actions")
        return list(found or [])

    def tools(self, format: Format) -> list[dict[str, Any]]:
        """The `tools` array for a model: `openai` (chat completions), `openai-responses` or `anthropic`."""
        answer, body = self._ask("GET", f"/actions?format={format}", of_type=list)
        if answer.status != 200:
            raise self._problem(answer, body)
        hold(all(isinstance(one, dict) for one in body), "it is no list of tools")
        return list(body)

    def mcp(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """One message to the service's own MCP server, and its answer: an object with `result` or `error`.

        A call of a tool needs `_meta["openexec/nonce"]`: without it a second try would be a second call. Where the answer is to a
        second try, and the first may have been executed, it has `may_have_executed` beside those, true.
        """
        if method == "tools/call" and not isinstance((params.get("_meta") or {}).get("openexec/nonce"), str):
            raise exact.Unsendable("invalid_request", "a tool call without a nonce is not repeated, and so not made")
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)}
        answer, body = self._ask("POST", "/mcp", message, {"MCP-Protocol-Version": "2025-11-25"})
        if body.get("jsonrpc") != "2.0":
            raise self._problem(answer, body)
        hold(body.get("id") == 1 and isinstance(body.get("result", body.get("error")), dict), "it is no answer to this message")
        return {**body, "may_have_executed": True} if answer.may_have_executed else dict(body)

    def _view(
        self, id: str, etag: str | None, seen: Proposal | None = None, until: float = math.inf
    ) -> tuple[Proposal, str | None, float]:
        _held(id)
        answer, body = self._ask("GET", f"/proposals/{id}", headers={"If-None-Match": etag} if etag else {}, until=until)
        pause = min(_retry_after(answer) or self._poll_seconds, RETRY_AFTER_SECONDS_MAX)
        if answer.status == 304 and seen is not None:
            return seen, etag, pause
        if answer.status != 200:
            raise self._problem(answer, body)
        etag = answer.headers.get("etag")
        # It goes out again as it came.
        etag = etag if etag and len(etag) <= 256 and re.fullmatch(r'(W/)?"[\x21\x23-\x7e]*"', etag) else None
        return of_view(body, id), etag, pause

    def _bearer(self) -> dict[str, str]:
        token = self._token
        if self._token_file is not None:
            try:
                token = pathlib.Path(self._token_file).read_text("ascii").strip()
            except (OSError, UnicodeError) as error:
                raise ConfigurationError(f"the token file {self._token_file} cannot be read: {type(error).__name__}") from None
        if token is None:
            return {}
        if not re.fullmatch(r"[\x21-\x7e]{1,512}", token):
            # Not what it is: it may be a secret with a slip in it.
            raise ConfigurationError("the token is not one line of ASCII without spaces")
        return {"Authorization": f"Bearer {token}"}

    def _ask(
        self, method: str, path: str, call: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None,
        *, until: float = math.inf, of_type: type = dict,
    ) -> tuple[Answer, Any]:
        """The service's answer, and its JSON: after as many tries as it takes, within the bounds, and none begun after `until`."""
        head = {"Accept": "application/json", **(headers or {})}
        data: bytes | None = None
        if call is not None:
            head["Content-Type"] = "application/json"
            data = exact.canonical(call, exact.ANSWER_DEPTH_MAX).encode()
            if len(data) > BODY_BYTES_MAX:
                raise exact.Unsendable("body_too_large", f"a request has at most {BODY_BYTES_MAX} bytes")
        deadline = min(self._clock() + self._retry_seconds, until)
        was_sent = may_have_executed = False
        for tried in range(TRIES_MAX):
            pause = random.uniform(0.5, 1.0) * min(BACKOFF_SECONDS * 2 ** min(tried, 10), BACKOFF_SECONDS_MAX)  # noqa: S311
            try:
                answer = self._transport.ask(method, path, head | self._bearer(), data, self._timeout_seconds)
                body = _json(answer)
            except Lost as lost:
                was_sent |= lost.sent
                may_have_executed |= lost.sent
                failure: OpenExecError = NoAnswer(str(lost), may_have_executed)
            except ConfigurationError as error:
                if not was_sent:
                    raise
                # What is sent stays so. A token file may be just being replaced.
                failure = NoAnswer(str(error), may_have_executed)
            else:
                was_sent = True
                if answer.status not in _AGAIN:
                    hold(answer.status == 304 or isinstance(body, of_type if answer.status < 400 else dict), "its JSON is of another kind")
                    return dataclasses.replace(answer, may_have_executed=may_have_executed), body
                # What was begun before a crash, and waits, is frozen too, and no refusal.
                is_new = body.get("approved") is False or body["code"] in _UNSEEN
                may_have_executed |= answer.status not in _STARTED_NOTHING or not is_new
                failure = Unavailable(answer.status, body, may_have_executed)
                # As the service says, but not at once, and not in a year.
                pause = min(max(_retry_after(answer) or 0.0, pause), RETRY_AFTER_SECONDS_MAX)
            if self._clock() + pause >= deadline:
                raise failure
            self._sleep(pause)
        raise failure

    def _problem(self, answer: Answer, body: Any) -> Problem:
        hold(answer.status >= 400 and _is_problem(answer, body), f"{answer.status} with no problem in it")
        return Problem(answer.status, body, answer.may_have_executed or answer.status >= 500)

    def __repr__(self) -> str:
        return f"Client({self._transport})"


def _json(answer: Answer) -> Any:
    """What an answer holds. Raises `Lost` where only something in between has answered, `WrongAnswer` where another has."""
    if answer.status == 304:
        return None
    hold(answer.status not in range(300, 400), f"it leads elsewhere ({answer.status}); the client does not follow")
    # The service's no to a call that it has read is below 500, and a problem; a proxy's may come when the call is through.
    may_be_between = answer.status >= 500 or answer.status in (408, 429)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/problem+json"):
        if may_be_between:
            raise Lost(f"{answer.status}, and not from the service", sent=True)
        raise WrongAnswer(f"{answer.status} with {kind or 'no type'}: it is not the service that answers")
    try:
        body = exact.read(answer.body)
    except exact.Unsendable as error:
        if may_be_between:
            raise Lost(f"{answer.status}, and not from the service", sent=True) from None
        raise WrongAnswer(f"its JSON is not strict: {error.code}") from None
    if may_be_between and not _is_problem(answer, body):
        raise Lost(f"{answer.status}, and not from the service", sent=True)
    return body


def _is_problem(answer: Answer, body: Any) -> bool:
    return (
        isinstance(body, dict)
        and all(isinstance(body.get(name), str) for name in ("type", "title", "detail", "code"))
        and body.get("status") == answer.status
        and (body.get("id") is None or is_id(body["id"]))
    )


def _retry_after(answer: Answer) -> float | None:
    """In seconds; None where it says no number of them."""
    said = answer.headers.get("retry-after", "")
    return float(said) if re.fullmatch("[0-9]{1,9}", said) else RETRY_AFTER_SECONDS_MAX if said.isdecimal() else None


def _held(id: object) -> None:
    if not is_id(id):
        raise exact.Unsendable("invalid_request", "an id has 64 digits of hex")


def read_arguments(text: str) -> dict[str, Any]:
    """The object that a model wrote. Raises `Unsendable`. A text of white space alone is an empty object, as at the service."""
    if len(text) > BODY_BYTES_MAX:
        raise exact.Unsendable("body_too_large", f"a request has at most {BODY_BYTES_MAX} bytes")
    if not text.strip(" \t\r\n"):
        return {}
    value = exact.read(text)
    if not isinstance(value, dict):
        raise exact.Unsendable("invalid_request", "a payload is an object")
    return value
