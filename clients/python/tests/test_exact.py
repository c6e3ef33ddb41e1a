"""The hashes: against the service's own program, and against the texts that nobody may take."""

import json
import math
import os
import random
import subprocess
from typing import Any

import pytest
from conftest import ROOT

from openexec import Unsendable, canonical, exact, exec_id, receipt

# Texts with two faults, of which the service names the one that it meets first.
SECOND = {
    "the first half and the end", "the second half, before an escape that is malformed", "the key is judged before what follows it",
    "the key is judged before its value", "behind what was closed",
}
BAD = [json.loads(line) for line in (ROOT / "tests/vectors/json/bad.jsonl").read_text().splitlines()]


def test_published_numbers() -> None:
    """RFC 8785, appendix B, as far as the service takes them."""
    for value, text in [
        (0.0, "0"), (-0.0, "0"), (5e-324, "5e-324"), (-5e-324, "-5e-324"), (333333333.33333329, "333333333.3333333"),
        (9007199254740991.0, "9007199254740991"), (1e-6, "0.000001"), (9.999999999999997e-7, "9.999999999999997e-7"),
        (1e-7, "1e-7"), (4.50, "4.5"), (2e-3, "0.002"), (1e-27, "1e-27"), (0.1, "0.1"), (123.456, "123.456"), (-1.5, "-1.5"),
        (1.7976931348623157e-300, "1.7976931348623157e-300"), (2**53 - 1, "9007199254740991"), (True, "true"),
    ]:
        assert canonical(value) == text


def test_published_strings() -> None:
    assert canonical({"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7}) == (
        '{"\\r":2,"1":4,"\x80":6,"\u00f6":7,"\u20ac":1,"\U0001f600":5,"\ufb33":3}'
    )
    assert canonical('\u20ac$\x0f\nA\'B"\\\\"/\x7f') == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f"'


@pytest.mark.parametrize("value", [
    2**53, -(2**53), 2.0**53, 10**400, math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}, {1: 2}, {1, 2}, b"x", object(), 1j,
])
def test_what_has_no_text(value: object) -> None:
    for wrapped in (value, [value], {"x": value}):
        with pytest.raises(Unsendable):
            canonical(wrapped)


def test_depth() -> None:
    def deep(containers: int) -> Any:
        value: Any = 0
        for _ in range(containers):
            value = [value]
        return value

    assert canonical(deep(64)).startswith("[")
    for containers in (65, 100, 900):
        with pytest.raises(Unsendable, match="too_deep"):
            canonical(deep(containers))


@pytest.mark.parametrize("vector", BAD, ids=lambda vector: vector["why"])
def test_texts_that_the_service_refuses(vector: dict[str, str]) -> None:
    """How many values and digits a text may have the service alone counts: this client sends the value, in its shortest text."""
    if vector["code"] == "too_many_values" or "1,100 bytes" in vector["why"]:
        return
    text: str | bytes = vector["text"] if "text" in vector else bytes.fromhex(vector["hex"])
    with pytest.raises(Unsendable) as refused:
        canonical(exact.read(text))
    assert refused.value.code == vector["code"] or vector["why"] in SECOND


@pytest.mark.parametrize("text", ["9" * 5_000, "-" + "9" * 18, "1e400", "1e-400", "NaN", "[" * 100_000, '{"a":1,"a":1}', b"\xff", "'a'"])
def test_more_of_them(text: str | bytes) -> None:
    with pytest.raises(Unsendable):
        exact.read(text)


def value(random_: random.Random, depth: int = 0) -> Any:
    match random_.randrange(8 if depth < 4 else 6):
        case 0:
            return random_.choice([None, True, False])
        case 1:
            return random_.randint(-(2**53) + 1, 2**53 - 1)
        case 2:
            return random_.uniform(-1, 1) * 10.0 ** random_.randint(-320, 15)
        case 3:
            return random_.choice([0.0, -0.0, 1.0, 1e15, 0.1, 1e-6, 1e-7, 123456.789, 4503599627370495.5])
        case 4 | 5:
            points = [random_.choice([0x20, 0x7F, 0x22, 0x5C, 0xA, 0x1F, 0xE9, 0xD7FF, 0xE000, 0xFFFD, 0x10000, 0x1F600]) for _ in range(3)]
            return "".join(map(chr, points))
        case 6:
            return [value(random_, depth + 1) for _ in range(random_.randrange(4))]
        case _:
            return {str(value(random_, 9)): value(random_, depth + 1) for _ in range(random_.randrange(5))}


def test_ids_are_the_programs() -> None:
    """300 payloads: what this package hashes is what the program hashes, from Python's own spelling of them."""
    random_ = random.Random(8785)
    for number in range(300):
        payload = {"v": value(random_), "w": value(random_)}
        call = {"action": "echo", "payload": payload, "nonce": f"n-{number}-\u00e9"}
        hashed = subprocess.run([os.environ["OPENEXEC"], "hash"], input=json.dumps(call).encode(), capture_output=True, check=True, env={})
        assert json.loads(hashed.stdout)["exec_id"] == exec_id("echo", payload, call["nonce"]), payload  # type: ignore[arg-type]


def test_the_documents_example() -> None:
    id = exec_id("echo", {"msg": "hello world"}, "unique-1")
    assert id == "46143a0cefd51a96bb0f597720ddbea2854dd6472241881c21232e952dfe616c"
    assert receipt(id, {"echo": {"msg": "hello world"}}) == "e01c4ffc9b0f2a23561d327cc2ef74f8d8a81774aa5095d000df3721e0a53212"
