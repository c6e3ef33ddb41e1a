#!/usr/bin/env bash
# Runs every command of the approvals walk-through as it is printed, and holds its artifacts to
# openssl and to Python. The answer `yes` is the one thing that a person adds: here `--yes` does.
# usage: walkthrough.sh OPENEXEC [PAGE.md]   (a page with the two walk-through markers; the approver's
# program is where OPENEXEC_APPROVE says)
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
binary=$(realpath "$1")
approve=$(realpath "${OPENEXEC_APPROVE:-$here/../approver/target/debug/openexec-approve}")
page=$(realpath "${2:-$here/../docs/approvals.md}")
scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"

mkdir bin
ln -s "$binary" bin/openexec
printf '#!/bin/sh\nexec "%s" "$@" --yes\n' "$approve" > bin/openexec-approve
chmod +x bin/openexec-approve
# Below the ports that the kernel hands out, and nobody listens there.
port=$((10000 + $$ % 10000))
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  port=$((10000 + (port + 1) % 10000))
done
export PATH="$scratch/bin:$PATH" OPENEXEC_LISTEN="127.0.0.1:$port"

sed -n '/<!-- walk-through/,/<!-- end of the walk-through/p' "$page" |
  sed -n '/^```sh$/,/^```$/{/^```/d;p}' |
  sed "s/127\.0\.0\.1:5000/127.0.0.1:$port/; s/^curl .*/&; echo/" > commands.sh
# What the page shows for openssl alone is what approve.sh does.
sed '1,/^set -eu/d; /^key=/d; /^$/d' "$here/openssl/approve.sh" | while IFS= read -r line; do
  grep -qF -- "$line" commands.sh || { echo "the page lacks: $line"; exit 1; }
done

source commands.sh > output 2> log || { cat output log; exit 1; }
executed=$(grep -c '"outcome":"executed"' output)
[ "$executed" = 4 ] && grep -q 'Signature Verified Successfully' output &&
  [ "$(grep -c '"status":403' output)" = 2 ] && grep -q '4 claims judged' output || { cat output log; exit 1; }

# The other way round, and what the page does not show.
for name in alice bob; do
  python3 "$here/python/verify_artifact.py" $name.pub < $name.json
done
python3 "$here/python/verify_artifact.py" alice.pub < approval.json
if python3 "$here/python/verify_artifact.py" bob.pub < alice.json 2>/dev/null; then
  echo "an artifact of alice's verifies under bob's key"; exit 1
fi
[ "$(jq -r .action_hash approval.json)" = "$(openexec hash call.json | jq -r .action_hash)" ]
# Of a text that a terminal would reorder the approver sees the letters.
echo '{"action":"echo","payload":{"msg":"by approve.sh","to":"\u202e001 \u009b2J"},"nonce":"order-5"}' > call.json
sh "$here/openssl/approve.sh" bob.pem acme 60 call.json > approval.json 2> shown
grep -qF '\u202e001 \u009b2J' shown || { cat shown; exit 1; }
jq -c --slurpfile approval approval.json '.approval_artifact = $approval[0]' call.json > approved.json
curl -s "http://127.0.0.1:$port/execute" -H 'Content-Type: application/json' -d @approved.json |
  jq -e '.approved and .result.echo.msg == "by approve.sh"' > approved
[ "$(jq -r 'select(.kind == "claim") | .keys | join("+")' openexec-data/*.jsonl | paste -sd ' ')" = \
  "alice alice+bob alice carol bob" ]
[ -z "$(openexec pending)" ]
echo "the walk-through works as printed"
