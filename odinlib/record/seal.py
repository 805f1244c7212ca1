"""The record of a profile: bringing weights into it, sealing it, and checking every number of it.

Sealing computes the tables from the recorded responses and scores, and lists every file with its SHA-256:

    tables/<table>.csv      one row per number, and beside it a `.json` that says what it was computed with
    MANIFEST.json           {"files": {path: {"sha256", "bytes"}}}

Checking needs neither images nor weights, only the record.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from odinlib import artefacts, errors, experiments, store
from odinlib.artefacts import MANIFEST, Artefact
from odinlib.errors import Missing, UserError
from odinlib.measure import distances as distances_of
from odinlib.networks import weights
from odinlib.profiles import Profile
from odinlib.store.files import check_header, contradictions

_TOLERANCE = 1e-5  # relative: the digits of a table, and what the sums of another machine may differ by
_UNFINISHED = re.compile(r"(^|/)\.|\.shards/|\.checkpoint$")


# --- Sealing ----------------------------------------------------------------------------------------------------------


def detections(profile: Profile) -> pd.DataFrame:
    """Tables 2, 3 and 12: the rows of `experiments.detection` for every recorded pair, ODIN's tuned and as printed."""
    networks = experiments.networks(profile)
    pairs = [(of.network, of.id_set, ood_set) for of in networks for ood_set in profile.ood_sets[of.id_set]]
    pairs = list(dict.fromkeys([*pairs, *experiments.near_pairs(profile)]))
    at_the_papers = experiments.detections(profile, experiments.printed(profile, pairs), experiments.STATED)
    return experiments.joined(experiments.detections(profile, pairs), at_the_papers)


