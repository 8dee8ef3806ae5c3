"""Scorers of a model bundle: what they have in common, and the one that scores in this process."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from inference.ranking.matrix import RankingInput
from inference.ranking.rank import ScoreRequest
from stillpoint.model import ModelBundle


class BundleScorer:
    """What every scorer of a model bundle at hand has in common: all but the trees."""

    waits = False
    """Whether scoring waits for another process."""

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = bundle

    @property
    def mapping_version(self) -> int:
        return self.bundle.manifest.mapping_version

    @property
    def popular(self) -> Sequence[str]:
        return self.bundle.manifest.popular

    def collaborative_scores(self, content_ids: Sequence[str], sequence_id: int | None) -> npt.NDArray[np.float64]:
        return self.bundle.collaborative_scores(content_ids, sequence_id)


class InProcessScorer(BundleScorer):
    """A model bundle in this process."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[npt.NDArray[np.float64]]:
        places = row_ranges(requests)
        matrix = np.empty((places[-1].stop, len(self.bundle.manifest.feature_order)), np.float32)
        for one, place in zip(requests, places, strict=True):
            RankingInput.of(self.bundle, one.contents).fill(matrix[place], one.user, one.sequence_id)
        scores = self.bundle.score_matrix(matrix)
        return [scores[place] for place in places]


def row_ranges(requests: Sequence[ScoreRequest]) -> list[slice]:
    """Return where each request's contents lie when all are put one below the other."""
    ends = list(accumulate(len(one.contents) for one in requests))
    return [slice(end - len(one.contents), end) for one, end in zip(requests, ends, strict=True)]
