"""Beam search by hand: all paths, scores of language model and hotwords, pieces, plain Python, threads, pickles."""

import concurrent.futures
import functools
import itertools
import json
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import beam_cases
import numpy as np
import pytest
from beam_cases import LETTERS, BeamCase, cases_for_processes, characters, decoder_of, plain, readings, words

from wav2vec2_core.compilation import COMPILED
from wav2vec2_core.decoding import (
    Alphabet,
    BeamSearchDecoder,
    LanguageModelState,
    SearchOptions,
    build_ctcdecoder,
    greedy_decode,
)
from wav2vec2_core.decoding.search import beam_compaction, beam_state
from wav2vec2_core.errors import InputError
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

OPEN = {"beam_width": 5000, "beam_prune_logp": -1e9, "token_min_logp": -1e9}
LN10 = math.log(10)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def text_of(path, labels):
    """What CTC reads in one label for each frame."""
    kept = [label for label, _ in itertools.groupby(path)]
    return " ".join("".join(labels[label] for label in kept).split())


@pytest.mark.parametrize("seed", range(5))
def test_all_paths_add_up(seed):
    """Without language model and pruning a text has the probability of all paths that read like it."""
    random = np.random.default_rng(seed)
    labels = ["", "a", "b", " "]
    logp = log_softmax(random.normal(0, 1, (5, 4)))
    expected = {}
    for path in itertools.product(range(4), repeat=5):
        text = text_of(path, labels)
        score = sum(logp[frame, label] for frame, label in enumerate(path))
        expected[text] = np.logaddexp(expected.get(text, -np.inf), score)
    beams = BeamSearchDecoder(Alphabet(tuple(labels))).decode_beams(logp, None, **OPEN)
    # A text that ends in a space and the same text without are two beams to the end.
    found = {}
    for beam in beams:
        found[beam.text] = np.logaddexp(found.get(beam.text, -np.inf), beam.logit_score)
        assert beam.lm_score == beam.logit_score
    assert found.keys() == expected.keys()
    for text, score in expected.items():
        assert found[text] == pytest.approx(score, abs=1e-9)
    assert [beam.lm_score for beam in beams] == sorted((beam.lm_score for beam in beams), reverse=True)


def test_scores_of_the_language_model(tmp_path):
    checked = sum(scores_checked(BeamCase(seed, tmp_path)) for seed in range(20))
    assert checked > 300, checked


def scores_checked(case):
    """Compare scores of readings that end in a known word with sums of their parts; returns how many."""
    options = {"alpha": 0.7, "beta": 0.9, "unk_score_offset": -4.0, "hotword_weight": 2.5, "hotwords": case.words[:2]}
    decoder = decoder_of(case, **options, lm_score_boundary=case.chance(0.5))
    boundary = decoder.options.lm_score_boundary
    checked = 0
    for beam in (beam for _ in range(5) for beam in decoder.decode_beams(case.logits(), 20)):
        spoken = [word.text for word in beam.words]
        last = decoder.model.word_id(spoken[-1]) if spoken else 0
        if last == 0 or beam.last_lm_state.words[:1] != (last,):
            continue  # it ended in a space, and an empty word was scored, or may have been
        scores = decoder.model.word_scores(spoken, bos=boundary, eos=boundary).astype(float)
        known = {*case.words, "<s>", "</s>"} & set(case.unigrams or (*case.words, "<s>", "</s>"))
        unknown = sum(word not in known for word in spoken)
        hot = sum(word in options["hotwords"] for word in spoken)
        expected = 0.7 * LN10 * (scores.sum() - 4.0 * unknown) + 0.9 * len(spoken) + 2.5 * hot
        assert beam.lm_score - beam.logit_score == pytest.approx(expected, abs=1e-4)
        checked += 1
    return checked


def test_a_partial_word_is_measured_by_the_shortest_hotword_of_its_start():
    labels = ("", "a", "b", "c", " ")
    logits = np.log(np.array([[0.02, 0.9, 0.02, 0.02, 0.04], [0.02, 0.02, 0.9, 0.02, 0.04]]))
    decoder = BeamSearchDecoder(Alphabet(labels))
    plain_score = decoder.decode_beams(logits)[0].lm_score
    for hotwords in (["abcc", "abc"], ["abc", "abcc"], ["abcc abc"]):
        beams = decoder.decode_beams(logits, hotwords=hotwords, hotword_weight=6.0, beam_width=1)
        assert beams[0].text == "ab"
        assert beams[0].lm_score == pytest.approx(plain_score)  # the partial word ended as no hotword
    found = decoder.decode_beams(logits, hotwords=["ab"], hotword_weight=6.0)[0]
    assert found.lm_score == pytest.approx(found.logit_score + 6.0)


