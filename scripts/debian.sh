# Sourced by the scripts beside it: installs what is missing from Debian's packages.

# Runs a command as root, if there is a way that asks nobody.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# install_from_debian PACKAGE...: installs packages, or says why it can't.
install_from_debian() {
    if ! command -v apt-get >/dev/null; then
        echo "missing: $*; and there is no apt-get to install them with." >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        echo "missing: $*; installing them takes root or sudo without a password." >&2
        return 1
    fi
    echo "installing from Debian's packages: $*" >&2
    as_root apt-get update
    # Nothing must be started as a service: the tests start their own.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install --yes --no-install-recommends "$@"
}

# Installs what the tests start, if it is missing.
need_for_tests() {
    local program
    for program in redis-server faketime openssl; do
        if ! command -v "$program" >/dev/null; then
            if ! install_from_debian "$program" || ! command -v "$program" >/dev/null; then
                echo "Install Redis 7 or later, faketime and openssl so that they are on the PATH, and try again." >&2
                exit 1
            fi
        fi
    done
}
