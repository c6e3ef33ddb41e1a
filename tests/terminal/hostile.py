"""Texts that try to look like others, and payloads of them, for what must show each as what it is."""

import os
import random
import unicodedata

SEED = int(os.environ.get("OPENEXEC_SCREENS_SEED", random.randrange(1 << 32)))
chance = random.Random(SEED)

HOSTILE = [
    "ת 200 100", "100 200 ת", "\u05ea 200 100", "ا 5 000", "5 000 ا", "e\u0301", "\u00e9", "a\u200bb", "ab", "a\u200db", "a\u2060b",
    "\u202e001", "100", "\u2066x\u2069", "x", "a\u0300\u0301\u0302", "аdmin", "admin", "\u212b", "\u00c5", "ﬁ", "fi", "\ufeffx",
    "\x1b[2J\x1b[HX", "\x1b]0;x\x07", "\x1bc", "\x9b2J", "a\rb", "a\r\nb", "b\x08a", "a\tb", "a       b", "\x7f", "\x00", "a\u00a0b",
    "a b", "a  b", "a   b", " a", "a ", "", " ", "\u3000", "\u2028zz", "zz\nzz", "\nsigns    " + "0" * 64, "nonce    any",
    "| zz", "\\u0020", "\\u202e", "\\\\u202e", "\\n", '"', '", "amount": 1', "z" * 39, "z" * 40, "z" * 400,
    " " * 400 + "zz", " " * 401 + "zz", "z" * 29 + " " + "z" * 60, "z " * 60, "宽" * 50, "😀" * 30, "\ue000", "\ufff9x", "\U000e0041",
    "amount   500\n\nApprove zz? Type yes: ", "z" * 31 + "\n" + "amount   500", "\u0661\u0662", "12", "q\u0323\u0307", "q\u0307\u0323",
]


def payloads():
    """Payloads whose hashes differ, however alike they may look."""
    yield {}
    for text in HOSTILE:
        yield {"x": text}
        yield {text: 1}
        yield {"a": [text, {"x": text}], "amount": 500000}
    for number in (1, 100, 1e100 / 1e90, 1e-7, 0.1, -1, 2**53 - 1, 1.5e-300):
        yield {"x": number}
        yield {"x": str(number)}
    yield from ({"x": value} for value in (None, True, False, [], {}, [[]], [{}], "null", "true", "[]", "{}"))
    for depth in (8, 9, 40, 60):
        deep = "z"
        for level in range(depth):
            deep = [deep] if level % 2 else {"k" * 20: deep}
        yield {"x": deep}
    yield {"k" * 300: "v" * 300}


def mutated(text):
    """A text that differs a little, as a forger would have it."""
    place = chance.randrange(len(text) + 1)
    other = chance.choice(HOSTILE + list("z \t\u200f\u05d0\u0627\u0301\u202e\n0123456789"))
    changed = chance.choice([
        text[:place] + other + text[place:], text[:place] + text[place + 1:], text[::-1], other,
        unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text), text + " ", text.replace(" ", "  ", 1),
    ])
    return changed if changed != text else text + other


def pairs(count):
    for _ in range(count):
        text = "".join(chance.choice(HOSTILE)[:60] for _ in range(chance.randrange(1, 4)))
        yield {"x": text}
        yield {"x": mutated(text)}