def test_hotwords_win():
    labels = ("", "a", "b", " ")
    logits = np.log(np.array([[0.1, 0.8, 0.05, 0.05], [0.1, 0.5, 0.35, 0.05], [0.9, 0.04, 0.03, 0.03]]))
    decoder = BeamSearchDecoder(Alphabet(labels))
    assert decoder.decode_beams(logits)[0].text == "a"
    assert decoder.decode_beams(logits, hotwords=["ab"])[0].text == "ab"
    assert decoder.decode_beams(logits, hotwords=["  ", ""])[0].text == "a"
    assert decoder.changed(hotwords=["ab"]).decode(logits)[0] == "ab"


def test_confident_logits_give_what_greedy_decoding_gives(tmp_path):
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")
    decoder = BeamSearchDecoder(Alphabet.build(vocabulary))
    random = np.random.default_rng(0)
    for _ in range(50):
        path = random.choice([0, 4, 5, 6], size=int(random.integers(1, 40)))
        logits = random.normal(0, 0.3, (len(path), 7))
        logits[np.arange(len(path)), path] += 15
        text, found = decoder.decode(logits)
        expected_text, expected = greedy_decode(logits, tokenizer)
        assert text == " ".join(expected_text.split())
        assert [(word.text, word.start, word.end) for word in found] == [(w.text, w.start, w.end) for w in expected]
        assert [[c[:3] for c in characters(word)] for word in found] == [
            [c[:3] for c in characters(w)] for w in expected
        ]
        np.testing.assert_allclose(
            [word.confidence for word in found], [word.confidence for word in expected], rtol=1e-5
        )


def test_pieces_of_words():
    labels = ["<pad>", "<unk>", "▁a", "b", "▁b", "▁"]
    alphabet = Alphabet.build(labels)
    assert alphabet.labels == ("", "▁⁇▁", "▁a", "b", "▁b", "▁")
    decoder = BeamSearchDecoder(alphabet)

    def read(path):
        logits = np.full((len(path), len(labels)), -20.0)
        logits[np.arange(len(path)), path] = 0.0
        beam = decoder.decode_beams(logits)[0]
        assert beam.text == " ".join(word.text for word in beam.words)
        return [(word.text, word.start, word.end) for word in beam.words]

    assert read([2, 3, 0, 3, 4]) == [("abb", 0, 4), ("b", 4, 5)]
    assert read([2, 1, 0, 3, 3]) == [("a", 0, 1), ("⁇", 1, 2), ("b", 3, 5)]  # a word starts after the unknown piece
    assert read([1, 1, 0, 1, 4]) == [("⁇", 0, 2), ("⁇", 3, 4), ("b", 4, 5)]
    assert read([3, 5, 3, 5, 5, 3]) == [("b", 0, 1), ("b", 2, 3), ("b", 5, 6)]


def test_a_break_belongs_to_its_own_beam():
    """Two beams, of which one has read the unknown piece: only its own next label starts a word."""
    decoder = BeamSearchDecoder(Alphabet(("", "▁⁇▁", "▁a", "b"), is_bpe=True))
    logits = np.log(np.array([[0.01, 0.49, 0.49, 0.01], [0.97, 0.01, 0.01, 0.01], [0.01, 0.01, 0.01, 0.97]]))
    texts = [beam.text for beam in decoder.decode_beams(logits, 2)]
    assert sorted(texts) == ["ab", "⁇ b"]


@pytest.mark.parametrize("seed", range(30 if COMPILED else 3))
def test_pieces_of_recordings_give_the_whole(seed, tmp_path):
    case = BeamCase(seed, tmp_path, bpe=seed % 3 == 2)
    decoder = decoder_of(case) if seed % 2 else BeamSearchDecoder(Alphabet.build(case.labels))
    logits = np.concatenate([case.logits() for _ in range(6)])
    if case.bpe:
        logits[:, case.labels.index("<unk>")] += 40 * case.random.random(len(logits))
    text, expected = decoder.decode(logits)
    stream, given, at = decoder.stream(), [], 0
    while at < len(logits):
        step = int(case.random.integers(0, 9))
        given += stream.feed(logits[at : at + step])
        at += step
        partial = stream.partial()
        so_far = decoder.decode(logits[:at])[1]
        assert words(given + partial) == words(so_far)
        assert words(given) == words(expected[: len(given)])  # what is final stays
    best = decoder.decode_beams(logits, prune_history=True)[0]
    assert words(given + stream.finish()) == words(expected)
    assert stream.last_lm_state == best.last_lm_state
    assert " ".join(word.text for word in expected) == text
    with pytest.raises(InputError, match="finished"):
        stream.feed(logits)


