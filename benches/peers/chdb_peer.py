"""ClickHouse in process: `chdb_peer.py LOG OUT` writes the transactions of a legacy log as JSON lines, on one thread."""

import sys

import chdb

from rules import EXTENSION, FIELDS

log, out = sys.argv[1:]
columns = ", ".join(f"`{field}` String" for field in FIELDS)
chdb.query(f"""
INSERT INTO FUNCTION file('{out}', 'JSONEachRow')
SELECT `x-edge-request-id` AS id, date, time, `time-taken` AS took, `c-ip` AS ip, `c-port` AS port, `cs-method` AS method,
  `cs-protocol` AS scheme, `cs-protocol-version` AS version, `x-host-header` AS host,
  replaceAll(concat(`cs-uri-stem`, if(`cs-uri-query` = '-', '', concat('?', `cs-uri-query`))), '%25', '%') AS target,
  decodeURLComponent(`cs(Referer)`) AS referer, decodeURLComponent(`cs(User-Agent)`) AS agent, `x-forwarded-for` AS forwarded,
  `sc-status` AS status, decodeURLComponent(`sc-content-type`) AS type, `sc-content-len` AS length
FROM file('{log}', 'TSVRaw', '{columns}', 'gzip')
WHERE NOT (`cs-method` IN ('GET', 'HEAD') AND match(`cs-uri-stem`, '{EXTENSION}'))
SETTINGS input_format_tsv_skip_first_lines = 2, max_threads = 1, max_parsing_threads = 1, output_format_json_escape_forward_slashes = 0,
  engine_file_truncate_on_insert = 1""")
