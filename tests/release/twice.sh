#!/usr/bin/env bash
# Builds the release once more, of the same source, in another directory, with another registry,
# another locale and one job at a time, and compares every byte with what dist/ holds.
#
# usage: tests/release/twice.sh [DIST TARGET]      after .ci/release; without arguments: dist/, this machine's target
set -euo pipefail
cd "$(dirname "$0")/../.."
first=$(realpath "${1:-dist}")
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT

mkdir -p "$elsewhere/a/longer/path" "$elsewhere/cargo/registry"
source=$elsewhere/a/longer/path/source
mkdir "$source"
# What git would check out, with the changes that are not committed yet.
# Whoever owns the checkout: a container's root builds what somebody else has checked out.
git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$source"
cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/{cache,index} "$elsewhere/cargo/registry/"

(
  export CARGO_HOME=$elsewhere/cargo CARGO_TARGET_DIR=$elsewhere/target LC_ALL=C.UTF-8 TZ=Asia/Tokyo
  export RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_BUILD_JOBS=1
  GIT_DIR=$(git -c safe.directory="$PWD" rev-parse --absolute-git-dir)
  export GIT_DIR
  umask 077
  "$source/.ci/release" ${2:+"$2"} >"$elsewhere/log" 2>&1 || { cat "$elsewhere/log"; exit 1; }
)
diff -r "$first" "$source/dist"
sha256sum "$first"/openexec* "$source"/dist/openexec*
echo "two builds in two directories: the same bytes"
