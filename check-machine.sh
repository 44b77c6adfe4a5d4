#!/usr/bin/env bash
# Checks that this machine has what dedup_spark needs, and says what to install. `--python` prints the interpreter.
set -euo pipefail

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.12 python3.13 python3 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

java_major() {
    local java=${JAVA_HOME:+$JAVA_HOME/bin/}java
    "$java" -version 2>&1 | sed -nE 's/.*version "(1\.)?([0-9]+).*/\2/p' | head -1
}

python=$(find_python) || {
    echo "dedup_spark needs Python 3.12 or 3.13, and none was found: install one, or set PYTHON=/path/to/python3.12" >&2
    exit 2
}
if [ "${1:-}" = --python ]; then
    echo "$python"
    exit 0
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null || {
    echo "$python has no venv: install it (Debian: apt-get install python3-venv)" >&2
    exit 2
}
java=$(java_major || true)
if [ -z "$java" ] || [ "$java" -lt 17 ]; then
    echo "dedup_spark needs Java 17 or newer, found ${java:-none}: install it (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME" >&2
    exit 2
fi
