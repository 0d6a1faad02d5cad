#!/bin/sh
# Makes ./configure out of configure.ac. Then: ./configure && make
set -eu
cd "$(dirname "$0")"
exec autoreconf --install --force --warnings=no-portability