def test_streams_give_words_before_the_end_and_forget():
    """An easy recording, long: words come while it goes on, and its past takes no memory."""
    decoder = BeamSearchDecoder(Alphabet(("", "a", "b", " ")))
    random = np.random.default_rng(0)
    stream = decoder.stream()
    given = []
    for _ in range(40):
        path = random.choice([0, 1, 2, 3], size=50, p=[0.4, 0.2, 0.2, 0.2])
        logits = random.normal(0, 0.5, (50, 4))
        logits[np.arange(50), path] += 6
        given += stream.feed(logits)
    assert len(given) > 200
    assert stream._search.state.counts[beam_state.FRAMES] < 200
    assert len(stream._settled.labels) < 200


@pytest.mark.parametrize("seed", range(30 if COMPILED else 3))
def test_what_is_dropped_between_frames_changes_nothing(seed, tmp_path, monkeypatch):
    """Partial words and histories are dropped after each piece, as they are in a long recording now and then."""
    case = BeamCase(seed, tmp_path, bpe=seed % 3 == 2)
    options = {**case.options(), **case.fusion(), "prune_history": True}
    options["beam_width"] = max(options["beam_width"], 5)
    decoder = decoder_of(case, **options) if seed % 4 else BeamSearchDecoder(Alphabet.build(case.labels))
    logits = np.concatenate([case.logits() for _ in range(30 if COMPILED else 8)])
    best = decoder.decode_beams(logits, prune_history=True)[0]
    monkeypatch.setattr(beam_compaction, "ROWS", 0)
    monkeypatch.setattr(beam_compaction, "KEPT_FRAMES", 1)
    stream, given, at = decoder.stream(), [], 0
    while at < len(logits):
        step = int(case.random.integers(1, 9))
        stream._search._needed = stream._search._needed_frames = 0
        given += stream.feed(logits[at : at + step])
        at += step
    given += stream.finish()
    assert words(given) == words(best.words)
    assert stream.last_lm_state == best.last_lm_state
    assert next(iter(stream._search.results(1))).lm_score == best.lm_score


@pytest.mark.parametrize("seed", range(6 if COMPILED else 1))
def test_long_silence_takes_no_memory(seed):
    """After letters that are heard in two ways, whose readings all stay until the word ends."""
    labels = ("", "a", "b", "c", " ")
    decoder = BeamSearchDecoder(Alphabet(labels), options=SearchOptions(beam_width=20))
    random = np.random.default_rng(seed)
    count = 20 if COMPILED else 2

    def heard(places):
        logits = random.normal(0, 0.5, (25, len(labels)))
        logits[:, 0] += 5 + 5 * random.random((25, 1))[:, 0]
        for place, label in places:
            logits[place, label] += 10
        return logits

    pieces = []
    for _ in range(count):
        pieces += [heard([(3, 1), (3, 2), (9, 2), (9, 3)]), *(heard([]) for _ in range(60)), heard([(5, 4)])]
    stream, given = decoder.stream(), []
    most = 0
    for piece in pieces:
        given += stream.feed(piece)
        partial = stream.partial()
        most = max(most, int(stream._search.state.counts[beam_state.FRAMES]))
    assert partial == [] or partial[-1].end <= 25 * len(pieces)
    assert words(given + stream.finish()) == words(decoder.decode(np.concatenate(pieces))[1])
    assert len(given) >= count / 2 or not COMPILED
    assert most < 1100 < 60 * 25


