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
    return "aim met" if reached <= aim else "met" if reached <= must else "**missed**"


def target(figure, must, aim, reached, form="{:.2f}"):
    """A row of the table of targets. `reached` is None if it was not measured."""
    if reached is None:
        return [figure, f"≤ {form.format(must)}", f"≤ {form.format(aim)}", "not measured", "–"]
    return [figure, *(f"≤ {form.format(bound)}" for bound in (must, aim)), form.format(reached), verdict(reached, must, aim)]


def save(figure, name):
    plots.mkdir(parents=True, exist_ok=True)
    figure.savefig(plots / name, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def targets():
    cpu, small = results["own"]["cpu"], results["small_objects"]
    size, json_size = largest_size(), results["own"]["json_size"]
    share = median(run["share"] for run in results["slow_bridge"]["runs"])
    start = results["start"]
    rows = [target(f"pipeline, legacy log of {size} MB", 1.95, 1.85, median(ratios(cpu[f"pipeline {size}"], cpu[f"gunzip {size}"])), "{:.2f} × gunzip")]
    json_ratio = median(ratios(cpu[f"pipeline json {json_size}"], cpu[f"gunzip json {json_size}"]))
    rows.append(target("pipeline, v2 JSON twin, gunzip of itself", 2.6, 2.2, json_ratio, "{:.2f} × gunzip"))
    for codec in CODECS:
        rows.append(target(f"pipeline, Parquet twin ({codec}), CPU ÷ legacy log's", 1.3, 0.9, parquet_ratio(codec)))
    rows += [
        target("whole function from S3 at a quick bridge, CPU ÷ pipeline", 1.25, 1.15, of_pipeline("log", "function")),
        target("1,000 objects of 100 rows, S3 30 ms, bridge 100 ms, batch size 10", 15, 13.5, thousand_objects(), "{:.1f} s"),
        target("handler ÷ minimal client, wall time, one object at a time, nothing to wait for", 1.3, 1.1, wall_of_handler("at once", "minimal")),
        target("handler ÷ minimal client, wall time, ten side by side, nothing to wait for", 1.3, 1.1, wall_of_handler("ten at once", "minimal")),
        target("handler ÷ client that makes the bodies, wall time, ten side by side", 1.3, 1.1, wall_of_handler("ten at once", "reading")),
        target("first event: instructions from first poll to answer", 6, 4, instructions_of_first_event(), "{:.1f} M"),
    ]
    for row in rows[-5:-1] if is_busy() else ():
        row[-1] = "– (wall time on a busy machine)"
    for kind, figures in results["allocations"].items():
        rows.append(target(f"heap allocations a row, {KINDS[kind]}, to two digits", 0, 0, round(allocations_a_row(figures), 2)))
    peak = max((part["peak"] for part in results["whole_function"].values()), default=0) or None
    rows += [
        target("peak memory of the function, one object at a time, any format", 40, 24, peak and peak / 1e6, "{:.1f} MB"),
        target("size of the Lambda zip", 6, 5, results["size"] / 1e6, "{:.2f} MB"),
        target("start time ÷ bare function", 2, 1.3, median(start["bootstrap"]) / median(start["bare"])),
        ["rate at a bridge with 100 ms latency: share of what the latency allows", "≥ 95%", "", f"{share:.1%}", "met" if share >= 0.95 else "**missed**"],
    ]
    return table(["figure", "must", "aim", "measured", "result"], rows)


def is_busy():
    """Whether the machine did other work while a section was measured."""
    return max(max(piece["load"].values()) for piece in results["pieces"].values()) > results["machine"]["cores"]


KINDS = {"log": "legacy log", "json": "v2 JSON", "snappy": "Parquet (snappy)", "gzip": "Parquet (gzip)"}
CODECS = ("snappy", "gzip")


def parquet_ratio(codec):
    cpu, size = results["own"]["cpu"], largest_size()
    return median(ratios(cpu[f"pipeline {codec} {size}"], cpu[f"pipeline {size}"]))


def of_pipeline(kind, program):
    """CPU time of the function or of `replay`, relative to the pipeline of the same log."""
    cpu = results["whole_function"][kind]["cpu"]
    return median(ratios(cpu[program], cpu["pipeline"]))


def thousand_objects():
    """Seconds that the handler takes for 1,000 objects in invocations of ten."""
    figures = results["small_objects"]["ten messages"]
    return median(figures["wall"]["handler"]) * 1000 / figures["objects"]


def instructions_of_first_event():
    """Instructions of a process that handles one event, less those of one that polls and ends, in millions."""
    counts = results["first_event"]["instructions"]
    return counts and (counts["handled"] - counts["polled"]) / 1e6


# The body, the marks, and the reference count of the shared body: tests/allocations.rs.
ALLOCATIONS_A_BATCH = 3


def allocations_a_row(figures):
    """Heap allocations a row, beside those of each batch."""
    return (figures["allocations"] - ALLOCATIONS_A_BATCH * figures["batches"]) / figures["rows"]


def allocations():
    rows = [
        [KINDS[kind], f"{figures['batches']:,}", f"{figures['allocations'] / figures['batches']:.2f}", f"{allocations_a_row(figures):.4f}"]
        for kind, figures in results["allocations"].items()
    ]
    return table(["log", "full batches", "allocations per batch", "per row beside 3 per batch"], rows)


def whole_function():
    rows = []
    for kind, part in results["whole_function"].items():
        cpu = part["cpu"]
        seconds = (f"{median(cpu[name]):.2f} s" for name in ("pipeline", "function", "replay"))
        rows.append([
            f"{KINDS[kind]}, {part['size']} MB" if part["size"] != "rows" else f"{KINDS[kind]}, 20,000 rows", *seconds,
            *(spread(ratios(cpu[program], cpu["pipeline"])) for program in ("function", "replay")), mb(part["peak"]),
        ])
    return table(["log", "pipeline", "function", "`replay`", "function ÷ pipeline", "`replay` ÷ pipeline", "peak of the function"], rows)


def first_event():
    part = results["first_event"]
    counts, cpu = part["instructions"], part["cpu"]
    rows = []
    for name, label in (("handled", "gets one S3 event, delivers it, polls again and ends"), ("polled", "polls and ends")):
        count = "–" if counts is None else f"{counts[name] / 1e6:.1f} M"
        rows.append([label, count, spread([seconds * 1000 for seconds in cpu[name]], "{:.1f} ms")])
    difference = median(cpu["handled"]) - median(cpu["polled"])
    count = "–" if counts is None else f"{instructions_of_first_event():.1f} M"
    rows.append(["the difference", f"**{count}**", f"{difference * 1000:.1f} ms"])
    return table(["`bootstrap`", "instructions", "CPU time: median (lowest–highest)"], rows)


def pieces():
    """The sections with the commit and load of their measurement, one row for all that agree."""
    rows = [
        [f"`{name}`", f"`{piece['commit']}`", piece["date"], str(piece["rounds"]), f"{piece['load']['before']:.1f}–{piece['load']['after']:.1f}"]
        for name, piece in results["pieces"].items()
    ]
    return table(["section", "commit", "date", "rounds", "load average"], rows)


def largest_size():
    return max((name.split()[1] for name in results["own"]["cpu"] if name.count(" ") == 1), key=int)


def own():
    cpu, told = results["own"]["cpu"], results["logs"]
    legacy = cpu[f"pipeline {largest_size()}"]
    rows = []
    for name in cpu:
        if not name.startswith("pipeline "):
            continue
        *kind, size = name.split()[1:]
        kind = kind[0] if kind else "log"
        is_text = kind in ("log", "json")
        uncompressed, stored = told[size]["json" if kind == "json" else "log"], told[size][f"{kind}_stored"]
        units = cpu[name.replace("pipeline", "gunzip")] if is_text else legacy
        rows.append([
            f"{KINDS[kind]}, {size} MB" if kind == "log" else f"{KINDS[kind]}, same requests as {size} MB", f"{told[size]['rows']:,}",
            f"{uncompressed / 1e6:.0f} MB" if is_text else "–", f"{stored / 1e6:.1f} MB", f"{median(units) * 1000:.0f} ms" if is_text else "–",
            f"{median(cpu[name]) * 1000:.0f} ms", spread(ratios(cpu[name], units)) if is_text else "–",
            f"{uncompressed / 1e6 / median(cpu[name]):.0f} MB/s" if is_text else f"{spread(ratios(cpu[name], units))} × legacy pipeline",
        ])
    return table(["log", "rows", "uncompressed", "stored", "gunzip", "pipeline", "× gunzip: median (lowest–highest)", "throughput"], rows)


NOTES = {
    "cloudfront-logs (crate)": "the crate parses rows; decompression, filter and JSON are plain Rust around it",
    "DuckDB": "one thread; `read_csv`, SQL, JSON lines",
    "DuckDB, Parquet": "the Parquet twin (snappy), in × gunzip of the legacy log; one thread",
    "edgetap, Parquet": "the Parquet twin (snappy), in × gunzip of the legacy log",
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
        program = name.removesuffix(", Parquet")
        version = results["versions"].get(program) or ("this commit" if program in ("edgetap", "gunzip") else "–")
        rows.append([name, version, spread(in_units), f"{median(figures):.2f} s", same, NOTES[name]])
        bars.append((name, median(in_units), min(in_units), max(in_units)))
    for name in NOTES:
        if name not in part["cpu"]:
            rows.append([name, results["versions"].get(name) or "not installed", "**not measured: not installed**", "–", "–", NOTES[name]])
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(bars) + 0.8))
    names, middles, lows, highs = zip(*bars)
    errors = [[middle - low for middle, low in zip(middles, lows)], [high - middle for middle, high in zip(middles, highs)]]
    axes.barh(names, middles, xerr=errors, color=["#c8553d" if name.startswith("edgetap") else "#7d8ca3" for name in names], error_kw={"lw": 0.8})
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


