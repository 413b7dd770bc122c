#!/bin/sh
# From a fresh clone to a proven PyTorch: makes provision an environment of its own (once), runs `provision "$@"` and
# hands back its exit code. Needs Python 3.11 or later with venv, or uv. Never asks, never needs root.
#
#   PROVISION_PYTHON   the Python to build on, instead of the first usable one on PATH
#
# Everything stands in one pair of braces: a file that was cut off is no complete command, and runs nothing.
{
  set -eu

  main() {
    script=$0
    while [ -h "$script" ]; do # so that a link on PATH may lead here
      link=$(readlink "$script")
      case $link in
        /*) script=$link ;;
        *) script=$(dirname -- "$script")/$link ;;
      esac
    done
    scripts=$(dirname -- "$script")
    # shellcheck source=scripts/environment.sh
    . "$scripts/environment.sh"
    environment provision "" "$scripts"
    exec "$python" -I -m provision "$@"
  }

  main "$@"
}
