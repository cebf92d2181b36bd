# What tools/test.sh and tools/demo.sh share: find Python, make a private environment. Sourced, not run.

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

# Print the first Python that is new enough.
find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# need_deb PACKAGE COMMAND: install a Debian package when a command is missing and we may.
# Never fatal: what needs the command skips itself and says why.
need_deb() {
    # Servers lie in sbin, which a user's PATH may lack.
    PATH=$PATH:/usr/sbin:/sbin command -v "$2" >/dev/null 2>&1 && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing $1 (for $2)"
        { apt-get install -y -q "$1" || { apt-get update -q && apt-get install -y -q "$1"; }; } \
            >/dev/null 2>&1 && return 0
    fi
    say "note: '$2' is missing (package $1); the tests that need it are skipped"
}

# make_venv DIR REQUIREMENT STAMP_FILE...: create or refresh; quick when nothing changed.
make_venv() {
    venv=$1 requirement=$2
    shift 2
    python=$(find_python) || die "Python 3.11 or later is needed (set PYTHON to choose one)"
    stamp=$("$python" -c '
import hashlib, sys
digest = hashlib.sha256(sys.argv[1].encode())
for path in sys.argv[2:]:
    digest.update(open(path, "rb").read())
print(digest.hexdigest())' "$PWD $requirement" "$@")
    if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    say "preparing $venv (once per change of pyproject.toml)"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$venv"
        "$python" -m venv "$venv" >/dev/null 2>&1 ||
            { rm -rf "$venv"; "$python" -m virtualenv -q "$venv" >/dev/null 2>&1; } ||
            { rm -rf "$venv"; virtualenv -q -p "$python" "$venv" >/dev/null 2>&1; } ||
            borrow_pip "$python" "$venv" ||
            die "cannot make a virtual environment: install python3-venv or virtualenv"
    fi
    "$venv/bin/python" -m pip install -q --disable-pip-version-check $requirement ||
        die "pip could not install $requirement"
    printf '%s\n' "$stamp" >"$venv/.stamp"
}

# Without ensurepip and virtualenv: an environment without pip, filled by the pip of the system.
borrow_pip() {
    "$1" -m pip --version >/dev/null 2>&1 || return 1
    rm -rf "$2"
    "$1" -m venv --without-pip "$2" || return 1
    "$1" -m pip --python "$2/bin/python" install -q --disable-pip-version-check pip
}
