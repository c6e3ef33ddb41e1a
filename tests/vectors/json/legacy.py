#!/usr/bin/env python3
"""Vectors for the legacy encoding, made by the Python that it has to agree with.

    python3 legacy.py > legacy.jsonl

Each line is {"legacy": what json.dumps wrote, "text": what json.loads read}. The output is the same
on every run and every Python 3: only Random.random() is used, which is stable by documentation.
"""

import json
import random

SEED = 8785
RANDOM_VALUES = 300
MAGNITUDE_MAX = 2**53 - 1

rng = random.Random(SEED)


def below(limit):
    return int(rng.random() * limit)


def pick(choices):
    return choices[below(len(choices))]


FIXED_NUMBERS = """
    0 -0 0.0 -0.0 0e0 0e99999 -0e-99999 1 -1 1.0 -1.0 1e0 1E2 1e+2 1.50 10 100 1e15
    9007199254740991 -9007199254740991 9007199254740991.0 9007199254740991.4 9007199254740990.5
    1424953923781206.25 1424953923781206.75 2251799813685247.25 5.684341886080802e-14
    9007199254740.991e3 4503599627370496.5 4503599627370497.5
    0.1 0.2 0.30000000000000004 0.001 0.0001 0.00012 0.00009999999999999999 0.00001 0.000012
    0.000001 0.0000001 1e-4 1e-5 1e-6 1e-7 1.5e-7 1e-9 1e-10 1e-99 1e-100 1.25e-100
    5e-324 4.9e-324 2.5e-324 3e-324 1e-323 -1e-323 2.2250738585072011e-308 2.2250738585072014e-308
    1.7976931348623157e-300 9.5367431640625e-07 2.9802322387695312e-08 5e-05 0.5 123456789.125
    333333333.33333329 4.50 2e-3 0.000000000000000000000000001
""".split()

# The edges: of ASCII, of each UTF-8 length, of the surrogates' gap, and what sorts differently
# by UTF-16 code unit and by code point.
EDGE_CHARS = [chr(code) for code in range(0x00, 0x80)] + list(
    "\x80\x9f\xa0\xe9\u07ff\u0800\u2028\u2029\u20ac\ud7ff\ue000\ufb33\ufeff\ufffd\uffff"
    "\U00010000\U0001f600\U0010ffff"
)


def number():
    while True:
        kind = below(6)
        if kind == 0:
            text = pick(FIXED_NUMBERS)
        elif kind == 1:
            text = str(below(2 ** (1 + below(53))) * pick([1, -1]))
        elif kind == 2:
            text = repr((rng.random() - 0.5) * float(f"1e{below(320) - 305}"))
        elif kind == 3:
            text = f"{below(10**6)}.{below(10**9):09d}"
        elif kind == 4:
            text = f"{pick(['', '-'])}{below(100)}{pick(['e', 'E'])}{pick(['-', '-0'])}{below(20)}"
        else:
            text = f"{below(1000)}.{below(10**9)}{below(10**9)}{below(10**9)}e{below(12)}"
        if abs(float(text)) <= MAGNITUDE_MAX:
            return text


def spelt_char(char):
    """One character of a string, spelt in one of the ways that JSON allows."""
    way = below(4)
    if way == 0:
        return json.dumps(char)[1:-1]
    if way == 1:
        units = char.encode("utf-16-be").hex()
        units = [units[at : at + 4] for at in range(0, len(units), 4)]
        return "".join("\\u" + (unit.upper() if below(2) else unit) for unit in units)
    if char == "/":
        return "\\/"
    return json.dumps(char, ensure_ascii=False)[1:-1]


def spelt(chars):
    return '"' + "".join(spelt_char(char) for char in chars) + '"'


def string():
    length = below(8)
    return [pick(EDGE_CHARS) if below(2) else chr(0x61 + below(26)) for _ in range(length)]


def space():
    return pick(["", "", "", " ", "\n", "\t\r"])


def value(depth):
    kind = below(8 if depth > 0 else 5)
    if kind == 0:
        return pick(["null", "true", "false"])
    if kind <= 2:
        return number()
    if kind <= 4:
        return spelt(string())
    if kind == 5:
        items = [value(depth - 1) for _ in range(below(4))]
        return "[" + (space() + ",").join(space() + item for item in items) + "]"
    keys = {"".join(string()): None for _ in range(below(6))}
    members = [spelt(key) + space() + ":" + space() + value(depth - 1) for key in keys]
    return "{" + (space() + ",").join(space() + member for member in members) + space() + "}"


def texts():
    yield from FIXED_NUMBERS
    for at in range(0, len(EDGE_CHARS), 8):
        yield spelt(EDGE_CHARS[at : at + 8])
    yield "{" + ",".join(f"{spelt(char)}:{at}" for at, char in enumerate(EDGE_CHARS)) + "}"
    yield '{"action":"echo","payload":{"msg":"hello world"}}'
    for _ in range(RANDOM_VALUES):
        yield f"[{value(3)},{space()}{value(3)},{value(3)}]"


for text in texts():
    legacy = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    print(json.dumps({"legacy": legacy, "text": text}, sort_keys=True))
