#!/usr/bin/env python3
"""deploy/prometheus-rules.yaml, by Prometheus's own promtool: each alert fires where it should, alone, and none at its
bound; each metric that they name is one that the service has; each page that they name is there.

usage: prometheus.py OPENEXEC     (needs promtool, of Debian's package prometheus)
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))
from service import ready  # noqa: E402

RULES = ROOT / "deploy/prometheus-rules.yaml"
# The values of an hour, a minute apart, of a service in which nothing is wrong: at each bound, where there is one.
WELL = {
    'up': "1x60",
    'openexec_sent_bytes_total': "1000+1000x60",
    'openexec_ready{reason=""}': "1x60",
    'openexec_frozen': "0x60",
    'openexec_owed_oldest_seconds': "60x60",
    'openexec_executions_total{outcome="executed"}': "0+100x60",
    'openexec_executions_total{outcome="indeterminate"}': "1x60",
    # A second node, which stands by.
    'openexec_ready{reason="standby"}': "0x60",
    'openexec_completions_total{outcome="executed"}': "0+100x60",
    'openexec_completions_total{outcome="indeterminate"}': "1x60",
    'openexec_open_jobs_oldest_seconds': "3600x60",
    'openexec_outcomes_ignored_total': "7x60",
    'openexec_pending_oldest_seconds': "3600x60",
    'openexec_pending_proposals': "400x60",
    'openexec_segment_failing': "0x60",
    'openexec_store_executions': "9000000x60",
    'openexec_store_bytes': "989560464998x60",
    'openexec_checkpoint_failing': "0x60",
    'openexec_refusals_total{code="action_not_allowed"}': "0+30x60",
    'openexec_refusals_total{code="approval_missing"}': "0+1140x60",
    'openexec_refusals_not_stored_total{code="action_not_allowed"}': "5x60",
    'openexec_handler_running_seconds': "60x60",
    'openexec_requests_refused_total': "3x60",
    'openexec_log_lines_dropped': "4x60",
}
# What is otherwise when the alert fires; None: the series is not there.
ILL = {
    "OpenExecDown": [{'up': "1x50 0x9"}],
    "OpenExecRestarts": [{'openexec_sent_bytes_total': "1000+1000x50 9 8 7 6 1000 2000 3000 4000 5000"}],
    "OpenExecNotReady": [
        {'openexec_ready{reason=""}': None, 'openexec_ready{reason="standby"}': None, f'openexec_ready{{reason="{reason}"}}': "0x60"}
        for reason in ("no_space", "store_full", "executor_busy", "nobody_can_approve", "opening")
    ],
    "OpenExecNoActiveNode": [{'openexec_ready{reason=""}': None}],
    "OpenExecClockNotBelieved": [
        {'openexec_ready{reason=""}': "1x58", f'openexec_ready{{reason="{reason}"}}': "_x58 0x1"}
        for reason in ("clock_behind", "clock_jumped", "clock_before_store")
    ],
    "OpenExecFrozen": [{'openexec_frozen': "0x58 1x1"}],
    "OpenExecClaimsWithoutReceipt": [{'openexec_owed_oldest_seconds': "60x58 61"}],
    "OpenExecIndeterminate": [
        {'openexec_executions_total{outcome="indeterminate"}': "1x50 2x9"},
        {'openexec_executions_total{outcome="indeterminate"}': "_x50 1x9"},
    ],
    "OpenExecJobIndeterminate": [
        {'openexec_completions_total{outcome="indeterminate"}': "1x50 2x9"},
        {'openexec_completions_total{outcome="indeterminate"}': "_x50 1x9"},
    ],
    "OpenExecJobOpenTooLong": [{'openexec_open_jobs_oldest_seconds': "3600x50 3601x9"}],
    "OpenExecReportsIgnored": [{'openexec_outcomes_ignored_total': "7x50 8x9"}],
    "OpenExecProposalWaits": [{'openexec_pending_oldest_seconds': "3600x50 3601x9"}],
    "OpenExecDiskFull": [{'openexec_segment_failing': "0x58 1x1"}],
    "OpenExecStoreNearlyFull": [
        {'openexec_store_executions': "9000001x60"},
        {'openexec_store_bytes': "989560464999x60"},
    ],
    "OpenExecCheckpointFailing": [{'openexec_checkpoint_failing': "0x50 1x9"}],
    "OpenExecManyProposals": [{'openexec_pending_proposals': "400x58 401"}],
    "OpenExecRefusalsSurge": [
        {'openexec_refusals_total{code="invalid_payload"}': "0+70x60"},
        {'openexec_refusals_total{code="approval_missing"}': "0+1260x60"},
    ],
    "OpenExecRefusalsNotStored": [{'openexec_refusals_not_stored_total{code="action_not_allowed"}': "5x50 6x9"}],
    "OpenExecHandlerHangs": [{'openexec_handler_running_seconds': "60x58 61"}],
    "OpenExecBusy": [{'openexec_requests_refused_total': "3x40 3+1x19"}],
    "OpenExecJournalDropped": [{'openexec_log_lines_dropped': "4x50 5x9"}],
}


def case(fires, otherwise):
    series = {**WELL, **otherwise}
    labelled = {
        name.replace("}", ', instance="one", job="openexec"}') if "{" in name else name + '{instance="one", job="openexec"}': values
        for name, values in series.items() if values
    }
    fired = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in fires]
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in labelled.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "59m", "exp_samples": fired}],
    }


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120)


def test(scratch, rules, cases):
    """JSON is YAML too."""
    (scratch / "rules.yaml").write_text(rules)
    (scratch / "test.yaml").write_text(json.dumps({"rule_files": ["rules.yaml"], "tests": cases}))
    return promtool("test", "rules", str(scratch / "test.yaml"))


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.M)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exported(binary, scratch):
    """The metrics of a service that has just begun."""
    own = {"OPENEXEC_DB_URL": f"file:{scratch}/store", "OPENEXEC_LISTEN": "127.0.0.1:0", "OPENEXEC_LOG": "off"}
    server = subprocess.Popen([binary], env=own)
    try:
        address = ready(server, scratch / "store/LOCK")
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            text = answer.read().decode()
    finally:
        server.kill()
        server.wait()
    assert 'openexec_ready{reason=""} 1\n' in text, text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert checked.returncode in (0, 3), checked  # 3: matters of style.
    return set(re.findall(r"^# TYPE (\w+) ", text, re.M))


def main():
    binary = os.path.abspath(sys.argv[1])
    rules = RULES.read_text()
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked
    blocks = {block.split("\n", 1)[0]: block for block in rules.split("      - alert: ")[1:]}
    assert blocks.keys() == ILL.keys(), blocks.keys() ^ ILL.keys()
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        names = exported(binary, scratch)
        for name, block in blocks.items():
            own = set(re.findall(r"\bopenexec_\w+", block))
            assert own <= names, f"{name}: the service has no {own - names}"
            page, _, anchor = re.search(r"runbook_url: (\S+)$", block, re.M)[1].partition("#")
            assert anchor in anchors(page), f"{name}: {page} has no {anchor}"
        told = {re.match(r"\w+", series)[0] for series in WELL} - {"up"}
        assert told <= names, told - names
        cases = {name: [case([name], otherwise) for otherwise in ILL[name]] for name in ILL}
        everything = [case([], {}), *(one for some in cases.values() for one in some)]
        fired = test(scratch, rules, everything)
        assert fired.returncode == 0, fired.stdout + fired.stderr
        # A test that passes without the rule would not tell.
        for name, block in blocks.items():
            without = re.sub(r"expr: (\|\n(\s{10}.*\n)+|.*\n)", "expr: vector(0) > 1\n", block, count=1)
            silent = test(scratch, rules.replace(block, without), cases[name])
            assert silent.returncode == 1, f"{name}: it need not fire: {silent}"
    print(f"{len(blocks)} alerts fire, {len(everything)} cases")


if __name__ == "__main__":
    main()