def floor_of_handler():
    """Why no handler is as quick as a client with prepared bodies."""
    size = largest_size()
    of_object = median(results["own"]["cpu"][f"pipeline {size}"]) / results["logs"][size]["rows"] * 100
    minimal = results["small_objects"]["ten at once"]
    minimal = median(minimal["cpu"]["minimal"]) / minimal["objects"]
    return (
        f"The minimal client has its bodies: the pipeline alone, warm, takes {of_object * 1000:.2f} ms of CPU time for the 100 rows of an object, "
        f"{of_object / minimal:.2f} minimal clients. So no handler that makes its bodies and sends the same requests can take less than {1 + of_object / minimal:.2f} of them."
    )


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
        against = (spread(ratios(figures[name], figures["minimal"])) for figures in (wall, cpu))
        return [CONTESTANTS[name], *each, *against]

    head = ["client", "wall time per object", "CPU time per object", "wall time ÷ minimal client", "CPU time ÷ minimal client"]
    return table(head, [row(name) for name in CONTESTANTS if name in wall])


def at_most():
    """Transactions per second that the latency of the slow bridge allows."""
    return IN_FLIGHT * BATCH / LATENCY


def slow_bridge():
    runs = results["slow_bridge"]["runs"]
    # The rate that the measured latency of the bridge allows: its timer is late, never early.
    allowed = (IN_FLIGHT * BATCH / run["latency"] for run in runs)
    rows = [
        [n, f"{run['delivered']:,}", f"{run['rate']:,.0f}/s", f"{run['share']:.1%}", f"{run['latency'] * 1000:.1f} ms", f"{run['rate'] / most:.1%}",
         f"{run['delivered'] / run['seconds']:,.0f}/s"]
        for n, (run, most) in enumerate(zip(runs, allowed), 1)
    ]
    head = ["run", "transactions", "steady rate", f"share of {at_most():,.0f}/s", "measured latency", "share of what it allows", "rate of the whole run"]
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


