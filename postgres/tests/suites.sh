#!/bin/bash
# The root package's tests of the API, asked of the service over a database: suites.sh BINARY. Run at the top of the
# checkout. Each test's store is a database of its own, made where `openexec` would make a store.
set -euo pipefail
binary=$(realpath "$1")
# What reads segments, asks a command that knows files alone, or breaks files on purpose, is no question to a database.
tests=(http_api execute execute_clawshield mcp openapi concurrency followed callers proposals)
files_alone=(
  a_flood_of_proposals_has_its_end a_freeze_file_that_cannot_be_read_is_frozen
  a_stop_is_recorded_however_short_and_while_nothing_runs
  the_audit_reads_the_largest_payload_that_was_approved_by_its_legacy_hash
  a_job_that_failed_is_an_error_where_its_call_is_followed
  answers_are_as_it_says all_lists_of_the_handlers_agree a_report_of_what_is_only_proposed_is_ignored
  one_approval_under_many_nonces_has_one_effect
  a_claim_that_waits_is_executing
  file::every_fault_is_named_with_its_place file::the_file_is_its_owners
  file::two_thousand_callers_work_and_what_no_record_can_hold_is_refused
  head::what_says_how_it_is_needs_no_token
  persons::an_approval_by_the_proposers_own_key_is_refused_and_another_persons_counts
  lists::callers_come_in_turn_and_each_ones_oldest_first lists::every_state_has_its_list
  records:: visible::a_proposal_is_its_first_callers visible::what_nobody_by_name_recorded_is_nobodys
  withdrawn::a_withdrawal_against_the_yes withdrawn::its_caller_ends_what_is_pending_and_nobody_else
  a_proposal_becomes_asynchronous_and_keeps_it_over_a_kill an_approval_against_the_end_of_time
  an_operator_withdraws_what_is_pending_and_nothing_else
  of_64_callers_that_repeat_one_proposal_each_has_the_same_and_it_executes_once
  only_what_was_promised_executes_by_itself what_is_approved_waits_for_the_end_of_a_stop_and_of_a_service
)
dir=$(mktemp -d)
trap '"$(dirname "$0")/cluster.sh" "$dir" stop || true; rm -rf "$dir"' EXIT
"$(dirname "$0")/cluster.sh" "$dir"
# A stand-in that takes the words of `openexec`: the path of the store names the database.
cat >"$dir/openexec" <<EOF
#!/bin/sh
PATH=/usr/bin:/bin
store=\${OPENEXEC_DB_URL#file:}
name=t\$(printf %s "\$store" | md5sum | cut -c1-16)
unset OPENEXEC_OUTBOX_DIR
export RUNTIME_DIRECTORY="\$(dirname "\$store")/run" OPENEXEC_ACCEPT_LOST_COMMITS=yes
mkdir -p "\$RUNTIME_DIRECTORY"
as() { OPENEXEC_DB_URL="postgresql://\$1@/\$name?host=$dir"; export OPENEXEC_DB_URL; shift; exec "$binary" "\$@"; }
make() { ( psql -qXh "$dir" -U postgres postgres -c "CREATE DATABASE \$name OWNER owner" && as owner init --serve-role serve --operator-role op >/dev/null ); }
there() { [ -n "\$(psql -AtXh "$dir" -U postgres postgres -c "SELECT 1 FROM pg_database WHERE datname = '\$name'")" ]; }
case "\${1:-serve}" in
  init) make ;;
  serve) [ "\${OPENEXEC_MODE:-demo}" != demo ] || there || make; as serve serve ;;
  freeze|unfreeze|pending|history|abandon|withdraw|complete) as op "\$@" ;;
  healthcheck) exec "$binary" healthcheck ;;
  hash|token|actions) exec "$PWD/target/debug/openexec" "\$@" ;;
  *) echo "no \$1 over a database" >&2; exit 64 ;;
esac
EOF
chmod 755 "$dir/openexec"
OPENEXEC_TEST_BINARY=$dir/openexec cargo test --locked --no-fail-fast "${tests[@]/#/--test=}" -- "${files_alone[@]/#/--skip=}"
