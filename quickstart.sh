#!/usr/bin/env bash
# From a clone to a refund that a person approved, that was executed once, and that a worker paid.
#
# usage: ./quickstart.sh               shows the proposal on a page in your browser, on this machine
#        ./quickstart.sh --terminal    asks you in this terminal instead
#        ./quickstart.sh --yes         says yes itself, and asks nothing
#        ./quickstart.sh --files DIR   only writes keys, tokens, callers and actions into DIR, for examples/quickstart
#
# Everything lies in a temporary directory, and everything ends with this script. Needs curl, jq, openssl, flock, and cargo,
# or in OPENEXEC and OPENEXEC_APPROVE the paths of both programs.
set -euo pipefail
files=${2:-}
case $files in "" | /*) ;; *) files=$PWD/$files ;; esac
cd "$(dirname "$0")"
top=$PWD
mode=${1:-}
case $mode:$# in
  :0 | --terminal:1 | --yes:1 | --files:2) ;;
  *) sed -n 's/^# \{0,1\}//; 2,10p' quickstart.sh; exit 64 ;;
esac

scratch='' groups=()
# Whatever ends this script ends the service and the worker with all that they started, and leaves no file.
finish() {
  local status=$?
  # Who presses Ctrl-C twice wants it ended, not half of it left.
  trap '' HUP INT TERM
  trap - EXIT
  for group in "${groups[@]}"; do kill -9 -- "-$group" 2>/dev/null || true; done
  for group in "${groups[@]}"; do wait "$group" 2>/dev/null || true; done
  [ -z "$scratch" ] || rm -rf "$scratch"
  [ "$status" -eq 0 ] || echo "quickstart.sh ended early ($status); nothing is left behind" >&2
  exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

# A process group of its own, so that all of it can be ended, and Ctrl-C reaches this script alone.
beside() {
  set -m
  "$@" </dev/null &
  set +m
  groups+=("$!")
}

# What each person brings: the operator two files of rights and one of actions, the approver a key, the agent a token.
write_files() {
  local name may lines=()
  cd "$1"
  umask 077
  openssl genpkey -algorithm ed25519 -out alice.pem
  jq -n --arg alice "$(openssl pkey -in alice.pem -pubout)" '{
    keys: [{name: "alice", public_key: $alice}], required: {refund: 1, "*": 1}}' >keys.json
  for name in agent alice; do
    [ "$name" = agent ] && may=propose || may=approve
    printf 'openexec_%s\n' "$(openssl rand -hex 32)" >"$name.token"
    lines+=("$(jq -cn --arg name "$name" --arg may "$may" --arg hash "$(tr -d '\n' <"$name.token" | sha256sum | cut -c 1-64)" \
      '{name: $name, token_sha256: $hash, may: [$may]}')")
  done
  printf '%s\n' "${lines[@]}" | jq -s '{callers: .}' >callers.json
  jq -n '
    def paid_back(largest): {
      type: "object", required: ["order", "amount", "currency"], additionalProperties: false,
      properties: {
        order: {type: "string", minLength: 1, maxLength: 40}, currency: {enum: ["EUR", "JPY"]},
        amount: {type: "integer", minimum: 1, maximum: largest, description: "In the minor unit: cents, or yen.",
          "x-display": "money", "x-currency": "currency", "x-exponents": {EUR: 2, JPY: 0}}}};
    {actions: [
      {action: "refund", summary: "Pays a customer back.", payload_schema: paid_back(50000)},
      {action: "refund_large", summary: "Pays a customer back, a large amount.", payload_schema: paid_back(5000000)}]}' >actions.json
  # Whoever performs the job has the credentials of the payment API. This one only writes down what it would ask for.
  mkdir outbox store-of worker
  cat >worker/pay <<'PAY'
#!/bin/sh
jq -r '"paid \(.payload.amount) \(.payload.currency) for order \(.payload.order), once, under \(.id)"' "$1" >>"$(dirname "$0")/paid" &&
  jq -c '{refund: ("re_" + .id[:8])}' "$1" >"$RESULT"
PAY
  chmod 700 worker/pay
  cd "$top"
}

for tool in curl jq openssl flock sha256sum; do
  command -v "$tool" >/dev/null || { echo "quickstart.sh needs $tool" >&2; exit 69; }
done
if [ "$mode" = --files ]; then
  mkdir -m 700 "$files"
  write_files "$files"
  echo "$files has keys, tokens, callers and actions; examples/quickstart/README.md says how to go on"
  exit 0
fi

openexec=${OPENEXEC:-} approver=${OPENEXEC_APPROVE:-}
if [ -z "$openexec" ] || [ -z "$approver" ]; then
  say "Building the service and the approver's tool. The first time this takes a minute or two."
  cargo build --quiet --locked --bin openexec
  cargo build --quiet --locked --manifest-path approver/Cargo.toml
  target() { cargo metadata --no-deps --format-version 1 --manifest-path "$1" | jq -r .target_directory; }
  openexec=$(target Cargo.toml)/debug/openexec approver=$(target approver/Cargo.toml)/debug/openexec-approve
fi
openexec=$(realpath "$openexec") approver=$(realpath "$approver")
# No setting of this shell's is one of the service's.
unset "${!OPENEXEC@}" "${!CLAWSHIELD@}"
scratch=$(mktemp -d)
write_files "$scratch"

say "1. The operator starts the service: callers with tokens, keys, two declared actions, a queue for jobs."
export OPENEXEC_MODE=clawshield CLAWSHIELD_TENANT_ID=acme OPENEXEC_LISTEN=127.0.0.1:0 OPENEXEC_LOG=error
export OPENEXEC_DB_URL="file:$scratch/store-of/store" OPENEXEC_KEYS_FILE="$scratch/keys.json"
export OPENEXEC_CALLERS_FILE="$scratch/callers.json" OPENEXEC_ACTIONS_FILE="$scratch/actions.json" OPENEXEC_OUTBOX_DIR="$scratch/outbox"
"$openexec" init >"$scratch/init"
beside sh -c 'exec "$1" serve 2>"$2/journal"' serve "$openexec" "$scratch"
server=$!
until url=http://$(cut -d' ' -f2 "$scratch/store-of/store/LOCK" 2>/dev/null) && curl -sfo "$scratch/ready" "$url/ready"; do
  kill -0 "$server" 2>/dev/null || { cat "$scratch/journal" >&2; exit 70; }
  sleep 0.1
done
echo "It listens on $url. Nothing that needs an approval executes without one."

# shellcheck disable=SC2016  # the worker's own variables
beside sh -c 'while sleep 0.5; do sh "$1" "$2/outbox/refund" "$2/worker/pay" || true; done' worker "$top/examples/workers/work" "$scratch"
echo "A worker waits for jobs in the queue of \"refund\"."

ask() { curl -sS --fail-with-body --max-time 30 -H "Authorization: Bearer $(cat "$scratch/$1.token")" "${@:3}" "$url$2"; }
say "2. The agent asks for a refund of 49.00 EUR. It has a token that may propose, and no key."
ask agent /execute -H 'Content-Type: application/json' -H 'Prefer: respond-async' \
  -d '{"action":"refund","payload":{"order":"8841","amount":4900,"currency":"EUR"},"nonce":"refund-8841","justification":"The customer sent the goods back."}' \
  >"$scratch/proposed"
id=$(jq -er .id "$scratch/proposed")
state() { ask agent "/proposals/$id" | jq -r "$1"; }
echo "It waits: $(state .state). Jobs in the queue: $(find "$scratch/outbox" -name '*.json' | wc -l)."

say "3. You are the approver. Your key never leaves your machine; the service has no code that could sign."
access=(--url "$url" --token-file "$scratch/alice.token" --key "$scratch/alice.pem")
if [ -z "$mode" ]; then
  beside sh -c 'exec "$@" >"$0" 2>&1' "$scratch/page" "$approver" page "${access[@]}"
  page=$!
  until grep -q http "$scratch/page"; do
    kill -0 "$page" 2>/dev/null || { cat "$scratch/page" >&2; exit 70; }
    sleep 0.1
  done
  cat "$scratch/page"
  echo "Open that address in a browser on this machine, and decide. (Without one: Ctrl-C, then ./quickstart.sh --terminal)"
  while state .state | grep -qx pending; do
    kill -0 "$page" 2>/dev/null || { cat "$scratch/page" >&2; exit 70; }
    sleep 0.5
  done
else
  approve=("$approver" approve "$id" "${access[@]}")
  [ "$mode" != --yes ] || approve+=(--yes)
  printf '%s\n\n' "openexec-approve ${approve[*]:1}"
  "${approve[@]}" || true
fi
case $(state .state) in
  pending | rejected)
    echo "It was not approved, so nothing was executed: the proposal is $(state .state)." >&2
    exit 1
    ;;
esac

say "4. It executes once, exactly as approved, and leaves a job. The worker pays, and says so."
deadline=$((SECONDS + 60))
while state .completion.outcome | grep -qx null; do
  [ "$SECONDS" -lt "$deadline" ] || { echo "the worker did not end the job" >&2; exit 70; }
  kill -0 "$server" 2>/dev/null || { cat "$scratch/journal" >&2; exit 70; }
  sleep 0.2
done
cat "$scratch/worker/paid"
state '"The agent reads: \(.state), completed \(.completion.outcome), \(.completion.result)"'

say "5. Anybody who may read the store can check all of it again, signatures too."
"$openexec" verify --keys "$scratch/keys.json"
say "Done. Everything of it is removed now. Next: README.md, docs/approvals.md, docs/actions.md"
