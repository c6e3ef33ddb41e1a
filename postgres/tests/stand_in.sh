# shellcheck shell=sh
# `openexec` over a database, for the root package's tests: it takes the same words, and `mirror` and `records`.
# suites.sh makes a script that sets these and reads this:
#   DIR       the directory of the server's socket
#   BINARY    openexec-postgres
#   HANDLERS  the same with the tests' own handlers
#   FILES     openexec
# The store's path names a database. The directory there is the log as `backup` wrote it last, for tests to read. What a
# test has written there since is imported, and with the directory the database is gone.
set -u
PATH=/usr/bin:/bin
store=${OPENEXEC_DB_URL#file:}
if [ "${1-}" = verify ] && [ -d "${2-}" ]; then store=$(realpath "$2"); fi
name=t$(printf %s "$store" | md5sum | cut -c 1-16)
made=$store.made
unset OPENEXEC_OUTBOX_DIR
RUNTIME_DIRECTORY=$(dirname "$store")/run
export RUNTIME_DIRECTORY OPENEXEC_ACCEPT_LOST_COMMITS=yes
mkdir -p "$RUNTIME_DIRECTORY"

# This process becomes it: a test that kills its service kills no shell.
as() {
  OPENEXEC_DB_URL="postgresql://$1@/$name?host=$DIR"
  export OPENEXEC_DB_URL
  shift
  exec "$BINARY" "$@"
}
sql() { psql -qXh "$DIR" -U postgres -v ON_ERROR_STOP=1 postgres "$@" 2>&1 | grep -v 'NOTICE:' >&2 || true; }
drop() { sql -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" && rm -f "$made"; }
# A database in which $@ makes the log; none, where that fails.
make() {
  sql -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" -c "CREATE DATABASE $name OWNER owner"
  (as owner "$@" --serve-role serve --operator-role op --worker-role work) >/dev/null || {
    code=$?
    drop
    return $code
  }
  mkdir -p "$store" && : >"$made" && dirname "$store" >"$DIR/made-$name"
}
written() { stat -c '%n %i %y' "$store"/*.jsonl 2>/dev/null; }
keep() { written >"$store.mirrored"; }
mirror() {
  rm -rf "$store.new"
  (as serve backup "$store.new") >/dev/null && rm -rf "$store" && mv "$store.new" "$store" && keep
}
is_demo() { [ "${OPENEXEC_MODE:-demo}" = demo ]; }

if [ -e "$made" ] && [ ! -d "$store" ]; then drop; fi
if [ -e "$store/00000001.jsonl" ] && [ "$(written)" != "$(cat "$store.mirrored" 2>/dev/null)" ]; then
  make import "$store" || exit
  rm -f "$store/FROZEN"
  keep
fi
case "${1:-serve}" in
  init) if [ -e "$made" ]; then as owner init --serve-role serve --operator-role op; else make init; fi ;;
  mirror) mirror ;;
  records) psql -qAtXh "$DIR" -U serve "$name" -c 'SELECT line FROM openexec.rec ORDER BY n' ;;
  serve)
    if is_demo && [ ! -e "$made" ]; then make init || exit; fi
    if [ -n "${TEST_SERVES-}" ]; then BINARY=$HANDLERS; fi
    as serve serve
    ;;
  check)
    # There is none yet: in demo mode that is no fault.
    if is_demo && [ ! -e "$made" ] && (as serve check) 2>&1 | grep -q 'does not exist'; then make init || exit; fi
    as serve check
    ;;
  freeze | unfreeze | pending | history | abandon | withdraw | complete) as op "$@" ;;
  healthcheck) as serve healthcheck ;;
  verify) mirror && exec "$FILES" "$@" ;;
  hash | token | actions) exec "$FILES" "$@" ;;
  *)
    echo "no $1 over a database" >&2
    exit 64
    ;;
esac