def distances(profile: Profile) -> pd.DataFrame:
    """Appendix G: MMD, energy distance and their tests for every recorded pair of sets."""
    pairs = [(id_set, ood_set) for id_set in profile.id_sets for ood_set in profile.ood_sets[id_set]]
    found = experiments.gather(lambda *pair: distances_of.distance(profile, *pair), pairs)
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

    All is computed before anything is written, and the manifest comes last: until then the record is sealed as it was,
    and what was changed since is not read. Interrupted, the same command does it again.

    Raises:
        Missing: nothing is recorded.
        UserError: an artefact is damaged or of another configuration.
    """
    _check_there(profile)
    with artefacts.locked(profile.folder / MANIFEST), artefacts.unsealed():
        reading = dataclasses.replace(profile, compute=False)
        problems = list(_artefact_problems(reading, set()))
        if problems:
            raise UserError(f"the record cannot be sealed: {problems[0]}", remedy="`odin verify` names every problem")
        told = {key: getattr(profile, key) for key in ("tpr", "holdout", "images", "split", "seed", "resamples")}
        frames = {name: measure(reading) for name, measure in TABLES.items()}
        for name, frame in frames.items():
            path = profile.folder / "tables" / f"{name}.csv"
            if frame.empty:
                for gone in (path, path.with_suffix(".json")):
                    gone.unlink(missing_ok=True)
            elif not _stands(path, frame):
                about = {"table": name, "profile": profile.name, **told, **artefacts.provenance()}
                # The table last: one that agrees has its explanation beside it.
                _write(path.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
                _write(path, _csv(frame))
                yield f"{path}: {len(frame)} rows"
        sums: dict[str, dict[str, Any]] = {}
        for file in _files(profile.folder):
            held = artefacts.content(profile.folder / file)
            sums[file] = {"sha256": hashlib.sha256(held).hexdigest(), "bytes": len(held)}
        _write(profile.folder / MANIFEST, json.dumps({"profile": profile.name, "files": sums}, indent=1) + "\n")
    total = sum(entry["bytes"] for entry in sums.values())
    yield f"{profile.folder / MANIFEST}: {len(sums)} files, {total / 1e6:.1f} MB"


def _check_there(profile: Profile) -> None:
    if not profile.folder.is_dir() or not _files(profile.folder):
        raise Missing(f"nothing is recorded in {profile.folder}", remedy="`odin respond --all`, then `odin seal`")


def _stands(path: Path, frame: pd.DataFrame) -> bool:
    """Whether a table is there as it would be written, and what explains it beside it."""
    try:
        about = artefacts.load_json(path.with_suffix(".json"))
        return about.get("table") == path.stem and not _differences(_read_table(path), frame)
    except (FileNotFoundError, UserError):
        return False


def _read_table(path: Path) -> pd.DataFrame:
    held = artefacts.content(path)
    with errors.reading(path, "`odin seal` writes it anew"):
        return pd.read_csv(io.BytesIO(held))


def _write(path: Path, text: str) -> None:
    with artefacts.write_atomically(path) as file:
        file.write(text.encode())


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
    with contextlib.suppress(FileNotFoundError, UserError):
        return "source_sha256" in artefacts.load_json(path.with_suffix(".json"))
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
    _check_there(profile)
    named: set[str] = set()
    try:
        problems = list(_manifest_problems(profile.folder, named))
    except artefacts.Refused as damaged:  # then nothing can be held against it
        return [str(damaged)]
    problems += _artefact_problems(reading, named)
    return problems + list(_table_problems(reading, not problems))


def _manifest_problems(folder: Path, named: set[str]) -> Iterator[str]:
    if not (folder / MANIFEST).exists():
        yield f"{MANIFEST} is not there; `odin seal` writes it"
        return
    recorded = artefacts.manifest(folder)
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
                found = artefacts.load(file)
                if found.config.get("format") == store.FORMAT and found.config.get("kind") != "distance":
                    check_header(file, found.config)
                for problem in _wrong(profile, path, found, cards):
                    yield f"{path} {problem}"
            elif file.suffix == ".safetensors":
                weights.load_weights(file)
            elif file.parent.name == "networks":
                weights.read_card(file)
        except UserError as error:
            yield str(error) if path in str(error) else f"{path}: {error}"
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            yield f"{path} is not of the form that is written here ({errors.in_words(error)})"


def _cards(folder: Path) -> dict[str, str]:
    """The SHA-256 of the weights of each network, by its key, as the cards have them."""
    found = {}
    for card in (folder / "networks").glob("*.json"):
        with contextlib.suppress(KeyError, UserError):  # which is told where the card itself is looked at
            found[card.stem] = artefacts.load_json(card)["sha256"]
    return found


def _wrong(profile: Profile, path: str, artefact: Artefact, cards: Mapping[str, str]) -> Iterator[str]:
    """What contradicts itself in an artefact that is whole: its place, its weights, how many images it has."""
    config = artefact.config
    if config.get("format") != store.FORMAT:
        yield f"is of format {config.get('format')}; `odin record migrate` makes {store.FORMAT} of it"
        return
    if config["kind"] == "distance":
        if distances_of.path(profile, config) != profile.folder / path:
            yield f"is of {' and '.join(config['sets'])}, which would lie elsewhere"
        yield from distances_of.lacks(artefact.arrays)
        return
    key = Path(path).parent.name
    network = config["network"]
    if key != f"{network['network']}_{network['id_set']}_{network['training']}":
        yield f"lies in {key} and is of {network['network']} on {network['id_set']} ({network['training']})"
    if not Path(path).name.startswith(config["set"]):
        yield f"is of the set {config['set']}"
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
        except Exception as error:
            if sound and not isinstance(error, UserError):
                raise
            if sound:  # of artefacts that are wrong, which were named, nothing need follow
                yield f"tables/{name}.csv cannot be computed again: {error}"
            continue
        if not frame.empty and not path.with_suffix(".json").exists():
            yield f"tables/{name}.json is not there; `odin seal` writes it"
        try:
            recorded = _read_table(path)
        except FileNotFoundError:
            if not frame.empty:
                yield f"tables/{name}.csv is not there; `odin seal` writes it"
            continue
        except UserError as error:
            yield f"tables/{name}.csv cannot be read: {error}"
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
