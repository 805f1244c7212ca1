"""The detector as an estimator: settings and what is chosen, streams, the threshold's promise, and the file."""

import json
import os
import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import Then, images, small
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from odinlib import metrics, odin, own
from odinlib.errors import UserError
from odinlib.odin import ODIN

X = images()
OUT = images(90, seed=2) ** 3
GRID = ([1.0, 1000.0], [0.0, 0.01, 0.03])


def one_line(call, words, kind=UserError):
    with pytest.raises(kind, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- Settings and what is chosen --------------------------------------------------------------------------------------


def test_fit_changes_no_setting_and_starts_anew():
    detector = ODIN(small(), temperature=10.0, epsilon=0.002)
    before = detector.get_params()
    detector.fit(X, OUT, *GRID)
    assert detector.get_params() == before
    chosen = odin.tune(odin.sweep(small(), X, *GRID), odin.sweep(small(), OUT, *GRID), *GRID)
    assert (detector.temperature_, detector.epsilon_) == (chosen.temperature, chosen.epsilon)
    detector.fit(X)
    assert (detector.temperature_, detector.epsilon_) == (10.0, 0.002)
    fresh = ODIN(small(), temperature=10.0, epsilon=0.002).fit(X)
    assert detector.threshold_ == fresh.threshold_
    detector.set_params(epsilon=0.01, tpr=0.8).fit(X)
    assert detector.epsilon_ == 0.01 and (detector.predict(X) == 1).sum() == 96
    assert (detector.shape_, detector.familiar_) == ((3, 8, 8), 120)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"temperatures": 10}, (10.0, 0.0014)),
        ({"temperatures": [10.0]}, (10.0, 0.0014)),
        ({"temperatures": np.float32(10)}, (10.0, 0.0014)),
        ({"epsilons": 0.01}, (1000.0, 0.01)),
        ({"epsilons": torch.tensor([0.01])}, (1000.0, 0.01)),
        ({"temperatures": np.array([2]), "epsilons": np.array([0.02])}, (2.0, 0.02)),
        ({"images_out": OUT, "temperatures": np.int64(5), "epsilons": (0.0,)}, (5.0, 0.0)),
    ],
)
def test_grids_are_never_passed_over(given, expected):
    detector = ODIN(small()).fit(X, **given)
    assert (detector.temperature_, detector.epsilon_) == pytest.approx(expected)
    assert type(detector.temperature_) is float and type(detector.epsilon_) is float
    wanted = odin.sweep(small(), X, [detector.temperature_], [detector.epsilon_])[0, 0]
    assert torch.equal(detector.score_samples(X), wanted)


def test_without_foreign_images_epsilon_is_that_of_the_highest_mean_score():
    detector = ODIN(small(), temperature=2.0).fit(X, epsilons=[0.0, 0.5, 100.0])
    means = odin.sweep(small(), X, [2.0], [0.0, 0.5, 100.0])[0].mean(-1)
    assert detector.epsilon_ == [0.0, 0.5, 100.0][int(means.argmax())]


@pytest.mark.parametrize(
    ("settings", "fitted"),
    [
        ({}, {"temperatures": [1.0, 10.0]}),
        ({}, {"temperatures": []}),
        ({}, {"epsilons": []}),
        ({}, {"temperatures": "warm"}),
        ({}, {"epsilons": [0.0, -0.1]}),
        ({}, {"epsilons": [None]}),
        ({}, {"accuracy": 95}),
        ({"temperature": 0}, None),
        ({"temperature": np.nan}, None),
        ({"temperature": "1000"}, None),
        ({"epsilon": -1e-9}, None),
        ({"tpr": 95}, None),
        ({"tpr": 0}, None),
        ({"batch": 0}, None),
        ({"batch": -3}, None),
    ],
)
def test_settings_out_of_range_are_told(settings, fitted):
    one_line(lambda: ODIN(small(), **settings).fit(X, **(fitted or {})), "(is|are|without) .*|empty")
    if fitted is None:
        one_line(lambda: ODIN(small()).set_params(**settings).fit(X), "expected")


