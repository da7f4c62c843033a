"""DuckDB: `duckdb_peer.py LOG OUT` writes the transactions of a legacy log or its Parquet twin as JSON lines, on one thread."""

import re
import sys

import duckdb

from rules import EXTENSION, FIELDS

log, out = sys.argv[1:]
columns = ", ".join(f"'{field}': 'VARCHAR'" for field in FIELDS)
if log.endswith(".parquet"):
    mangled = {field: re.sub("[^A-Za-z0-9]+", "_", field).strip("_") for field in FIELDS}
    table = f"""(SELECT {", ".join(f'"{name}" AS "{field}"' for field, name in mangled.items())} FROM read_parquet('{log}'))"""
else:
    table = f"""read_csv('{log}', columns = {{{columns}}}, auto_detect = false, header = false, skip = 2, delim = '\t', quote = '', escape = '')"""
duckdb.sql("SET threads = 1")
duckdb.sql(f"""
COPY (
  SELECT "x-edge-request-id" AS id, date, time, "time-taken" AS took, "c-ip" AS ip, "c-port" AS port, "cs-method" AS method,
    "cs-protocol" AS scheme, "cs-protocol-version" AS version, "x-host-header" AS host,
    replace("cs-uri-stem" || CASE "cs-uri-query" WHEN '-' THEN '' ELSE '?' || "cs-uri-query" END, '%25', '%') AS target,
    url_decode("cs(Referer)") AS referer, url_decode("cs(User-Agent)") AS agent, "x-forwarded-for" AS forwarded,
    "sc-status" AS status, url_decode("sc-content-type") AS type, "sc-content-len" AS length
  FROM {table}
  WHERE NOT ("cs-method" IN ('GET', 'HEAD') AND regexp_matches("cs-uri-stem", '{EXTENSION}'))
) TO '{out}' (FORMAT json)""")
