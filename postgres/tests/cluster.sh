#!/bin/sh
# usage: cluster.sh DIRECTORY: a PostgreSQL of Debian's packages on a socket in that new directory, as the user postgres
# where this is root (initdb refuses root), with the roles `owner`, `serve` and `op` and `work`. Ends with its server running;
# `cluster.sh DIRECTORY stop` ends it, `start` starts it again, and `standby NEW` starts one that follows it, in NEW.
set -eu
dir=$1
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)
as() { if [ "$(id -u)" -eq 0 ]; then su postgres -s /bin/sh -c "$1"; else sh -c "$1"; fi; }
case "${2:-}" in
  stop) as "'$bin/pg_ctl' -D '$dir/data' -m immediate -s stop"; exit ;;
  standby)
    mkdir -p "$3"
    [ "$(id -u)" -ne 0 ] || chown postgres "$3"
    as "'$bin/pg_basebackup' -h '$dir' -U postgres -D '$3/data' -R -X stream -c fast --no-sync"
    as "echo \"unix_socket_directories = '$3'\" >>'$3/data/postgresql.auto.conf'"
    as "echo \"listen_addresses = ''\" >>'$3/data/postgresql.auto.conf'"
    as "'$bin/pg_ctl' -D '$3/data' -l '$3/log' -s -w start"
    exit
    ;;
  start) as "'$bin/pg_ctl' -D '$dir/data' -l '$dir/log' -s -w start"; exit ;;
esac
mkdir -p "$dir"
chmod 755 "$dir"
[ "$(id -u)" -ne 0 ] || chown postgres "$dir"
as "'$bin/initdb' -D '$dir/data' -A trust -U postgres -E UTF8 --locale C --no-sync >/dev/null"
as "cat >>'$dir/data/postgresql.conf'" <<EOF
listen_addresses = ''
unix_socket_directories = '$dir'
max_connections = 200
shared_buffers = 64MB
EOF
as "'$bin/pg_ctl' -D '$dir/data' -l '$dir/log' -s -w start"
"$bin/psql" -qX -h "$dir" -U postgres \
  -c 'CREATE ROLE owner LOGIN' -c 'CREATE ROLE serve LOGIN' -c 'CREATE ROLE op LOGIN' -c 'CREATE ROLE work LOGIN'
