#!/bin/bash
# The root package's tests of the API, asked of the service over a database: suites.sh DIRECTORY [SUITE...]. DIRECTORY is
# where cargo leaves this package's programs. Run at the top of the checkout. Each test's store is a database of its own,
# made where `openexec` would make a store. What is not asked stands in suites.txt, with its reason.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
programs=$(realpath "$1")
# The longest first: as many run beside one another as there are processors.
all="approvals_door execute refusals approvals callers proposals completions concurrency mcp clock http_api openapi
  execute_clawshield followed rejections pending"
read -rd '' -a suites <<<"$all" || true
[ $# -lt 2 ] || suites=("${@:2}")
fail() {
  echo "suites.sh: $*" >&2
  exit 1
}

# Each suite's program, the tests in it, and those of them that are not asked.
built=$(cargo test --no-run --locked --message-format=json "${suites[@]/#/--test=}" |
  jq -r 'select(.executable and .profile.test) | "\(.target.name) \(.executable)"')
declare -A program tests skips
while read -r suite path; do
  program[$suite]=$path
  tests[$suite]=$("$path" --list --format terse | sed -n 's/: test$//p')
done <<<"$built"
reason=
while read -r line; do
  case $line in
    '# '?*) reason=$line ;;
    '') reason= ;;
    *)
      suite=${line%%::*} name=${line#*::}
      [ -n "$reason" ] || fail "$line has no reason"
      grep -qw -- "$suite" <<<"${suites[*]}" || { grep -qw -- "$suite" <<<"$all" && continue; }
      grep -qxF -- "$name" <<<"${tests[$suite]-}" || fail "$line is in suites.txt, and there is no such test"
      ! grep -qxF -- "$name" <<<"${skips[$suite]-}" || fail "$line is in suites.txt twice"
      skips[$suite]+=$name$'\n'
      ;;
  esac
done <"$here/suites.txt"

dir=$(mktemp -d)
# bash may still list a job that has ended: no failure.
trap 'kill $(jobs -p) 2>/dev/null || true; "$here/cluster.sh" "$dir" stop || true; rm -rf "$dir"' EXIT
"$here/cluster.sh" "$dir"
printf '#!/bin/sh\nDIR=%q BINARY=%q HANDLERS=%q FILES=%q\n. %q\n' "$dir" "$programs/openexec-postgres" \
  "$programs/examples/handlers" "$PWD/target/debug/openexec" "$here/stand_in.sh" >"$dir/openexec"
chmod 755 "$dir/openexec"
export OPENEXEC_TEST_BINARY=$dir/openexec OPENEXEC_TEST_STAND_IN=$dir/openexec
# What it says is shown once it has ended.
ask() {
  local skipped
  mapfile -t skipped < <(printf %s "${skips[$1]-}")
  "${program[$1]}" --exact "${skipped[@]/#/--skip=}" >"$dir/said-$1" 2>&1 && touch "$dir/passed-$1"
  # The databases of tests that are over: some 8 MB each.
  local made
  for made in "$dir"/made-*; do
    if [ ! -e "$made" ] || [ -d "$(cat "$made")" ]; then continue; fi
    psql -qXh "$dir" -U postgres postgres -c "DROP DATABASE IF EXISTS ${made##*-} WITH (FORCE)" >/dev/null 2>&1 && rm -f "$made"
  done
  { echo "$1 over PostgreSQL" && cat "$dir/said-$1"; } | flock "$dir/openexec" cat
}
for suite in "${suites[@]}"; do
  [ "$(grep -c . <<<"${tests[$suite]-}")" -gt "$(printf %s "${skips[$suite]-}" | wc -l)" ] || fail "of $suite nothing is asked"
done
for suite in "${suites[@]}"; do
  [ "$(jobs -rp | wc -l)" -lt "$(nproc)" ] || wait -n || true
  ask "$suite" &
done
wait
failed=()
for suite in "${suites[@]}"; do
  [ -e "$dir/passed-$suite" ] || failed+=("$suite")
done
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