ROOT = Path(__file__).parent.parent
IN_FLIGHT, BATCH, LATENCY = results["defaults"]["in_flight"], results["defaults"]["batch"], 0.1


def model(name):
    """A figure of the model in src/estimate.rs, which holds all that the estimates of the command line use too."""
    found = re.search(rf"const {name}: \S+ = ([^;\n]+);", (ROOT / "src/estimate.rs").read_text(encoding="utf-8"))
    return eval(found[1].replace("_", ""), {"__builtins__": {}})  # noqa: S307 - arithmetic of our own source


# US dollars in us-east-1, without free tiers. Those that src/estimate.rs needs are there.
GB_SECOND, GB_SECOND_ARM, INVOCATION = model("GB_SECOND"), 0.0000133334, model("MILLION_INVOCATIONS") / 1e6  # https://aws.amazon.com/lambda/pricing/
S3_PUT, S3_GET, S3_GB_MONTH = 0.005 / 1000, model("MILLION_GETS") / 1e6, 0.023  # https://aws.amazon.com/s3/pricing/
SQS_REQUEST = model("MILLION_SQS_REQUESTS") / 1e6
LOGS_GB, METRIC_MONTH, PARQUET_GB = model("GB_OF_LOGS"), 0.30, 0.035  # https://aws.amazon.com/cloudwatch/pricing/
OUT_GB = (0.05, 0.09)  # https://aws.amazon.com/ec2/pricing/on-demand/, by volume, as in src/estimate.rs
NAT_GB = 0.045  # https://aws.amazon.com/vpc/pricing/
GZIPPED = 0.228  # of a request body with level 1 of zlib-rs, measured once on bodies of 250 transactions

