#!/usr/bin/env bash
# Runs every command of docs/audit.md's "Witnesses" as it is printed, beside a service and two witnesses that are not
# ours; the log grows, and each checkpoint is cosigned. Then what neither side may accept.
# usage: witnesses.sh OPENEXEC     (needs curl, openssl, Debian's golang and golang-golang-x-mod-dev)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "$1")
scratch=$(mktemp -d)
trap 'kill -9 $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir bin elsewhere
ln -s "$binary" bin/openexec
export PATH="$scratch/bin:$PATH" OPENEXEC_LISTEN=127.0.0.1:0 OPENEXEC_LOG=off
export GOFLAGS=-mod=mod GOCACHE="${GOCACHE:-$scratch/cache}" GO111MODULE=off GOPATH=/usr/share/gocode
(cd "$root" && go vet ./tests/witness/cosign && go build -o "$scratch/bin/cosign" ./tests/witness/cosign)

openssl genpkey -algorithm ed25519 -out log.pem
export OPENEXEC_LOG_KEY_FILE=log.pem OPENEXEC_LOG_ORIGIN=example.com/log
export OPENEXEC_CHECKPOINT_FILE=elsewhere/checkpoint
openexec checkpoint --vkey > log.vkey
openexec &
until openexec healthcheck 2>/dev/null; do sleep 0.1; done
execute() {
  curl -sf "http://$(cut -d' ' -f2 openexec-data/LOCK)/execute" -H 'Content-Type: application/json' \
    -d "{\"action\":\"echo\",\"payload\":{},\"nonce\":\"$1\"}" -o executed
}
declare -A url
# Below the ports that the kernel hands out.
port=$((12000 + $$ % 8000))
for name in w1 w2; do
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  cosign "127.0.0.1:$port" "witness.example/$name" "$(cat log.vkey)" > "$name.vkey" &
  until [ -s "$name.vkey" ]; do sleep 0.05; done
  url[$name]="http://127.0.0.1:$port"
  port=$((port + 1))
done

sed -n '/^## Witnesses/,/^## /{/^```sh$/,/^```$/{/^```/d;p}}' "$root/docs/audit.md" > commands
[ "$(grep -c . commands)" -ge 6 ] || { echo "the page has lost its commands"; exit 1; }
size=0
for turn in 1 2 3 4; do
  for n in 1 2 3 4 5; do execute "$turn-$n"; done
  # The file is as far as the log is, once somebody asks for it.
  curl -sf "http://$(cut -d' ' -f2 openexec-data/LOCK)/log/checkpoint" > newest
  # The shell of the page: the size that the witnesses have.
  sed "s,https://w1.example,${url[w1]},; s,https://w2.example,${url[w2]}," commands > now
  # shellcheck disable=SC1091
  source ./now > output 2> log || { cat output log; exit 1; }
  grep -q 'witness     witness.example/w1 cosigned it at ' output && grep -q 'witness     witness.example/w2 ' output ||
    { cat output log; exit 1; }
  size=$(sed -n 2p elsewhere/checkpoint.cosigned)
  [ "$size" -gt 0 ]
done

# What the witness refuses: a size that it has not seen, a proof with a hash less, another root.
refused() {
  local status
  status=$(curl -s -o said -w '%{http_code}' --data-binary @request "${url[w1]}/add-checkpoint")
  [ "$status" = "$1" ] || { echo "$2: $status"; cat request said; exit 1; }
}
for n in 6 7 8; do execute "last-$n"; done
curl -sf "http://$(cut -d' ' -f2 openexec-data/LOCK)/log/checkpoint" > newest
openexec checkpoint --add-checkpoint $((size - 1)) > request
refused 409 "another size"
[ "$(cat said)" = "$size" ] || { echo "the witness has another size"; exit 1; }
openexec checkpoint --add-checkpoint "$size" > whole
sed 2d whole > request
refused 422 "a hash less"
sed 's/^example.com/example.org/' whole > request
refused 403 "another log"
if openexec checkpoint --add-checkpoint 1000000 2> said; then echo "a size that the log never had"; exit 1; fi
# And a kept one that somebody changed passes for nothing.
altered=0
for line in 1 2 3 5 6 7; do
  sed "${line}s/[AEIae]/x/; ${line}s/[0-9]/7/" elsewhere/checkpoint.cosigned > altered
  cmp -s altered elsewhere/checkpoint.cosigned && continue
  altered=$((altered + 1))
  if openexec verify openexec-data --checkpoint altered --log-key "$(cat log.vkey)" \
    --witness "$(cat w1.vkey)" --witness "$(cat w2.vkey)" > said 2>&1; then
    echo "line $line was changed, and nobody sees it"
    exit 1
  fi
done
[ "$altered" -ge 5 ] || { echo "$altered altered ones"; exit 1; }
echo "the witnesses' commands work as printed"
