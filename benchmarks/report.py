"""The README of the benchmarks, from the recorded results."""

import json
import statistics
from pathlib import Path
from typing import Any

from contestants import AUTHORS, BATCH, BFLOAT16, FLOAT32, OOD, PLAIN, SETTINGS, way_of
from sweep import MANY, ratio

HEAD = """# Benchmarks

What one image costs: ODIN at one setting (T = 1000, epsilon = 0.0014) and at all {settings} of the paper's grid, by
this library's engines (`odinlib/networks/fast.py`) and by others, on the same images and weights, in one run. Others
take part at several batch sizes, and are compared at their best.

    make setup
    .venv/bin/pip install --no-deps pytorch-ood==0.4.0      # optional: a contestant
    .venv/bin/python benchmarks/run.py                       # a few minutes; with a GPU, on it
    .venv/bin/python benchmarks/run.py --weights FILE --data # with scores of CIFAR-10 and Tiny ImageNet

Everything below is written by that command from `benchmarks/results/`. The contestants take turns; times are
"minimum / median" over the rounds, ratios the median of the ratios within a round. A grid is added up from its passes.
On a CPU times are of the processor, a thread, not of the clock on the wall: other work on the machine counts less.
It still counts through the caches, and more for whoever moves more memory: on a busy machine the ratios rise.
{cuda}
"""


def write(results: Path) -> str:
    """Write README.md beside the folder of results, and return its text."""
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    on_gpu = any(run["gpu"]["card"] for run in runs.values() if "gpu" in run)
    cuda = "" if on_gpu else "With CUDA the same command measures the card; that has not been recorded yet.\n"
    parts = [HEAD.format(settings=SETTINGS, cuda=cuda)]
    for name, run in runs.items():
        parts.append(f"## {name}\n")
        parts += [section(run) for key, section in SECTIONS.items() if key in run]
    text = "\n".join(parts)
    (results.parent / "README.md").write_text(text)
    return text


def summary(run: dict[str, Any]) -> dict[str, float]:
    """The ratios that matter: how many times faster the engine is, than others at the batch size that suits them."""
    best, table = run["times"]["best"], run["times"]["contestants"]
    ratios = {f"forward, than {best[PLAIN]['forward']}": against_engine(run, PLAIN, "forward")}
    for way in best:
        if way in (PLAIN, AUTHORS) or way.startswith(OOD):
            for kind, told in (("setting", "one setting"), ("grid", "grid")):
                ratios[f"{told}, than {best[way][kind]}"] = against_engine(run, way, kind)
    ratios["grid in bfloat16, than in float32"] = ratio(table[FLOAT32]["grid"], table[BFLOAT16]["grid"])
    return ratios


def against_engine(run: dict[str, Any], way: str, kind: str) -> float:
    table = run["times"]["contestants"]
    return ratio(table[run["times"]["best"][way][kind]][kind], table[FLOAT32][kind])


