"""Runs the programs that scripts/bench.sh built, in turns, and writes the measurements to standard output as JSON.

Each finished section is kept in `--kept` with the commit and the load under which it was measured, so that a run can be
interrupted, or made in pieces. A section that was kept at the same commit and with the same rounds is not measured again.

CPU time is user + system time of a process and its children, in seconds. Peaks are of resident memory, in bytes.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from urllib.request import urlopen

QUICK = os.environ.get("BENCH_QUICK") == "1"
STARTS = 5 if QUICK else 50
SHORT = 3  # rounds of short programs, per round of the others: other load on the machine distorts single runs
LATENCY = 0.1
# The function's defaults, generated from src/settings.rs.
SETTINGS = Path(__file__).parent.parent / "scripts/settings.json"
DEFAULTS = {setting["name"]: setting["default"] for setting in json.loads(SETTINGS.read_text(encoding="utf-8"))["settings"]}
IN_FLIGHT, BATCH = int(DEFAULTS["BRIDGE_CONCURRENCY"]), int(DEFAULTS["BATCH_MAX_TRANSACTIONS"])
CODECS = ("snappy", "gzip")  # of the Parquet twins
SIZES, VCPU_MB = (128, 256, 512, 1024, 1769), 1769  # of the function's memory, in MB; the size that buys one vCPU
QUOTA_PERIOD = 20_000  # microseconds
# Latencies in AWS. The objects are waited for most of the time, so one round is enough.
IN_AWS, BY_THE_HANDLER = ["--s3-delay", "30", "--delay", "100"], ["--sqs", "--only", "handler", "--rounds", "1"]
# Name, arguments of `small_objects`, arguments of the server.
TEN = ["--messages", "10"]
SMALL_OBJECTS = [
    ("moto", ["--put"], []), ("at once", [], []), ("ten at once", ["--sqs", *TEN], []),
    ("one message", BY_THE_HANDLER, IN_AWS), ("ten messages", [*BY_THE_HANDLER, *TEN], IN_AWS),
]
# Name, log, repetitions of the log.
MEMORY = [("1 MB", "1", 1), ("10 MB", "1", 10)] if QUICK else [
    ("1 MB", "1", 1), ("100 MB", "100", 1), ("350 MB", "350", 1), ("1 GB", "100", 10), ("4 GB", "100", 40)
]
PEERS = Path(__file__).parent / "peers"

parser = argparse.ArgumentParser()
parser.add_argument("--target", type=Path, required=True)
parser.add_argument("--rounds", type=int, required=True)
parser.add_argument("--compare", required=True)
parser.add_argument("--kept", type=Path, required=True)
parser.add_argument("--only", default="")
args = parser.parse_args()
bench = args.target / "bench"
programs = args.target / "lambda"


def log(name, kind="log"):
    """Path of a log: `log` is the legacy log, `json` its JSON twin, `snappy` and `gzip` its Parquet twins."""
    return str(bench / f"logs/{name}.{kind}.{'parquet' if kind in CODECS else 'gz'}")


def say(text):
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def on(core):
    """Pins a process to one core, if there are enough. Otherwise the wake-up of a server varies from round to round, and with it
    the times of a client that sends a thousand requests."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return (lambda: os.sched_setaffinity(0, {cores[core]})) if len(cores) > core else None