VCPU_MB, NETWORK = model("MEMORY_OF_VCPU"), model("NETWORK")
TLS_BYTES = 1e9  # per second of one vCPU: an assumption
ROWS_AN_OBJECT = 10_000


def load():
    """What a million requests are: bytes, transactions and seconds of CPU."""
    slow = results["slow_bridge"]
    log = results["logs"][slow["size"]]
    a_million = 1e6 / log["rows"]
    stored, out = log["log_stored"] * a_million, slow["bytes_out"] * a_million
    tls = (stored + out) / TLS_BYTES
    quick = median(results["whole_function"]["log"]["cpu"]["function"])
    quick *= 1e6 / results["logs"][results["whole_function"]["log"]["size"]]["rows"]
    return {
        "uncompressed": log["log"] * a_million, "stored": stored, "posted": slow["runs"][0]["delivered"] * a_million, "out": out,
        "cpu": median(run["cpu"] for run in slow["runs"]) * a_million + tls, "cpu at a quick bridge": quick + tls, "tls": tls,
        "parquet": {codec: log[f"{codec}_stored"] * a_million for codec in CODECS},
    }


def sizing():
    """Costs of a million requests, by the model of docs/scaling.md."""
    unit = load()
    uncompressed, gzip, posted, out, cpu = (unit[name] for name in ("uncompressed", "stored", "posted", "out", "cpu"))
    network, bridge = (gzip + out) / NETWORK, posted / BATCH / IN_FLIGHT * LATENCY
    objects = 1e6 / ROWS_AN_OBJECT
    rows, recommended = [], None
    for memory in (128, 256, 512, 1024, 1769):
        busy = cpu / min(memory / VCPU_MB, 1)
        seconds = max(busy, network, bridge)
        x86, arm = (seconds * memory / 1024 * price + objects / OBJECTS_AN_INVOCATION * INVOCATION for price in (GB_SECOND, GB_SECOND_ARM))
        what = {busy: "CPU", network: "network", bridge: "bridge"}[seconds]
        recommended = recommended or (memory if busy <= seconds * 0.8 else None)
        name = f"**{memory} MB**" if memory == terraform_default("memory_size") else f"{memory} MB"
        rows.append([name, f"{memory / VCPU_MB:.0%}", f"{busy:.0f} s", f"{seconds:.0f} s", what, f"${x86:.5f}", f"${arm:.5f}", f"{1e6 / seconds:,.0f}/s"])
    head = ["memory", "share of a vCPU", "CPU time ÷ share", "duration", "limited by", "x86_64, per million requests", "arm64", "requests per environment"]
    facts = prose(
        f"A million requests are {uncompressed / 1e6:,.0f} MB of log, {gzip / 1e6:,.0f} MB of gzip, {posted:,.0f} transactions and {out / 1e6:,.0f} MB of request bodies.",
        f"They take {cpu:.1f} s of CPU time: that of `edgetap replay --post` from S3 at this bridge, plus {unit['tls']:.1f} s for TLS at an estimated {TLS_BYTES / 1e9:.0f} GB per second.",
        f"At a bridge without delay the function takes {unit['cpu at a quick bridge']:.1f} s: waiting costs CPU time too.",
        f"Objects have {ROWS_AN_OBJECT:,} rows, and invocations have {OBJECTS_AN_INVOCATION} objects.",
    )
    is_default = "It is" if recommended == terraform_default("memory_size") else "It is **not**"
    advice = prose(
        f"Recommended: **{recommended} MB**, the smallest size whose CPU is busy for at most 80% of the duration."
        if recommended else "The CPU is busy for more than 80% of the duration with any size.",
        "That leaves room for starts, small objects and longer rows.",
        f"{is_default} Terraform's default, {terraform_default('memory_size')} MB (`memory_size`, in bold).",
        "arm64 costs a fifth less per GB-second; that it is as fast is unproven here, so its price is that of the same duration.",
    )
    return facts, against_model(unit), table(head, rows), advice, *sizing_check(), bill(unit, objects)