def test_numbers_of_numpy_are_numbers():
    plain = ODIN(small(), 10.0, 0.01, 0.9, 7).fit(X)
    for kind in (np.float32, np.float64, np.array, torch.tensor):
        detector = ODIN(small(), kind(10.0), kind(0.01), kind(0.9), np.int64(7)).fit(X)
        assert detector.threshold_ == pytest.approx(plain.threshold_, rel=1e-6)


# --- scikit-learn's manner --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_mixin_order,
    ],
)
def test_scikit_learns_own_checks(check):
    """Those that do not fit on tables [samples, features], which are no images."""
    check("ODIN", ODIN(small()))


def test_what_scikit_learns_other_checks_ask_of_a_fit_on_images():
    detector = ODIN(small(), epsilon=0.01)
    assert get_tags(detector).estimator_type == "outlier_detector"
    with pytest.raises(NotFittedError):
        check_is_fitted(detector)
    for ask in (detector.predict, detector.decision_function):
        one_line(lambda ask=ask: ask(X), "no threshold; call fit", NotFittedError)
        one_line(lambda ask=ask: ask(X), "no threshold; call fit", UserError)
    given = X.clone()
    before = set(vars(detector))
    assert detector.fit(given) is detector  # and nothing public but what ends in an underscore is added
    assert all(name.endswith("_") for name in set(vars(detector)) - before)
    check_is_fitted(detector)
    assert torch.equal(given, X)
    scores, decisions, verdicts = (
        ask(X) for ask in (detector.score_samples, detector.decision_function, detector.predict)
    )
    assert torch.equal(decisions, scores - detector.threshold_)
    assert torch.equal(verdicts == 1, decisions > 0) and set(verdicts.tolist()) == {1, -1}
    assert torch.equal(verdicts, ODIN(small(), epsilon=0.01).fit(X).predict(X))  # the same again
    another = pickle.loads(pickle.dumps(detector))
    assert torch.equal(another.predict(X), verdicts)
    copied = clone(detector)
    with pytest.raises(NotFittedError):
        copied.predict(X)
    assert torch.equal(copied.fit(X).predict(X), verdicts)
    one_line(lambda: detector.set_params(epsilom=0.1), "did you mean 'epsilon'")
    assert repr(detector) == "ODIN(network=Small, epsilon=0.01)"


# --- Images of any kind, streamed -------------------------------------------------------------------------------------


class Single(Dataset):
    def __init__(self, found, give=lambda image, i: image):
        self.found, self.give = found, give

    def __len__(self):
        return len(self.found)

    def __getitem__(self, i):
        return self.give(self.found[i], i)


class Stream(IterableDataset):
    def __iter__(self):
        yield from X


