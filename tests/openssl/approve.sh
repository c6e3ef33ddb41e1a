#!/bin/sh
# Approves a request with openssl, jq and coreutils alone: the artifact on standard output.
# usage: approve.sh KEY.pem TENANT TTL_SECONDS REQUEST.json
set -eu
key=$1 tenant=$2 ttl=$3 request=$4

jq -a '{action, payload}' "$request" >&2   # read what you are about to sign
hash=$(jq -cSj '{action, payload}' "$request" | sha256sum | cut -c 1-64)
id=$(cat /proc/sys/kernel/random/uuid)
issued=$(date -u +%Y-%m-%dT%H:%M:%SZ)
expires=$(date -u -d "+$ttl seconds" +%Y-%m-%dT%H:%M:%SZ)
message=$(mktemp)
printf %s "$id$tenant$hash$issued$expires" > "$message"
signature=$(openssl pkeyutl -sign -inkey "$key" -rawin -in "$message" | base64 -w 0)
rm "$message"
jq -cn --arg id "$id" --arg tenant "$tenant" --arg hash "$hash" --arg issued "$issued" \
  --arg expires "$expires" --arg signature "$signature" '{approval_id: $id, tenant_id: $tenant,
  action_hash: $hash, issued_at: $issued, expires_at: $expires, signature: $signature}'
