"""Reads Parquet logs with DuckDB, and compares every row with what `edgetap replay` makes of it.

Usage: compare.py EDGETAP

EDGETAP is the built program. The logs are the fixtures, and larger ones that pyarrow and DuckDB write, each with the same
rows as text. Python has the packages of requirements.txt and of tests/report/requirements.txt.
"""

import functools
import gzip
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pyarrow
from pyarrow import parquet

TESTS = Path(__file__).parent.parent
LOGS = TESTS / "fixtures/logs"
ROWS = 8_000
START = 1_794_690_000_000  # ms
FIELDS = (
    "timestamp(ms) date time DistributionId x-edge-request-id x-edge-location c-ip c-port cs-method cs-protocol cs-protocol-version"
    " x-host-header cs(Host) cs-uri-stem cs-uri-query cs(Referer) cs(User-Agent) cs(Cookie) x-forwarded-for time-taken sc-status"
    " sc-content-type sc-content-len sc-range-start sc-range-end asn c-country x-of-tomorrow"
).split()
# Fixtures that SQL below can decode; the other one is compared with its text only.
READABLE = ["E27FO14I29XXXX.2026-11-14-20.d740d76b", "E3FIELDSUBSETX.2026-11-14-21.0a1b2c3d", "E4JSONFIELDSXX.2026-11-14-21.5f6e7d8c"]
TWINS = {f"{name}.parquet": f"{name}.gz" for name in READABLE} | {
    "attack-fidelity.log.parquet": "attack-fidelity.log",
    "all-malformed.parquet": "all-malformed.log",
}


def module(path):
    """A program beside this one, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


in_table = module(LOGS / "make.py").in_table
is_static = module(TESTS / "report/count.py").STATIC

# What is sent of a row, in the order of `flat`. A cell with `-` is a null here, and so is a column that the file lacks.
MEDIA = "coalesce(url_decode(sc_content_type), '')"
ENDED = "coalesce(timestamp_ms::BIGINT, epoch_ms((date || ' ' || time)::TIMESTAMP))"
TOOK = "round(time_taken::DOUBLE * 1000)::BIGINT"
ADDRESS = "CASE WHEN regexp_matches(c_ip, '^[0-9a-f.:]+$') THEN c_ip END"
SENT = f"""
    row, x_edge_request_id, strftime(make_timestamp_ms({ENDED} - coalesce({TOOK}, 0)), '%Y-%m-%dT%H:%M:%S.%gZ'), {TOOK},
    {ADDRESS}, c_port::INTEGER, cs_method, cs_protocol, replace(cs_protocol_version, 'HTTP/', ''), coalesce(x_host_header, cs_Host),
    replace(cs_uri_stem, '%25', '%'), replace(cs_uri_query, '%25', '%'),
    url_decode(cs_Referer), url_decode(cs_User_Agent), url_decode(cs_Cookie),
    nullif(concat_ws(', ', replace(x_forwarded_for, '\\x20', ' '), {ADDRESS}), ''),
    regexp_replace(sc_status, '^000$', '0'), url_decode(sc_content_type), sc_content_len::BIGINT,
    'bytes ' || sc_range_start || '-' || sc_range_end || '/*', DistributionId, x_edge_location, asn, c_country, url_decode(x_of_tomorrow)
