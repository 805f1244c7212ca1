"""Files are whole or absent, say what they are, and are never used when they do not match."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest

from odinlib import artefacts
from odinlib.errors import UserError

ARRAYS = {"scores": np.arange(6, dtype=np.float32).reshape(2, 3), "labels": np.array([1, 2])}
CONFIG = {"network": "mlp", "epsilons": (0.0, 0.1)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "some.npz"


def test_what_is_saved_is_loaded(path):
    artefacts.save(path, ARRAYS, CONFIG, {"commit": "abc"})
    found = artefacts.load(path, CONFIG)
    assert all(np.array_equal(found.arrays[name], ARRAYS[name]) for name in ARRAYS)
    assert found.provenance == {"commit": "abc"}
    assert found.config["epsilons"] == [0.0, 0.1]


def test_equal_contents_give_equal_bytes(tmp_path):
    for name in "ab":
        artefacts.save(tmp_path / name, ARRAYS, CONFIG)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_flipped_byte_of_the_data_is_noticed(path):
    artefacts.save(path, ARRAYS, CONFIG)
    whole = path.read_bytes()
    for position in range(60, len(whole) - 150, 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            found = artefacts.load(path, CONFIG)
        except (artefacts.Refused, NotImplementedError):
            continue
        # A flip in the archive's own bookkeeping may go by, but never a changed number.
        assert all(np.array_equal(found.arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_a_truncated_file_is_refused_by_name(path):
    artefacts.save(path, ARRAYS, CONFIG)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(artefacts.Refused, match=r"some\.npz is damaged"):
        artefacts.load(path)


def test_an_edited_array_is_refused(path):
    artefacts.save(path, ARRAYS, CONFIG)
    with np.load(path) as file:
        members = {name: file[name] for name in file.files}
    members["scores"] = members["scores"] + 1
    np.savez(path, **members)
    with pytest.raises(artefacts.Refused, match="SHA-256"):
        artefacts.load(path)


def test_another_configuration_is_refused_and_named(path):
    artefacts.save(path, ARRAYS, CONFIG)
    with pytest.raises(artefacts.Refused, match="network is 'mlp', wanted 'wrn'"):
        artefacts.load(path, {**CONFIG, "network": "wrn"})


@pytest.mark.parametrize("there", [0, 1, 2])
def test_shards_that_are_whole_are_not_computed_again(path, there):
    """Interrupted after so many, damaged in the last of them."""
    whole, calls = np.arange(12).reshape(2, 6), []

    def compute(piece):
        calls.append(piece.start)
        return {"scores": whole[:, piece]}

    def stops(piece):
        if piece.start == 2 * there:
            raise KeyboardInterrupt
        return compute(piece)

    with pytest.raises(KeyboardInterrupt):
        artefacts.in_shards(path, CONFIG, 6, stops, size=2)
    calls.clear()
    shards = sorted(path.with_name(f"{path.name}.shards").glob("*"))
    assert len(shards) == there
    if shards:
        shards[-1].write_bytes(b"rubbish")
    found = artefacts.in_shards(path, CONFIG, 6, compute, size=2)
    assert np.array_equal(found["scores"], whole)
    assert calls == list(range(2 * max(there - 1, 0), 6, 2))
    artefacts.forget_shards(path)
    assert not path.with_name(f"{path.name}.shards").exists()


def test_shards_of_another_question_are_not_taken(path):
    artefacts.in_shards(path, CONFIG, 4, lambda piece: {"scores": np.zeros(2)}, size=2)
    found = artefacts.in_shards(path, {**CONFIG, "network": "wrn"}, 4, lambda piece: {"scores": np.ones(2)}, size=2)
    assert (found["scores"] == 1).all()


def test_a_header_is_read_without_the_arrays(path):
    artefacts.save(path, ARRAYS, CONFIG)
    assert artefacts.load_header(path) == {"network": "mlp", "epsilons": [0.0, 0.1]}
    with pytest.raises(FileNotFoundError):
        artefacts.load_header(path.with_name("none.npz"))
    path.write_bytes(b"rubbish")
    with pytest.raises(artefacts.Refused, match="damaged"):
        artefacts.load_header(path)


def test_members_are_compressed(path):
    artefacts.save(path, {"scores": np.zeros(100_000)}, CONFIG)
    assert path.stat().st_size < 10_000


LOCKED = """
import sys, time
from odinlib import artefacts
for _ in range(20):
    with artefacts.locked(sys.argv[1]):
        log = open(sys.argv[1] + ".log", "a")
        print("in", file=log, flush=True)
        time.sleep(0.002)
        print("out", file=log, flush=True)
"""


def test_a_lock_is_held_by_one_process_at_a_time_and_leaves_nothing(path):
    running = [subprocess.Popen([sys.executable, "-c", LOCKED, str(path)]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    log = path.with_name(f"{path.name}.log")
    assert log.read_text().split() == ["in", "out"] * 60
    assert [left.name for left in path.parent.iterdir()] == [log.name]


def test_a_lock_ends_with_its_process(path):
    with pytest.raises(KeyboardInterrupt), artefacts.locked(path):
        raise KeyboardInterrupt
    with artefacts.locked(path):
        pass


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(path):
    artefacts.save(path, ARRAYS, CONFIG)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), artefacts.write_atomically(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["some.npz"]


def test_a_full_disk_is_told_in_one_line(path):
    with pytest.raises(UserError, match="no space left") as caught, artefacts.write_atomically(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "\n" not in str(caught.value) and not list(path.parent.iterdir())


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        artefacts.save(tmp_path / "file" / "some.npz", ARRAYS, CONFIG)


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert artefacts.digest({"a": 1, "b": (2,)}) == artefacts.digest({"b": [2], "a": 1})
    assert artefacts.digest({"a": 1}) != artefacts.digest({"a": 2})
    with pytest.raises(TypeError):
        artefacts.digest({"a": object()})


def test_provenance_is_json():
    assert set(json.loads(json.dumps(artefacts.provenance()))) >= {"date", "commit", "hardware", "torch"}
