#!/bin/sh
# Make the secrets of compose.yaml, once. Run as root: one file must belong to the container's user, and nobody else
# on this machine may look into the folder. What is there already stays.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
for name in postgres_password hongyan_password; do
    if [ ! -e "secrets/$name" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$name"
    fi
    chmod 444 "secrets/$name" # read by the postgres image's own user; the folder is closed to everybody else
done
printf 'postgres:5432:hongyan:hongyan:%s\n' "$(cat secrets/hongyan_password)" > secrets/pgpass
chmod 600 secrets/pgpass # others' eyes on it, and driver and libpq ignore it
chown 10001:10001 secrets/pgpass
