"""What ODIN costs by this engine and by others, in one run on the same images and weights.

    python benchmarks/run.py                          random weights, no data: times, memory and rounding
    python benchmarks/run.py --weights FILE --data    trained weights, and scores of real images

On a machine with CUDA it measures the paper's three networks on the card instead, in at most three minutes; `--only`
chooses otherwise. It writes `benchmarks/results/<name>.json` and, from what lies there, `benchmarks/README.md`.
pytorch-ood takes part where it is installed (`pip install --no-deps pytorch-ood==0.4.0`).
"""

import argparse
import importlib.metadata
import json
from pathlib import Path

import exactness
import gpu
import passes
import precision
import protocol
import report
import scoring
import sweep
import torch
from contestants import BFLOAT16, FLOAT32, the_network

from odinlib import artefacts
from odinlib.networks import engines
from odinlib.networks.fast import fast

RESULTS = Path(__file__).resolve().parent / "results"
ID_SET = "cifar10"
OOD_SETS = ["tinyimagenet-crop-drawn", "tinyimagenet-resize-nearest"]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="of the file of results; none: cpu, or the card's")
    parser.add_argument("--weights", help="a .safetensors file of this library's, or a checkpoint; none: random ones")
    parser.add_argument("--network", default="densenet-bc-100-12", help="what a checkpoint holds, or random weights")
    parser.add_argument("--classes", type=int, default=10, help="likewise")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wholes", type=int, default=1, help="rounds in which the engine's grid is timed as a whole")
    parser.add_argument(
        "--data", action="store_true", help="hold scores against each other on prepared CIFAR-10 and Tiny ImageNet"
    )
    parser.add_argument("--count", type=int, default=1000, help="images of each set in the comparison of precisions")
    parser.add_argument("--compared", type=int, default=400, help="images on which scores are held against float64")
    parser.add_argument("--pair", choices=("float32", "bfloat16"), help="also run one whole pair of Table 2, in this")
    parser.add_argument("--scores", type=int, default=10000, help="of each kind and setting, for the measures")
    parser.add_argument("--networks", nargs="+", help="measured on the card, in place of the paper's three")
    parser.add_argument("--images", type=int, help="of a pass on the card")
    parser.add_argument(
        "--limit", type=float, default=gpu.LIMIT, help="seconds after which nothing more is begun there"
    )
    parts = ("times", "engines", "memory", "exactness", "measures", "precision", "pair", "gpu")
    parser.add_argument("--only", action="append", choices=parts, help="this (and what else), kept with the others")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        print(sweep.peak(arguments.memory, arguments))
        return

    on_card = torch.device(arguments.device).type == "cuda"
    card = torch.cuda.get_device_name().lower().replace(" ", "-") if on_card else "cpu"
    path = arguments.results / f"{arguments.name or card}.json"
    found = json.loads(path.read_text()) if arguments.only and path.exists() else {}

    def wanted(part: str) -> bool:
        return part in arguments.only if arguments.only else (part == "gpu") == on_card

    stamp = artefacts.provenance(
        threads=arguments.threads,
        weights=Path(arguments.weights).name if arguments.weights else "random",
        network=arguments.network,
        engine=engines.in_use(),
        versions={name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn")},
    )
    if wanted("gpu"):
        found["gpu"] = {**gpu.measure(arguments), "provenance": stamp}
    if wanted("times"):
        times = sweep.measure(arguments)
        found["times"] = {**times, "pair": protocol.estimate(times["contestants"]), "provenance": stamp}
    if wanted("engines") and arguments.device == "cpu":
        found["engines"] = {**passes.measure(arguments), "provenance": stamp}
    if wanted("exactness"):
        compared = exactness.measure(arguments, [ID_SET, OOD_SETS[0]] if arguments.data else [])
        found["exactness"] = {**compared, "provenance": stamp}
    if wanted("measures"):
        found["measures"] = {**scoring.measure(210, arguments.scores, min(3, arguments.rounds)), "provenance": stamp}
    if wanted("memory"):
        kept = ("weights", "network", "classes", "device", "threads")
        passed_on = [word for key in kept if (value := getattr(arguments, key)) for word in (f"--{key}", str(value))]
        found["memory"] = {"peaks": sweep.memory(arguments, passed_on), "provenance": stamp}
    if wanted("precision") and arguments.data:
        measured = precision.measure(the_network(arguments), ID_SET, OOD_SETS, arguments.count)
        found["precision"] = {**measured, "provenance": stamp}
    if wanted("pair") and arguments.pair:
        done = protocol.run(fast(the_network(arguments), arguments.pair), ID_SET, OOD_SETS[0])
        name = {"float32": FLOAT32, "bfloat16": BFLOAT16}[arguments.pair]
        found["whole_pair"] = {"contestant": name, **done, "provenance": stamp}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    text = report.write(arguments.results)
    print(text)


if __name__ == "__main__":
    main()