def run(command, stdout=subprocess.DEVNULL, env=None, core=None, cwd=None, may_fail=False):
    """CPU and wall time of one run, and its output if `stdout` is a pipe. A function fails when the Runtime API is gone."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env, cwd=cwd, preexec_fn=on(core))
    said = process.stdout.read() if stdout == subprocess.PIPE else b""
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not may_fail:
        sys.exit(f"{command} failed: {complaint.decode(errors='replace')[-2000:]}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": time.perf_counter() - started, "said": said}


def in_turns(commands, rounds):
    """Runs each command once per round, so that a disturbance of the machine affects all of them."""
    figures = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            figures[name].append(run(command)["cpu"])
        say(f"round {number + 1} of {rounds}")
    return figures


def own():
    """The pipeline and the baseline, by size and format."""
    sizes = ["1"] if QUICK else ["1", "100", "350"]
    commands = {}
    for size in sizes:
        commands[f"gunzip {size}"] = [programs / "gunzip", log(size)]
        commands[f"pipeline {size}"] = [programs / "pipeline", log(size)]
    json_size = sizes[min(1, len(sizes) - 1)]
    commands[f"gunzip json {json_size}"] = [programs / "gunzip", log(json_size, "json")]
    commands[f"pipeline json {json_size}"] = [programs / "pipeline", log(json_size, "json")]
    for codec in CODECS:
        commands[f"pipeline {codec} {sizes[-1]}"] = [programs / "pipeline", log(sizes[-1], codec)]
    return {"json_size": json_size, "cpu": in_turns(commands, SHORT * args.rounds)}


def digest(lines):
    """Count and hash of transactions (id, method, target, status), independent of their order."""
    rows = sorted(lines)
    return {"transactions": len(rows), "sha256": hashlib.sha256("\n".join(rows).encode()).hexdigest()}


def of_edgetap(line):
    transaction = json.loads(line)
    request = transaction["request"]
    target = request["path"] + ("?" + request["query"] if "query" in request else "")
    return "\t".join((transaction["id"], request["method"], target, transaction["response"]["status"]))


def of_peer(line):
    transaction = json.loads(line)
    return "\t".join(transaction[name] for name in ("id", "method", "target", "status"))


def comparison():
    """The other programs on the same log: first their transactions, then their CPU time."""
    path, twin = log(args.compare), log(args.compare, "snappy")
    venv = str(bench / "venv/bin/python")
    peers = {
        "cloudfront-logs (crate)": [bench / "crate/release/peer-cloudfront-logs", path],
        "DuckDB": [venv, PEERS / "duckdb_peer.py", path],
        "DuckDB, Parquet": [venv, PEERS / "duckdb_peer.py", twin],
        "ClickHouse (chdb)": [venv, PEERS / "chdb_peer.py", path],
        "Node.js stream": ["node", bench / "node/stream.mjs", path],
        "cloudfront-log-parser (npm)": ["node", bench / "node/parser.mjs", path],
    }
    if not peers["cloudfront-logs (crate)"][0].exists():
        del peers["cloudfront-logs (crate)"]  # the report lists it as not installed
    digests = {}
    for name, read in (("edgetap", path), ("edgetap, Parquet", twin)):
        said = run([programs / "pipeline", read, "--ndjson", "--print"], subprocess.PIPE)["said"]
        digests[name] = digest(of_edgetap(line) for line in said.splitlines())
    with tempfile.TemporaryDirectory(dir=bench) as directory:
        for name, command in peers.items():
            out = Path(directory) / "out.json"
            run([*command, out])
            with out.open(encoding="utf-8") as lines:
                digests[name] = digest(of_peer(line) for line in lines)
            out.unlink()
            say(f"{name}: {digests[name]['transactions']} transactions")
        commands = {"gunzip": [programs / "gunzip", path], "edgetap": [programs / "pipeline", path], "edgetap, Parquet": [programs / "pipeline", twin]}
        commands |= {name: [*command, Path(directory) / "out.json"] for name, command in peers.items()}
        commands["gzip -dc"] = ["gzip", "-dc", path]
        if shutil.which("goaccess"):
            goaccess = f"gzip -dc '{path}' | goaccess --no-global-config --log-format=CLOUDFRONT -o '{directory}/goaccess.json' -"
            commands["GoAccess"] = ["sh", "-c", goaccess]
        cpu = in_turns(commands, args.rounds)
    return {"size": args.compare, "digests": digests, "cpu": cpu}


def memory():
    """Peak memory of the pipeline, by the uncompressed size of one object."""
    peaks = {}
    for name, part, times in MEMORY:
        said = json.loads(run([programs / "pipeline", log(part), str(times)], subprocess.PIPE)["said"])
        peaks[name] = said["peak_kib"] and said["peak_kib"] * 1024
        say(f"peak at {name}: {peaks[name]}")
    return peaks


def poll_after(binary, variables):
    """Milliseconds from a function's start to its first poll of the Runtime API."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        started = time.perf_counter()
        process = subprocess.Popen([binary], env={"AWS_LAMBDA_RUNTIME_API": address, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            connection, _ = server.accept()
            with connection:
                request = connection.recv(4096)
            took = time.perf_counter() - started
        finally:
            process.kill()
            process.wait()
    if b"/runtime/invocation/next" not in request:
        sys.exit(f"{binary} sends another request first: {request[:80]}")
    return took * 1000


LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "bench", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512", "AWS_LAMBDA_FUNCTION_VERSION": "1",
    "AWS_LAMBDA_LOG_GROUP_NAME": "bench", "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
}


def start():
    variables = settings("https://bridge.example.com") | LAMBDA
    figures = {"bootstrap": [], "bare": []}
    for _ in range(STARTS):
        figures["bootstrap"].append(poll_after(programs / "bootstrap", variables))
        figures["bare"].append(poll_after(programs / "bare_function", variables))
    return figures


def ends(url):
    """Variables of a function that ends when the Runtime API of `loopback` has no more events."""
    return settings(url) | LAMBDA | {"AWS_LAMBDA_RUNTIME_API": url.removeprefix("http://")}


def first_event():
    """What the first event takes: a function that gets one S3 event and ends, next to one that polls and ends."""
    figures = {"polled": [], "handled": []}
    counts = None
    with loopback("--objects", "1") as idle, loopback("--objects", "1", "--events", "1") as busy:
        for _ in range(SHORT * args.rounds):
            for name, url in (("polled", idle), ("handled", busy)):
                figures[name].append(run([programs / "bootstrap"], env=ends(url), may_fail=True)["cpu"])
            expect_posts(busy, 1)
        if shutil.which("valgrind"):
            counts = {name: count_instructions([programs / "bootstrap"], ends(url)) for name, url in (("polled", idle), ("handled", busy))}
            expect_posts(busy, 1)
    return {"cpu": figures, "instructions": counts}


def expect_posts(url, at_least):
    """Fails if the bridge did not receive requests since it was asked last. Returns them."""
    with urlopen(f"{url}/posts") as told:
        posts = json.load(told)
    if len(posts) < at_least:
        sys.exit(f"the function delivered nothing: the bridge received {len(posts)} requests, expected {at_least}")
    return posts


def count_instructions(command, env=None):
    """Instructions of a process, by callgrind."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    found = re.search(r"Collected : (\d+)", ended.stderr)
    if not found:
        sys.exit(f"valgrind failed: {ended.stderr[-2000:]}")
    return int(found[1])


def resident_peak(pid):
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    return int(found[1]) * 1024 if found else 0


@contextmanager
def loopback(*options, core=None):
    """Starts S3, token endpoint and bridge in one process. Yields its URL."""
    server = subprocess.Popen([programs / "loopback", *options], stdout=subprocess.PIPE, text=True, preexec_fn=on(core))
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()


def settings(url):
    """Settings of the function and of the AWS SDK. What is not named here has its default."""
    return {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": url, "AWS_ENDPOINT_URL_SQS": url,
        "BRIDGE_CLIENT_ID": "bench", "BRIDGE_CLIENT_SECRET": "bench", "BRIDGE_AUTH_ENDPOINT": url, "BRIDGE_EDGE_ENDPOINT": url,
    }


@contextmanager
def moto(core=None):
    """Starts moto's server as S3. Yields its URL."""
    command = [bench / "venv/bin/moto_server", "-H", "127.0.0.1", "-p", "0"]
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, preexec_fn=on(core))
        try:
            for _ in range(300):
                text = os.pread(said.fileno(), 65536, 0).decode()
                if (url := re.search(r"Running on (http://\S+)", text)) or server.poll() is not None:
                    break
                time.sleep(0.1)
            if not url:
                sys.exit(f"moto did not start: {text}")
            yield url[1]
        finally:
            server.kill()
            server.wait()


