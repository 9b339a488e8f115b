"""What a run says about itself where something is wrong."""

from wav2vec2_core.training.diagnosis import refusal, troubles
from wav2vec2_core.training.tasks import Scores

BLANK = Scores({"wer": 1.0}, (1.0,), begun=False, stuck="writes nothing")
BAD = Scores({"wer": 0.95}, (0.95,), begun=False)
GOOD = Scores({"wer": 0.2}, (0.2,))


def said(scores, before, since, *, frozen=False):
    return list(troubles(800, scores, before, since, frozen=frozen, rate=3e-4))


def test_a_run_that_learns_says_nothing():
    assert said(GOOD, 1.0, 0.9) == []
    assert said(GOOD, 1.0, 1.0) == []  # it has learned what there is
    assert said(GOOD, None, 5.0) == []
    assert said(BAD, 5.0, 4.0) == []


def test_blanks_everywhere_have_a_cause():
    assert said(BLANK, 5.0, 4.0) == [
        "after 800 updates the model writes nothing: that is usual at the start of training, and the loss falls "
        "(5.000 before, 4.000 since the last evaluation)"
    ]
    assert said(BLANK, None, 5.0) == [
        "after 800 updates the model writes nothing: that is usual at the start of training"
    ]
    (first, flat) = said(BLANK, 5.0, 4.99)
    assert "raise the learning rate (0.0003 now), or check that labels belong to their recordings" in first
    assert flat.startswith("the loss is flat: 5.000 before, 4.990 since the last evaluation, WER 100.00%: raise the")
    assert "only the head is trained so far (schedule.frozen)" in said(BLANK, 5.0, 5.0, frozen=True)[0]


def test_a_loss_that_rises_asks_for_a_lower_rate_never_for_a_higher():
    for scores in (GOOD, BAD, BLANK):
        *first, last = said(scores, 1.0, 1.3)
        assert last == (
            "the loss rises: 1.000 before, 1.300 since the last evaluation. The learning rate is too high (0.0003 "
            "now): lower it, or limit gradients by --set optimizer.clip=1"
        )
        assert not any("raise" in note for note in first)
    assert said(GOOD, 1.0, 1.2) == []
    assert said(GOOD, 1.0, 1.3, frozen=True) == []


def test_an_update_that_changed_nothing_names_its_utterances():
    names = ["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"]
    one = refusal(7, names, loss=False, in_a_row=1, rate=1e-3)
    assert one == (
        "update 7 changed nothing, as its loss is not finite. It had 5 utterances, a.wav, b.wav, c.wav and 2 more (all "
        "are in train.jsonl): listen to them; if more updates do so, lower the learning rate"
    )
    third = refusal(9, names[:2], loss=True, in_a_row=3, rate=1e-3)
    assert third == (
        "update 9 changed nothing, as its gradient is not finite. It had 2 utterances, a.wav, b.wav: that is 3 in a "
        "row: the learning rate is too high (0.001), go back and lower it"
    )
