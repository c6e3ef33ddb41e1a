"""The approver's page in real browsers.

usage: run.py OPENEXEC-APPROVE SERVICE [TEST...]

The first is the tool, the second the service's binary; without names of tests, all. Chromium and Firefox are Debian's, with their
drivers: OPENEXEC_GECKODRIVER says where that of Firefox is, which Debian lacks, and OPENEXEC_AXE where axe.min.js is. With
OPENEXEC_WRITE_SCREENSHOTS=1 the documents' pictures are made anew.
"""

import os
import pathlib
import sys
import tempfile
import time

import eyes
import others
import payloads
import people
import states
from harness import Service, private_key, tools
from peer import Peer

# Against the real service, which all of them share.
REAL = (people.two_people, people.a_no, states.a_proposal_that_changes, states.a_service_that_goes_and_comes_back, people.in_firefox)
# Each against somebody who says what the test wants to be said.
SCRIPTED = (
    states.a_click_that_comes_too_soon, states.refusals, states.one_that_cannot_be_shown, payloads.every_kind, payloads.in_firefox,
    eyes.by_keyboard_alone, eyes.looks, others.other_pages_in_the_same_browser, others.other_programs, others.what_watches_is_awake, others.in_firefox,
)


def main(approve, service_binary, *names):
    count = 0
    with tempfile.TemporaryDirectory() as directory, tools() as start_tool:
        scratch = pathlib.Path(directory)
        key = private_key(scratch / "dora.pem")
        service = Service(service_binary, scratch)

        def start(name):
            return start_tool(approve, service.url, scratch / f"{name}.pem", "--token-file", str(scratch / f"{name}-desk.token"))

        def timed(test, *arguments):
            name = f"{test.__module__}.{test.__name__}"
            if names and name not in names:
                return 0
            began = time.monotonic()
            test(*arguments)
            print(f"{name} ({time.monotonic() - began:.1f} s)", flush=True)
            return 1

        try:
            for test in REAL:
                count += timed(test, service, start)
            for test in SCRIPTED:
                peer = Peer()
                count += timed(test, peer, lambda peer: start_tool(approve, peer.url, key))
                peer.end()
        finally:
            service.kill()
    print(f"{count} tests of the page passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