def against_model(unit):
    """The measured figures next to those of src/estimate.rs."""
    parquet = sum(unit["parquet"].values()) / len(CODECS)
    pairs = [
        ("bytes of gzip per row", unit["stored"] / 1e6, model("GZIP_BYTES_PER_ROW"), "{:.0f}"),
        ("bytes of Parquet per row, in the middle of snappy and gzip", parquet / 1e6, model("PARQUET_BYTES_PER_ROW"), "{:.0f}"),
        ("rows that are sent, of 100", unit["posted"] / 1e4, model("SENT_OF_100"), "{:.0f}"),
        ("bytes of request body per transaction", unit["out"] / unit["posted"], model("BODY_BYTES_PER_TRANSACTION"), "{:,.0f}"),
        ("CPU time of a million rows", unit["cpu"], model("CPU_PER_ROW") * 1e6, "{:.1f} s"),
    ]
    rows = [[name, form.format(found), form.format(used), f"{found / used:.2f}"] for name, found, used, form in pairs]
    off = [name for name, found, used, _ in pairs if not 0.8 <= found / used <= 1.25]
    return "\n\n".join((
        prose("`src/estimate.rs`, scaling.md and operations.md reckon with rounded figures:"),
        table(["figure", "measured", "in the model", "measured ÷ model"], rows),
        prose(f"**The model is off by more than a fifth: {', '.join(off)}.**" if off else ""),
    )).strip()


