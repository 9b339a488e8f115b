"""Comparison with the kenlm package: every score and every state, from ARPA files and from our binaries."""

import random
from pathlib import Path

import kenlm
import numpy as np
import pytest
from ngram_models import arpa_text, drop_endings, random_ngrams, random_words

from wav2vec2_core.language_model.estimation import estimate
from wav2vec2_core.language_model.ngram import NgramModel
from wav2vec2_core.language_model.ngram_kernels import score_ngram
from wav2vec2_core.language_model.scoring import score_texts
from wav2vec2_core.language_model.tables import write_binary

KENLM_FILES = Path(__file__).parents[1] / "support" / "kenlm_files"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def kenlm_model(path):
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    return kenlm.Model(str(path), config)


def compare(path, binary, vocabulary, seed, count):
    """Walk through random sentences with all three, state by state."""
    write_binary(path, binary)
    ours, theirs, from_ours = NgramModel.open(path), kenlm_model(path), kenlm_model(binary)
    in_place = NgramModel.open(binary)
    assert ours.order == theirs.order == from_ours.order
    chance = random.Random(seed)
    for _ in range(count):
        states = [kenlm.State(), kenlm.State()]
        begin = chance.random() < 0.7
        for model, state in zip((theirs, from_ours), states, strict=True):
            (model.BeginSentenceWrite if begin else model.NullContextWrite)(state)
        context, length = ours.start(begin)
        here, here_length = in_place.start(begin)
        for _ in range(12):
            word = chance.choice([*vocabulary, *vocabulary, "</s>", "<unk>", "unheard-of", "<s>"])
            after = [kenlm.State(), kenlm.State()]
            scores = [
                model.BaseScore(state, word, new)
                for model, state, new in zip((theirs, from_ours), states, after, strict=True)
            ]
            number = ours.word_id(word)
            score, length = score_ngram(
                ours.data, ours.offsets, ours.buckets, ours.order, context, length, number, context
            )
            again, here_length = score_ngram(
                in_place.data, in_place.offsets, in_place.buckets, in_place.order, here, here_length, number, here
            )
            assert scores == [float(score)] * 2 == [float(again)] * 2
            assert length == here_length
            assert context[:length].tolist() == here[:length].tolist()
            states = after
    return ours, theirs


@pytest.mark.parametrize("order", [2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_random_models(tmp_path, order, seed):
    chance = random.Random(100 * order + seed)
    vocabulary = random_words(chance, chance.randrange(3, 15))
    ngrams = random_ngrams(chance, order, vocabulary)
    if seed % 3 == 1:
        ngrams = drop_endings(chance, ngrams, 0.15)
    if seed % 3 == 2:
        del ngrams[("<unk>",)]
        ngrams = {ngram: found for ngram, found in ngrams.items() if "<unk>" not in ngram}
    path, binary = tmp_path / "model.arpa", tmp_path / "model.bin"
    path.write_text(arpa_text(ngrams, order, chance), encoding="utf-8")
    binary.touch()
    compare(path, binary, vocabulary, seed, 40)


@pytest.mark.parametrize("seed", range(4))
def test_states_are_as_long_as_theirs(tmp_path, seed):
    """kenlm compares states by what they hold: two of ours are equal exactly where two of theirs are."""
    chance = random.Random(seed)
    vocabulary = random_words(chance, 4)
    path = tmp_path / "model.arpa"
    path.write_text(arpa_text(random_ngrams(chance, 4, vocabulary, 6), 4), encoding="utf-8")
    ours, theirs = NgramModel.open(path), kenlm_model(path)
    reached = []
    for _ in range(40):
        context, length = ours.start()
        state = kenlm.State()
        theirs.BeginSentenceWrite(state)
        for word in chance.choices(vocabulary, k=chance.randrange(1, 6)):
            after = kenlm.State()
            theirs.BaseScore(state, word, after)
            _, length = score_ngram(
                ours.data, ours.offsets, ours.buckets, 4, context, length, ours.word_id(word), context
            )
            state = after
        reached.append((tuple(context[:length].tolist()), state))
    for mine, state in reached:
        for other, other_state in reached:
            assert (mine == other) == (state == other_state)


@pytest.mark.parametrize("path", sorted(KENLM_FILES.glob("*.bin")), ids=lambda path: path.stem)
def test_binaries_of_every_kind(path):
    ours, theirs = NgramModel.open(path), kenlm_model(path)
    assert ours.unigrams is not None
    chance = random.Random(1)
    for _ in range(100):
        said = chance.choices([*ours.unigrams[3:], "unheard-of"], k=chance.randrange(1, 10))
        full = np.float32([score for score, _, _ in theirs.full_scores(" ".join(said))])
        assert np.array_equal(ours.word_scores(said), full)


def test_estimated_models(tmp_path):
    """What estimation writes, kenlm reads; both give whole texts the same score."""
    chance = random.Random(3)
    vocabulary = random_words(chance, 60)
    weights = [1 / (place + 1) for place in range(len(vocabulary))]
    lines = [" ".join(chance.choices(vocabulary, weights, k=chance.randrange(0, 12))) for _ in range(500)]
    (tmp_path / "text").write_text("\n".join(lines), encoding="utf-8")
    fallback = (0.5, 1.0, 1.5)
    estimate([tmp_path / "text"], tmp_path / "m.arpa", order=4, prune=(0, 0, 1), discount_fallback=fallback)
    estimate([tmp_path / "text"], tmp_path / "m.binary", order=4, prune=(0, 0, 1), discount_fallback=fallback)
    binary = tmp_path / "again.bin"
    binary.touch()
    ours, theirs = compare(tmp_path / "m.arpa", binary, vocabulary, 0, 100)
    assert binary.read_bytes() == (tmp_path / "m.binary").read_bytes()
    for line in lines[:100]:
        assert ours.score(line.split()) == pytest.approx(theirs.score(line), rel=1e-6)
        assert ours.perplexity(line.split()) == pytest.approx(theirs.perplexity(line), rel=1e-5)
        full = np.float32([score for score, _, _ in theirs.full_scores(line)])
        assert np.array_equal(ours.word_scores(line.split()), full)
    total = score_texts(ours, [tmp_path / "text"])
    assert total.score == pytest.approx(sum(theirs.score(line) for line in lines), rel=1e-6)
    assert total.words == sum(len(line.split()) for line in lines)
