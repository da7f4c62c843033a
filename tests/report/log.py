"""Writes an access log to look at a report of: two days of a shop with an API, and what attackers write.

Usage: log.py FILE
"""

import gzip
import math
import random
import sys
from datetime import datetime, timedelta, timezone

FIELDS = (
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query "
    "cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol "
    "ssl-cipher x-edge-response-result-type cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte "
    "x-edge-detailed-result-type sc-content-type sc-content-len sc-range-start sc-range-end"
).split()
START = datetime(2026, 11, 14, tzinfo=timezone.utc)
HOURS = 48
JSON = "application/json"

# Method, path (%d and %s differ), query, status, content type, weight.
CALLS = [
    ("GET", "/v1/products/%d", "-", "200", JSON, 30),
    ("GET", "/v1/products", "page=%d", "200", JSON, 20),
    ("GET", "/v1/search", "q=shoes", "200", JSON, 14),
    ("GET", "/v1/carts/%s", "-", "200", JSON, 12),
    ("PUT", "/v1/carts/%s/items/%d", "-", "200", JSON, 8),
    ("POST", "/v1/orders", "-", "201", JSON, 5),
    ("GET", "/v1/orders/%d", "-", "200", JSON, 7),
    ("GET", "/v1/orders/%d", "-", "404", JSON, 2),
    ("POST", "/v1/sessions", "-", "401", JSON, 4),
    ("POST", "/v1/sessions", "-", "201", JSON, 3),
    ("GET", "/v1/reset", "token=b7f9a1c3d5e7", "200", JSON, 2),
    ("DELETE", "/v1/carts/%s/items/%d", "-", "204", "-", 2),
    ("GET", "/v1/recommendations", "-", "503", JSON, 1),
]
ASSETS = [
    ("/static/app.%h.js", "text/javascript", 10),
    ("/static/site.css", "text/css", 8),
    ("/img/products/%d.webp", "image/webp", 22),
    ("/img/logo.svg", "image/svg+xml", 6),
    ("/fonts/inter.woff2", "font/woff2", 5),
    ("/favicon.ico", "image/x-icon", 3),
]
# Path, host, method: what a page must show and not obey.
ATTACKS = [
    ("/%3Cscript%3Ewindow.injected=1%3C/script%3E", "shop.example.com", "GET"),
    ("/<script>window.injected=1</script>", "shop.example.com", "GET"),
    ("/a", '"><img%20src=x%20onerror=window.injected=1>', "GET"),
    ("/b", "%E2%80%AEmoc.elpmaxe%1B[31m", "GET"),
    ("/c", "%FF%FE%00", "GET"),
    ("/{{7*7}}${7*7}", "shop.example.com", "GET"),
    ("/d", "shop.example.com", "<svg/onload=window.injected=1>"),
    ("/static/..;/admin/1.css", "shop.example.com", "GET"),
    ("/account/settings.css", "shop.example.com", "GET"),
    ("/../../etc/passwd", "shop.example.com", "GET"),
]


def pick(random, choices):
    return random.choices(choices, [choice[-1] for choice in choices])[0]


def filled(path, random):
    while "%s" in path:
        path = path.replace("%s", f"{random.getrandbits(48):x}" + "5e1f", 1)
    while "%h" in path:
        path = path.replace("%h", "3f9a2b1c4d5e6f70", 1)
    while "%d" in path:
        path = path.replace("%d", str(random.randrange(10, 4000)), 1)
    return path


def rows(random):
    number = 0
    for hour in range(HOURS):
        wave = 1 + math.sin((hour % 24 - 9) / 24 * 2 * math.pi)
        for _ in range(int(30 + 90 * wave + random.randrange(12))):
            at = START + timedelta(hours=hour, seconds=random.randrange(3600))
            row = dict.fromkeys(FIELDS, "-")
            client = int(random.paretovariate(0.9)) % 180
            row |= {
                "c-ip": f"198.51.100.{client}" if client < 120 else f"2001:db8::{client:x}",
                "x-host-header": random.choices(["api.example.com", "shop.example.com"], [7, 3])[0],
                "cs(User-Agent)": "Mozilla/5.0%20(X11;%20Linux%20x86_64)",
                "cs(Cookie)": "session=s3cr3t%d;%%20theme=dark" % client if random.random() < 0.2 else "-",
            }
            kind = random.random()
            if kind < 0.012:
                path, host, method = ATTACKS[number % len(ATTACKS)]
                row |= {"cs-method": method, "cs-uri-stem": path, "x-host-header": host, "sc-status": "403", "sc-content-type": "text/html"}
                row["c-ip"] = "203.0.113.66"
            elif kind < 0.45:
                path, content_type, _ = pick(random, ASSETS)
                row |= {"cs-method": "GET", "cs-uri-stem": filled(path, random), "sc-status": "200", "sc-content-type": content_type}
            else:
                method, path, query, status, content_type, _ = pick(random, CALLS)
                row |= {"cs-method": method, "cs-uri-stem": filled(path, random), "sc-status": status, "sc-content-type": content_type}
                row["cs-uri-query"] = filled(query, random)
            row |= {
                "date": f"{at:%Y-%m-%d}",
                "time": f"{at:%H:%M:%S}",
                "x-edge-location": "FRA56-P4",
                "x-edge-request-id": f"request-{number:08}==",
                "x-edge-result-type": "Error" if row["sc-status"] >= "400" else "Miss",
                "cs(Host)": "d111111abcdef8.cloudfront.net",
                "cs-protocol": "https",
                "cs-protocol-version": "HTTP/2.0",
                "time-taken": f"{random.random():.3f}",
                "c-port": "40000",
            }
            number += 1
            yield row


def main():
    with gzip.GzipFile(sys.argv[1], "wb", mtime=0) as file:
        file.write(f"#Version: 1.0\n#Fields: {' '.join(FIELDS)}\n".encode())
        for row in rows(random.Random(20261114)):
            file.write(("\t".join(row[field] for field in FIELDS) + "\n").encode())


if __name__ == "__main__":
    main()
