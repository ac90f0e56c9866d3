#!/bin/sh
# Run once by the postgres image, when its volume is new: the role and the database of hongyan.
# The role owns its database, because it migrates it and makes and drops day partitions; it may do nothing else.
set -eu
psql --username="$POSTGRES_USER" --dbname=postgres --set=ON_ERROR_STOP=1 \
    --set=password="$(cat /run/secrets/hongyan_password)" <<'SQL'
CREATE ROLE hongyan LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
CREATE DATABASE hongyan OWNER hongyan TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
REVOKE CONNECT, TEMPORARY ON DATABASE hongyan FROM PUBLIC;
SQL
