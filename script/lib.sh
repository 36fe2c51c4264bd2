# What script/server, script/test and script/bench share. Sourced, not run.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo=$PWD
started=$(date +%s)
export PYTHONDONTWRITEBYTECODE=1 # no caches in the clone

# One folder for everything that is built, outside the clone, so that a second clone (or a test of a fresh one) does not
# build mistral.rs and llama.cpp again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/hanzod/target}

say() { # what is going on, with minutes since the start
    local s=$(($(date +%s) - started))
    printf '\n== [%d:%02d] %s\n' $((s / 60)) $((s % 60)) "$*"
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need PACKAGE=PROGRAM-OR-FILE ...: installs the Debian packages whose program or file is not there
need() {
    local missing=() pair package proof
    for pair in "$@"; do
        package=${pair%%=*} proof=${pair#*=}
        # shellcheck disable=SC2086 # a pattern is to be expanded
        command -v "$proof" >/dev/null 2>&1 || compgen -G "$proof" >/dev/null || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

apt_install() {
    command -v apt-get >/dev/null || fail "please install: $* (this script knows only apt-get)"
    say "installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# python_with NAME REQUIREMENTS: sets python to one that has those packages, in a virtual environment that is kept
python_with() {
    local folder=$CARGO_TARGET_DIR/venv/$1
    python=$folder/bin/python
    cmp -s "$2" "$folder/requirements.txt" && [ -x "$python" ] && return 0
    need python3=python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    say "installing $(tr '\n' ' ' <"$2")for Python"
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement "$2"
    cp "$2" "$folder/requirements.txt"
}

need_build_tools() {
    need cmake=cmake g++=g++ make=make pkg-config=pkg-config curl=curl "libclang-dev=/usr/lib/llvm-*/lib/libclang.so"
    command -v cargo >/dev/null || [ -x "$HOME/.cargo/bin/cargo" ] || fail "please install Rust (https://rustup.rs), then run this again"
    command -v cargo >/dev/null || export PATH="$HOME/.cargo/bin:$PATH"
}

build() {
    say "building hanzod, both engines included (from nothing: about 25 minutes on 2 cores; later: seconds)"
    cargo build --release --locked
    hanzod=$CARGO_TARGET_DIR/release/hanzod
}

# serve_on_free_port STORE LOG [ENV=VALUE ...]: starts a server in the background and sets base and server_pid
serve_on_free_port() {
    local store=$1 log=$2
    shift 2
    env "$@" OLLAMA_MODELS="$store" "$hanzod" serve --listen 127.0.0.1:0 2>"$log" &
    server_pid=$!
    local tries
    for tries in $(seq 200); do
        base=$(sed -n 's/^hanzod is listening on //p' "$log" | head -n 1)
        [ -n "$base" ] && return 0
        kill -0 "$server_pid" 2>/dev/null || { cat "$log" >&2; fail "the server did not start"; }
        sleep 0.05
    done
    fail "the server did not say where it listens within 10 s (try $tries)"
}

# create_tiny: makes the model `tiny` through the command line, on the server at $base
create_tiny() {
    HANZOD_HOST=$base "$hanzod" create tiny -f "$repo/compat-tests/models/tiny/Modelfile"
}

# create_minilm GGUF: makes the embedding model `minilm`, the same way
create_minilm() {
    local folder
    folder=$(mktemp -d)
    printf 'FROM %s\n' "$(realpath "$1")" >"$folder/Modelfile"
    HANZOD_HOST=$base "$hanzod" create minilm -f "$folder/Modelfile"
    rm -rf "$folder"
}
