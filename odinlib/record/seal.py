"""The record of a profile: bringing weights into it, sealing it, and checking every number of it.

Sealing computes the tables from the recorded responses and scores, and lists every file with its SHA-256:

    tables/<table>.csv      one row per number, and beside it a `.json` that says what it was computed with
    MANIFEST.json           {"files": {path: {"sha256", "bytes"}}}

Checking needs neither images nor weights, only the record.
"""

import contextlib
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from odinlib import artefacts, experiments, store
from odinlib.artefacts import MANIFEST, Artefact
from odinlib.errors import Missing, UserError
from odinlib.measure.distances import distance
from odinlib.networks import weights
from odinlib.profiles import Profile
from odinlib.store.files import contradictions

_TOLERANCE = 1e-5  # relative: the digits of a table, and what the sums of another machine may differ by
_UNFINISHED = re.compile(r"(^|/)\.|\.shards/|\.checkpoint$")


# --- Sealing ----------------------------------------------------------------------------------------------------------


def detections(profile: Profile) -> pd.DataFrame:
    """Tables 2, 3 and 12: the rows of `experiments.detection` for every recorded pair."""
    networks = experiments.networks(profile)
    pairs = [(of.network, of.id_set, ood_set) for of in networks for ood_set in profile.ood_sets[of.id_set]]
    pairs = list(dict.fromkeys([*pairs, *experiments.near_pairs(profile)]))
    return experiments.joined(experiments.detections(profile, pairs))


def distances(profile: Profile) -> pd.DataFrame:
    """Appendix G: MMD, energy distance and their tests for every recorded pair of sets."""
    pairs = [(id_set, ood_set) for id_set in profile.id_sets for ood_set in profile.ood_sets[id_set]]
    found = experiments.gather(lambda *pair: distance(profile, *pair), pairs)
    keys = ("id_set", "ood_set")
    rows = [{**dict(zip(keys, pair, strict=True)), **dataclasses.asdict(value)} for pair, value in found.items()]
    return pd.DataFrame(rows)


def test_errors(profile: Profile) -> pd.DataFrame:
    """Table 1: the test error of every recorded network, in percent."""
    keys = [(of.network, of.id_set) for of in experiments.networks(profile)]
    found = experiments.gather(lambda *key: experiments.test_error(profile.trained(*key)), keys)
    rows = [{"network": key[0], "id_set": key[1], "test_error": 100 * error} for key, error in found.items()]
    return pd.DataFrame(rows)


TABLES: dict[str, Callable[[Profile], pd.DataFrame]] = {
    "detections": detections,
    "distances": distances,
    "test-errors": test_errors,
}


def seal(profile: Profile) -> Iterator[str]:
    """Write the tables and the manifest of what is recorded, yielding a line for each file written.

    While this goes on, and if it fails, there is no manifest: the record is not sealed.

    Raises:
        UserError: an artefact is damaged or of another configuration.
    """
    reading = dataclasses.replace(profile, compute=False)
    (profile.folder / MANIFEST).unlink(missing_ok=True)
    problems = list(_artefact_problems(reading, set()))
    if problems:
        raise UserError(f"the record cannot be sealed: {problems[0]}", remedy="`odin verify` names every problem")
    told = {key: getattr(profile, key) for key in ("tpr", "holdout", "images", "split", "seed", "resamples")}
    for name, measure in TABLES.items():
        frame = measure(reading)
        path = profile.folder / "tables" / f"{name}.csv"
        with contextlib.suppress(OSError, ValueError):  # a table that is not there or cannot be read is written
            if not _differences(pd.read_csv(path), frame):
                continue
        if frame.empty:
            path.unlink(missing_ok=True)
            continue
        with artefacts.write_atomically(path) as file:
            file.write(_csv(frame).encode())
        about = {"table": name, "profile": profile.name, **told, **artefacts.provenance()}
        with artefacts.write_atomically(path.with_suffix(".json")) as file:
            file.write((json.dumps(about, indent=2) + "\n").encode())
        yield f"{path}: {len(frame)} rows"
    sums: dict[str, dict[str, Any]] = {
        path: {"sha256": artefacts.file_digest(profile.folder / path), "bytes": (profile.folder / path).stat().st_size}
        for path in _files(profile.folder)
    }
    with artefacts.write_atomically(profile.folder / MANIFEST) as file:
        file.write((json.dumps({"profile": profile.name, "files": sums}, indent=1) + "\n").encode())
    total = sum(entry["bytes"] for entry in sums.values())
    yield f"{profile.folder / MANIFEST}: {len(sums)} files, {total / 1e6:.1f} MB"


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.7g", lineterminator="\n")


def _files(folder: Path) -> list[str]:
    """The finished files under a folder, as paths in it.

    Imported weights are somebody else's: the record has their card, with their SHA-256, and does without them.
    """
    paths = [path for path in folder.rglob("*") if path.is_file() and not _is_foreign(path)]
    found = sorted(path.relative_to(folder).as_posix() for path in paths)
    return [path for path in found if path != MANIFEST and not _UNFINISHED.search(path)]


def _is_foreign(path: Path) -> bool:
    if path.suffix != ".safetensors":
        return False
    with contextlib.suppress(OSError, ValueError):
        return "source_sha256" in json.loads(path.with_suffix(".json").read_text())
    return False


# --- Checking ---------------------------------------------------------------------------------------------------------


