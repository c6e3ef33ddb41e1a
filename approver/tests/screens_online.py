"""`list` and `show` of what the real service has of a hostile caller, on terminals of every width: held as screens.py holds `sign`.

usage: screens_online.py OPENEXEC-APPROVE OPENEXEC
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests/python"))
import screens  # noqa: E402
from boundary import boundary  # noqa: E402
from screens import HOSTILE, SEED, WIDTHS, Screens, chance, on_terminal, pairs, payloads, screen  # noqa: E402

SAID = ("proposal ", "the service says of it:", "state    ", "asked by ", "in their words ", "asked at ", "until    ", "executes by itself once approved: ",
        "missing  ", "approved ", "blocked  ", "nothing waits", "no more ")
screens.LABELS = (*SAID, *screens.LABELS)
SAFE_NONCE = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,256}")
# Ids and times differ between any two: what is left must differ too.
OWN = ("proposal ", "asked at ", "until    ")


def without_own(rows):
    kept, skip = [], False
    for row in rows:
        skip = row.startswith(OWN) or (skip and row.startswith("| "))
        if not skip:
            kept.append(row)
    return "\n".join(kept)


def main(binary):
    taken = 0
    with boundary(binary, {"alice": None}, callers=["alice"]) as one:
        access = ("--url", one.url, "--token-file", one.at / "alice.token")
        seen = Screens()

        def propose(nonce, payload, words):
            call = {"action": "echo", "payload": payload, "nonce": nonce, "justification": words}
            status, answer = one.ask("/execute", "agent", call, Prefer="respond-async")
            return answer["id"] if status == 202 else None

        def show(id, width, request, locale="C.UTF-8"):
            rows = screen(on_terminal(["show", id, *access], width, locale, one.at), width, locale != "C", request)
            assert "the service says of it:" in rows, rows
            seen.take((width, locale), without_own(rows), request)

        def listed(width, locale, count):
            rows = screen(on_terminal(["list", *access], width, locale, one.at), width, locale != "C", "list")
            assert sum(row.startswith("proposal ") for row in rows) == count, (count, rows)

        every = [*payloads(), *pairs(20)]
        for number, payload in enumerate(every):
            nonce, words = f"n{number}", chance.choice(HOSTILE)
            if chance.random() < 0.5:
                text = chance.choice(HOSTILE)
                nonce = f"{text}{number}" if SAFE_NONCE.fullmatch(text) and len(text.encode()) < 200 else nonce
            id = propose(nonce, payload, words[:500])
            if id is None:
                continue
            taken += 1
            request = {"nonce": nonce, "payload": payload, "words": words[:500]}
            # Each width with every payload of which a row may end at the wrong place; one of all with the others.
            for width in WIDTHS if number % 8 == 0 else (chance.choice(WIDTHS),):
                show(id, width, request)
            if number % 16 == 0:
                show(id, chance.choice(WIDTHS), request, "C")
        for width in WIDTHS:
            listed(width, "C.UTF-8", taken)
        listed(chance.choice(WIDTHS), "C", taken)
        assert taken > 150, f"the service took {taken} of {len(every)}"
    print(f"{taken} proposals of the real service shown and listed, each different looks different")


if __name__ == "__main__":
    print(f"seed {SEED}")
    main(sys.argv[2])