@pytest.mark.parametrize("seed", range(10))
def test_words_before_what_beams_have_in_common_still_tell_histories_apart(seed, tmp_path, monkeypatch):
    """One word over and over: with one more of it a history has the same last words as before, and is the same."""
    (tmp_path / "a.arpa").write_text(
        "\\data\\\nngram 1=4\nngram 2=1\nngram 3=1\nngram 4=1\n\n\\1-grams:\n-9\t<unk>\n-9\t<s>\n-1\t</s>\n"
        "-0.2\ta\t-0.1\n\n\\2-grams:\n-0.1\ta a\t-0.3\n\n\\3-grams:\n-0.3\ta a a\t-0.2\n\n"
        "\\4-grams:\n-0.2\ta a a a\n\n\\end\\\n"
    )
    decoder = build_ctcdecoder(["", "a", " "], tmp_path / "a.arpa")
    logits = np.random.default_rng(seed).normal(0, 1.0, (60, 3))
    monkeypatch.setattr(beam_compaction, "ROWS", 0)
    stream = decoder.stream()
    search = stream._search
    given = []
    for frame in logits:
        search._needed = 0
        given += stream.feed(frame[None])
    one_pass = decoder._resources.begin(decoder.options.changed(prune_history=True), None)
    one_pass.feed(log_softmax(logits))
    assert search.state.counts[beam_state.BEAMS] == one_pass.state.counts[beam_state.BEAMS]
    assert words(given + stream.finish()) == words(decoder.decode(logits)[1])


def test_a_long_stream_takes_no_more_memory(tmp_path):
    """Ten minutes of words that are all new: what is kept does not grow, and the words are those of one pass."""
    decoder = BeamSearchDecoder(Alphabet(("", *LETTERS, " ")), options=SearchOptions(beam_width=8))
    random = np.random.default_rng(0)
    frames = 30_000 if COMPILED else 1500
    logits = random.normal(0, 1.5, (frames, len(LETTERS) + 2))
    logits[np.arange(frames), random.integers(0, len(LETTERS) + 2, frames)] += 5
    stream, given, sizes = decoder.stream(), [], []
    for start in range(0, frames, 250):
        given += stream.feed(logits[start : start + 250])
        sizes.append(stream._search.size)
    assert words(given + stream.finish()) == words(decoder.decode(logits)[1])
    search = decoder._resources.begin(decoder.options.changed(prune_history=True), None)
    search.feed(log_softmax(logits))
    if COMPILED:
        assert search.state.counts[beam_state.NODES] > 3 * beam_compaction.ROWS
        assert sizes[-1] == sizes[len(sizes) // 2]
        assert sizes[-1] < search.size / 3


@pytest.mark.parametrize("seed", range(8))
def test_small_arrays_grow(seed, tmp_path, monkeypatch):
    case = BeamCase(seed, tmp_path)
    logits = np.concatenate([case.logits() for _ in range(3)])
    options = {"hotwords": case.words[:3], "token_min_logp": -9.0, "prune_history": seed % 2 == 0}
    expected = plain(decoder_of(case).decode_beams(logits, 10, **options))
    monkeypatch.setattr(beam_state, "SMALL", 1)
    monkeypatch.setattr("wav2vec2_core.decoding.beam_decoder.BLOCK", len(case.labels))
    assert plain(decoder_of(case).decode_beams(logits, 10, **options)) == expected


def test_plain_python_gives_the_same(tmp_path):
    code = (
        "import sys, json, pathlib; sys.path.insert(0, sys.argv[1]); import beam_cases as t;"
        "print(json.dumps(list(t.cases_for_processes(pathlib.Path(sys.argv[2])))))"
    )
    (tmp_path / "plain").mkdir()
    command = [sys.executable, "-c", code, str(Path(beam_cases.__file__).parent), str(tmp_path / "plain")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}
    )
    expected = json.loads(done.stdout)
    found = json.loads(json.dumps(list(cases_for_processes(tmp_path))))
    assert found == expected


def test_threads_share_a_decoder(tmp_path):
    case = BeamCase(5, tmp_path)
    decoder = decoder_of(case)
    logits = [case.logits() for _ in range(30)]
    hotwords = [case.words[:count] for count in range(3)] * 10
    expected = [plain(decoder_of(case).decode_beams(x, 3, hotwords=h)) for x, h in zip(logits, hotwords, strict=True)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda x, h: plain(decoder.decode_beams(x, 3, hotwords=h)), logits, hotwords)
    assert list(found) == expected


def test_pickles(tmp_path):
    case = BeamCase(3, tmp_path)
    decoder = decoder_of(case, alpha=0.3)
    logits = case.logits()
    data = pickle.dumps(decoder)
    expected = plain(decoder.decode_beams(logits))
    assert pickle.loads(data)._resources is decoder._resources  # in the process it came from nothing is made again
    del decoder
    again = pickle.loads(data)
    assert plain(again.decode_beams(logits)) == expected
    assert plain(pickle.loads(pickle.dumps(again.decode_beams(logits)))) == expected


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_started_before_the_decoder(method, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(beam_cases.__file__).parent))
    case = BeamCase(4, tmp_path)
    logits = [case.logits() for _ in range(3)]
    with multiprocessing.get_context(method).Pool(1) as pool:
        decoder = decoder_of(case)
        found = pool.map(functools.partial(readings, decoder), logits)
    assert found == [readings(decoder, one) for one in logits]