def bill(unit, objects):
    """What a million requests cost, the largest item first."""
    gzip, out = unit["stored"], unit["out"]

    def dollars(size, prices):
        return " to ".join(f"${size / 1e9 * price:.3f}" for price in prices)

    parts = [
        ["data out, to a bridge outside AWS", f"{out / 1e6:,.0f} MB at ${OUT_GB[0]} to ${OUT_GB[1]} per GB", dollars(out, OUT_GB)],
        ["the same, if the receiver took gzip bodies", f"{out * GZIPPED / 1e6:,.0f} MB; **not a setting yet**", dollars(out * GZIPPED, OUT_GB)],
        ["NAT gateway, in a VPC only", f"{out / 1e6:,.0f} MB at ${NAT_GB} per GB, beside its hours", dollars(out, [NAT_GB])],
        ["CloudFront: log delivery to S3", "free in `w3c` and `json`", "$0"],
        ["CloudWatch vended logs: conversion to Parquet", f"only for Parquet: ${PARQUET_GB} per GB, of the uncompressed log", dollars(unit["uncompressed"], [PARQUET_GB])],
        ["S3: storage", f"{gzip / 1e6:.0f} MB for 30 days", f"${gzip / 1e9 * S3_GB_MONTH:.5f}"],
        ["S3: PutObject by CloudFront", "one per object; counted in case AWS charges for it", f"${objects * S3_PUT:.5f}"],
        ["S3: GetObject", "one per object", f"${objects * S3_GET:.5f}"],
        ["SQS", "at most four calls per object: send, receive, extend visibility, delete", f"${objects * model('SQS_REQUESTS') * SQS_REQUEST:.5f}"],
        ["CloudWatch: log lines", "about 2 KB per object, with Lambda's own lines", f"${objects * model('LOG_BYTES') / 1e9 * LOGS_GB:.5f}"],
        ["CloudWatch: metrics", "21 names of one dimension, at any load", f"${21 * METRIC_MONTH:.2f} per month"],
    ]
    return table(["other costs", "assumption", "per million requests"], parts)


def terraform_default(name):
    """Default of a variable of the Terraform module."""
    variables = (ROOT / "terraform/modules/edgetap/variables.tf").read_text(encoding="utf-8")
    block = variables.split(f'variable "{name}" {{')[1].split("\n}")[0]
    return int(re.search(r"\n  default\s*=\s*(\d+)", block)[1])


OBJECTS_AN_INVOCATION = terraform_default("batch_size")


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
        f"The model was checked with `edgetap replay --post` from S3 of a log of {told['log'] / 1e6:.0f} MB ({told['rows']:,} rows), on loopback and without TLS.",
        "The kernel limited the CPU to the share of each memory size (a cgroup quota, periods of 20 ms).",
        f"Without a quota the run took {whole['cpu']:.2f} s of CPU time.",
    )
    return text, table(["memory", "quota", "CPU time ÷ quota", "bridge", "model: the longer", "measured", "measured ÷ model", "CPU time used"], rows)