def small_objects():
    """Small objects through the handler and through clients that do less: seconds of wall and CPU time per round."""
    objects, figures = str(100 if QUICK else 1000), {}
    for name, options, of_server in SMALL_OBJECTS:
        with loopback("--objects", objects, *of_server, core=0) as url, moto(core=0) if name == "moto" else nullcontext(url) as s3:
            command = [programs / "small_objects", "--server", url, "--objects", objects]
            rounds = args.rounds if name == "moto" else SHORT * args.rounds
            command += options if "--rounds" in options else [*options, "--rounds", str(rounds)]
            variables = settings(url) | {"AWS_ENDPOINT_URL_S3": s3}
            figures[name] = json.loads(run(command, subprocess.PIPE, variables, core=1)["said"])
        say(f"small objects, {name}")
    return figures


def replay(path, variables, cgroup=None, options=()):
    """Runs `edgetap replay --post` of a log to its end."""
    command = [programs / "edgetap", "replay", "--post", *options, path]
    if cgroup:
        command = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', cgroup / "cgroup.procs", *command]
    ended = watched(command, variables)
    found = re.search(r"([\d,]+) sent", ended["said"])
    if ended["status"] or not found:
        sys.exit(f"replay --post failed: {ended['said'][-500:]}")
    return figures_of(ended) | {"delivered": int(found[1].replace(",", ""))}


