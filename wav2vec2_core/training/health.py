"""Signs of a pretraining run that goes wrong: each names what is seen and what helps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from wav2vec2_core.errors import InputError

#: A hard perplexity of so many times the number of groups is one code in each of them.
_COLLAPSED = 1.1
#: Accuracies below so many times chance are chance.
_CHANCE = 1.5
#: Norms of the gradient between these are no sign; from 0.5 to 2 is usual, of losses divided by masked frames.
_LEAST_NORM, _MOST_NORM = 1e-3, 100.0


def chance_accuracy(masked: float, negatives: int) -> float:
    """The accuracy of guessing: 1 of the true frame and the different ones among its distractors.

    ``masked``: masked frames of an utterance, among which ``negatives`` are drawn with replacement: of 50, 43 are
    different ones; of 380, 88.
    """
    others = max(masked - 1, 1.0)
    return 1 / (1 + others * (1 - (1 - 1 / others) ** negatives))


class Guard:
    """Follows the measures of a run, averaged over a window of updates; says a sign once until it has gone."""

    def __init__(self, *, groups: int, codevectors: int, warm_up: int, window: int, most_collapsed: int) -> None:
        """Describe the run.

        Args:
            groups, codevectors: of the codebook; codevectors of all groups together.
            warm_up: updates before which an accuracy at chance is no sign.
            window: updates over which measures are averaged.
            most_collapsed: updates that a collapse may last; 0 for any.
        """
        self.groups, self.codevectors = groups, codevectors
        self.warm_up, self.window, self.most_collapsed = warm_up, window, most_collapsed
        self._seen: deque[tuple[float, float, float, float]] = deque(maxlen=window)
        self._said: set[str] = set()
        self._collapsed = 0  # updates

    def look(self, step: int, measures: Mapping[str, float], norm: float | None) -> Iterator[str]:
        """Take an update, the ``step``-th, and yield new signs.

        Args:
            step: from 1.
            measures: ``hard_perplexity_<group>`` of each group, ``contrastive_accuracy`` and ``chance_accuracy``;
                updates without them, as refused ones, are left out.
            norm: of the gradient.

        Raises:
            InputError: a collapse has lasted too long.
        """
        hard = [measures.get(f"hard_perplexity_{group}") for group in range(self.groups)]
        accuracy, chance = measures.get("contrastive_accuracy"), measures.get("chance_accuracy")
        if accuracy is None or chance is None or norm is None or None in hard:
            return
        self._seen.append((sum(one for one in hard if one is not None), accuracy, chance, norm))
        if len(self._seen) < self.window:
            return
        means = (sum(values) / self.window for values in zip(*self._seen, strict=True))
        signs = dict(self._signs(step, *means))
        yield from (text for name, text in signs.items() if name not in self._said)
        self._said = set(signs)
        self._collapsed = self._collapsed + 1 if "collapse" in signs else 0
        if 0 < self.most_collapsed < self._collapsed:
            raise InputError(
                f"the codebook has been collapsed for {self._collapsed} updates, health.most_collapsed is "
                f"{self.most_collapsed}: {signs['collapse']}"
            )

    def _signs(
        self, step: int, perplexity: float, accuracy: float, chance: float, norm: float
    ) -> Iterator[tuple[str, str]]:
        if perplexity <= _COLLAPSED * self.groups:
            yield (
                "collapse",
                f"the codebook collapses: its hard perplexity is {perplexity:.2f} of {self.codevectors}, and "
                f"{self.groups} is one code in each group; start again with a larger objective.diversity_loss_weight, "
                "a lower schedule.learning_rate or a longer schedule.warm_up",
            )
        elif step > self.warm_up and accuracy <= _CHANCE * chance:
            yield (
                "chance",
                f"the accuracy is {accuracy:.2%} and chance is {chance:.2%}: nothing is learned yet; give an "
                "update more audio (data.batch_seconds) or another schedule.learning_rate",
            )
        if norm >= _MOST_NORM:
            yield (
                "explosion",
                f"the gradient's norm is {norm:.3g}, 0.5 to 2 is usual: lower schedule.learning_rate or set "
                "optimizer.clip=1",
            )
        elif norm <= _LEAST_NORM:
            yield (
                "vanishing",
                f"the gradient's norm is {norm:.3g}, 0.5 to 2 is usual: nothing is left to learn from; look at the "
                "data (wav2vec2 data check --task pretraining) and at the perplexities",
            )
