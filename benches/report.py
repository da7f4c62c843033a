"""Writes the report on what benches/measure.py measured: `report.py RESULTS REPORT`; its plots go beside it."""

import json
import re
import sys
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the choice of what draws

results = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
report = Path(sys.argv[2])
plots = report.parent / report.stem
# The same figures give the same files.
plt.rcParams.update({"svg.hashsalt": "edgetap", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def ratios(figures, units):
    """Round by round: what disturbs a round disturbs both."""
    return [figure / unit for figure, unit in zip(figures, units)]


def spread(figures, form="{:.2f}"):
    return f"{form.format(median(figures))} ({form.format(min(figures))}–{form.format(max(figures))})"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def mb(size):
    return "–" if size is None else f"{size / 1e6:.1f} MB"


def verdict(reached, must, aim):
    return "aim reached" if reached <= aim else "reached" if reached <= must else "**missed**"


def save(figure, name):
    plots.mkdir(parents=True, exist_ok=True)
    figure.savefig(plots / name, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def targets():
    cpu = results["own"]["cpu"]
    size = largest_size()
    pipeline = median(ratios(cpu[f"pipeline {size}"], cpu[f"inflate {size}"]))
    peaks = [peak for peak in results["memory"].values() if peak is not None]
    start = results["start"]
    times = median(start["bootstrap"]) / median(start["bare"])
    share = median(run["share"] for run in results["slow_bridge"]["runs"])
    zip_size = results["zip"]
    small, reading, strict = wall_of_handler("moto", "minimal"), wall_of_handler("at once", "reading"), wall_of_handler("at once", "minimal")
    rows = [
        [f"CPU of the pipeline, log of {size} MB", "≤ 2.2 inflatings", "≤ 1.8", f"{pipeline:.2f}", verdict(pipeline, 2.2, 1.8)],
        ["peak memory of the pipeline, any size", "≤ 40 MB", "≤ 24 MB", mb(max(peaks)), verdict(max(peaks), 40e6, 24e6)] if peaks else
        ["peak memory of the pipeline, any size", "≤ 40 MB", "≤ 24 MB", "not told by this system", "–"],
        ["bridge of 100 ms, 8 in flight, 250 a batch", "≥ 95 %", "", f"{share:.1%}", "reached" if share >= 0.95 else "**missed**"],
        ["1,000 small objects, wall time against a minimal client, S3 by moto", "≤ 1.3 ×", "", f"{small:.2f} ×", verdict(small, 1.3, 0)],
        ["… against a client that reads their rows, S3 answers at once", "≤ 1.3 ×", "", f"{reading:.2f} ×", verdict(reading, 1.3, 0)],
        ["… against one that reads none, S3 answers at once", "", "≤ 1.3 ×", f"{strict:.2f} ×", "aim reached" if strict <= 1.3 else "aim missed"],
        ["start, against a bare function", "≤ 2 ×", "≤ 1.3 ×", f"{times:.2f} ×", verdict(times, 2, 1.3)],
        ["Lambda zip", "≤ 6 MB", "≤ 4.5 MB", f"{zip_size / 1e6:.2f} MB", verdict(zip_size, 6e6, 4.5e6)],
    ]
    return table(["what", "must reach", "aim", "measured", ""], rows)


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
        inflated = told[size]["json" if kind != size else "log"]
        units = cpu[f"inflate {kind}"]
        rows.append([
            ("v2 JSON, twin of " if kind != size else "legacy, ") + f"{size} MB", f"{told[size]['rows']:,}", f"{inflated / 1e6:.0f} MB",
            f"{told[size]['json_gz' if kind != size else 'log_gz'] / 1e6:.1f} MB", f"{median(units) * 1000:.0f} ms",
            f"{median(cpu[name]) * 1000:.0f} ms", spread(ratios(cpu[name], units)),
            f"{inflated / 1e6 / median(cpu[name]):.0f} MB/s",
        ])
    return table(["log", "rows", "inflated", "gzip", "one inflating", "pipeline", "in inflatings: median (lowest–highest)", "inflated bytes a CPU second"], rows)


NOTES = {
    "cloudfront-logs (crate)": "rows by the crate; inflating, filter and JSON around it as one would write them",
    "DuckDB": "one thread; `read_csv`, SQL, JSON lines",
    "ClickHouse (chdb)": "one thread; `TSVRaw`, SQL, JSON lines",
    "Node.js stream": "`createGunzip`, `readline`, `split`, JSON lines",
    "cloudfront-log-parser (npm)": "decodes `%2520` twice; the space in the target is put back for the comparison",
    "GoAccess": "**other output**: statistics of all rows, no transactions",
    "gzip -dc": "**other output**: the inflated text",
    "edgetap": "the bridge's request bodies, credentials masked: more than the others write",
    "inflate": "the unit: to nowhere",
}


def compared():
    part = results["comparison"]
    units, expected = part["cpu"]["inflate"], part["digests"]["edgetap"]
    rows, bars = [], []
    for name in sorted(part["cpu"], key=lambda name: median(part["cpu"][name])):
        figures, told = part["cpu"][name], part["digests"].get(name)
        same = "–" if told is None else "yes" if told == expected else f"**no** ({told['transactions']:,})"
        in_units = ratios(figures, units)
        version = results["versions"].get(name) or ("this commit" if name in ("edgetap", "inflate") else "–")
        rows.append([name, version, spread(in_units), f"{median(figures):.2f} s", same, NOTES[name]])
        bars.append((name, median(in_units), min(in_units), max(in_units)))
    for name in NOTES:
        if name not in part["cpu"]:
            rows.append([name, results["versions"].get(name) or "not installed", "**not measured: it was not there**", "–", "–", NOTES[name]])
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(bars) + 0.8))
    names, middles, lows, highs = zip(*bars)
    errors = [[middle - low for middle, low in zip(middles, lows)], [high - middle for middle, high in zip(middles, highs)]]
    axes.barh(names, middles, xerr=errors, color=["#c8553d" if name == "edgetap" else "#7d8ca3" for name in names], error_kw={"lw": 0.8})
    axes.invert_yaxis()
    axes.set_xlabel("CPU in inflatings: median, lowest, highest")
    save(figure, "comparison.svg")
    head = ["program", "version", "CPU in inflatings: median (lowest–highest)", "CPU", "same transactions", ""]
    return table(head, rows), expected


def memory():
    peaks = {name: peak for name, peak in results["memory"].items() if peak is not None}
    if peaks:
        figure, axes = plt.subplots(figsize=(7, 2.2))
        axes.plot(list(peaks), [peak / 1e6 for peak in peaks.values()], marker="o", color="#c8553d")
        axes.axhline(40, color="#7d8ca3", lw=0.8, ls="--")
        axes.annotate("40 MB", (0, 40), textcoords="offset points", xytext=(0, 3), color="#7d8ca3")
        axes.set_ylim(0, max(44, *(peak / 1e6 for peak in peaks.values())) * 1.05)
        axes.set_xlabel("inflated size of one object")
        axes.set_ylabel("peak memory, MB")
        save(figure, "memory.svg")
    return table(["inflated", *results["memory"]], [["peak resident memory", *(mb(peak) for peak in results["memory"].values())]])


CONTESTANTS = {
    "requests": "the bare requests: unsigned, so that S3 would refuse them",
    "minimal": "minimal client: GETs signed by the AWS SDK, bodies made before",
    "reading": "the same, with bodies made of what it got: inflating to encoding",
    "handler": "the handler",
}


def wall_of_handler(setting, other):
    """The handler's wall time, in those of another contestant."""
    wall = results["small_objects"][setting]["wall"]
    return median(ratios(wall["handler"], wall[other]))


def small_objects(setting):
    """A row for each contestant."""
    wall, cpu, objects = (results["small_objects"][setting][part] for part in ("wall", "cpu", "objects"))

    def row(name):
        each = (f"{median(figures[name]) / objects * 1000:.2f} ms" for figures in (wall, cpu))
        against = (spread(ratios(wall[name], wall[other])) for other in ("minimal", "reading"))
        return [CONTESTANTS[name], *each, *against]

    head = ["", "wall time an object", "CPU", "wall time, in minimal clients", "… in reading ones"]
    return table(head, [row(name) for name in CONTESTANTS if name in wall])


def slow_bridge():
    runs = results["slow_bridge"]["runs"]
    # What the bridge's own answer time allows: a timer rings late, never early.
    allowed = (8 * 250 / run["answer_time"] for run in runs)
    rows = [
        [n, f"{run['delivered']:,}", f"{run['rate']:,.0f}", f"{run['share']:.1%}", f"{run['answer_time'] * 1000:.1f} ms", f"{run['rate'] / most:.1%}",
         f"{run['delivered'] / run['seconds']:,.0f}"]
        for n, (run, most) in enumerate(zip(runs, allowed), 1)
    ]
    head = ["run", "transactions", "a second, steady", "of 20,000", "the bridge answered after", "of what that allows", "a second, start and end included"]
    return table(head, rows)


def slow_s3():
    runs = results["slow_s3"]
    seconds = {name: [run["seconds"] for run in figures] for name, figures in runs.items()}
    rows = [
        [name, spread(seconds[name], "{:.2f} s"), spread(ratios(seconds[name], seconds["file"])), mb(max(run["peak"] for run in runs[name]))]
        for name in runs
    ]
    return table(["log from", "wall time: median (lowest–highest)", "in times from a file", "peak resident memory"], rows)


# US dollars in us-east-1, without free tiers.
GB_SECOND, INVOCATION = 0.0000166667, 0.20e-6  # https://aws.amazon.com/lambda/pricing/, x86_64
S3_GET, S3_GB_MONTH = 0.0004 / 1000, 0.023  # https://aws.amazon.com/s3/pricing/
SQS_REQUEST = 0.40e-6  # https://aws.amazon.com/sqs/pricing/
LOGS_GB, METRIC_MONTH, VENDED_GB = 0.50, 0.30, 0.25  # https://aws.amazon.com/cloudwatch/pricing/

VCPU_MB, NETWORK = 1769, 625e6 / 8
TLS_BYTES = 1e9  # a second of one vCPU: an assumption
IN_FLIGHT, BATCH, LATENCY = 4, 250, 0.1
ROWS_AN_OBJECT = 10_000


def sizing():
    """What a million requests cost, as the arithmetic of docs/scaling.md has it."""
    slow, told = results["slow_bridge"], results["logs"]
    log = told[slow["size"]]
    a_million = 1e6 / log["rows"]
    posted = slow["runs"][0]["delivered"] * a_million
    gzip, inflated = log["log_gz"] * a_million, log["log"] * a_million
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
                     f"${cost / (inflated / 1e9):.5f}", f"${cost / (gzip / 1e9):.5f}", f"{1e6 / seconds:,.0f}"])
    head = ["memory", "of a vCPU", "CPU time ÷ share", "duration", "bound by", "a million requests", "a GB inflated", "a GB of gzip", "requests a second, one environment"]
    parts = [
        ["S3: GetObject", "one an object", f"${objects * S3_GET:.5f}"],
        ["S3: storage", f"{gzip / 1e6:.0f} MB for 30 days", f"${gzip / 1e9 * S3_GB_MONTH:.5f}"],
        ["SQS", "three calls an object: sent, received, deleted", f"${objects * 3 * SQS_REQUEST:.5f}"],
        ["CloudWatch: log lines", "about 2 KB an object, Lambda's own lines included", f"${objects * 2e-6 * LOGS_GB:.5f}"],
        ["CloudWatch: vended logs", f"{inflated / 1e9:.2f} GB, where AWS charges for v2 delivery to S3; legacy logs cost nothing", f"${inflated / 1e9 * VENDED_GB:.3f}"],
        ["CloudWatch: metrics", "20 names of one dimension, whatever the traffic", f"${20 * METRIC_MONTH:.2f} a month"],
    ]
    facts = (f"A million requests are {inflated / 1e6:,.0f} MB of log, {gzip / 1e6:,.0f} MB of gzip, {posted:,.0f} transactions and {out / 1e6:,.0f} MB posted; they took "
             f"{cpu:.1f} s of CPU in `edgetap replay --post` (TLS reckoned at {TLS_BYTES / 1e9:.0f} GB a second). Objects have {ROWS_AN_OBJECT:,} rows.")
    is_default = "which is" if recommended == terraform_memory() else "**which is not**"
    advice = (f"Recommended: **{recommended} MB**, the least whose CPU is busy for no more than half of the duration, which leaves room for starts, small objects and longer rows; "
              f"{is_default} Terraform's default, {terraform_memory()} MB (`memory_size`, in bold).")
    return facts, table(head, rows), advice, *sizing_check(), table(["the bill's other parts", "of what", "a million requests"], parts)


