"""Every file of a profile: where it lies, what it holds, how it is read and made; and any question that they answer.

    networks/<key>.safetensors, .json     the trained weights, and their card (`odinlib.trained`)
    responses/<key>/<set>.npz             clean logits and gradient norms: all that needs no perturbation
    grids/<key>/<set>.npz                 scores of the held-out images at every (T, epsilon)
    curves/<key>/<set>.npz                scores and classes of test images at two temperatures, for every epsilon
    scores/<key>/<set>_T<T>_e<eps>.npz    scores of the test images at one setting

with the key `<network>_<ID set>_<training>`. A file's header says what its arrays depend on: the network's training,
the set, the draw of its images and the part of it that is there, the settings, the SHA-256 of weights and images, and
the precision in which the network was asked, where that is not float32. Such a file's name ends in `_<precision>`, and
questions about a network asked in one precision are never answered from another (`Trained.precision`).
Nothing is found by its name: `scores` is asked for images at settings (T, epsilon) and answers from whatever holds the
answer, be it a file of its own, a row of a grid, a point of a curve, or the clean logits for any T; `available` says
which images could be asked for. What no file holds is computed where the profile computes, and `Missing` otherwise.

Scores are those of `odin.margin_score`: they rank images as the softmax score does, and float32 keeps their digits.
Images are known by their place in the whole set, in the set's own order.
"""

from odinlib.store.answers import Clean, Responses, classes, clean, has_classes, has_responses, responses, scores
from odinlib.store.files import (
    FORMAT,
    Part,
    Recorded,
    Setting,
    available,
    draw,
    held_out,
    image_set,
    missing,
    recorded,
    total,
    trainings,
    with_logits,
)
from odinlib.store.making import make_responses, make_scores, make_scores_together, respond

__all__ = [
    "FORMAT",
    "Clean",
    "Part",
    "Recorded",
    "Responses",
    "Setting",
    "available",
    "classes",
    "clean",
    "draw",
    "has_classes",
    "has_responses",
    "held_out",
    "image_set",
    "make_responses",
    "make_scores",
    "make_scores_together",
    "missing",
    "recorded",
    "respond",
    "responses",
    "scores",
    "total",
    "trainings",
    "with_logits",
]