SOURCES = {
    "tensor": lambda: X,
    "array": lambda: X.numpy(),
    "big-endian": lambda: X.numpy().astype(">f4"),
    "reversed": lambda: np.ascontiguousarray(X.numpy()[::-1, :, ::-1])[::-1, :, ::-1],
    "channels last in memory": lambda: X.contiguous(memory_format=torch.channels_last),
    "transposed": lambda: np.ascontiguousarray(X.numpy().transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "requires grad": lambda: X.clone().requires_grad_(),
    "read-only": lambda: np.frombuffer(X.numpy().tobytes(), np.float32).reshape(X.shape),
    "data set": lambda: TensorDataset(X),
    "labelled data set": lambda: TensorDataset(X, torch.zeros(120), torch.ones(120)),
    "data set of arrays": lambda: Single(X.numpy()),
    "data set of dictionaries": lambda: Single(X, lambda image, i: {"pixel_values": image, "labels": i % 4}),
    "data set with names": lambda: Single(X, lambda image, i: (image, f"{i}.png")),
    "iterable data set": Stream,
    "loader": lambda: DataLoader(TensorDataset(X, torch.arange(120)), 50),
    "loader of dictionaries": lambda: DataLoader(Single(X, lambda image, i: {"image": image, "label": i}), 7),
    "loader without batches": lambda: DataLoader(TensorDataset(X), batch_size=None),
    "list of images": lambda: list(X),
    "list of batches": lambda: list(X.split(50)),
    "generator of batches": lambda: (part for part in X.split(13)),
    "generator of arrays": lambda: (part.numpy() for part in X.split(61)),
    "pairs": lambda: ((part, None) for part in X.split(30)),
    "mixed": lambda: [X[:7], X[7], X[8], X[9:]],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_images_may_come_in_any_way(kind):
    plain = ODIN(small(), epsilon=0.01).fit(X)
    detector = ODIN(small(), epsilon=0.01).fit(SOURCES[kind]())
    assert detector.threshold_ == pytest.approx(plain.threshold_, rel=1e-4) and detector.familiar_ == 120
    assert torch.allclose(detector.score_samples(SOURCES[kind]()), plain.score_samples(X), rtol=1e-5)
    assert torch.equal(detector.predict(SOURCES[kind]()), plain.predict(X))


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.bool, np.uint8, np.uint16, np.dtype(">u2"), bool])
def test_whole_numbers_are_scaled_by_what_their_type_can_hold(kind):
    most = {1: 255, 2: 65535}[
        torch.empty((), dtype=kind).element_size() if isinstance(kind, torch.dtype) else np.dtype(kind).itemsize
    ]
    most = 1 if kind in (torch.bool, bool) else most
    whole = (X * most).round()
    given = whole.to(kind) if isinstance(kind, torch.dtype) else whole.numpy().astype(kind)
    found = torch.cat([part for part, _ in own.stream(given, 50)])
    assert found.dtype == torch.float32 and torch.allclose(found, whole / most)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("folder/a.png", "path 'folder/a.png'.*read_folder"),
        (Path("folder"), "path 'folder'"),
        (Path("kept.npy"), "path 'kept.npy'.*np.load"),
        (None, "NoneType"),
        (3, "int"),
        (X[0, 0], r"\[8, 8\]"),
        (X[:, 0], r"\[\d+, 8, 8\].*one channel"),
        ([X[0], images(1, size=9)[0]], r"\[3, 8, 8\] and \[3, 9, 9\].*resize or crop"),
        ([X, images(5, size=9)], r"\[N, 3, 9, 9\].*expected \[N, 3, 8, 8\]"),
        ([[0.1, 0.2]], "given as list"),
        ([{"pictures": X}], "entries pictures.*pixel_values"),
        ([X[0], (X[1] * 255).to(torch.uint8)], "several types"),
        ([torch.zeros(5, 5)], r"\[5, 5\]"),
        (X.permute(0, 2, 3, 1), r"\[N, 8, 8, 3\].*permute"),
        (iter([]), "no images"),
    ],
)
def test_what_are_no_images_is_told(given, words):
    one_line(lambda: ODIN(small()).fit(given), words)


def test_pictures_without_a_transform_are_told():
    from PIL import Image

    picture = Image.new("RGB", (8, 8))
    for one in (picture, (picture, 0)):  # alone, and with its label
        pictures = Single(range(9), lambda i, _, one=one: one)
        one_line(lambda pictures=pictures: ODIN(small()).fit(pictures), "given as Image.*ToTensor")


def test_the_shape_is_remembered():
    """A fully convolutional network would take any."""
    detector = ODIN(small(), epsilon=0.01).fit(X)
    all_scores = detector.score_samples(X)
    for image in (X[3], X[3].numpy(), [X[3]], X[3:4]):
        assert torch.allclose(detector.score_samples(image), all_scores[3:4], rtol=1e-5)
        assert detector.predict(image).shape == (1,)
    for wrong in (images(4, size=9), X.permute(0, 2, 3, 1), images(4, channels=1), X[:, :, :4]):
        one_line(lambda wrong=wrong: detector.predict(wrong), r"expected \[N, 3, 8, 8\]")
    for wrong in (X[0, 0], images(1, size=9)[0], X[0].permute(1, 2, 0)):
        one_line(lambda wrong=wrong: detector.predict(wrong), r"shape .*expected \[N, 3, 8, 8\], as when")
    one_line(lambda: detector.fit(X, images(4, size=9), [1.0], [0.0]), r"expected \[N, 3, 8, 8\]")
    square = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))  # which cannot tell channels from columns
    detector = ODIN(square).fit(images(size=4))
    one_line(lambda: detector.predict(images(size=4).permute(0, 2, 3, 1)), r"\[N, 4, 4, 3\]")