def test_states_go_on(tmp_path):
    case = BeamCase(6, tmp_path)
    decoder = decoder_of(case)
    word = case.words[0]
    state = decoder.decode_beams(case.logits())[0].last_lm_state
    assert isinstance(state, LanguageModelState)
    assert len(state.words) < decoder.model.order
    other = LanguageModelState((decoder.model.word_id(word),))
    logits = case.logits()
    fresh, after = (decoder.decode_beams(logits, lm_start_state=start)[0] for start in (None, other))
    assert fresh.logit_score == pytest.approx(after.logit_score) or fresh.text != after.text
    for wrong in ("a", LanguageModelState((1,) * decoder.model.order)):
        with pytest.raises(InputError, match="no state of this language model"):
            decoder.decode_beams(logits, lm_start_state=wrong)


def test_nothing_heard():
    decoder = BeamSearchDecoder(Alphabet(("", "a", " ")))
    assert decoder.decode(np.zeros((0, 3))) == ("", [])
    stream = decoder.stream()
    assert (stream.feed(np.zeros((0, 3))), stream.partial(), stream.finish()) == ([], [], [])


GOOD = np.zeros((4, 3))


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((1, 4, 3)), r"shape \(1, 4, 3\), \(frames, vocab\) is needed"),
        (np.zeros(3), r"shape \(3,\), \(frames, vocab\)"),
        (np.zeros((4, 5)), "5 columns and the alphabet 3 labels"),
        (np.array([["a", "b", "c"]]), "real numbers"),
        (np.zeros((2, 3), complex), "real numbers"),
        (np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 0), "frame 2 are not finite"),
        (np.where(np.arange(12).reshape(4, 3) == 9, np.inf, 0), "frame 3 are not finite"),
        (np.where(np.arange(12).reshape(4, 3) < 3, -np.inf, 0), "frame 0 are not finite"),
    ],
)
def test_bad_logits(logits, message):
    decoder = BeamSearchDecoder(Alphabet(("", "a", " ")))
    for call in (decoder.decode, decoder.decode_beams, decoder.stream().feed):
        with pytest.raises(InputError, match=message) as error:
            call(logits)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width=0 must be an integer from 1"),
        ({"beam_width": 2.5}, "beam_width=2.5 must be an integer"),
        ({"beam_width": True}, "beam_width=True"),
        ({"beam_prune_logp": 1.0}, "beam_prune_logp=1.0 is a log probability"),
        ({"token_min_logp": math.nan}, "token_min_logp=nan"),
        ({"alpha": "0.5"}, "alpha='0.5' must be a number"),
        ({"beta": math.inf}, "beta=inf must be finite"),
        ({"hotwords": "word"}, "hotwords is the string"),
        ({"hotwords": 3}, "must be a list of words"),
        ({"hotwords": [3]}, "hotword 3 is a int"),
        ({"lm_score_boundary": "yes"}, "must be True or False"),
        ({"beam_widht": 10}, "option 'beam_widht' is unknown: use beam_width"),
        ({"n_best": 0}, "n_best=0"),
        ({"lm_start_state": LanguageModelState(())}, "there is no language model"),
    ],
)
def test_bad_options(options, message):
    decoder = BeamSearchDecoder(Alphabet(("", "a", " ")))
    with pytest.raises(InputError, match=message):
        decoder.decode_beams(GOOD, **options)


def test_minus_infinity_and_probabilities():
    decoder = BeamSearchDecoder(Alphabet(("", "a", " ")))
    probabilities = np.array([[0.2, 0.8, 0.0], [0.7, 0.2, 0.1]])
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities)
    left, right = (decoder.decode_beams(given)[0] for given in (probabilities, logits))
    assert (left.text, left.logit_score) == (right.text, pytest.approx(right.logit_score, abs=1e-9))
    half = decoder.decode_beams(probabilities.astype(np.float16))[0]
    assert half.logit_score == pytest.approx(left.logit_score, abs=1e-2)


def test_unigrams_need_a_language_model():
    with pytest.raises(InputError, match="without a language model"):
        build_ctcdecoder(["<pad>", "a", "|"], unigrams=["a"])
