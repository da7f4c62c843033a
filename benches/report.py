"""Writes the report from the results of benches/measure.py: `report.py RESULTS REPORT`. Plots go to a directory next to it."""

import json
import re
import sys
import textwrap
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen first

results = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
report = Path(sys.argv[2])
plots = report.parent / report.stem
# Makes the files reproducible: the same figures give the same bytes.
plt.rcParams.update({"svg.hashsalt": "edgetap", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def ratios(figures, units):
    """Ratios of each round, so that a disturbance of a round affects both figures."""
    return [figure / unit for figure, unit in zip(figures, units)]


def spread(figures, form="{:.2f}"):
    return f"{form.format(median(figures))} ({form.format(min(figures))}–{form.format(max(figures))})"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def prose(*sentences):
    """A paragraph with one sentence per line; sentences over 120 characters are wrapped."""
    wrap = {"width": 120, "break_long_words": False, "break_on_hyphens": False}
    return "\n".join("\n".join(textwrap.wrap(sentence, **wrap)) for sentence in sentences if sentence)


def mb(size):
    return "–" if size is None else f"{size / 1e6:.1f} MB"


def verdict(reached, must, aim):
    return "goal met" if reached <= aim else "met" if reached <= must else "**missed**"


def save(figure, name):
    plots.mkdir(parents=True, exist_ok=True)
    figure.savefig(plots / name, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def targets():
    cpu = results["own"]["cpu"]
    size = largest_size()
    pipeline = median(ratios(cpu[f"pipeline {size}"], cpu[f"gunzip {size}"]))
    peaks = [peak for peak in results["memory"].values() if peak is not None]
    start = results["start"]
    times = median(start["bootstrap"]) / median(start["bare"])
    share = median(run["share"] for run in results["slow_bridge"]["runs"])
    zip_size = results["zip"]
    small, reading, strict = wall_of_handler("moto", "minimal"), wall_of_handler("at once", "reading"), wall_of_handler("at once", "minimal")
    peak = [mb(max(peaks)), verdict(max(peaks), 40e6, 24e6)] if peaks else ["not reported by this system", "–"]
    fewer, peak_of_ten = one_message_to_ten(), peak_of("ten messages")
    rows = [
        [f"CPU of the pipeline, log of {size} MB", "≤ 2.2 × gunzip", "≤ 1.8 × gunzip", f"{pipeline:.2f} × gunzip", verdict(pipeline, 2.2, 1.8)],
        ["peak memory of the pipeline, log of any size", "≤ 40 MB", "≤ 24 MB", *peak],
        ["rate at a bridge with 100 ms latency: share of what the latency allows", "≥ 95%", "", f"{share:.1%}", "met" if share >= 0.95 else "**missed**"],
        ["1,000 small objects in moto: wall time ÷ minimal client", "≤ 1.3", "", f"{small:.2f}", verdict(small, 1.3, 0)],
        ["1,000 small objects, S3 without delay: wall time ÷ reading client", "≤ 1.3", "", f"{reading:.2f}", verdict(reading, 1.3, 0)],
        ["1,000 small objects, S3 without delay: wall time ÷ minimal client", "", "≤ 1.3", f"{strict:.2f}", "goal met" if strict <= 1.3 else "goal missed"],
        ["1,000 small objects, S3 30 ms, bridge 100 ms: wall time, one message an event ÷ ten", "≥ 8", "", f"{fewer:.1f}", "met" if fewer >= 8 else "**missed**"],
        ["the same: peak memory, ten messages an event", "≤ 64 MB", "", mb(peak_of_ten), "–" if peak_of_ten is None else verdict(peak_of_ten, 64e6, 0)],
        ["start time ÷ bare function", "≤ 2", "≤ 1.3", f"{times:.2f}", verdict(times, 2, 1.3)],
        ["size of the Lambda zip", "≤ 6 MB", "≤ 4.5 MB", f"{zip_size / 1e6:.2f} MB", verdict(zip_size, 6e6, 4.5e6)],
    ]
    return table(["figure", "required", "goal", "measured", "result"], rows)


def largest_size():
    return max((name.split()[1] for name in results["own"]["cpu"] if name.startswith("pipeline ") and "json" not in name), key=int)


def own():
    cpu, told = results["own"]["cpu"], results["logs"]
    rows = []
    for name in cpu:
        if not name.startswith("pipeline "):
            continue
        kind = name.removeprefix("pipeline ")
        size = kind.removeprefix("json ")
        uncompressed = told[size]["json" if kind != size else "log"]
        units = cpu[f"gunzip {kind}"]
        rows.append([
            ("v2 JSON, same requests as " if kind != size else "legacy, ") + f"{size} MB", f"{told[size]['rows']:,}", f"{uncompressed / 1e6:.0f} MB",
            f"{told[size]['json_gz' if kind != size else 'log_gz'] / 1e6:.1f} MB", f"{median(units) * 1000:.0f} ms",
            f"{median(cpu[name]) * 1000:.0f} ms", spread(ratios(cpu[name], units)),
            f"{uncompressed / 1e6 / median(cpu[name]):.0f} MB/s",
        ])
    return table(["log", "rows", "uncompressed", "gzip", "gunzip", "pipeline", "× gunzip: median (lowest–highest)", "throughput"], rows)


NOTES = {
    "cloudfront-logs (crate)": "the crate parses rows; decompression, filter and JSON are plain Rust around it",
    "DuckDB": "one thread; `read_csv`, SQL, JSON lines",
    "ClickHouse (chdb)": "one thread; `TSVRaw`, SQL, JSON lines",
    "Node.js stream": "`createGunzip`, `readline`, `split`, JSON lines",
    "cloudfront-log-parser (npm)": "decodes `%2520` twice; the comparison restores the space in the target",
    "GoAccess": "**other output**: statistics of all rows, no transactions",
    "gzip -dc": "**other output**: the uncompressed text",
    "edgetap": "request bodies with masked credentials: more than the others write",
    "gunzip": "the baseline: `flate2`, output discarded",
}


def compared():
    part = results["comparison"]
    units, expected = part["cpu"]["gunzip"], part["digests"]["edgetap"]
    rows, bars = [], []
    for name in sorted(part["cpu"], key=lambda name: median(part["cpu"][name])):
        figures, told = part["cpu"][name], part["digests"].get(name)
        same = "–" if told is None else "yes" if told == expected else f"**no** ({told['transactions']:,})"
        in_units = ratios(figures, units)
        version = results["versions"].get(name) or ("this commit" if name in ("edgetap", "gunzip") else "–")
        rows.append([name, version, spread(in_units), f"{median(figures):.2f} s", same, NOTES[name]])
        bars.append((name, median(in_units), min(in_units), max(in_units)))
    for name in NOTES:
        if name not in part["cpu"]:
            rows.append([name, results["versions"].get(name) or "not installed", "**not measured: not installed**", "–", "–", NOTES[name]])
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(bars) + 0.8))
    names, middles, lows, highs = zip(*bars)
    errors = [[middle - low for middle, low in zip(middles, lows)], [high - middle for middle, high in zip(middles, highs)]]
    axes.barh(names, middles, xerr=errors, color=["#c8553d" if name == "edgetap" else "#7d8ca3" for name in names], error_kw={"lw": 0.8})
    axes.invert_yaxis()
    axes.set_xlabel("CPU time, × gunzip: median, lowest, highest")
    save(figure, "comparison.svg")
    head = ["program", "version", "× gunzip: median (lowest–highest)", "CPU time", "same transactions", "notes"]
    return table(head, rows), expected


def memory():
    peaks = {name: peak for name, peak in results["memory"].items() if peak is not None}
    if peaks:
        figure, axes = plt.subplots(figsize=(7, 2.2))
        axes.plot(list(peaks), [peak / 1e6 for peak in peaks.values()], marker="o", color="#c8553d")
        axes.axhline(40, color="#7d8ca3", lw=0.8, ls="--")
        axes.annotate("40 MB", (0, 40), textcoords="offset points", xytext=(0, 3), color="#7d8ca3")
        axes.set_ylim(0, max(44, *(peak / 1e6 for peak in peaks.values())) * 1.05)
        axes.set_xlabel("uncompressed size of one object")
        axes.set_ylabel("peak memory, MB")
        save(figure, "memory.svg")
    return table(["uncompressed size", *results["memory"]], [["peak resident memory", *(mb(peak) for peak in results["memory"].values())]])


CONTESTANTS = {
    "requests": "bare requests: unsigned, so S3 would reject them",
    "minimal": "minimal client: GETs signed by the AWS SDK, bodies prepared in advance",
    "reading": "reading client: the same, but it makes the bodies from the objects it gets",
    "handler": "the function's handler",
}


def wall_of_handler(setting, other):
    """Wall time of the handler, relative to another client."""
    wall = results["small_objects"][setting]["wall"]
    return median(ratios(wall["handler"], wall[other]))


def one_message_to_ten():
    """Wall time of the handler with one SQS message in each event, relative to ten."""
    one, ten = (results["small_objects"][setting]["wall"]["handler"] for setting in ("one message", "ten messages"))
    return median(ratios(one, ten))


def peak_of(setting):
    peak = results["small_objects"][setting]["peak_kib"]
    return peak and peak * 1024


def messages_of_an_event():
    rows = []
    for setting in ("one message", "ten messages"):
        figures = results["small_objects"][setting]
        wall, cpu = (figures[part]["handler"][0] for part in ("wall", "cpu"))
        rows.append([setting, f"{wall:.1f} s", f"{cpu / figures['objects'] * 1000:.2f} ms", mb(peak_of(setting))])
    return table(["in each event", "wall time of all objects", "CPU time per object", "peak resident memory"], rows)


def small_objects(setting):
    """A row for each client."""
    wall, cpu, objects = (results["small_objects"][setting][part] for part in ("wall", "cpu", "objects"))

    def row(name):
        each = (f"{median(figures[name]) / objects * 1000:.2f} ms" for figures in (wall, cpu))
        against = (spread(ratios(wall[name], wall[other])) for other in ("minimal", "reading"))
        return [CONTESTANTS[name], *each, *against]

    head = ["client", "wall time per object", "CPU time per object", "wall time ÷ minimal client", "wall time ÷ reading client"]
    return table(head, [row(name) for name in CONTESTANTS if name in wall])


def slow_bridge():
    runs = results["slow_bridge"]["runs"]
    # The rate that the measured latency of the bridge allows: its timer is late, never early.
    allowed = (8 * 250 / run["latency"] for run in runs)
    rows = [
        [n, f"{run['delivered']:,}", f"{run['rate']:,.0f}/s", f"{run['share']:.1%}", f"{run['latency'] * 1000:.1f} ms", f"{run['rate'] / most:.1%}",
         f"{run['delivered'] / run['seconds']:,.0f}/s"]
        for n, (run, most) in enumerate(zip(runs, allowed), 1)
    ]
    head = ["run", "transactions", "steady rate", "share of 20,000/s", "measured latency", "share of what it allows", "rate of the whole run"]
    return table(head, rows)


def slow_s3():
    runs = results["slow_s3"]
    seconds = {name: [run["seconds"] for run in figures] for name, figures in runs.items()}
    rows = [
        [name, spread(seconds[name], "{:.2f} s"), spread(ratios(seconds[name], seconds["file"])), mb(max(run["peak"] for run in runs[name]))]
        for name in runs
    ]
    return table(["log from", "wall time: median (lowest–highest)", "÷ file", "peak resident memory"], rows)


def side_by_side():
    objects, runs = results["side_by_side"]["objects"], results["side_by_side"]["runs"]
    rows = [
        [jobs, f"{run['seconds']:.1f} s", f"{objects / run['seconds']:.1f}", f"{runs['1']['seconds'] / run['seconds']:.2f} ×", f"{run['cpu']:.1f} s",
         mb(run["peak"])]
        for jobs, run in runs.items()
    ]
    return table(["`--jobs`", "wall time", "objects per second", "faster", "CPU time", "peak resident memory"], rows)


# US dollars in us-east-1, without free tiers.
GB_SECOND, INVOCATION = 0.0000166667, 0.20e-6  # https://aws.amazon.com/lambda/pricing/, x86_64
S3_PUT, S3_GET, S3_GB_MONTH = 0.005 / 1000, 0.0004 / 1000, 0.023  # https://aws.amazon.com/s3/pricing/
SQS_REQUEST = 0.40e-6  # https://aws.amazon.com/sqs/pricing/
LOGS_GB, METRIC_MONTH = 0.50, 0.30  # https://aws.amazon.com/cloudwatch/pricing/
OUT_GB = (0.05, 0.09)  # https://aws.amazon.com/ec2/pricing/on-demand/, by volume

VCPU_MB, NETWORK = 1769, 625e6 / 8
TLS_BYTES = 1e9  # per second of one vCPU: an assumption
IN_FLIGHT, BATCH, LATENCY = 4, 250, 0.1
ROWS_AN_OBJECT = 10_000


def sizing():
    """Costs of a million requests, by the model of docs/scaling.md."""
    slow, told = results["slow_bridge"], results["logs"]
    log = told[slow["size"]]
    a_million = 1e6 / log["rows"]
    posted = slow["runs"][0]["delivered"] * a_million
    gzip, uncompressed = log["log_gz"] * a_million, log["log"] * a_million
    out = results["slow_bridge"]["bytes_out"] * a_million
    cpu = median(run["cpu"] for run in slow["runs"]) * a_million + (gzip + out) / TLS_BYTES
    network, bridge = (gzip + out) / NETWORK, posted / BATCH / IN_FLIGHT * LATENCY
    objects = 1e6 / ROWS_AN_OBJECT
    rows, recommended = [], None
    for memory in (128, 256, 512, 1024, 1769):
        busy = cpu / min(memory / VCPU_MB, 1)
        seconds = max(busy, network, bridge)
        cost = seconds * memory / 1024 * GB_SECOND + objects * INVOCATION
        what = {busy: "CPU", network: "network", bridge: "bridge"}[seconds]
        recommended = recommended or (memory if busy <= seconds / 2 else None)
        name = f"**{memory} MB**" if memory == terraform_memory() else f"{memory} MB"
        rows.append([name, f"{memory / VCPU_MB:.0%}", f"{busy:.0f} s", f"{seconds:.0f} s", what, f"${cost:.5f}",
                     f"${cost / (uncompressed / 1e9):.5f}", f"${cost / (gzip / 1e9):.5f}", f"{1e6 / seconds:,.0f}/s"])
    head = ["memory", "share of a vCPU", "CPU time ÷ share", "duration", "limited by", "per million requests", "per GB uncompressed", "per GB of gzip", "requests per environment"]
    parts = [
        ["S3: PutObject by CloudFront", "one per object; counted in case AWS charges for it", f"${objects * S3_PUT:.5f}"],
        ["S3: GetObject", "one per object", f"${objects * S3_GET:.5f}"],
        ["S3: storage", f"{gzip / 1e6:.0f} MB for 30 days", f"${gzip / 1e9 * S3_GB_MONTH:.5f}"],
        ["SQS", "four calls per object: send, receive, extend visibility, delete", f"${objects * 4 * SQS_REQUEST:.5f}"],
        ["CloudWatch: log lines", "about 2 KB per object, with Lambda's own lines", f"${objects * 2e-6 * LOGS_GB:.5f}"],
        ["CloudFront: log delivery to S3", "free in `w3c` and `json`; only Parquet is charged for", "$0"],
        ["CloudWatch: metrics", "20 names of one dimension, at any load", f"${20 * METRIC_MONTH:.2f} per month"],
        ["data out, to a bridge outside AWS", f"{out / 1e6:,.0f} MB at ${OUT_GB[0]} to ${OUT_GB[1]} per GB", " to ".join(f"${out / 1e9 * price:.3f}" for price in OUT_GB)],
    ]
    facts = prose(
        f"A million requests are {uncompressed / 1e6:,.0f} MB of log, {gzip / 1e6:,.0f} MB of gzip, {posted:,.0f} transactions and {out / 1e6:,.0f} MB of request bodies.",
        f"They take {cpu:.1f} s of CPU time: that of `edgetap replay --post`, plus TLS at an estimated {TLS_BYTES / 1e9:.0f} GB per second.",
        f"Objects have {ROWS_AN_OBJECT:,} rows.",
    )
    is_default = "It is" if recommended == terraform_memory() else "It is **not**"
    advice = prose(
        f"Recommended: **{recommended} MB**, the smallest size whose CPU is busy for at most half of the duration.",
        "That leaves room for starts, small objects and longer rows.",
        f"{is_default} Terraform's default, {terraform_memory()} MB (`memory_size`, in bold).",
    )
    return facts, table(head, rows), advice, *sizing_check(), table(["other costs", "assumption", "per million requests"], parts)


def terraform_memory():
    """Default of `memory_size`, in MB."""
    variables = (Path(__file__).parent.parent / "terraform/modules/edgetap/variables.tf").read_text(encoding="utf-8")
    return int(re.search(r'variable "memory_size" \{[^}]*default\s*=\s*(\d+)', variables)[1])


def sizing_check():
    """The model for one log, next to the time that log takes with that share of a CPU."""
    part = results["sizing_check"]
    if "missing" in part:
        return [prose(f"The model was not checked: {part['missing']}.")]
    whole, rows = part["whole"], []
    for memory, figures in part["limited"].items():
        share = min(int(memory) / VCPU_MB, 1)
        busy, bridge = whole["cpu"] / share, figures["delivered"] / BATCH / IN_FLIGHT * LATENCY
        modeled = max(busy, bridge)
        rows.append([f"{memory} MB", f"{share:.0%}", f"{busy:.1f} s", f"{bridge:.1f} s", f"{modeled:.1f} s", f"{figures['seconds']:.1f} s", f"{figures['seconds'] / modeled:.2f}", f"{figures['cpu']:.2f} s"])
    told = results["logs"][part["size"]]
    text = prose(
        f"The model was checked with `edgetap replay --post` of a log of {told['log'] / 1e6:.0f} MB ({told['rows']:,} rows), on loopback and without TLS.",
        "The kernel limited the CPU to the share of each memory size (a cgroup quota, periods of 20 ms).",
        f"Without a quota the run took {whole['cpu']:.2f} s of CPU time.",
    )
    return text, table(["memory", "quota", "CPU time ÷ quota", "bridge", "model: the longer", "measured", "measured ÷ model", "CPU time used"], rows)


def main():
    machine, load = results["machine"], results["load"]
    comparison, expected = compared()
    objects = results["small_objects"]["at once"]["objects"]
    slow, start, counts = results["slow_bridge"], results["start"], results["instructions"]
    is_busy = max(load["before"][0], load["after"][0]) > machine["cores"]
    s3_peak = max(run["peak"] for run in results["slow_s3"]["S3"])
    server = "`benches/src/bin/loopback.rs`"
    texts = [
        "# Benchmarks",
        prose(
            f"Generated by `scripts/bench.sh` on {machine['date']} at commit `{machine['commit']}`; do not edit.",
            "**A quick run, which only proves that the harness works.**" if results["quick"] else "",
        ),
        prose(
            f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']}.",
            f"Load average: {load['before'][0]:.1f} before the run, {load['after'][0]:.1f} after it.",
            "**The machine did other work at the same time: ratios within a round are valid, absolute times are not.**" if is_busy else "",
            f"Rounds: {results['rounds']}.",
            "Every program runs once per round, and the pipeline on its own runs three times.",
            "Ratios are taken round by round, of CPU time (user + system).",
        ),
        prose(
            "CPU times are given relative to plain decompression (**× gunzip**).",
            "The baseline is a separate program, `benches/src/bin/gunzip.rs`.",
            "It decompresses the same log with `flate2` (zlib-rs, 64 KiB buffer) and discards the output.",
        ),
        prose(
            "Logs are generated from a seed (`benches/src/bin/generate.rs`): 45% API calls, 55% static assets, 33 columns.",
            "A v2 JSON log has the same requests as the legacy log of its size.",
            "edgetap's programs are built with the profile `lambda`, like the function.",
        ),
        "## Against the targets",
        targets(),
        "## The pipeline",
        prose(
            "`benches/src/bin/pipeline.rs` reads gzip, makes the bridge's request bodies and discards them.",
            "It uses the default settings, one thread and no network.",
            "The JSON log is compared with gunzip of the JSON log, which is a larger text.",
            "Throughput is uncompressed bytes per second of CPU time.",
        ),
        own(),
        prose("valgrind is not installed, so instructions per row were not counted.") if counts is None else prose(
            f"Callgrind counts **{counts['pipeline']:,.0f} instructions per row** in the pipeline and {counts['gunzip']:,.0f} in gunzip "
            f"({counts['pipeline'] / counts['gunzip']:.2f} × gunzip), on a legacy log of 20,000 rows and including the start.",
            "The command is `valgrind --tool=callgrind target/lambda/pipeline target/bench/logs/rows.log.gz`.",
        ),
        "## Comparison with other programs",
        prose(
            f"The log is the legacy log of {results['comparison']['size']} MB.",
            "The other programs write the values of each transaction as JSON lines to a file.",
            "Their filter is simpler: a GET or HEAD whose path ends in a listed extension is dropped.",
            "The logs are made so that this drops the same rows as edgetap's full rules.",
            "The logs contain no credentials, so masking changes no target.",
        ),
        prose(
            "*Same transactions*: id, method, target and status of all transactions, sorted, have the same SHA-256 as edgetap's.",
            f"There are {expected['transactions']:,} of them, and the hash is `{expected['sha256'][:16]}…`.",
        ),
        comparison,
        f"![CPU time of each program, relative to gunzip]({plots.name}/comparison.svg)",
        "## Memory",
        prose(
            "Peak resident memory (`VmHWM`) of the pipeline alone.",
            "Objects over 350 MB are several members of one gzip stream.",
            f"`edgetap replay --post` used at most {mb(slow['peak'])} with a slow bridge, and {mb(s3_peak)} with the log from S3 and a bridge without delay.",
        ),
        memory(),
        f"![Peak memory by size of the object]({plots.name}/memory.svg)",
        "## Start",
        prose(
            "Time from the start of the process to its first poll of the Runtime API, on loopback.",
            f"Each function was started {len(start['bootstrap'])} times, in turns.",
        ),
        table(
            ["function", "milliseconds: median (lowest–highest)"],
            [["`bootstrap`", spread(start["bootstrap"], "{:.1f}")], ["bare `lambda_runtime` (`benches/src/bin/bare_function.rs`)", spread(start["bare"], "{:.1f}")]],
        ),
        "## Small objects",
        prose(
            f"{objects:,} objects of 100 rows are delivered one after the other, on loopback, with one GET and one POST each.",
            "The handler is set up as in `bootstrap` and gets one S3 event per object.",
            "The other clients do only what their row says (`benches/src/bin/small_objects.rs`).",
            "The handler does the work of the reading client and everything else that the function does per object: "
            "event, deadlines, keys, a reader thread, and a log line with metrics.",
            "If there are enough cores, servers and client run on different ones.",
        ),
        prose("S3 is moto, and the bridge has no delay (" + server + ").", "Most of the time is spent in moto:"),
        small_objects("moto"),
        prose("S3 and the bridge are both `loopback` and have no delay, so the figures show the work of each client:"),
        small_objects("at once"),
        prose(
            f"With an SQS message around each event, the handler takes {wall_of_handler('SQS', 'minimal'):.2f} times as long as the minimal client.",
            "Every client then also sets the visibility timeout of the message, which is one more call.",
            f"With a bridge latency of 10 ms, the factor is {wall_of_handler('10 ms', 'minimal'):.2f}.",
        ),
        prose(
            "The handler delivers the messages of one event side by side.",
            "S3 responds in 30 ms and the bridge in 100 ms, as they may in AWS:",
        ),
        messages_of_an_event(),
        prose("The peak contains the objects, which the program makes in advance."),
        "## A slow bridge",
        prose(
            "`edgetap replay --post` (profile `release`) with 8 requests in flight and 250 transactions per request.",
            "The bridge (" + server + ") responds 100 ms after the last byte of a request and checks nothing.",
            "This latency allows 20,000 transactions per second.",
            "The steady rate counts what the bridge accepted after the first 8 requests, in whole rounds of 8, by its own clock.",
        ),
        slow_bridge(),
        "## A slow S3",
        prose(
            "`edgetap replay --post` (profile `release`) of the same log, with 8 requests in flight and a bridge without delay.",
            "The log comes from a file, or from an S3 that needs 30 ms per GET and sends 625 Mbit/s (" + server + ").",
            "edgetap fetches a range while it reads the one before it.",
        ),
        slow_s3(),
        "## Small objects side by side",
        prose(
            f"`edgetap replay --post` (profile `release`) of {results['side_by_side']['objects']:,} objects of 100 rows, one run each.",
            "S3 responds in 30 ms and the bridge in 100 ms (" + server + "), with up to 16 requests in flight.",
            "Each object takes one GET and one POST, one after the other.",
        ),
        side_by_side(),
        "## Sizing",
        prose(
            "These figures are calculated; nothing was measured on AWS.",
            "The model takes one vCPU of Lambda for one core of this machine.",
            "Memory buys a share of a vCPU (1,769 MB: one), and an environment has 625 Mbit/s.",
            "The bridge responds in 100 ms, and 4 requests are in flight.",
            "The longest of CPU, network and bridge is the duration: sending overlaps with reading, "
            "and so does fetching if an object has more than one range of 4 MiB.",
        ),
        prose(
            "Prices are list prices in us-east-1, on demand, without free tiers, and were not looked up for this run.",
            "Check the current prices of [Lambda](https://aws.amazon.com/lambda/pricing/), [S3](https://aws.amazon.com/s3/pricing/), "
            "[SQS](https://aws.amazon.com/sqs/pricing/), [CloudWatch](https://aws.amazon.com/cloudwatch/pricing/) and "
            "[data transfer](https://aws.amazon.com/ec2/pricing/on-demand/).",
        ),
        *sizing(),
        prose("[scaling.md](scaling.md) applies these figures to larger loads."),
        "## Not measured",
        prose(
            "Lambda and S3 themselves were not measured.",
            "The stages of the pipeline have a benchmark of their own: `cargo bench --manifest-path benches/Cargo.toml`.",
            "With `-- --quick` it takes a minute.",
        ),
        "## Versions",
        table(["program", "version"], [[name, version or "not installed"] for name, version in results["versions"].items()]),
    ]
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n\n".join(text for text in texts if text) + "\n", encoding="utf-8")


main()