def test_one_batch_is_alive_at_a_time():
    """Of what a source gives, of what the stream makes of it and of what the network sees: counted, not timed."""
    given, made, seen = weakref.WeakSet(), weakref.WeakSet(), weakref.WeakSet()

    def source(batches):
        for i in range(batches):
            part = (images(32, seed=i) * 255).to(torch.uint8)
            given.add(part)
            assert len(given) <= 2
            yield part
            del part

    for part, _ in own.stream(source(12), 32):
        made.add(part)
        assert len(made) <= 2

    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small()

        def forward(self, x):
            seen.add(x)
            assert len(seen) <= 3
            return self.network(x)

    detector = ODIN(Seen(), epsilon=0.01).fit(source(12), source(12), [1.0, 1000.0], [0.0, 0.01, 0.02])
    assert len(detector.score_samples(source(12))) == 32 * 12


def test_arrays_larger_than_memory_are_read_in_parts(tmp_path):
    """A mapped file is converted batch by batch, never as a whole."""
    mapped = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(300, 3, 8, 8))
    mapped[:] = (images(300) * 255).to(torch.uint8).numpy()
    sizes = [len(part) for part, _ in own.stream(mapped, 32)]
    assert sizes == [32] * 9 + [12]
    detector = ODIN(small()).fit(mapped)
    assert (detector.predict(mapped) == 1).sum() == 285


def test_progress_is_shown_where_it_is_asked_for(capsys):
    ODIN(small(), batch=30).fit(X)
    assert capsys.readouterr().err == ""
    ODIN(small(), batch=30, progress=True).fit(DataLoader(TensorDataset(X), 60))
    assert "/4 [" in capsys.readouterr().err  # 2 batches of 60, in halves