def figures_of(run):
    return {name: run[name] for name in ("seconds", "cpu", "peak")}


def watched(command, variables):
    """Wall time, CPU time and peak memory of a process, and what it said to standard error."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=variables, cwd=bench, stdout=subprocess.DEVNULL, stderr=said)
        ended, peak = 0, 0
        while not ended:
            peak = max(peak, resident_peak(process.pid))
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            time.sleep(0 if ended else 0.01)
        took = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    return {"seconds": took, "cpu": usage.ru_utime + usage.ru_stime, "peak": peak, "status": process.returncode, "said": text[-2000:]}


def whole_function():
    """The function from S3 at a quick bridge, next to the pipeline of the same log: as the function itself, and as
    `edgetap replay --post`. The other formats once per round of the others. Peaks are of runs of their own, so that
    reading the memory does not disturb the others."""
    size = "rows" if QUICK else "350"
    formats = {"log": size} | {kind: "rows" if QUICK else "100" for kind in ("json", *CODECS)}
    figures = {}
    for kind, size in formats.items():
        path = log(size, kind)
        with loopback("--log", path, "--events", "1") as url:
            commands = {
                "pipeline": ([programs / "pipeline", path], None),
                "replay": ([programs / "edgetap", "replay", "--post", "s3://logs/"], settings(url)),
                "function": ([programs / "bootstrap"], ends(url)),
            }
            cpu = {name: [] for name in commands}
            for _ in range(SHORT * args.rounds if kind == "log" else args.rounds):
                for name, (command, variables) in commands.items():
                    cpu[name].append(run(command, env=variables, cwd=bench, may_fail=name == "function")["cpu"])
                    if name != "pipeline":
                        expect_posts(url, 1)
            peak = watched([programs / "bootstrap"], ends(url))["peak"]
            expect_posts(url, 1)
        figures[kind] = {"size": size, "cpu": cpu, "peak": peak}
        say(f"whole function, {kind}")
    return figures


def allocations():
    """Heap allocations of full batches in steady state, by format."""
    return {kind: json.loads(run([programs / "allocations", log("rows", kind)], subprocess.PIPE)["said"]) for kind in ("log", "json", *CODECS)}


def steady(posts):
    """Transactions per second that the bridge accepted once all requests were in flight, and its latency. `posts` are the times
    of arrival and response, and bytes."""
    responses = sorted(response for _, response, _ in posts)[:-1]  # the last batch is seldom full
    first = IN_FLIGHT - 1
    last = first + (len(responses) - IN_FLIGHT) // IN_FLIGHT * IN_FLIGHT  # whole rounds of requests
    if last <= first:
        sys.exit("too few requests for a steady rate")
    latency = sorted(response - arrival for arrival, response, _ in posts)[len(posts) // 2]
    return {"rate": (last - first) * BATCH / (responses[last] - responses[first]), "latency": latency}


def slow_bridge():
    """Transactions per second from S3 to a slow bridge, relative to the rate that its latency allows."""
    size = "rows" if QUICK else "350"
    runs = []
    with loopback("--log", log(size), "--delay", str(round(LATENCY * 1000))) as url:
        for _ in range(min(args.rounds, 3)):
            figures = replay("s3://logs/", settings(url))
            figures |= steady(expect_posts(url, 1))
            runs.append(figures | {"share": figures["rate"] / (IN_FLIGHT * BATCH / LATENCY)})
    said = json.loads(run([programs / "pipeline", log(size)], subprocess.PIPE)["said"])
    return {"size": size, "runs": runs, "peak": max(figures["peak"] for figures in runs), "bytes_out": said["bytes"]}


def slow_s3():
    """`replay --post` of the same log from a file and from a slow S3, to a bridge without delay."""
    size = "rows" if QUICK else "350"
    figures = {"file": [], "S3": []}
    with loopback("--log", log(size)) as url:
        for _ in range(args.rounds):
            for name, path in (("file", log(size)), ("S3", "s3://logs/")):
                figures[name].append(replay(path, settings(url)))
    if len({run["delivered"] for runs in figures.values() for run in runs}) != 1:
        sys.exit("the log gives different transactions from S3 and from a file")
    return figures


def side_by_side():
    """`replay --post` of small objects, several at a time, with the latencies of S3 and a bridge."""
    objects = "100" if QUICK else "2000"
    figures = {}
    for jobs in ("1", "4", "16"):
        with loopback("--objects", objects, "--s3-delay", "30", "--delay", str(round(LATENCY * 1000))) as url:
            figures[jobs] = replay("s3://logs/", settings(url) | {"BRIDGE_CONCURRENCY": "16"}, options=("--jobs", jobs))
        say(f"side by side, {jobs} jobs")
    if len({run["delivered"] for run in figures.values()}) != 1:
        sys.exit("the number of jobs changes what is delivered")
    return {"objects": int(objects), "runs": figures}


def new_cgroup():
    """Creates a cgroup (v2 or v1). Returns its directory and the files that set a CPU quota. Raises OSError if it cannot."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        own |= {controller: path.lstrip("/") for controller in controllers.split(",")}
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2" and "" in own:
            parent, files = Path(place) / own[""], {"cpu.max": f"{{quota}} {QUOTA_PERIOD}"}
            if "cpu" not in (parent / "cgroup.controllers").read_text(encoding="ascii").split():
                continue
            (parent / "cgroup.subtree_control").write_text("+cpu", encoding="ascii")
        elif kind == "cgroup" and "cpu" in options.split(",") and "cpu" in own:
            parent, files = Path(place) / own["cpu"], {"cpu.cfs_period_us": str(QUOTA_PERIOD), "cpu.cfs_quota_us": "{quota}"}
        else:
            continue
        directory = parent / f"edgetap-bench-{os.getpid()}"
        directory.mkdir()
        return directory, files
    raise FileNotFoundError("no cgroup has the CPU controller")


