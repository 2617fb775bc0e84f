# Virtual environments of this checkout, made with venv and pip alone; sourced by the scripts beside it.

say() { printf '%s\n' "$*" >&2; }

# Prints the first Python >= 3.11 that can make virtual environments. A name that only answers with an
# error (a version manager's placeholder) is passed over.
find_python() {
    local name found=
    for name in python3.13 python3.12 python3.11 python3; do
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        found=$name
        "$name" -c 'import ensurepip, sys, venv; print(sys.executable)' 2>/dev/null && return
    done
    if [ -n "$found" ]; then
        say "$found cannot make virtual environments: install its venv module (Debian, Ubuntu: apt-get install python3-venv)."
    else
        say "Python 3.11 or newer is needed and none was found: install one, then run this again."
    fi
    return 1
}

# What an environment was made from: another place, other packages or another pyproject.toml make it stale.
_recipe() {
    printf '%s\n' "$PWD" "$@"
    cat pyproject.toml
}

# is_current DIRECTORY PACKAGE...: whether DIRECTORY holds just what `pip install PACKAGE...` would bring.
is_current() {
    local directory=$1
    shift
    "$directory/bin/python" -c '' 2>/dev/null && _recipe "$@" | cmp -s - "$directory/recipe"
}

# environment DIRECTORY PACKAGE...: makes DIRECTORY with `pip install PACKAGE...` unless it is current.
environment() {
    local directory=$1 python reason
    shift
    is_current "$directory" "$@" && return
    python=$(find_python) || return 1
    say "installing into $directory: $*"
    "$python" -m venv --clear "$directory" || return 1
    if ! "$directory/bin/python" -m pip install --disable-pip-version-check "$@" >"$directory/pip.log" 2>&1; then
        reason=$(grep -o 'ERROR: .*' "$directory/pip.log" | tail -n 1) || true
        say "pip could not install into $directory; all it said is in $directory/pip.log. ${reason#ERROR: }"
        return 1
    fi
    _recipe "$@" >"$directory/recipe"
}

# The environment that runs the tool: the tests' when it is there and current, else one without their packages.
tool_environment() {
    is_current .venv -e '.[test]' || environment .venv -e .
}
