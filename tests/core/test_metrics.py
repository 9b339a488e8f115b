"""Error rates and their intervals."""

import numpy as np
import pytest

from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import InputError
from wav2vec2_core.metrics import Errors, character_errors, confidence_interval, normalise, word_errors

pytest.importorskip("jiwer", reason="jiwer, of the extra train, is not installed here")


def distance(reference, hypothesis):
    """Levenshtein's, by the textbook."""
    row = list(range(len(hypothesis) + 1))
    for i, said in enumerate(reference, start=1):
        former, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, start=1):
            former, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, former + (said != heard))
    return row[-1]


def test_kinds_of_errors():
    assert word_errors("a b c d", "a x c d e") == Errors(substitutions=1, insertions=1, length=4)
    assert word_errors("a b c", "c") == Errors(deletions=2, length=3)
    assert character_errors("ab c", "ab  d") == Errors(substitutions=1, length=4)
    assert word_errors("a b", "a b").rate == 0.0
    assert word_errors("a b", "x y z").rate == 1.5


def test_empty_texts():
    assert word_errors("", " a b ") == Errors(insertions=2)
    assert character_errors(" ", "a b") == Errors(insertions=3)
    assert word_errors("a b", "") == Errors(deletions=2, length=2)
    assert word_errors("", "") == Errors()
    assert Errors().rate == 0.0
    assert Errors(insertions=2).rate is None


def test_random_texts_have_the_textbooks_distance():
    generator = np.random.default_rng(0)
    for _ in range(200):
        texts = ["".join(generator.choice(list("ab  "), generator.integers(0, 12))) for _ in range(2)]
        words, characters = word_errors(*texts), character_errors(*texts)
        assert words.total == distance(*(text.split() for text in texts))
        assert words.length == len(texts[0].split())
        assert characters.total == distance(*(" ".join(text.split()) for text in texts))


def test_interval():
    generator = np.random.default_rng(1)
    errors = [Errors(substitutions=int(n), length=20) for n in generator.binomial(20, 0.1, 400)]
    low, high = confidence_interval(errors)
    rate = sum(errors, Errors()).rate
    assert low < rate < high
    deviation = np.sqrt(0.1 * 0.9 / (20 * 400))  # of a binomial rate
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=0.15)
    assert confidence_interval(errors) == (low, high)
    assert confidence_interval([Errors(1, 0, 0, 2)] * 3) == (0.5, 0.5)
    assert confidence_interval([Errors(insertions=1)]) is None
    assert confidence_interval([]) is None


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ("  A\tb\n", {}, "A b"),
        ("Ä e\u0301", {"lower_case": True}, "ä é"),
        ("Well-known, isn’t it?", {"remove_punctuation": True}, "Well known isn't it"),
        ("'tis the dogs' “bone” — 3.5 and/or 4%", {"remove_punctuation": True}, "tis the dogs bone 35 and or 4"),
        ("...", {"remove_punctuation": True}, ""),
    ],
)
def test_normalised_texts(text, options, wanted):
    assert normalise(text, **options) == wanted
    assert normalise(wanted, **options) == wanted


def test_text_that_is_none():
    with pytest.raises(InputError, match="text 7 is a int, a string is needed"):
        normalise(7)


# ---- evaluations ----------------------------------------------------------------------------------------------------


def evaluate(*rows, **options):
    from wav2vec2_core.evaluation import score

    return score([(Utterance(f"{i}.wav", said), heard) for i, (said, heard) in enumerate(rows)], **options)


def test_all_utterances_together():
    found = evaluate(
        ("a b", "a x"), ("C d, e", "c d e"), ("f", None), ("", "g"), lower_case=True, remove_punctuation=True
    )
    assert (len(found.scored), found.failed) == (3, 1)
    assert found.words == Errors(substitutions=1, insertions=1, length=5)
    assert [str(item.utterance.path) for item in found.worst(9)] == ["3.wav", "0.wav"]
    assert found.worst(1)[0].hypothesis == "g"
    content = found.to_dict()
    assert (content["wer"], content["utterances"], content["failed"]) == (0.4, 3, 1)
    assert content["wer_interval"][0] <= 0.4 <= content["wer_interval"][1]
    assert content["rows"][1]["wer"] == 0.0
    header, *rows = [line.split("\t") for line in found.to_tsv().splitlines()]
    assert all(len(row) == len(header) for row in rows)
    first = dict(zip(header, rows[0], strict=True))
    assert (first["path"], first["wer"], first["reference"], first["hypothesis"]) == ("0.wav", "0.5000", "a b", "a x")
    assert dict(zip(header, rows[2], strict=True))["wer"] == ""


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "none of 0 utterances has a hypothesis"),
        ([("a", None)], "none of 1 utterances has a hypothesis"),
        ([(None, "a")], r"no text for 0\.wav"),
    ],
)
def test_nothing_to_score(rows, message):
    with pytest.raises(InputError, match=message):
        evaluate(*rows)


def test_hypotheses_from_files(tmp_path):
    from wav2vec2_core.evaluation import read_hypotheses

    utterances = [Utterance(tmp_path / "a.wav", "x"), Utterance(tmp_path / "b.wav", "y", offset=2.0)]
    (tmp_path / "h.txt").write_text("one\n\n", encoding="utf-8")
    assert read_hypotheses(tmp_path / "h.txt", utterances) == ["one", ""]
    (tmp_path / "h.csv").write_text("path,offset,text\nb.wav,2,two\na.wav,,one\nb.wav,,other\n", encoding="utf-8")
    assert read_hypotheses(tmp_path / "h.csv", utterances) == ["one", "two"]
    with pytest.raises(InputError, match=r"has no text for .*b\.wav \(1 such utterances\)"):
        read_hypotheses(tmp_path / "h.csv", [*utterances[:1], Utterance(tmp_path / "b.wav", "y", offset=3.0)])
    (tmp_path / "h.txt").write_text("one\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"h\.txt has 1 lines, the manifest 2 utterances"):
        read_hypotheses(tmp_path / "h.txt", utterances)
    with pytest.raises(InputError, match=r"gone\.txt cannot be read"):
        read_hypotheses(tmp_path / "gone.txt", utterances)
