"""The approver's page in real browsers.

usage: run.py OPENEXEC-APPROVE SERVICE

The first is the tool, the second the service's binary. Chromium and Firefox are Debian's, with their drivers.
"""

import pathlib
import sys
import tempfile
import time

import people
from harness import Service, tools


def main(approve, service_binary):
    with tempfile.TemporaryDirectory() as directory, tools() as start_tool:
        scratch = pathlib.Path(directory)
        service = Service(service_binary, scratch)

        def start(name, *more):
            return start_tool(approve, service.url, scratch / f"{name}.pem", scratch / f"{name}-desk.token", *more)

        try:
            for test in (people.two_people, people.a_no):
                began = time.monotonic()
                test(service, start)
                print(f"{test.__module__}.{test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        finally:
            service.kill()


if __name__ == "__main__":
    main(*sys.argv[1:3])
