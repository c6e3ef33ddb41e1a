#!/usr/bin/env bash
# The programs that were built for aarch64, on this machine under qemu: of the root package's tests those that ask the API
# and those that kill the service, then the approver's tool against the service, and the quickstart. Then every system
# call that the service has made meanwhile is held to seccomp.json.
#
# usage: tests/release/aarch64.sh DIST [TEST...]      DIST: what .ci/release has written; needs qemu-user
set -euo pipefail
cd "$(dirname "$0")/../.."
dist=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- http_api execute execute_clawshield mcp callers proposals approvals_door recovery
qemu=$(command -v qemu-aarch64)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/calls"
# Tests start a service by one path. What it asks of the kernel is written down, a file for each process.
printf '#!/bin/sh\nexec %s -strace -D %s/calls/%%d %s/openexec "$@"\n' "$qemu" "$dir" "$dist" >"$dir/openexec"
printf '#!/bin/sh\nexec %s %s/openexec-approve "$@"\n' "$qemu" "$dist" >"$dir/openexec-approve"
chmod 755 "$dir"/openexec*
for program in "$dist"/openexec*; do
  "$qemu" "$program" --version
done

OPENEXEC_TEST_BINARY=$dir/openexec cargo test --locked --no-fail-fast "${@/#/--test=}"
python3 tests/python/quickstart.py "$dir/openexec" "$dir/openexec-approve"
python3 tests/release/aarch64_calls.py "$dir/calls"
