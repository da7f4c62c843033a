"""Counts the rows of a log with DuckDB, and compares them with the JSON of `edgetap report`.

Usage: count.py LOG REPORT.json
"""

import json
import sys

import duckdb

# Its own reading of the log and of what is static, which holds for logs without attacks on the rule itself.
EXTENSIONS = (
    "css|js|map|mjs|png|jpg|jpeg|gif|svg|svgz|webp|avif|bmp|ico|tif|tiff|woff|woff2|ttf|otf|eot|"
    "mp3|mp4|webm|ogg|ogv|avi|wav|mov|mkv|flac|flv|swf"
)
# A plain path, and a status of an asset.
STATIC = (
    rf"method IN ('GET', 'HEAD') AND regexp_matches(path, '^[^%;?#\\]*\.({EXTENSIONS})$')"
    " AND status IN ('200', '206', '304', '404', '0', '000')"
)


def load(log):
    header = "replace(column0[length('#Fields: ') + 1:], ' ', chr(9))"
    text = f"read_csv('{log}', delim='\\x01', quote='', escape='', header=false, columns={{'column0': 'VARCHAR'}})"
    duckdb.sql(f"CREATE TABLE lines AS SELECT column0 FROM {text}")
    fields = duckdb.sql(f"SELECT string_split({header}, chr(9)) FROM lines WHERE starts_with(column0, '#Fields')").fetchall()[0][0]
    column = {field: index + 1 for index, field in enumerate(fields)}
    duckdb.sql("CREATE TABLE cells AS SELECT string_split(column0, chr(9)) AS c FROM lines WHERE NOT starts_with(column0, '#')")
    duckdb.sql(
        f"""CREATE TABLE requests AS SELECT
            c[{column['cs-method']}] AS method,
            c[{column['cs-uri-stem']}] AS path,
            c[{column['sc-status']}] AS status,
            c[{column['c-ip']}] AS client,
            c[{column['x-host-header']}] AS host,
            c[{column['date']}] || 'T' || c[{column['time']}][:2] || ':00Z' AS hour
        FROM cells"""
    )
    duckdb.sql(f"CREATE TABLE counted AS SELECT *, {STATIC} AS is_static FROM requests")


def counted(expression, where="NOT is_static"):
    return dict(duckdb.sql(f"SELECT {expression} AS value, count(*) FROM counted WHERE {where} GROUP BY value").fetchall())


def listed(values, name="name", count="transactions"):
    return {value[name]: value[count] for value in values}


def main():
    log, file = sys.argv[1:]
    with open(file, encoding="utf-8") as opened:
        report = json.load(opened)
    load(log)
    rows = duckdb.sql("SELECT count(*) FROM counted").fetchall()[0][0]
    hosts = listed(report["hosts"]["values"])
    checks = {
        "rows": (report["totals"]["rows"], rows),
        "outcomes": (
            {False: report["totals"]["sent"], True: report["totals"]["static"]},
            counted("is_static", "true"),
        ),
        "statuses": (listed(report["statuses"], count="count"), counted("status[1] || 'xx'")),
        "methods": (listed(report["methods"]["values"]), counted("method[:20]")),
        "extensions": (
            listed(report["static_extensions"], count="count"),
            counted(r"regexp_extract(path, '\.[a-z0-9]+$')", "is_static"),
        ),
        # Hosts and clients with a plain name; others are shown with escapes, and only the first 100 are listed.
        "hosts": (
            {host: count for host, count in hosts.items() if host.endswith(".example.com")},
            counted("host", "NOT is_static AND regexp_matches(host, '^[a-z.]*\\.example\\.com$')"),
        ),
        "hours": (
            {hour["hour"]: hour["sent"] + hour["static"] for hour in report["hours"]["values"]},
            counted("hour", "true"),
        ),
    }
    clients = counted("client")
    wrong = [name for name, (ours, theirs) in checks.items() if ours != theirs]
    wrong += [row["name"] for row in report["clients"]["values"] if clients[row["name"]] != row["transactions"]]
    for name in wrong:
        print(f"error: {name}: edgetap and DuckDB differ: {checks.get(name)}", file=sys.stderr)
    print(f"{rows} rows: {', '.join(checks)} and {len(report['clients']['values'])} clients are those that DuckDB counts")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