"""


def expected(file):
    """Returns the number of rows of each outcome, and the values of the rows that are sent, as DuckDB reads the file."""
    sql = duckdb.connect()
    logged = f"read_parquet('{file}', file_row_number = true)"
    found = {name.lower() for name in sql.sql(f"SELECT * FROM {logged} LIMIT 0").columns}
    cells = [f'nullif("{name}", \'-\')' if name.lower() in found else "NULL" for name in map(in_table, FIELDS)]
    named = ", ".join(f"{cell}::VARCHAR AS {name}" for cell, name in zip(cells, map(in_table, FIELDS)))
    sql.sql(f"CREATE TABLE logged AS SELECT file_row_number AS row, {named} FROM {logged}")
    outcome = f"""CASE WHEN cs_method IS NULL OR cs_uri_stem IS NULL OR {ENDED} IS NULL THEN 'malformed'
        WHEN {is_static} AND NOT regexp_matches({MEDIA}, 'html|json') AND coalesce(cs_uri_query, '') NOT LIKE '%\\%%' ESCAPE '\\'
            THEN 'static' ELSE 'sent' END"""
    names = "cs_method AS method, cs_uri_stem AS path, sc_status AS status"
    sql.sql(f"CREATE TABLE told AS SELECT *, {outcome} AS outcome FROM (SELECT *, {names} FROM logged)")
    counts = dict(sql.sql("SELECT outcome, count(*) FROM told GROUP BY outcome").fetchall())
    return counts, sql.sql(f"SELECT {SENT} FROM told WHERE outcome = 'sent' ORDER BY row").fetchall()


def flat(transaction, has_ids, distribution):
    """The values of a transaction of `replay`, in the order of `SENT`."""
    client, request, response, edge = (transaction[name] for name in ("client", "request", "response", "cloudfront"))
    sent, received = request["headers"], response["headers"]
    return (
        edge["row"],
        transaction["id"] if has_ids else None,
        *(transaction.get(name) for name in ("started", "took_ms")),
        *(client.get(name) for name in ("ip", "port")),
        *(request.get(name) for name in ("method", "scheme", "http_version", "host", "path", "query")),
        *(sent.get(name) for name in ("referer", "user-agent", "cookie", "x-forwarded-for")),
        response.get("status"),
        *(received.get(name) for name in ("content-type", "content-length", "content-range")),
        edge.get("distribution") if distribution else None,
        *(edge.get(name) for name in ("edge_location", "asn", "c-country")),
        transaction.get("fields", {}).get("x_of_tomorrow"),
    )


@functools.cache
def replay(edgetap, file, work):
    """Returns the number of rows of each outcome, and the transactions."""
    rejects = work / "rejects"
    done = subprocess.run(
        [edgetap, "replay", file, "--reject", rejects],
        env=os.environ | {"REDACT": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    transactions = [json.loads(line) for line in done.stdout.splitlines()]
    counts = {"sent": len(transactions)} if transactions else {}
    for line in rejects.read_text().splitlines():
        verdict = json.loads(line)["verdict"]
        counts[verdict] = counts.get(verdict, 0) + 1
    return counts, transactions


def alike(transactions):
    """Transactions without what depends on the log's name and format."""
    found = []
    for transaction in transactions:
        edge = {name: value for name, value in transaction["cloudfront"].items() if name != "object"}
        fields = {in_table(name): value for name, value in transaction.get("fields", {}).items()}
        id = transaction["id"] if len(transaction["id"]) != 64 else None
        found.append(transaction | {"cloudfront": edge, "fields": fields, "id": id})
    return found