def terraform_memory():
    """The default of `memory_size`, MB."""
    variables = (Path(__file__).parent.parent / "terraform/variables.tf").read_text(encoding="utf-8")
    return int(re.search(r'variable "memory_size" \{[^}]*default\s*=\s*(\d+)', variables)[1])


def sizing_check():
    """The model above, for one log, beside what that log takes with so much CPU."""
    part = results["sizing_check"]
    if "missing" in part:
        return [f"The model was not checked: {part['missing']}."]
    whole, rows = part["whole"], []
    for memory, figures in part["limited"].items():
        share = min(int(memory) / VCPU_MB, 1)
        busy, bridge = whole["cpu"] / share, figures["delivered"] / BATCH / IN_FLIGHT * LATENCY
        modelled = max(busy, bridge)
        rows.append([f"{memory} MB", f"{share:.0%}", f"{busy:.1f} s", f"{bridge:.1f} s", f"{modelled:.1f} s", f"{figures['seconds']:.1f} s", f"{figures['seconds'] / modelled:.2f}", f"{figures['cpu']:.2f} s"])
    told = results["logs"][part["size"]]
    text = (f"The model checked: `edgetap replay --post` of a log of {told['log'] / 1e6:.0f} MB ({told['rows']:,} rows) with that share of one CPU, as a quota of the kernel (a cgroup, periods of 20 ms), "
            f"to the same bridge on loopback, without TLS. Without a quota it took {whole['cpu']:.2f} s of CPU.")
    return text, table(["memory", "quota", "CPU time ÷ quota", "bridge", "modelled: the longer", "measured", "measured ÷ modelled", "CPU taken"], rows)


