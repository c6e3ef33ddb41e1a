#!/usr/bin/env bash
# Runs every command that docs/audit.md shows to auditors, as it is printed, and then what must fail.
# usage: auditors.sh OPENEXEC     (needs curl, jq, openssl, Debian's golang and golang-golang-x-mod-dev)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "$1")
scratch=$(mktemp -d)
trap 'kill -9 $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir bin
ln -s "$binary" bin/openexec
ln -s "$root" src
# Below the ports that the kernel hands out, and nobody listens there.
port=$((10000 + $$ % 10000))
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  port=$((10000 + (port + 1) % 10000))
done
export PATH="$scratch/bin:$PATH" OPENEXEC_LISTEN="127.0.0.1:$port" OPENEXEC_LOG=off
export GOFLAGS=-mod=mod GOCACHE="$scratch/cache" GO111MODULE=off

sed -n '/<!-- auditors/,/<!-- end of the auditors/p' "$root/docs/audit.md" |
  sed -n '/^```sh$/,/^```$/{/^```/d;p}' | sed "s/127\.0\.0\.1:5000/127.0.0.1:$port/" > commands.sh
# As a shell would run them one by one: the first that fails ends it.
source commands.sh > output 2> log || { cat output log; exit 1; }
for said in \
  'ok          receipt.tlog-proof' \
  'checkpoint  extended: 4 records of example.com/log, signature verified' \
  'record 3 of 4 in the log example.com/log' \
  '4 records in the log example.com/log, root ' \
  'proven      log: the root is of the log whose key was given' \
  'attested    once: it was executed once at most, by its own approvals' \
  '4 records of evidence in the log example.com/log, of 4' \
  '4 records begin with the same 4 in the log example.com/log' \
  'Signature Verified Successfully'; do
  grep -qF -- "$said" output || { echo "nothing said: $said"; cat output log; exit 1; }
done
[ "$(grep -c . commands.sh)" -ge 30 ] || { echo "the page has lost its commands"; exit 1; }

# The log grows, and extends what was kept; each altered file is refused by both programs.
for n in 1 2 3 4 5 6 7; do
  curl -s "http://127.0.0.1:$port/execute" -H 'Content-Type: application/json' \
    -d "{\"action\":\"echo\",\"payload\":{\"n\":$n},\"nonce\":\"more-$n\"}" > "answer-$n.json"
done
vkey=$(cat log.vkey)
curl -s "http://127.0.0.1:$port/log/consistency?from=4" > consistency.json
./audit "$vkey" consistency kept consistency.json
curl -s "http://127.0.0.1:$port/receipts/$(jq -r .id answer-4.json)/proof" > receipt.tlog-proof
./audit "$vkey" proof receipt.tlog-proof
refused() {
  if ./audit "$vkey" "${@:2}" > said 2>&1; then echo "Go accepts $1"; exit 1; fi
}
jq '.hashes[0] = .hashes[1]' consistency.json > altered.json
refused "another hash" consistency kept altered.json
jq 'del(.hashes[0])' consistency.json > altered.json
refused "a hash missing" consistency kept altered.json
sed '3{s/^[^A]/A/;t;s/^A/B/}' kept > altered
refused "another root" checkpoint altered
refused "a checkpoint of another root" consistency altered consistency.json
for line in 1 2 3 4 5 6; do
  sed "${line}d" receipt.tlog-proof > altered.tlog-proof
  refused "a proof without line $line" proof altered.tlog-proof
  if openexec verify --proof altered.tlog-proof --log-key "$vkey" > said 2>&1; then
    echo "openexec accepts a proof without line $line"
    exit 1
  fi
done
for change in '.records[2].index=1' '.records[2].path[0]=.records[0].path[0]' '.records[2].record|=sub("hello";"hallo")' 'del(.records[2].path[0])'; do
  jq -c "$change" charge.json > altered.json
  refused "evidence with $change" evidence altered.json
  if openexec verify --evidence altered.json --log-key "$vkey" > said 2>&1 ||
    python3 src/docs/verify_evidence.py altered.json --log-key "$vkey" > said 2>&1; then
    echo "evidence with $change is accepted"
    exit 1
  fi
done
if openssl pkeyutl -verify -pubin -inkey log.pub -rawin -in <(head -n 3 altered) -sigfile signature > said 2>&1; then
  echo "openssl accepts another root"
  exit 1
fi

# Evidence may be mounted such that nobody can change it.
mkdir evidence
unshare --mount --propagation private bash -euc '
  mount --bind openexec-data evidence
  mount -o remount,bind,ro evidence
  ! touch evidence/x 2>said
  openexec verify evidence >output
  openexec checkpoint evidence >>output'
grep -q '^ok          evidence' output && grep -q '^openexec/' output
echo "the auditors' commands work as printed"
