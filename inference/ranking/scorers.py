"""A model bundle that scores in this process."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from inference.ranking.matrix import RankingInput
from inference.ranking.rank import ScoreRequest
from stillpoint.model import ModelBundle


class InProcessScorer:
    """A model bundle in this process."""

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = bundle

    @property
    def waits(self) -> bool:
        return False

    @property
    def mapping_version(self) -> int:
        return self.bundle.manifest.mapping_version

    @property
    def popular(self) -> Sequence[str]:
        return self.bundle.manifest.popular

    def collaborative_scores(self, content_ids: Sequence[str], sequence_id: int | None) -> npt.NDArray[np.float64]:
        return self.bundle.collaborative_scores(content_ids, sequence_id)

    def score(self, requests: Sequence[ScoreRequest]) -> list[npt.NDArray[np.float64]]:
        ends = list(accumulate(len(one.contents) for one in requests))
        places = [slice(end - len(one.contents), end) for one, end in zip(requests, ends, strict=True)]
        matrix = np.empty((ends[-1], len(self.bundle.manifest.feature_order)), np.float32)
        for one, place in zip(requests, places, strict=True):
            RankingInput.of(self.bundle, one.contents).fill(matrix[place], one.user, one.sequence_id)
        scores = self.bundle.score_matrix(matrix)
        return [scores[place] for place in places]