def verify(profile: Profile) -> list[str]:
    """Everything that is wrong with a profile's record, a line each; empty where nothing is.

    The files against the manifest; every artefact's digest, configuration and lengths; the weights against their
    cards; the tables against what the recorded responses and scores give.

    Raises:
        Missing: nothing is recorded.
    """
    reading = dataclasses.replace(profile, compute=False)
    if not profile.folder.is_dir() or not _files(profile.folder):
        raise Missing(f"nothing is recorded in {profile.folder}", remedy="`odin respond --all`, then `odin seal`")
    named: set[str] = set()
    problems = list(_manifest_problems(profile.folder, named))
    problems += _artefact_problems(reading, named)
    return problems + list(_table_problems(reading, not problems))


def _manifest_problems(folder: Path, named: set[str]) -> Iterator[str]:
    if not (folder / MANIFEST).exists():
        yield f"{MANIFEST} is not there; `odin seal` writes it"
        return
    try:
        recorded = artefacts.manifest(folder)
    except UserError as error:
        yield str(error)
        return
    there = set(_files(folder))
    for path in sorted(recorded.keys() | there):
        if path not in there:
            yield f"{path} is missing"
        elif path not in recorded:
            yield f"{path} is not in {MANIFEST}"
        elif artefacts.file_digest(folder / path) != recorded[path]["sha256"]:
            size, now = recorded[path]["bytes"], (folder / path).stat().st_size
            how = f"has {now} bytes instead of {size}" if now != size else "has other bytes"
            yield f"{path} {how}: its SHA-256 is not that of {MANIFEST}"
        else:
            continue
        named.add(path)


def _artefact_problems(profile: Profile, named: set[str]) -> Iterator[str]:
    """What is wrong with the artefacts and the weights themselves; those already `named` are passed over."""
    cards = _cards(profile.folder)
    for path in _files(profile.folder):
        file = profile.folder / path
        if path in named:
            continue
        try:
            if file.suffix == ".npz":
                for problem in _wrong(path, artefacts.load(file), cards):
                    yield f"{path} {problem}"
            elif file.suffix == ".safetensors":
                weights.load_weights(file)
            elif file.parent.name == "networks":
                json.loads(file.read_text())["sha256"]
        except (UserError, KeyError, ValueError) as error:
            yield str(error) if path in str(error) else f"{path}: {error!r}"


def _cards(folder: Path) -> dict[str, str]:
    """The SHA-256 of the weights of each network, by its key, as the cards have them."""
    found = {}
    for card in (folder / "networks").glob("*.json"):
        with contextlib.suppress(KeyError, ValueError):  # which is told where the card itself is looked at
            found[card.stem] = json.loads(card.read_text())["sha256"]
    return found


def _wrong(path: str, artefact: Artefact, cards: Mapping[str, str]) -> Iterator[str]:
    """What contradicts itself in an artefact that is whole: its place, its weights, how many images it has."""
    config = artefact.config
    if config.get("format") != store.FORMAT:
        yield f"is of format {config.get('format')}; `odin record migrate` makes {store.FORMAT} of it"
        return
    if config["kind"] == "distance":
        if Path(path).parent.name != config["sets"][0]:
            yield f"lies in {Path(path).parent.name} and is of {config['sets'][0]}"
        return
    key = Path(path).parent.name
    network = config["network"]
    if key != f"{network['network']}_{network['id_set']}_{network['training']}":
        yield f"lies in {key} and is of {network['network']} on {network['id_set']} ({network['training']})"
    own = config["inputs"].get("weights")
    if own and own != cards.get(key, own):
        yield f"was made with other weights than those of networks/{key}.json"
    yield from contradictions(artefact)


def _table_problems(profile: Profile, sound: bool) -> Iterator[str]:
    """Where a recorded table is not what the record gives; `sound`: no artefact was found to be wrong."""
    for name, measure in TABLES.items():
        path = profile.folder / "tables" / f"{name}.csv"
        try:
            frame = measure(profile)
            recorded = pd.read_csv(path) if path.exists() else None
        except artefacts.Refused as error:
            if sound:
                yield f"tables/{name}.csv cannot be computed again: {error}"
            continue
        except ValueError as error:
            yield f"tables/{name}.csv cannot be read ({error})"
            continue
        if recorded is None:
            if not frame.empty:
                yield f"tables/{name}.csv is not there; `odin seal` writes it"
            continue
        for difference in _differences(recorded, frame):
            yield f"tables/{name}.csv: {difference}"


def _differences(recorded: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """Where a table differs from the frame that was to be written there, a line each."""
    wanted = pd.read_csv(io.StringIO(_csv(frame))) if not frame.empty else frame
    if list(recorded.columns) != list(wanted.columns):
        return [f"columns {', '.join(recorded.columns)} instead of {', '.join(wanted.columns)}"]
    if len(recorded) != len(wanted):
        return [f"{len(recorded)} rows instead of {len(wanted)}"]
    found = []
    for column in wanted.columns:
        ours, theirs = wanted[column], recorded[column]
        same = (ours == theirs) | (ours.isna() & theirs.isna())
        if pd.api.types.is_numeric_dtype(ours) and pd.api.types.is_numeric_dtype(theirs):
            same |= (ours - theirs).abs() <= _TOLERANCE * ours.abs() + _TOLERANCE / 10
        for row in wanted.index[~same]:
            what = ", ".join(str(value) for value in wanted.loc[row] if isinstance(value, str))
            found.append(f"row {row + 1} ({what}): {column} is {theirs[row]}, computed again {ours[row]}")
    return found
