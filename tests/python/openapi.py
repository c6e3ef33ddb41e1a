"""The service against its own /openapi.json: a validator of the document, then requests made from it.

usage: openapi.py BINARY [EXAMPLES]     EXAMPLES: requests for each operation; SEED=n repeats a run

How much is tried does not depend on how fast the machine is.
`write_file` and `delete_file` are not configured here: where a file cannot be written, 500
`handler_failed` is the answer that the document gives, and every 5xx counts as a failure below.
"""

import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import requests
from openapi_spec_validator import OpenAPIV31SpecValidator
from service import service

BINARY = sys.argv[1]
EXAMPLES = sys.argv[2] if len(sys.argv) > 2 else "120"
SEED = os.environ.get("SEED") or str(random.SystemRandom().randrange(1 << 32))
CONFIG = pathlib.Path(__file__).with_name("schemathesis.toml")

TOKEN = {"Authorization": "Bearer token"}
callers = tempfile.NamedTemporaryFile("w", suffix=".json")
caller = {"name": "agent-7", "token_sha256": hashlib.sha256(b"token").hexdigest(), "may": ["propose"], "actions": ["add"]}
json.dump({"callers": [caller]}, callers)
callers.flush()
for settings in ({}, {"clawshield": True}, {"OPENEXEC_ALLOWED_ACTIONS": "add"}, {"OPENEXEC_CALLERS_FILE": callers.name}):
    with service(BINARY, **settings) as (url, _):
        document = requests.get(f"{url}/openapi.json", headers=TOKEN, timeout=10).json()
        assert ("security" in document) == ("OPENEXEC_CALLERS_FILE" in settings)
        errors = [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]
        assert not errors, errors

schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
with service(BINARY, evidence=True) as (url, _), tempfile.TemporaryDirectory() as scratch:
    command = [schemathesis, "--config-file", CONFIG.resolve(), "run", f"{url}/openapi.json", "--checks", "all"]
    command += ["--seed", SEED, "--continue-on-failure", "--max-examples", EXAMPLES]
    print(f"SEED={SEED}", flush=True)
    run = subprocess.run(command, cwd=scratch, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True)
    print(run.stdout[run.stdout.find("= FAILURES"):] if run.returncode else run.stdout[run.stdout.index("API Operations:"):])
    assert run.returncode == 0, run.stderr
    # It was not all refused.
    metrics = requests.get(f"{url}/metrics", timeout=10).text
    executed = [line for line in metrics.splitlines() if line.startswith('openexec_executions_total{outcome="executed"}')]
    assert int(executed[0].split()[-1]) >= 20, executed
    assert not [line for line in metrics.splitlines() if "indeterminate" in line or 'outcome="failed"' in line]
    print(f"openapi.py: valid, and held to by {executed[0].split()[-1]} executions")