def generated():
    """Rows of an API, a site and what scans it, as text by field. `-` stands for nothing."""
    chance = random.Random(27)
    calls = [("GET", "/v1/orders/%d", "200", "application/json"), ("POST", "/v1/caf%%25C3%%25A9/%d", "201", "application/json;%20charset=utf-8")]
    calls += [("GET", "/img/%d.webp", "200", "image/webp"), ("GET", "/js/app.%d.js", "304", "-"), ("GET", "/a/%d.css", "200", "text/html")]
    calls += [("DELETE", "/v1/%d", "000", "-"), ("-", "/v1/%d", "400", "-"), ("GET", "/files/%d", "206", "application/octet-stream")]
    agents = ["curl/8.5.0", "Mozilla/5.0%20(X11;%20Linux%20x86_64)%20M%C3%BCller/1", "-", "x" * 300]
    forwarded = ["-", r"203.0.113.9,\x20198.51.100.1"]
    for number in range(ROWS):
        method, path, status, media = chance.choice(calls)
        at = START + number * 37
        ended = datetime.fromtimestamp(at // 1000, timezone.utc)
        is_range = status == "206"
        row = f"""{at if chance.random() < 0.9 else '-'} {ended:%Y-%m-%d %H:%M:%S} E1GENERATEDXXX id-{number:06}==
            {chance.choice(['FRA56-P4', 'LHR61-P3'])} {chance.choice(['192.0.2.7', '2001:db8::7334', 'x.x.x.x', f'198.51.100.{number % 256}'])}
            {1024 + number % 60000} {method} https {chance.choice(['HTTP/1.1', 'HTTP/2.0', 'HTTP/3.0'])} {chance.choice(['api.example.com', '-'])}
            d2xmpl.cloudfront.net {path % number} {chance.choice(['-', f'page={number}', 'q=caf%25C3%25A9'])}
            {chance.choice(['-', 'https://shop.example.com/?q=caf%C3%A9'])} {chance.choice(agents)} {chance.choice(['-', f's={number};%20t=1'])}
            {chance.choice(forwarded)} {chance.randrange(40_000) / 1000:.3f} {status} {media}
            {chance.choice(['-', str(number)])} {'0' if is_range else '-'} {'99' if is_range else '-'} {64500 + number % 9}
            {chance.choice(['DE', 'FR'])} {chance.choice(['-', 'a%20b'])}"""
        yield row.split()


def write(work):
    """Writes the generated rows as text and as Parquet. Returns the files, and the text."""
    rows = list(generated())
    text = work / "E1GENERATEDXXX.2026-11-14-20.text.gz"
    with gzip.open(text, "wt") as out:
        out.write("#Version: 1.0\n#Fields: " + "\t".join(FIELDS) + "\n")
        out.writelines("\t".join(row) + "\n" for row in rows)
    chance = random.Random(28)
    columns = {
        in_table(name): [None if row[index] == "-" and chance.random() < 0.5 else row[index] for row in rows]
        for index, name in enumerate(FIELDS)
    }
    table = pyarrow.table({name: pyarrow.array(values, pyarrow.string()) for name, values in columns.items()})
    files = []
    for name, options in {
        "snappy": {"compression": "snappy"},
        "thousand-groups": {"compression": "gzip", "row_group_size": ROWS // 1000, "data_page_version": "2.0"},
        "plain": {"compression": "none", "use_dictionary": False, "row_group_size": 7000, "data_page_size": 4096},
        "large-dictionary": {"compression": "gzip", "data_page_version": "2.0", "dictionary_pagesize_limit": 32 << 20},
    }.items():
        files.append(work / f"E1GENERATEDXXX.2026-11-14-20.{name}.parquet")
        parquet.write_table(table, files[-1], **options)
    for codec in ("snappy", "gzip", "uncompressed"):
        files.append(work / f"E1GENERATEDXXX.2026-11-14-20.duckdb-{codec}.log.parquet")
        duckdb.sql(f"COPY (SELECT * FROM '{files[0]}') TO '{files[-1]}' (FORMAT parquet, COMPRESSION {codec}, ROW_GROUP_SIZE 4096)")
    untyped = table.append_column("fle_status", pyarrow.nulls(ROWS))
    files.append(work / "E1GENERATEDXXX.2026-11-14-20.empty-groups.parquet")
    with parquet.ParquetWriter(files[-1], untyped.schema) as writer:
        for part in (untyped.slice(0, 0), untyped.slice(0, 5000), untyped.slice(0, 0), untyped.slice(5000)):
            writer.write_table(part)
    return files, text


def differences(edgetap, file, text, work, is_readable):
    """Yields how the file, as edgetap reads it, differs from what DuckDB reads and from its rows as text."""
    counts, transactions = replay(edgetap, file, work)
    text_counts, of_text = replay(edgetap, text, work)
    if counts != text_counts:
        yield f"{counts}, but as text {text_counts}"
    for ours, theirs in zip(alike(transactions), alike(of_text)):
        if ours != theirs:
            yield f"{ours}, but as text {theirs}"
            break
    if not is_readable:
        return
    wanted_counts, wanted = expected(file)
    if counts != wanted_counts:
        yield f"{counts}, but DuckDB counts {wanted_counts}"
    if not wanted:
        yield "DuckDB reads no row to send"
    has_ids, has_distribution = wanted[0][1] is not None, wanted[0][-5] is not None
    for ours, theirs in zip((flat(each, has_ids, has_distribution) for each in transactions), wanted):
        if ours != theirs:
            yield f"{ours}, but DuckDB reads {theirs}"
            break


def main():
    edgetap = sys.argv[1]
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        files, text = write(work)
        pairs = [(file, text, True) for file in files]
        pairs += [(LOGS / file, LOGS / twin, twin.removesuffix(".gz") in READABLE) for file, twin in TWINS.items()]
        for file, twin, is_readable in pairs:
            for difference in differences(edgetap, file, twin, work, is_readable):
                print(f"error: {file.name}: {difference}", file=sys.stderr)
                failed = True
    if failed:
        sys.exit(1)
    print(f"{len(pairs)} Parquet logs, {len(files)} of {ROWS} rows, have the transactions of their text and of DuckDB's reading")


if __name__ == "__main__":
    main()
