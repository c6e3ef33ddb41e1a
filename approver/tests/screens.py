"""What an approver sees is what is signed: under a real terminal's line discipline, through a terminal emulator
(pyte) and the Unicode bidirectional algorithm.

usage: screens.py OPENEXEC-APPROVE

Of every screen, at 40 to 200 columns, with and without UTF-8: nothing arrives but printable ASCII and letters of the
list in src/reading.rs, which are what Unicode says they must be; no row is wrapped or reordered; every row begins with a
word of ours. Requests with different hashes look different, hashes left out.
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import unicodedata

import pyte
from bidi.algorithm import get_display

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests/terminal"))
from hostile import HOSTILE, SEED, chance, pairs, payloads  # noqa: E402

BINARY = os.path.abspath(sys.argv[1])
WIDTHS = (40, 41, 57, 80, 132, 200)
# What every row begins with; a payload's is indented, and a reading marked.
LABELS = (
    "| ", "  ", "~ ", "~| ", "action   ", "payload  ", "nonce    ", "tenant   ", "expires  ", "signs    ", "key      ", "Approve ",
    "asked by ", "in their words ", "Type yes: ", "openexec-approve: ", "(", "",
)
QUESTION = (b"Type yes: ", b"q ends) ")


def letters():
    """The list in the sources, each letter found to be what it must be."""
    source = (HERE.parent / "src/reading.rs").read_text()
    ranges = re.findall(r"\('\\u\{(\w+)\}', '\\u\{(\w+)\}'\)", source)
    found = [chr(code) for first, last in ranges for code in range(int(first, 16), int(last, 16) + 1)]
    assert len(found) > 30000 and len(found) == len(set(found)), len(found)
    for letter in found:
        where = f"U+{ord(letter):04X} {unicodedata.name(letter, 'UNASSIGNED')}"
        assert unicodedata.category(letter)[0] in "LPSN", f"{where} is {unicodedata.category(letter)}"
        assert unicodedata.bidirectional(letter) in ("L", "ON", "ET", "EN", "ES", "CS"), where
        assert unicodedata.combining(letter) == 0, where
        assert unicodedata.normalize("NFC", letter) == letter, where
        assert get_display(f"a{letter}1") == f"a{letter}1", where
    return found


LETTERS = frozenset(letters())


def on_terminal(arguments, width, locale, directory):
    """Runs the tool on a terminal of that width, says no to what it asks, and gives the bytes that reached it."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        os.chdir(directory)
        environment = {"PATH": "/usr/bin:/bin", "LANG": locale}
        os.execve(BINARY, ["openexec-approve", *map(str, arguments)], environment)
    said = b""
    while True:
        try:
            more = os.read(terminal, 65536)
        except OSError:
            break
        if not more:
            break
        said += more
        if said.endswith(QUESTION[0]):
            os.write(terminal, b"no\n")
        elif said.endswith(QUESTION[1]):
            os.write(terminal, b"\n")
    os.close(terminal)
    os.waitpid(pid, 0)
    return said


def screen(said, width, utf8, what):
    """The rows, once every promise about them is found kept."""
    where = f"{what!r} at {width} columns, seed {SEED}:\n{said.decode(errors='replace')}"
    text = said.decode()
    for char in text.replace("\r\n", ""):
        assert " " <= char <= "~" or (utf8 and char in LETTERS), f"unescaped {char!r}: {where}"
    lines = text.replace("\r", "").split("\n")
    emulator = pyte.Screen(width, len(lines) + 2)
    pyte.Stream(emulator).feed(text)
    # A letter of two columns has one character and an empty one.
    rows = ["".join(emulator.buffer[y][x].data for x in range(width)).rstrip() for y in range(len(lines))]
    for row, line in zip(rows, lines, strict=True):
        assert row == line.rstrip(), f"{row!r} for {line!r} in {where}"
        assert line.startswith(LABELS[:-1]) or not line, f"neither ours nor marked: {line!r} in {where}"
        assert get_display(row) == row, f"reordered: {row!r} in {where}"
        if re.match(r" *~[ |]", line) is None:
            assert line.isascii(), f"no reading: {line!r} in {where}"
    return rows


def without_hashes(rows):
    """What is left to be compared by eye."""
    kept, skip = [], False
    for row in rows:
        skip = row.startswith(("signs ", "expires ", "key ")) or (skip and row.startswith("| "))
        if not skip:
            kept.append(row)
    return "\n".join(kept)


class Screens:
    """Which request each screen stands for."""

    def __init__(self):
        self.seen = {}

    def take(self, kind, shown, request):
        text = json.dumps(request, sort_keys=True)
        other = self.seen.setdefault((kind, shown), text)
        assert other == text, f"{kind}, seed {SEED}, these look alike:\n{other}\n{text}\n{shown}"


def main(scratch):
    key = scratch / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    key.chmod(0o600)
    file = scratch / "request.json"
    screens, count = Screens(), 0

    def show(request, width, locale="C.UTF-8", tenant="t"):
        file.write_text(json.dumps(request))
        arguments = ["sign", "--key", key, "--tenant", tenant, "--bind-nonce", file]
        rows = screen(on_terminal(arguments, width, locale, scratch), width, locale != "C", request)
        assert "Type yes:" in "\n".join(rows), rows
        screens.take((width, locale, tenant), without_hashes(rows), request)

    for payload in payloads():
        for width in WIDTHS:
            show({"action": "echo", "nonce": "n", "payload": payload}, width)
        show({"action": "echo", "nonce": "n", "payload": payload}, chance.choice(WIDTHS), "C")
        count += 1
    for payload in pairs(150):
        show({"action": "echo", "nonce": "n", "payload": payload}, chance.choice(WIDTHS))
        count += 1
    for text in HOSTILE:
        if text and not any(unicodedata.category(char) == "Cc" for char in text) and len(text.encode()) <= 256:
            show({"action": "echo", "nonce": text, "payload": {}}, chance.choice(WIDTHS))
            show({"action": "echo", "nonce": "n", "payload": {}}, chance.choice(WIDTHS), tenant=text)
            count += 2
    # Every letter of the list is as wide as it may be.
    everything = "".join(sorted(LETTERS))
    for at in range(0, len(everything), 997):
        show({"action": "echo", "nonce": "n", "payload": {"x": everything[at:at + 997]}}, chance.choice(WIDTHS))
        count += 1
    # An action's name alone is longer than a terminal is wide.
    for width in WIDTHS:
        show({"action": "z" * 64, "nonce": "n", "payload": {}}, width)
    # What is refused says what it was given.
    bad = "zz\u202e \u05ea 1 2\x1b[2J\x08zz  " + "z" * 60
    for arguments in ([bad], ["--" + bad], ["sign", "--" + bad], ["sign", "--key", bad, "--tenant", bad, file],
                      ["sign", "--key", "none" + bad, "--tenant", "t", file], ["show", bad, "--url", bad], ["list", "--url", "unix:/" + bad]):
        for width in WIDTHS:
            said = on_terminal(arguments, width, "C.UTF-8", scratch)
            assert said, arguments
            for line in said.decode().split("\r\n"):
                assert line.isascii() and len(line) < width and line.startswith(("openexec-approve: ", "| ", "`")) or not line, (arguments, line)
    print(f"{count} requests shown, each different looks different; {len(LETTERS)} letters")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(f"seed {SEED}")
        main(pathlib.Path(directory))