def sizing_check():
    """Wall time of a log from S3 with the share of a CPU that each memory size buys."""
    size = "rows" if QUICK else "100"
    with loopback("--log", log(size), "--delay", str(round(LATENCY * 1000))) as url:
        whole = replay("s3://logs/", settings(url))
        try:
            directory, files = new_cgroup()
        except OSError as error:
            return {"missing": str(error)}
        try:
            limited = {}
            for memory in SIZES:
                for name, value in files.items():
                    quota = QUOTA_PERIOD * memory // VCPU_MB
                    (directory / name).write_text(value.format(quota=quota), encoding="ascii")
                limited[memory] = replay("s3://logs/", settings(url), directory)
                say(f"{memory} MB: {limited[memory]['seconds']:.1f} s")
        finally:
            directory.rmdir()
    return {"size": size, "whole": whole, "limited": limited}


def instructions():
    """Instructions per row, on 20,000 rows."""
    if not shutil.which("valgrind"):
        return None
    kinds = {"gunzip": "log", "pipeline": "log", "pipeline json": "json"} | {f"pipeline {codec}": codec for codec in CODECS}
    return {name: count_instructions([programs / name.split()[0], log("rows", kind)]) / 20_000 for name, kind in kinds.items()}


def size():
    """Bytes of the function's zip."""
    return (args.target / "lambda/bootstrap.zip").stat().st_size