def times(run: dict[str, Any]) -> str:
    found = run["times"]
    table, peaks = found["contestants"], run.get("memory", {}).get("peaks", {})
    lines = [
        told(found["provenance"]),
        "",
        "| milliseconds an image | forward | share of matrix rate | one setting | grid | setting / engine "
        "| grid / engine | memory, GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, best in found["best"].items():
        taken = {kind: table[name][kind] for kind, name in best.items()}
        share = "–"
        if "forward" in taken:
            rate = max(found["rates"]["bfloat16" if way.endswith("bfloat16") else "float32"])
            share = f"{found['operations'] / (min(taken['forward']) / 1e3) / rate:.0%}"
        cells = [
            way,
            both(taken.get("forward")),
            share,
            both(taken["setting"]),
            both(taken["grid"]),
            *(f"{against_engine(run, way, kind):.2f}" for kind in ("setting", "grid")),
            f"{peaks[best['grid']]:.2f}" if best["grid"] in peaks else "–",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    rates = found["rates"]
    wholes = "; ".join(f"{name}, {both(each)}" for name, each in found["whole_grid"].items() if each)
    lines += [
        "",
        f"Timed as a whole, an image's grid took, in ms: {wholes}.",
        "Each time is at the batch size with the least, memory at the grid's:",
        "",
        *by_batch(table),
        "",
        f"**The floor.** A forward pass is {found['operations'] / 1e9:.3f} GFLOP. Square products of 2048 ran, by the "
        f"better of PyTorch's own library and oneDNN, at {max(rates['float32']) / 1e9:.0f} GFLOP/s in float32 and "
        f"{max(rates['bfloat16']) / 1e9:.0f} in bfloat16: at least "
        f"{1e3 * found['operations'] / max(rates['float32']):.2f} and "
        f"{1e3 * found['operations'] / max(rates['bfloat16']):.2f} ms an image. Its steps read and write "
        f"{found['bytes'] / 1e6:.0f} MB of maps in float32, most of them within the cache.",
        "",
        "**How many times faster** the engine in float32 is:",
        "",
        *(f"* {name}: {value:.2f}" for name, value in summary(run).items()),
        "",
        "**One pair of Table 2** (grid on 1,000 + 1,000 held-out images, ODIN and the baseline on 9,000 + 9,000), "
        "extrapolated from the times above:",
        "",
        "| | hours | / engine |",
        "|---|---|---|",
        *(
            f"| {name} | {value / 3600:.2f} | {value / found['pair'][FLOAT32]:.1f} |"
            for name, value in found["pair"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def by_batch(table: dict[str, dict[str, list[float]]]) -> list[str]:
    """What others take at each batch size."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, each in table.items():
        if BATCH in name:
            batch = name.rpartition(BATCH)[2]
            found.setdefault(way_of(name), {})[batch] = [f"{min(each[kind]):.1f}" for kind in ("setting", "grid")]
    sizes = list(next(iter(found.values()), {}))
    lines = [
        f"| milliseconds an image, one setting / grid | {' | '.join(f'batch {size}' for size in sizes)} |",
        "|---" * (1 + len(sizes)) + "|",
    ]
    return lines + [
        f"| {name} | {' | '.join(' / '.join(each[size]) for size in sizes)} |" for name, each in found.items()
    ]


def engines(run: dict[str, Any]) -> str:
    """Of each pass the least milliseconds, and the median ratios within a round."""
    found = run["engines"]
    names = list(next(iter(found["rows"].values())))
    slower = names[:-1]
    lines = [
        f"**The engines**, pass by pass (in use: {found['in_use']}):",
        "",
        f"| milliseconds an image | {' | '.join(names)} | {' | '.join(f'{name} / {names[-1]}' for name in slower)} |",
        "|---" * (1 + len(names) + len(slower)) + "|",
    ]
    for what, times in found["rows"].items():
        cells = [f"{min(times[name]):.2f}" for name in names]
        cells += [f"{ratio(times[name], times[names[-1]]):.2f}" for name in slower]
        lines.append(f"| {' | '.join([what, *cells])} |")
    for precision, times in found["grids"].items():
        cells = [f"{times[name]:.0f}" for name in names]
        cells += [f"{times[name] / times[names[-1]]:.2f}" for name in slower]
        lines.append(f"| {' | '.join([f'grid of {SETTINGS} settings, {precision}, added up', *cells])} |")
    lines += ["", f"| from float64, in standard deviations | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for precision, table in found["errors"].items():
        for what in table[names[0]]:
            cells = [f"{table[name][what]:.0e}" for name in names]
            lines.append(f"| {' | '.join([f'{precision}: {what}', *cells])} |")
    return "\n".join([*lines, ""])


def memory(run: dict[str, Any]) -> str:
    peaks = run["memory"]["peaks"]
    few, many = (peaks[f"{FLOAT32}, sweep of {count}"] for count in (32, MANY))
    return (
        "**Memory** is the peak of a process of its own, above interpreter, libraries, network and images. A sweep "
        f"takes {few:.2f} GB for 32 images and {many:.2f} GB for {MANY}.\n"
    )


def exactness(run: dict[str, Any]) -> str:
    found = run["exactness"]
    table = {way_of(name): each for name, each in found["contestants"].items()}  # whatever the batch size
    temperatures = list(next(iter(table.values()))["differences"])
    lines = [
        f"**How exact the scores are**: the median and the largest difference of the softmax score from that of the "
        f"modules in float64, in standard deviations of these, of {found['images']} images "
        f"({' and '.join(found['sets']) or 'noise'}; weights `{found['provenance']['weights']}`), and of how many the "
        "score at T = 1 is exactly 1, so that they cannot be told apart:",
        "",
        f"| | {' | '.join(f'T = {t}' for t in temperatures)} | exactly 1 at T = 1 |",
        "|---" * (2 + len(temperatures)) + "|",
    ]
    for name, each in table.items():
        ends = [" / ".join(f"{end:.0e}" for end in each["differences"][t]) for t in temperatures]
        cells = [name, *ends, str(each["ones"])]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Where the softmax is 1 in float32, what the gradient owes to the predicted class, 1 - S, is 0: the image then "
        "moves by the other logits alone. The library takes both in float64 from the logits.",
        "",
    ]
    return "\n".join(lines)


def measures(run: dict[str, Any]) -> str:
    found = run["measures"]
    return (
        f"**Measures.** All five at {found['settings']} settings of {found['images']} + {found['images']} scores took "
        f"{min(found['engine']):.2f} s; scikit-learn, timed on {found['sampled']} settings, would take "
        f"{min(found['scikit_learn']):.1f} s: {ratio(found['scikit_learn'], found['engine']):.1f} times as long, for "
        f"values that differ by at most {found['difference']:.0e}. 1,000 bootstrap resamples of a pair took "
        f"{min(found['bootstrap']):.2f} s.\n"
    )


def precision(run: dict[str, Any]) -> str:
    found = run["precision"]
    lines = [
        f"**What bfloat16 changes** ({found['id_set']}, {found['images']} images of each set; weights "
        f"`{found['provenance']['weights']}`), in percentage points with the paired bootstrap's 95 % interval:",
        "",
        "| OOD set | T | epsilon | FPR, float32 | shift | AUROC, float32 | shift |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = {(r["ood_set"], r["temperature"], r["epsilon"], r["metric"]): r for r in found["rows"]}
    for name, temperature, epsilon in dict.fromkeys(key[:3] for key in rows):
        cells = [name, f"{temperature:g}", f"{epsilon:g}"]
        for metric in ("fpr", "auroc"):
            row = rows[name, temperature, epsilon, metric]
            cells += [f"{row['float32']:.2f}", f"{row['shift']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def whole_pair(run: dict[str, Any]) -> str:
    found = run["whole_pair"]
    fprs = {name: each["fpr"] for name, each in found["measures"].items()}
    return (
        f"**One whole pair, run** ({found['id_set']}, {found['ood_set']}, {found['images']} images; "
        f"{found['contestant']}): {found['seconds'] / 60:.1f} minutes; T = {found['temperature']:g}, epsilon = "
        f"{found['epsilon']:g}; FPR {fprs['baseline']:.1f} % by the baseline, {fprs['odin']:.1f} % by ODIN.\n"
    )


def on_the_card(run: dict[str, Any]) -> str:
    """Of each network and way images a second, and what the forward passes and the training reach of the card's rates.

    Shares are of the rate of large matrix products in that precision, and of that of a copy, as if each layer read its
    maps from memory and wrote them there.
    """
    found = run["gpu"]
    rates = ", ".join(f"{rate / 1e12:.3g} in {name}" for name, rate in found["rates"].items())
    lines = [
        f"**{found['card'] or 'The CPU, to try the program'}** (PyTorch {found['provenance']['torch']}, commit "
        f"{found['provenance']['commit']}, {found['provenance']['date']}; {found['seconds']:.0f} s). Square products: "
        f"{rates} TFLOP/s; a copy: {found['copy'] / 1e9:.3g} GB/s.",
        "",
        "| network | way | precision | pass | images together | images a second | of the matrix rate | of the copy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        speed = 1e3 / row["milliseconds"]
        cells = [row["network"], row["way"], row["precision"], row["pass"], f"{row['images']:,}", f"{speed:,.4g}"]
        shares = ["–", "–"]
        if row["pass"] in ("forward", "training step"):
            rate = found["rates"][row["precision"]]
            shares = [f"{speed * row['operations'] / rate:.0%}", f"{speed * row['bytes'] / found['copy']:.0%}"]
        lines.append("| " + " | ".join(cells + shares) + " |")
    lines += ["", *([f"Left out: {'; '.join(found['left_out'])}.", ""] if found["left_out"] else [])]
    return "\n".join(lines)


def told(provenance: dict[str, Any]) -> str:
    return (
        f"{provenance['hardware']}, {provenance['threads']} threads, PyTorch {provenance['torch']}, commit "
        f"{provenance['commit']}, {provenance['date']}; {provenance['network']}, weights `{provenance['weights']}`"
        f"{'; engine ' + provenance['engine'] if 'engine' in provenance else ''}."
    )


def both(values: list[float] | None) -> str:
    return f"{min(values):.1f} / {statistics.median(values):.1f}" if values else "–"


SECTIONS = {
    "times": times,
    "engines": engines,
    "memory": memory,
    "exactness": exactness,
    "measures": measures,
    "precision": precision,
    "whole_pair": whole_pair,
    "gpu": on_the_card,
}