# --- The threshold is a promise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tpr", [0.95, 0.5, 1.0])
def test_the_share_that_is_accepted_does_not_depend_on_batch_and_order(tpr):
    familiar = images(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    accepted = set()
    for fitted, given in ((64, familiar), (7, familiar[order]), (1, familiar)):
        detector = ODIN(small(), epsilon=0.01, tpr=tpr, batch=fitted).fit(given)
        for batch, judged in ((1, familiar), (13, familiar[order]), (60, familiar.double())):
            accepted.add((detector.set_params(batch=batch).predict(judged) == 1).sum().item())
    assert accepted == {round(60 * tpr)}


def test_the_threshold_lies_between_two_scores():
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert metrics.threshold_at_tpr(scores, 0.8, 1e-6) == 0.5
    assert metrics.threshold_at_tpr(scores, 0.6, 1e-6) == 1.5
    assert metrics.threshold_at_tpr(scores, 1.0, 1e-3) == pytest.approx(-0.002)
    assert metrics.threshold_at_tpr(scores.flip(0), 0.8, 0.0) == 0.5


def test_scores_closer_than_rounding_are_accepted_together():
    crowd = torch.tensor([0.0, 1.0 - 3e-7, 1.0 - 1e-7, 1.0, *range(2, 98)], dtype=torch.float64)
    assert metrics.threshold_at_tpr(crowd, 0.97, 1e-9) == pytest.approx(1.0 - 5e-8, abs=1e-9)
    assert metrics.threshold_at_tpr(crowd, 0.98, 1e-6) == pytest.approx(0.5)  # of the crowd's lowest but one
    ties = torch.cat([torch.zeros(4), torch.ones(96)]).double()
    assert metrics.threshold_at_tpr(ties, 0.95, 1e-6) == 0.5
    assert metrics.threshold_at_tpr(torch.ones(10), 0.9, 1e-6) < 1
    both = torch.stack([scores := torch.rand(50, dtype=torch.float64), scores * 2])
    single = [metrics.threshold_at_tpr(row, 0.9, 1e-6) for row in both]
    assert torch.equal(metrics.threshold_at_tpr(both, 0.9, 1e-6), torch.stack(single))


def test_a_wide_rounding_does_not_give_the_promise_away():
    scores = torch.linspace(0, 1, 1000, dtype=torch.float64)
    assert (scores > metrics.threshold_at_tpr(scores, 0.95, 0.5)).sum() in range(950, 961)


# --- The file ---------------------------------------------------------------------------------------------------------


def test_a_fitted_detector_is_kept_and_used_again(tmp_path):
    detector = ODIN(small(), epsilon=np.float32(0.01), batch=np.int64(9)).fit(X, OUT, *GRID)
    detector.save(tmp_path / "detector.json")
    content = json.loads((tmp_path / "detector.json").read_text())
    assert content["fitted"]["threshold_"] == detector.threshold_ and len(content["network"]) == 64
    for network in (small(), torch.compile(small(), backend="eager"), nn.DataParallel(small())):
        loaded = ODIN.load(tmp_path / "detector.json", network)
        assert torch.equal(loaded.predict(X), detector.predict(X))
        assert loaded._fitted() == detector._fitted() and loaded.batch == 9
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "detector.json").read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda: small(seed=1),
        lambda: small().half(),
        lambda: own.Normalised(small(), [0.5], [0.25]),
        lambda: Then(lambda z: z, small()),
        lambda: nn.utils.parametrizations.weight_norm(small().last) and small(2),
    ],
)
def test_other_weights_are_refused(tmp_path, change):
    ODIN(small()).fit(X).save(tmp_path / "d.json")
    one_line(lambda: ODIN.load(tmp_path / "d.json", change()), "other weights.*fit it again")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:-20], "is damaged"),
        (lambda text: "[]", "is damaged"),
        (lambda text: "", "is damaged"),
        (lambda text: text.replace('"ODIN"', '"Forest"'), "it is of a Forest"),
        (lambda text: text.replace('"fitted"', '"found"'), "is damaged"),
        (lambda text: text.replace('"tpr": 0.95', '"tpr": 95'), "tpr is 95"),
        (lambda text: text.replace('"tpr"', '"share"'), "another version"),
        (lambda text: text.replace('"threshold_": ', '"threshold_": NaN, "x": '), "damaged"),
    ],
)
def test_damaged_files_are_told(tmp_path, damage, words):
    path = tmp_path / "d.json"
    ODIN(small()).fit(X).save(path)
    path.write_text(damage(path.read_text()))
    one_line(lambda: ODIN.load(path, small()), words)


def test_what_cannot_be_saved_or_loaded_is_told(tmp_path):
    one_line(lambda: ODIN(small()).save(tmp_path / "d.json"), "no threshold")
    one_line(lambda: ODIN.load(tmp_path / "none.json", small()), "is not there")
    one_line(lambda: ODIN.load(tmp_path, small()), "is a folder")
    ODIN(small()).fit(X).save(tmp_path / "d.json")
    one_line(lambda: ODIN.load(tmp_path / "d.json", small().state_dict()), "state dict")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read off /proc")
def test_what_a_stream_leaves_in_memory_does_not_grow_with_it():
    """The heap too: small results that stay between images that go would keep it from being given back."""
    small = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    detector = ODIN(small).fit(torch.rand(128, 3, 64, 64))

    def megabytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    detector.score_samples(torch.rand(64, 3, 64, 64) for _ in range(4))
    before = megabytes()
    scores = detector.score_samples(torch.rand(64, 3, 64, 64) for _ in range(40))
    assert len(scores) == 2560 and megabytes() - before < 20