def first_line(*command):
    if not shutil.which(command[0]):
        return None
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return (ended.stdout or ended.stderr).splitlines()[0].strip().rstrip(".")


def machine():
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions():
    from importlib.metadata import version

    lock = (PEERS / "cloudfront-logs/Cargo.lock").read_text(encoding="utf-8")
    package = json.loads((PEERS / "package.json").read_text(encoding="utf-8"))
    return {
        "rustc": first_line("rustc", "--version"),
        "Python": platform.python_version(),
        "moto": version("moto"),
        "pyarrow": version("pyarrow"),
        "DuckDB": version("duckdb"),
        "ClickHouse (chdb)": version("chdb"),
        "Node.js stream": first_line("node", "--version"),
        "cloudfront-log-parser (npm)": package["dependencies"]["cloudfront-log-parser"],
        "cloudfront-logs (crate)": re.search(r'name = "cloudfront-logs"\nversion = "(.*)"', lock)[1],
        "GoAccess": first_line("goaccess", "--version"),
        "gzip -dc": first_line("gzip", "--version"),
        "valgrind": first_line("valgrind", "--version"),
    }


def logs():
    names = ["1", "rows"] if QUICK else ["1", "100", "350", "rows"]
    told = {name: json.loads((bench / f"logs/{name}.json").read_text(encoding="utf-8")) for name in names}
    for name, figures in told.items():
        figures |= {f"{kind}_stored": Path(log(name, kind)).stat().st_size for kind in ("log", "json", *CODECS)}
    return told


SECTIONS = (
    own, comparison, memory, allocations, start, first_event, small_objects, whole_function, slow_bridge, slow_s3, side_by_side,
    sizing_check, instructions, size,
)


def kept_sections():
    if not args.kept.exists():
        return {}
    return json.loads(args.kept.read_text(encoding="utf-8"))


def is_due(section, kept, commit, only):
    """Whether a section is measured: it is asked for, or it was not kept at this commit and with these rounds."""
    if only:
        return section in only
    return section not in kept or (kept[section]["commit"], kept[section]["rounds"]) != (commit, args.rounds)


def main():
    only, commit, kept = args.only.split(), (programs / "bench-commit").read_text(encoding="ascii").strip(), kept_sections()
    known = [section.__name__ for section in SECTIONS]
    if unknown := set(only) - set(known):
        sys.exit(f"no such section: {', '.join(sorted(unknown))}. The sections are {' '.join(known)}")
    for section in SECTIONS:
        name, before = section.__name__, os.getloadavg()
        if not is_due(name, kept, commit, only):
            continue
        say(name)
        figures = section()
        kept[name] = {
            "figures": figures, "commit": commit, "rounds": args.rounds, "date": datetime.now(timezone.utc).date().isoformat(),
            "load": {"before": before[0], "after": os.getloadavg()[0]},
        }
        written = args.kept.with_suffix(".new")
        written.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        written.replace(args.kept)
    if missing := [name for name in known if name not in kept]:
        say(f"not yet measured: {' '.join(missing)}")
        return 3
    results = {"machine": machine(), "versions": versions(), "logs": logs(), "rounds": args.rounds, "quick": QUICK}
    results |= {name: kept[name]["figures"] for name in known}
    results["pieces"] = {name: {key: kept[name][key] for key in ("commit", "rounds", "date", "load")} for name in known}
    results["defaults"] = {"in_flight": IN_FLIGHT, "batch": BATCH}
    json.dump(results, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
