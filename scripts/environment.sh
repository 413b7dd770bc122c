# shellcheck shell=sh
# How does this checkout get a Python environment of its own? Read by bootstrap.sh and test.sh.
#
#   environment NAME EXTRA SCRIPTS    makes .tools/NAME (once) with the checkout whose scripts folder is SCRIPTS and
#                                     its EXTRA ("" or "[test]") installed editable; sets `root`, and `python` to the
#                                     interpreter
#
# A finished environment is found through a small file that names its folder. The file appears by renaming, so that
# two runs at once, or one that was killed, never leave a half-made environment to be used; nothing waits for a lock.
#
# Everything stands in one pair of braces: a file that was cut off is no complete command, and runs nothing.
{
  NEEDS="Python 3.11 or later with venv"

  say() {
    printf '%s\n' "$*" >&2
  }

  # fail TEXT CAUSE FIX: the three lines of an error, and exit 5 (an install step failed).
  fail() {
    say "error: $1"
    [ -z "$2" ] || say "cause: $2"
    say "fix:   $3"
    exit 5
  }

  # Whether "$1" is a Python that can make an environment. Sets `why` where it is not.
  is_usable() {
    why=$("$1" -I -c '
import sys
if sys.version_info < (3, 11):
    sys.exit("is Python %d.%d" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("has no module " + str(error.name))
' 2>&1) && return 0
    why=$(printf '%s\n' "$why" | tail -n 1)
    return 1
  }

  # Sets `base` to the Python to build on; leaves it empty where only uv can help.
  find_python() {
    causes=
    if [ -n "${PROVISION_PYTHON-}" ]; then
      base=$(command -v "$PROVISION_PYTHON" || printf '%s' "$PROVISION_PYTHON")
      is_usable "$base" || fail "PROVISION_PYTHON is not $NEEDS" "$base: $why" "name another one, or unset PROVISION_PYTHON"
      return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.15 python; do
      base=$(command -v "$name") || continue
      is_usable "$base" && return
      causes="$causes${causes:+; }$base: $why"
    done
    base=
    command -v uv >/dev/null || fail "provision needs $NEEDS, or uv; none was found on PATH" "$causes" \
      "install one of them (Debian, Ubuntu: apt install python3 python3-venv) and run this again"
  }

  # quietly FIX COMMAND…: its output is shown only where it fails, and then its end.
  quietly() {
    fix=$1
    shift
    "$@" >"$made/log" 2>&1 </dev/null && return
    cause=$(grep -iE '^ *(error|cause|hint|fatal)' "$made/log" | tail -n 4)
    fail "provision's own environment could not be made: $* failed" "${cause:-$(tail -n 4 "$made/log")}" "$fix"
  }

  # make_environment EXTRA: fills the new folder "$made". In a subshell: pip's variables are changed for pip alone.
  make_environment() (
    python="$made/bin/python"
    index="see that the package index answers; pip's settings, PIP_INDEX_URL, PIP_FIND_LINKS and HTTPS_PROXY are honoured"
    if [ -n "$base" ]; then
      quietly "name another Python in PROVISION_PYTHON" "$base" -I -m venv "$made"
      unset PIP_TARGET PIP_PREFIX PIP_ROOT
      export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
      quietly "$index" "$python" -I -m pip install --editable "$root$1"
    else
      quietly "put Python 3.11 or later on PATH" uv venv --allow-existing --python ">=3.11" "$made"
      quietly "see that the package index answers" uv pip install --python "$python" --editable "$root$1"
    fi
    # An editable install brings no bytecode, and Python may have been told not to write any: a start without it takes
    # twice as long. Where the clone cannot be written to, it stays so.
    "$python" -I -m compileall -q "$root/installer" >/dev/null 2>&1 || :
  )

  # Removes what killed set-ups left in "$home", and environments that nothing names any more since a day or longer.
  sweep() {
    for old in "$home"/env.*; do
      if [ -f "$old/maker" ]; then
        kill -0 "$(cat "$old/maker")" 2>/dev/null || rm -rf "$old"
      elif [ -n "$(find "$old" -prune -mtime +0 2>/dev/null)" ]; then
        grep -qsx "${old##*/}" "$home"/[0-9]* || rm -rf "$old"
      fi
    done
  }

  # Sets `python` to the interpreter of the finished environment in folder "$1", or returns 1.
  use() {
    [ -f "$1/$key" ] || return 1
    read -r folder <"$1/$key" || return 1
    python="$1/$folder/bin/python"
    "$python" -I -c 'import click, provision' 2>/dev/null
  }

  # Prints where the environment goes if the clone cannot be written to.
  user_data() {
    if [ "$(uname -s)" = Darwin ]; then
      printf '%s' "${HOME-}/Library/Application Support/torch-provision"
    else
      printf '%s' "${XDG_DATA_HOME:-${HOME-}/.local/share}/torch-provision"
    fi
  }

  environment() {
    root=$(CDPATH='' cd -- "$3/.." && pwd -P)
    key=$({ cat "$root/pyproject.toml" && printf '%s\n' "$root" "${PROVISION_PYTHON-}"; } | cksum)
    key=${key%% *}
    use "$root/.tools/$1" && return
    elsewhere=$(user_data)
    use "$elsewhere/$1" && return

    case $(uname -s) in
      MINGW* | MSYS* | CYGWIN*) fail "this script is for Linux and macOS" "" "scripts\\bootstrap.ps1 is its twin for Windows" ;;
    esac
    find_python
    home="$root/.tools/$1"
    if ! { mkdir -p "$home" && [ -w "$home" ]; } 2>/dev/null; then
      home="$elsewhere/$1"
      mkdir -p "$home" || fail "neither the clone nor $elsewhere can be written to" "" "make one of them writable"
    fi
    say "Making provision's own environment in $home (once) …"
    sweep
    made="$home/env.$$-$(date +%s)"
    mkdir "$made"
    trap 'rm -rf "$made"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    printf '%s\n' "$$" >"$made/maker"
    make_environment "$2"
    rm -f "$made/maker" "$made/log"
    printf '%s\n' "${made##*/}" >"$made.name"
    mv -f "$made.name" "$home/$key"
    trap - EXIT INT HUP TERM
    use "$home" || fail "provision's own environment was made but cannot be used" "$python cannot import provision" \
      "delete $home and run this again"
  }
}
