"""What is wrong with a run that does not learn, and what helps: sentences for its user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wav2vec2_core.errors import listed
from wav2vec2_core.training.tasks.task import Scores

#: Shares of a mean loss: it falls by at least the first until the next evaluation where something is learned, and rises
#: by more than the second only where the learning rate is too high.
_LEAST_FALL, _MOST_RISE = 0.01, 0.25
#: Updates in a row without a finite gradient that are no accident of one batch.
_NO_ACCIDENT = 3


def troubles(
    step: int, scores: Scores, before: float | None, since: float | None, *, frozen: bool, rate: float
) -> Iterator[str]:
    """What an evaluation shows, with its cause and what helps; nothing where all is well.

    Args:
        step: updates made.
        scores: of the evaluation.
        before, since: mean losses between the last two evaluations, and since the last one.
        frozen: whether only the head has been trained so far.
        rate: the learning rate now.
    """
    growth, change = None, ""  # how many times as high the loss is
    if before is not None and since is not None and before > 0:
        growth, change = since / before, f"{before:.3f} before, {since:.3f} since the last evaluation"
    falling = growth is not None and growth <= 1 - _LEAST_FALL
    rising = growth is not None and growth > 1 + _MOST_RISE and not frozen
    if frozen:
        why = "only the head is trained so far (schedule.frozen)"
    elif rising:
        why = "the learning rate is too high, see below"
    elif falling or growth is None:
        why = "that is usual at the start of training" + (f", and the loss falls ({change})" if falling else "")
    else:
        why = (
            f"raise the learning rate ({rate:.2g} now), or check that labels belong to their recordings "
            "(wav2vec2 data check)"
        )
    if scores.stuck:
        yield f"after {step} updates the model {scores.stuck}: {why}"
    if rising:
        yield (
            f"the loss rises: {change}. The learning rate is too high ({rate:.2g} now): lower it, or limit gradients "
            "by --set optimizer.clip=1"
        )
    elif growth is not None and not falling and not scores.begun:
        yield f"the loss is flat: {change}, {scores}: {why}"


def refusal(step: int, names: Sequence[str], *, loss: bool, in_a_row: int, rate: float) -> str:
    """Why an update changed nothing.

    Args:
        step: its number, from 1.
        names: of its utterances.
        loss: whether its loss was finite, so that only the gradient was not.
        in_a_row: how many updates have changed nothing, this one included.
        rate: its learning rate.
    """
    what = "gradient" if loss else "loss"
    rest = f" and {len(names) - 3} more (all are in train.jsonl)" if len(names) > 3 else ""
    if in_a_row >= _NO_ACCIDENT:
        cause = f"that is {in_a_row} in a row: the learning rate is too high ({rate:.2g}), go back and lower it"
    else:
        cause = "listen to them; if more updates do so, lower the learning rate"
    return (
        f"update {step} changed nothing, as its {what} is not finite. It had {len(names)} utterances, "
        f"{listed(name[-40:] for name in names[:3])}{rest}: {cause}"
    )
