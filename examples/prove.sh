#!/bin/sh
# Proves on this machine, with nothing but curl and sha256sum, that what was asked 64 times, with a
# kill -9 in the middle, is done once, and that its receipt is a hash that anybody can compute.
#
# usage: examples/prove.sh [BINARY]    without BINARY: builds the release binary with cargo
#
# The output is the same on every machine; it is kept in examples/prove.txt. Any POSIX shell will do.
set -eu

repository=$(cd "$(dirname "$0")/.." && pwd)
binary=${1:-}
if [ -z "$binary" ]; then
    (cd "$repository" && cargo build --release --quiet)
    binary=${CARGO_TARGET_DIR:-$repository/target}/release/openexec
fi

dir=$(mktemp -d)
server=
stop() { # The lock on the store is free once the process is gone, not before.
    { kill -9 "$server" && wait "$server"; } 2>"$dir/end" || true
}
trap '[ -z "$server" ] || stop; rm -rf "$dir"' EXIT
mkdir "$dir/outbox" "$dir/before" "$dir/after"
touch "$dir/log" "$dir/curl"

fail() {
    echo "NOT PROVED: $*" >&2
    cat "$dir/log" "$dir/curl" >&2
    exit 1
}

hash_of() { # of standard input
    sum=$(sha256sum)
    echo "${sum%% *}"
}

holds() { # TEXT PART
    case $1 in *"$2"*) ;; *) return 1 ;; esac
}

start() { # sets server and address
    # Nothing else from the environment, a port that is free, and no approvals: demo mode.
    env -i OPENEXEC_DB_URL="file:$dir/store" OPENEXEC_OUTBOX_DIR="$dir/outbox" \
        OPENEXEC_LISTEN=127.0.0.1:0 "$binary" </dev/null >>"$dir/log" 2>&1 &
    server=$!
    deadline=$(($(date +%s) + 20)) pid='' address=''
    until [ "$pid" = "$server" ] && curl -fs -o "$dir/ready" "http://$address/ready"; do
        kill -0 "$server" 2>"$dir/end" || fail "the server ended"
        [ "$(date +%s)" -lt "$deadline" ] || fail "the server did not become ready"
        sleep 0.05
        read -r pid address 2>"$dir/end" <"$dir/store/LOCK" || pid=
    done
}

ask64() { # DIRECTORY: the same request on 64 connections at once, a file for each answer
    # What follows # is for curl alone: it numbers the answers.
    curl -s --parallel --parallel-immediate --parallel-max 64 -o "$1/#1" -w '%{http_code}\n' \
        -H 'Content-Type: application/json' -d "$request" "http://$address/execute#[1-64]" 2>>"$dir/curl"
}

# In canonical form already: keys sorted, no spaces.
request='{"action":"enqueue","nonce":"invoice-1017","payload":{"job":{"invoice":1017},"queue":"print"}}'
id=$(printf %s "$request" | hash_of)
job=$dir/outbox/print/$id.json

start
ask64 "$dir/before" >"$dir/codes" &
client=$!
deadline=$(($(date +%s) + 20))
until [ -e "$job" ]; do
    [ "$(date +%s)" -lt "$deadline" ] || fail "no job file appeared"
done
stop # The job is there; its receipt, most likely, is not.
wait "$client" || true
first=$(ls -i "$job")
echo "64 requests at once under one nonce; kill -9 as soon as there is a job file"

start
ask64 "$dir/after" >"$dir/codes" || fail "not every request was answered"
[ "$(sort "$dir/codes" | uniq -c | xargs)" = "64 200" ] || fail "not every answer is 200"
echo "restarted; the same 64 requests again: 64 answers, each 200"

# Those given before the kill are among them.
bodies=$(find "$dir/before" "$dir/after" -type f -size +0 -exec sha256sum {} + | cut -c 1-64 | sort -u)
[ "$(echo "$bodies" | wc -l)" -eq 1 ] || fail "the answers differ"
echo "every answer, from before and after the kill, has the same bytes"

[ "$(find "$dir/outbox/print" -type f)" = "$job" ] || fail "there is not exactly one file"
[ "$(ls -i "$job")" = "$first" ] || fail "the job was written again"
echo "1 job file, the one from before the kill"

answer=$(cat "$dir/after/1")
receipt=${answer#*'"receipt":"'} receipt=${receipt%%'"'*}
result=${answer#*'"result":'} result=${result%'}'}
echo
printf '%s\n' "$answer"
echo
holds "$answer" "\"id\":\"$id\"" || fail "the id is another"
echo "id       $id  sha256sum of the request"
[ "$(printf '%s:%s' "$id" "$result" | hash_of)" = "$receipt" ] || fail "the receipt is another"
echo "receipt  $receipt  sha256sum of id:result"
holds "$result" "\"sha256\":\"$(hash_of <"$job")\"" || fail "the job's hash is another"
echo "job      $(hash_of <"$job")  sha256sum of the job file"
echo
echo "PROVED: asked 128 times, killed in between, done once"
