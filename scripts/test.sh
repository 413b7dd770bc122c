#!/bin/sh
# All checks of this checkout: ruff, mypy, pytest. Makes its environment (once); arguments go to pytest.
#
#   ./scripts/test.sh                  everything that needs neither a GPU nor gigabytes
#   ./scripts/test.sh -k bootstrap     some of it
#
# Everything stands in one pair of braces: a file that was cut off is no complete command, and runs nothing.
{
  set -eu

  check() {
    say "== $*"
    "$python" -m "$@" || failed="$failed $1"
  }

  main() {
    scripts=$(dirname -- "$0")
    # shellcheck source=scripts/environment.sh
    . "$scripts/environment.sh"
    environment test "[test]" "$scripts"
    cd "$root"
    # What the tests write for a while lies in one folder, and goes with the run.
    TMPDIR=$(mktemp -d)
    export TMPDIR
    chmod 755 "$TMPDIR"
    trap 'rm -rf "$TMPDIR"' EXIT
    trap 'exit 130' INT TERM
    failed=
    check ruff check .
    check ruff format --check .
    check mypy
    check pytest -n "$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)" "$@"
    [ -z "$failed" ] || {
      say "failed:$failed"
      exit 1
    }
  }

  main "$@"
}
