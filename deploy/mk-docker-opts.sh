#!/bin/sh
# Turn flanneld's subnet file into options for dockerd.
set -eu

usage() {
    cat >&2 <<TEXT
$(basename "$0") [-f FILE] [-d FILE] [-i] [-c] [-m] [-k NAME]

Writes dockerd options for the subnet that flanneld got.

  -f FILE  subnet file to read (/run/flannel/subnet.env)
  -d FILE  file to write (/run/docker_opts.env)
  -i       only the variables with one option each
  -c       only the variable with all options
  -k NAME  name of that variable (DOCKER_OPTS)
  -m       leave --ip-masq out
TEXT
    exit 1
}

subnet_file=/run/flannel/subnet.env
output=/run/docker_opts.env
name=DOCKER_OPTS
single=false
combined=false
with_masq=true

while getopts "f:d:icmk:h?" flag; do
    case "$flag" in
        f) subnet_file=$OPTARG ;;
        d) output=$OPTARG ;;
        i) single=true ;;
        c) combined=true ;;
        m) with_masq=false ;;
        k) name=$OPTARG ;;
        *) usage ;;
    esac
done
case "$name" in
    '' | [0-9]* | *[!A-Za-z0-9_]*) usage ;;
esac
if [ "$single" = "$combined" ]; then
    single=true
    combined=true
fi

# The last value the subnet file gives a name; nothing where there is no file yet.
setting() {
    [ -r "$subnet_file" ] || return 0
    sed -n "s/^$1=//p" "$subnet_file" | tail -n 1
}

subnet=$(setting FLANNEL_SUBNET)
mtu=$(setting FLANNEL_MTU)
# Where flanneld masquerades docker must not, and the other way round.
case "$(setting FLANNEL_IPMASQ)" in
    true) masq=false ;;
    false) masq=true ;;
    '') masq= ;;
    *)
        echo "$(basename "$0"): FLANNEL_IPMASQ in $subnet_file is neither true nor false" >&2
        exit 1
        ;;
esac

[ -z "$subnet" ] || export DOCKER_OPT_BIP="--bip=$subnet"
[ -z "$mtu" ] || export DOCKER_OPT_MTU="--mtu=$mtu"
if [ -n "$masq" ] && [ "$with_masq" = true ]; then
    export DOCKER_OPT_IPMASQ="--ip-masq=$masq"
fi

# What is written must be there whole or not at all: dockerd may be starting.
mkdir -p "$(dirname "$output")"
draft=$(mktemp "$(dirname "$output")/.docker_opts.XXXXXX")
trap 'rm -f "$draft"' EXIT
chmod 644 "$draft"

{
    # Some write over the subnet file itself; whoever reads it later still needs its lines.
    if [ "$output" -ef "$subnet_file" ] 2>/dev/null; then
        grep '^FLANNEL_' "$subnet_file" || true
    fi
    if [ "$single" = true ]; then
        for option in BIP IPMASQ MTU; do
            eval "value=\${DOCKER_OPT_$option:-}"
            [ -z "$value" ] || echo "DOCKER_OPT_$option=\"$value\""
        done
    fi
    if [ "$combined" = true ]; then
        eval "all=\${$name:-}"
        [ -z "$all" ] || all="$all "
        for option in $(env | sed -n 's/^\(DOCKER_OPT_[A-Za-z0-9_]*\)=.*/\1/p' | sort); do
            eval "all=\"\$all \$$option\""
        done
        echo "$name=\"$all\""
    fi
} >"$draft"
mv "$draft" "$output"

# A route for the subnet by way of another host would take the containers' packets there.
if [ -n "$subnet" ] && command -v ip >/dev/null; then
    elsewhere=$(ip -4 route show match "${subnet%/*}" | grep "^[^ ]*/${subnet#*/} via " || true)
    if [ -n "$elsewhere" ]; then
        echo "$(basename "$0"): the subnet $subnet is routed elsewhere: $elsewhere" >&2
        exit 1
    fi
fi
