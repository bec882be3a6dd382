# Virtual environment with the tested versions; sourced by `quickstart` and `test`.

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Palitune requires Python 3.11 or newer. Set PYTHON to its path." >&2
    return 1
}

# install_into FOLDER PACKAGE [PIP OPTION...]: pins all versions with scripts/constraints.txt.
install_into() {
    local folder=$1 package=$2 python
    shift 2
    if [ ! -x "$folder/bin/python" ]; then
        python=$(find_python)
        echo "creating $folder with $("$python" --version)"
        "$python" -m venv "$folder"
    fi
    echo "installing into $folder (the first time takes minutes)"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint scripts/constraints.txt 'torch==2.13.0'
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint scripts/constraints.txt "$@" "$package"
}

# The tests of HTML pages require Chromium, which is installed here for root on Debian.
find_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null; then return; fi
    done
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing Chromium for the tests of pages"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes chromium fonts-dejavu-core >/dev/null
        return
    fi
    echo "The tests of HTML pages require Chromium. Install chromium or google-chrome." >&2
    return 1
}