def main():
    machine = results["machine"]
    comparison, expected = compared()
    objects = results["small_objects"]["at once"]["objects"]
    slow, start, counts = results["slow_bridge"], results["start"], results["instructions"]
    commits = sorted({piece["commit"] for piece in results["pieces"].values()})
    s3_peak = max(run["peak"] for run in results["slow_s3"]["S3"])
    server = "`benches/src/bin/loopback.rs`"
    texts = [
        "# Benchmarks",
        prose(
            f"Generated by `scripts/bench.sh` on {machine['date']} at commit {', '.join(f'`{commit}`' for commit in commits)}; do not edit.",
            "**A quick run, which only proves that the harness works.**" if results["quick"] else "",
        ),
        prose(
            f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']}.",
            "**The machine did other work at the same time: ratios within a round are valid, absolute times are not.**" if is_busy() else "",
            "Every program runs once per round; short programs run three times, and their ratios are medians of as many.",
            "Ratios are taken round by round, of CPU time (user + system).",
            "[Pieces](#pieces) names the commit, rounds and load of each section.",
        ),
        prose(
            "CPU times are given relative to plain decompression (**× gunzip**).",
            "The baseline is a separate program, `benches/src/bin/gunzip.rs`.",
            "It decompresses the same log with `flate2` (zlib-rs, 64 KiB buffer) and discards the output.",
        ),
        prose(
            "Logs are generated from a seed (`benches/src/bin/generate.rs`): 45% API calls, 55% static assets, 33 columns.",
            "A v2 JSON log and a Parquet log have the same requests as the legacy log of their size.",
            "pyarrow writes the Parquet twins with its defaults, once with snappy and once with gzip (`benches/parquet_twin.py`).",
            "edgetap's programs are built with the profile and the compiler's flags of the function (`scripts/build-lambda.sh --flags`).",
        ),
        "## Against the targets",
        targets(),
        "## The pipeline",
        prose(
            "`benches/src/bin/pipeline.rs` reads gzip, makes the bridge's request bodies and discards them.",
            "It uses the default settings, one thread and no network.",
            "The JSON log is compared with gunzip of the JSON log, which is a larger text, and Parquet with the pipeline of the legacy log.",
            "Throughput is uncompressed bytes per second of CPU time.",
        ),
        own(),
        prose("valgrind is not installed, so instructions per row were not counted.") if counts is None else prose(
            f"Callgrind counts **{counts['pipeline']:,.0f} instructions per row** in the pipeline and {counts['gunzip']:,.0f} in gunzip "
            f"({counts['pipeline'] / counts['gunzip']:.2f} × gunzip), on a legacy log of 20,000 rows and including the start.",
            "The other formats take " + ", ".join(f"{counts[f'pipeline {kind}']:,.0f} ({KINDS[kind]})" for kind in ("json", *CODECS)) + ".",
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
        "## Allocations",
        prose(
            "Heap allocations of full batches of 250 transactions in steady state, on 20,000 rows (`benches/src/bin/allocations.rs`).",
            "A batch makes three: its body, its marks, and the reference count of the shared body.",
            "In Parquet, pages and dictionaries are allocated too, one for thousands of rows.",
            "`tests/allocations.rs` is the test.",
        ),
        allocations(),
        "## The whole function",
        prose(
            "*Function* is `bootstrap` itself: it gets one S3 event from a Runtime API on loopback, reads the log from S3, and delivers it to a bridge without delay.",
            "`replay` is `edgetap replay --post s3://…`, built alike, but with thin LTO.",
            f"S3 needs 30 ms per GET and sends 625 Mbit/s (" + server + ").",
            "CPU time, relative to the pipeline of the same log in the same round.",
        ),
        whole_function(),
        "## Memory",
        prose(
            "Peak resident memory (`VmHWM`) of the pipeline alone.",
            "Objects over 350 MB are several members of one gzip stream.",
            f"`edgetap replay --post` from S3 used at most {mb(slow['peak'])} with a slow bridge, and {mb(s3_peak)} with a bridge without delay.",
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
        "## First event",
        prose(
            "What a cold start adds to the first invocation: AWS clients, TLS roots, token, one object of 100 rows and one request to the bridge.",
            "The figure is the difference of two whole processes of `bootstrap`: one gets an S3 event from a Runtime API on loopback, the other's poll is refused.",
            "Instructions are counted by callgrind, which runs SHA-256 in software; there is no TLS on loopback.",
        ),
        first_event(),
        "## Small objects",
        prose(
            f"{objects:,} objects of 100 rows are delivered on loopback, with one GET and one POST each, one after the other unless it says otherwise.",
            "The handler is set up as in `bootstrap` and gets one S3 event per object.",
            "The other clients do only what their row says (`benches/src/bin/small_objects.rs`).",
            "The handler does the work of the reading client and everything else that the function does per object: "
            "event, deadlines, keys, and a log line with metrics.",
            "If there are enough cores, servers and client run on different ones.",
        ),
        prose("S3 is moto, and the bridge has no delay (" + server + ").", "Most of the time is spent in moto:"),
        small_objects("moto"),
        prose("S3 and the bridge are both `loopback` and have no delay, so the figures show the work of each client:"),
        small_objects("at once"),
        prose(
            "The same with ten SQS messages in each event: every client delivers their objects side by side.",
            "Every client then also sends what the handler sends to SQS: one call that holds the messages, and one that deletes each but the last.",
        ),
        small_objects("ten at once"),
        prose(floor_of_handler()),
        prose(
            "The handler delivers the messages of one event side by side.",
            "S3 responds in 30 ms and the bridge in 100 ms, as they may in AWS:",
        ),
        messages_of_an_event(),
        prose("The peak contains the objects, which the program makes in advance."),
        "## A slow bridge",
        prose(
            f"`edgetap replay --post` from S3 with {IN_FLIGHT} requests in flight and {BATCH} transactions per request, the function's defaults.",
            "The bridge (" + server + ") responds 100 ms after the last byte of a request and checks nothing.",
            f"This latency allows {at_most():,.0f} transactions per second.",
            f"The steady rate counts what the bridge accepted after the first {IN_FLIGHT} requests, in whole rounds of {IN_FLIGHT}, by its own clock.",
        ),
        slow_bridge(),
        "## A slow S3",
        prose(
            f"`edgetap replay --post` of the same log, with {IN_FLIGHT} requests in flight and a bridge without delay.",
            "The log comes from a file, or from an S3 that needs 30 ms per GET and sends 625 Mbit/s (" + server + ").",
            "edgetap fetches a range while it reads the one before it.",
        ),
        slow_s3(),
        "## Small objects side by side",
        prose(
            f"`edgetap replay --post` of {results['side_by_side']['objects']:,} objects of 100 rows, one run each.",
            "S3 responds in 30 ms and the bridge in 100 ms (" + server + "), with up to 16 requests in flight.",
            "Each object takes one GET and one POST, one after the other.",
        ),
        side_by_side(),
        "## Sizing",
        prose(
            "These figures are calculated; nothing was measured on AWS.",
            "The model takes one vCPU of Lambda for one core of this machine.",
            "Memory buys a share of a vCPU (1,769 MB: one), and an environment has 625 Mbit/s.",
            f"The bridge responds in 100 ms, and {IN_FLIGHT} requests are in flight, the default of `BRIDGE_CONCURRENCY`.",
            "The longest of CPU, network and bridge is the duration: sending overlaps with reading, "
            "and so does fetching if an object has more than one range of 4 MiB.",
        ),
        prose(
            "Prices are list prices in us-east-1, on demand, without free tiers.",
            "**They were not looked up for this run**, and that of Parquet conversion is from memory.",
            "Check the current prices of [Lambda](https://aws.amazon.com/lambda/pricing/), [S3](https://aws.amazon.com/s3/pricing/), "
            "[SQS](https://aws.amazon.com/sqs/pricing/), [CloudWatch](https://aws.amazon.com/cloudwatch/pricing/) (vended logs), "
            "[NAT gateways](https://aws.amazon.com/vpc/pricing/) and [data transfer](https://aws.amazon.com/ec2/pricing/on-demand/).",
        ),
        *sizing(),
        prose("[scaling.md](scaling.md) applies these figures to larger loads."),
        "## Not measured",
        prose(
            "Lambda and S3 themselves were not measured.",
            "The stages of the pipeline have a benchmark of their own: `cargo bench --manifest-path benches/Cargo.toml`.",
            "With `-- --quick` it takes a minute.",
        ),
        "## Pieces",
        pieces(),
        "## Versions",
        table(["program", "version"], [[name, version or "not installed"] for name, version in results["versions"].items()]),
    ]
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n\n".join(text for text in texts if text) + "\n", encoding="utf-8")


main()