def main():
    machine, load = results["machine"], results["load"]
    comparison, expected = compared()
    objects = results["small_objects"]["at once"]["objects"]
    slow, start, counts = results["slow_bridge"], results["start"], results["instructions"]
    texts = [
        "# Benchmarks",
        f"Written by `scripts/bench.sh` on {machine['date']} at commit `{machine['commit']}`; not edited by hand."
        + (" **A quick run, which proves nothing but that the harness works.**" if results["quick"] else ""),
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']}. Load average before the run "
        f"{load['before'][0]:.1f}, after it {load['after'][0]:.1f}. "
        + ("**The machine had other work at the same time**: only ratios of one round mean anything, absolute times nothing. "
           if max(load["before"][0], load["after"][0]) > machine["cores"] else "")
        + f"Rounds: {results['rounds']}, in each of which every program runs once, the pipeline by itself three times as many; ratios are taken round by round, of CPU (user + system).",
        "The unit is **one inflating**: `flate2` with zlib-rs and a buffer of 64 KiB, to nowhere, as a program of its own (`benches/src/bin/inflate.rs`). "
        "Logs are made from a seed (`benches/src/bin/generate.rs`): 45 % API calls and 55 % static assets, 33 columns, and a v2 JSON twin of the same "
        "requests. edgetap's programs are built with the profile `lambda`, as the function is.",
        "## Against the targets",
        targets(),
        "## The pipeline",
        "`benches/src/bin/pipeline.rs`: gzip in, the bridge's request bodies out and away, default settings, one thread, no network. The JSON twin is "
        "measured in inflatings of itself, which is a larger text.",
        own(),
        "" if counts is None else "Callgrind counts, on a legacy log of 20,000 rows, " + f"**{counts['pipeline']:,.0f} instructions a row** in the pipeline and "
        f"{counts['inflate']:,.0f} in one inflating: {counts['pipeline'] / counts['inflate']:.2f} × (starts included; "
        "`valgrind --tool=callgrind target/lambda/pipeline target/bench/logs/rows.log.gz`).",
        "No valgrind here: instructions a row are not counted." if counts is None else "",
        "## Side by side",
        f"The legacy log of {results['comparison']['size']} MB. *Same transactions*: id, method, target and status of every transaction, sorted, have the same "
        f"SHA-256 as edgetap's ({expected['transactions']:,} of them, `{expected['sha256'][:16]}…`). The others write those and the other values of a transaction as JSON lines to a file, "
        "with a simplified filter: a GET or HEAD whose path ends in a listed extension is dropped. The logs are made so that this "
        "drops the same rows as edgetap's whole rules, and hold no credential, so that masking changes no target.",
        comparison,
        f"![CPU in inflatings]({plots.name}/comparison.svg)",
        "## Memory",
        "Resident at most at any time (`VmHWM`), the pipeline alone; objects beyond 350 MB are members of one gzip stream. "
        f"With everything around it, `edgetap replay --post` to a slow bridge (below) had {mb(slow['peak'])} at most, and {mb(max(run['peak'] for run in results['slow_s3']['S3']))} with the log from S3 and a bridge that answers at once.",
        memory(),
        f"![Peak memory]({plots.name}/memory.svg)",
        "## Start",
        "From the start of the process to its first poll of the Runtime API, on loopback, "
        f"{len(start['bootstrap'])} times each in turns; median (lowest–highest):",
        table(["function", "milliseconds"], [["`bootstrap`", spread(start["bootstrap"], "{:.1f}")], ["bare `lambda_runtime` (`benches/src/bin/bare_function.rs`)", spread(start["bare"], "{:.1f}")]]),
        "## Small objects",
        f"{objects:,} objects of 100 rows, one after the other: one GET and one post each, on loopback, in processes of their own. The handler is made as `bootstrap` makes it, an S3 event an object; the other clients do less, and nothing "
        "besides (`benches/src/bin/small_objects.rs`). Between the last two lies all that the function does besides the work itself: event, deadlines, keys, a thread that reads, a log line with metrics. "
        "Where there are cores for both, the servers have one and the contestant another.",
        "S3 by moto, the bridge answers at once (`benches/src/bin/loopback.rs`). Most of the time is moto's:",
        small_objects("moto"),
        "S3 and the bridge answer at once, both by `loopback`, so that hardly anything is waited for, and what is left is the work of each:",
        small_objects("at once"),
        f"With a message of SQS around each event, whose visibility is set by one more call, which the others make too: {wall_of_handler('SQS', 'minimal'):.2f} minimal clients. "
        f"Where the bridge takes 10 ms to answer: {wall_of_handler('10 ms', 'minimal'):.2f}.",
        "## A slow bridge",
        "`edgetap replay --post` (profile `release`), 8 posts in flight of 250 transactions, to a bridge that answers 100 ms after the last byte of a post (`benches/src/bin/loopback.rs`, "
        "which checks nothing): of the 20,000 transactions a second that the latency allows. Steady is what the bridge accepted after the first 8 posts, in whole rounds of 8, by its own clock.",
        slow_bridge(),
        "## A slow S3",
        "`edgetap replay --post` (profile `release`) of the same log, 8 posts in flight, to a bridge that answers at once: from a file, and from S3 whose every GET takes 30 ms and a second for 625 Mbit besides "
        "(`benches/src/bin/loopback.rs`). A range is fetched while the one before it is read.",
        slow_s3(),
        "## Sizing",
        "Reckoned, not measured in AWS: one vCPU of Lambda is taken for one core of this machine, memory buys a share of it (1,769 MB: one), an environment has "
        "625 Mbit/s, the bridge answers in 100 ms, 4 posts are in flight. What takes longest decides: posts overlap with reading, and fetching does where an object has more than one range of 4 MiB. Prices: us-east-1, on demand, without free tiers, "
        "not looked up for this run ([Lambda](https://aws.amazon.com/lambda/pricing/), [S3](https://aws.amazon.com/s3/pricing/), "
        "[SQS](https://aws.amazon.com/sqs/pricing/), [CloudWatch](https://aws.amazon.com/cloudwatch/pricing/)): look there before you rely on them.",
        *sizing(),
        "[scaling.md](scaling.md) goes on from here.",
        "## Not measured",
        "Lambda itself, S3 itself. The stages by themselves are another benchmark: `cargo bench --manifest-path benches/Cargo.toml` (with `-- --quick` in a minute).",
        "## Versions",
        table(["program", "version"], [[name, version or "not installed"] for name, version in results["versions"].items()]),
    ]
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n\n".join(text for text in texts if text) + "\n", encoding="utf-8")


main()
