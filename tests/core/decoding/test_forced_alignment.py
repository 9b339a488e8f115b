"""Forced alignment: the best path there is, on the frames that greedy decoding gives, whatever the text holds."""

import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec2_core.captions import Layout, Segment, TimedWord, render
from wav2vec2_core.decoding import Character, Timeline, Word, greedy_decode, viterbi
from wav2vec2_core.decoding.forced_alignment import align_words
from wav2vec2_core.decoding.unspaced import split_unspaced, units
from wav2vec2_core.decoding.viterbi import Chain, cheapest_path
from wav2vec2_core.errors import InputError
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6, "Ü": 7, "'": 8}
TIMELINE = Timeline(320, 400, 16_000)
SYMBOLS = {".": 0, "S": 1, **VOCABULARY}


def make_tokenizer(folder, vocabulary=VOCABULARY, **options):
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), **options)


@pytest.fixture
def tokenizer(tmp_path):
    return make_tokenizer(tmp_path)


@pytest.fixture(params=["compiled", "rows", "positions"])
def form(request, monkeypatch):
    """Each form of the inner loop."""
    if request.param == "compiled" and not viterbi.COMPILED:
        pytest.skip("numba is not installed here")
    sweep = {"compiled": viterbi.sweep, "rows": viterbi.sweep_rows, "positions": viterbi.sweep_positions}[request.param]
    monkeypatch.setattr(viterbi, "sweep", sweep)


def logits_of(text, confidence=0.9):
    """A frame for each symbol: '.' is the blank, 'S' the special token <s>."""
    ids = [SYMBOLS[symbol] for symbol in text]
    probabilities = np.full((len(ids), len(VOCABULARY)), (1 - confidence) / (len(VOCABULARY) - 1))
    probabilities[np.arange(len(ids)), ids] = confidence
    return np.log(probabilities).astype(np.float32)


def spans(lines):
    return [[(word.text, word.start, word.end) for word in line] for line in lines]


# ---- the path -------------------------------------------------------------------------------------------------------


def random_chain(generator, items):
    """A chain of any kind, each part of it with a column of its own."""
    columns = generator.permutation(2 * items + 1)
    optional = generator.random(items) < 0.4
    optional[1:] &= ~optional[:-1]
    return Chain(
        items=columns[:items],
        gaps=columns[items:],
        joined=generator.random(items) < 0.6,
        optional=optional,
        rejoined=generator.random(items) < 0.6,
    )


def ways_into(chain, state):
    """States (2 i the gap before item i, 2 i + 1 the item, -1 the start) that may come before, the nearest first."""
    i, is_item = divmod(state, 2)
    ways = [state, state - 1]
    if is_item:
        if chain.joined[i]:
            ways.append(state - 2)
        if i > 0 and chain.optional[i - 1]:
            ways.append(state - 3)
            if chain.rejoined[i]:
                ways.append(state - 4)
    return [way for way in ways if way >= -1]


def last_states(chain):
    last = 2 * len(chain.items)
    return [last, last - 1, *([last - 2, last - 3] if chain.optional[-1] else [])]


def column_of(chain, state):
    return (chain.items if state % 2 else chain.gaps)[state // 2]


def cheapest_by_trying_all(costs, chain):
    """Every sequence of states that the chain allows."""
    states = range(2 * len(chain.items) + 1)
    best, best_path = np.inf, None

    def extend(path, cost):
        nonlocal best, best_path
        if cost >= best:
            return
        if len(path) == len(costs):
            if path[-1] in last_states(chain):
                best, best_path = cost, path
            return
        former = path[-1] if path else -1
        for state in states:
            if former in ways_into(chain, state):
                extend([*path, state], cost + float(costs[len(path), column_of(chain, state)]))

    extend([], 0.0)
    return best_path, best


def test_the_cheapest_path_of_any_chain(form):
    generator = np.random.default_rng(0)
    found = 0
    for items, frames in itertools.product(range(1, 6), range(1, 7)):
        for _ in range(8):
            chain = random_chain(generator, items)
            costs = generator.gamma(1.0, 30.0, (frames, 2 * items + 1)).astype(np.float32)  # budgets of all sizes
            costs[generator.random(costs.shape) < 0.1] = np.inf
            path, total = cheapest_by_trying_all(costs, chain)
            result = cheapest_path(costs, chain)
            if path is None:
                assert result is None
            else:
                found += 1
                assert result[0].tolist() == path
                assert result[1] == pytest.approx(total, rel=1e-12)
    assert found > 100


def dense_path(costs, chain):
    """The textbook's table: every state of every frame, and every choice kept."""
    states = 2 * len(chain.items) + 1
    ways = [ways_into(chain, state) for state in range(states)]
    table = np.full((len(costs) + 1, states + 1), np.inf)
    table[0, -1] = 0.0  # the start, state -1
    choices = np.zeros((len(costs), states), int)
    for t in range(len(costs)):
        for s in range(states):
            choices[t, s] = min(ways[s], key=lambda way: table[t, way])
            table[t + 1, s] = table[t, choices[t, s]] + costs[t, column_of(chain, s)]
    state = min(last_states(chain), key=lambda s: table[-1, s])
    total, path = table[-1, state], []
    for t in reversed(range(len(costs))):
        path.append(state)
        state = choices[t, state]
    return path[::-1], total


@pytest.mark.parametrize("rounded", [False, True])
def test_long_paths_equal_the_textbooks_ties_included(form, rounded, monkeypatch):
    generator = np.random.default_rng(1)
    monkeypatch.setattr(viterbi, "_SHORT", 5)
    monkeypatch.setattr(viterbi, "_KEPT", 3000)  # so that kept costs are thinned out
    for frames, items in [(300, 21), (150, 50), (64, 90), (257, 1), (400, 80)]:
        chain = random_chain(generator, items)
        costs = generator.gamma(0.5, 3.0, (frames, 2 * items + 1)).astype(np.float32)
        if rounded:
            costs = np.round(costs)  # many paths cost the same
        path, total = dense_path(costs, chain)
        result = cheapest_path(costs, chain)
        if np.isinf(total):
            assert result is None
        else:
            assert result[0].tolist() == path
            assert result[1] == pytest.approx(total, rel=1e-12)


def collapse(symbols):
    merged = "".join(symbol for symbol, _ in itertools.groupby(symbols) if symbol != ".")
    return " ".join(merged.replace("|", " ").split())


@pytest.mark.parametrize("text", ["A", "B", "AA", "AB", "ABA", "AAA", "A B", "AA A", "A A", "BAAB", "B A B"])
def test_the_best_of_all_ctc_alignments(form, text, tokenizer):
    generator = np.random.default_rng(len(text))
    columns = [0, 4, 5, 6]
    for frames in range(1, 8):
        possible = [path for path in itertools.product(".|AB", repeat=frames) if collapse(path) == text]
        scores = generator.normal(0, 2, (frames, len(VOCABULARY)))
        scores[:, [i for i in range(len(VOCABULARY)) if i not in columns]] = -50.0  # not heard at all
        if not possible or not any("|" in path for path in possible) >= (" " in text):
            with pytest.raises(InputError, match=r"words need at least \d+ frames .* the recording has \d"):
                align_words(scores, [text], tokenizer, untranscribed="none")
            continue
        best = max(possible, key=lambda path: sum(scores[t, SYMBOLS[symbol]] for t, symbol in enumerate(path)))
        _, wanted = greedy_decode(logits_of("".join(best)), tokenizer)
        [words] = align_words(scores, [text], tokenizer, untranscribed="none")
        frames_of = [[(c.text, c.start, c.end) for c in word.characters] for word in words]
        assert frames_of == [[(c.text, c.start, c.end) for c in word.characters] for word in wanted]


def test_what_greedy_decoding_heard_gets_the_same_frames_and_confidence(tokenizer):
    generator = np.random.default_rng(2)
    seen = 0
    for case in range(300):
        logits = generator.standard_normal((generator.integers(1, 60), len(VOCABULARY))).astype(np.float32)
        logits[:, 1:4] -= 100.0  # special tokens
        text, heard = greedy_decode(logits, tokenizer)
        if not heard:
            continue
        seen += 1
        mode = ("none", "lines", "words")[case % 3]
        [words] = align_words(logits, [text], tokenizer, untranscribed=mode)
        assert [(w.text, w.start, w.end) for w in words] == [(w.text, w.start, w.end) for w in heard]
        for mine, theirs in zip(words, heard, strict=True):
            assert mine.confidence == pytest.approx(theirs.confidence, rel=1e-5)
            assert [(c.text, c.start, c.end) for c in mine.characters] == [
                (c.text, c.start, c.end) for c in theirs.characters
            ]
    assert seen > 250


def test_special_tokens_count_as_silence(tokenizer):
    assert spans(align_words(logits_of("SSASS|S|BSS"), ["A B"], tokenizer)) == [[("A", 2, 3), ("B", 8, 9)]]


# ---- the text -------------------------------------------------------------------------------------------------------


def test_words_come_back_as_they_are_written(tokenizer):
    logits = logits_of("..A.B.|..BB.'.A...||..Ü..A..")
    lines = ["", "  „ab!“ — b’a\t…", "?", "ua"]
    assert spans(align_words(logits, lines, tokenizer)) == [
        [],
        [("„ab!“ —", 2, 5), ("b’a …", 9, 15)],
        [],
        [("ua", 22, 26)],
    ]
    [_, [_, word], _, [last]] = align_words(logits, lines, tokenizer)
    assert [(c.text, c.start, c.end) for c in word.characters] == [("b", 9, 11), ("’", 12, 13), ("a", 14, 15)]
    assert [c.text for c in last.characters] == ["u", "a"]


@pytest.mark.parametrize(
    ("vocabulary", "word", "parts"),
    [
        ("AB", "ab", [("a", "A"), ("b", "B")]),
        ("ab", "AB", [("A", "a"), ("B", "b")]),
        ("aB", "Ab", [("A", "a"), ("b", "B")]),
        ("e", "É", [("É", "e")]),
        ("é", "e\u0301", [("é", "é")]),
        ("e\u0301", "é", [("é", "e\u0301")]),
        ("s", "ß", [("ß", "ss")]),
        ("S", "ß", [("ß", "SS")]),
        ("fi", "ﬁ", [("ﬁ", "fi")]),
        ("d'", "d’d", [("d", "d"), ("’", "'"), ("d", "d")]),
        ("d", "d’d-d.", [("d", "d"), ("d", "d"), ("d", "d")]),
        ("d-", "d-d", [("d", "d"), ("-", "-"), ("d", "d")]),
        ("nd", "42nd", [("42", "*"), ("n", "n"), ("d", "d")]),
        ("42", "42", [("4", "4"), ("2", "2")]),
        ("a", "50%", [("50%", "*")]),
        ("a", "3,50€", [("3,50€", "*")]),
        ("a", "*", [("*", "*")]),
        ("a", "жук", [("жук", "*")]),
        ("a", "—", []),
        ("a", "♪", []),
        ("कि", "कि", [("क", "क"), ("ि", "ि")]),
        (["sch", "s", "c", "h"], "Schsc", [("Sch", ["sch"]), ("s", "s"), ("c", "c")]),
    ],
)
def test_spelling(tmp_path, vocabulary, word, parts):
    from wav2vec2_core.decoding.spelling import STAR, TextSpeller

    ids = {token: i for i, token in enumerate(["<pad>", "|", *vocabulary])}
    tokenizer = make_tokenizer(tmp_path, ids, bos_token=None, eos_token=None, unk_token=None)
    names = {STAR: "*", **{index: token for token, index in ids.items()}}
    spelled = TextSpeller(tokenizer, len(ids)).spell(word)
    assert [(part.text, [names[label] for label in part.labels]) for part in spelled] == [
        (text, list(labels)) for text, labels in parts
    ]


def test_digits_and_foreign_letters_match_what_is_spoken(tokenizer):
    logits = logits_of("..AA.B..|..BAB.BA..|..B.A.B..")
    [[first, star, last]] = align_words(logits, ["AB 42, bab"], tokenizer)
    assert (first.start, first.end) == (2, 6)
    assert (star.text, star.start, star.end, star.confidence) == ("42,", 11, 17, 0.0)
    assert [(c.text, c.confidence) for c in star.characters] == [("42", 0.0)]
    assert (last.start, last.end) == (22, 27)
    assert last.confidence == pytest.approx(0.9, rel=1e-5)
    [[mixed]] = align_words(logits_of("..BA..AA.B."), ["7ab"], tokenizer)
    assert [(c.text, c.start, c.end) for c in mixed.characters] == [("7", 2, 4), ("a", 6, 8), ("b", 9, 10)]
    assert mixed.confidence == pytest.approx(0.9, rel=1e-5)


def test_speech_without_a_text(tokenizer):
    logits = logits_of("..BA.|.BAB.|..A.A.B..|.BA.B.B.|..B.B.A..|BAB.A.")
    wanted = [[("aab", 14, 19)], [("bba", 33, 38)]]
    assert spans(align_words(logits, ["aab", "bba"], tokenizer)) == wanted
    [both] = spans(align_words(logits, ["aab bba"], tokenizer, untranscribed="words"))
    assert both == [*wanted[0], *wanted[1]]
    # Left no room, the text is stretched over all of it.
    logits = logits_of("AAAA.|.A.B")
    assert spans(align_words(logits, ["ab"], tokenizer)) == [[("ab", 7, 10)]]
    assert spans(align_words(logits, ["ab"], tokenizer, untranscribed="none")) == [[("ab", 0, 10)]]


def test_words_are_not_smeared_over_silence(tokenizer):
    silence = "." * 500
    logits = logits_of(f"{silence}AB{silence}|{silence}BA{silence}", confidence=0.6)
    logits += np.random.default_rng(3).normal(0, 0.1, logits.shape)
    assert spans(align_words(logits, ["AB BA"], tokenizer)) == [[("AB", 500, 502), ("BA", 1503, 1505)]]


def test_confidence_is_the_mean_of_frames_then_of_characters(tokenizer):
    logits = np.concatenate(
        [logits_of(symbol, confidence) for symbol, confidence in (("A", 0.9), ("A", 0.5), ("B", 0.4))]
    )
    [[word]] = align_words(logits, ["ab"], tokenizer)
    assert [c.confidence for c in word.characters] == [pytest.approx(0.7, rel=1e-5), pytest.approx(0.4, rel=1e-5)]
    assert word.confidence == pytest.approx(0.55, rel=1e-5)


@pytest.mark.parametrize(("below", "end"), [(0.15, 2), (0.19, 2), (0.21, 1), (0.25, 1)])
def test_what_a_star_costs(tokenizer, below, end):
    """0.2 nats a frame: a letter that is less below the best token than that is spoken, one further below is not."""
    logits = np.full((2, len(VOCABULARY)), -50.0)
    logits[0, VOCABULARY["A"]] = logits[1, VOCABULARY["B"]] = 0.0
    logits[1, VOCABULARY["A"]] = -below
    [[word]] = align_words(logits, ["a"], tokenizer, untranscribed="words")
    assert (word.start, word.end) == (0, end)


def test_without_word_delimiter(tmp_path):
    tokenizer = make_tokenizer(tmp_path, {"<pad>": 0, "A": 5, "B": 6}, word_delimiter_token=None)
    logits = logits_of("..A.A..A..B..")
    for mode in ("none", "lines", "words"):
        [[first, last]] = align_words(logits, ["aa ab"], tokenizer, untranscribed=mode)
        assert (first.start, first.end, last.start, last.end) == (2, 5, 7, 11)
    with pytest.raises(InputError, match=r"2 words need at least 3 frames \(2 letters and spaces, 1 blanks between"):
        align_words(logits[:2], ["a a"], tokenizer)


# ---- what cannot be aligned -----------------------------------------------------------------------------------------


def test_nothing_to_align(tokenizer):
    assert align_words(logits_of("..A"), ["", " … "], tokenizer) == [[], []]
    assert align_words(logits_of("..A"), [], tokenizer) == []


@pytest.mark.parametrize(
    ("logits", "text", "message"),
    [
        (logits_of("AB")[None], "a", r"shape \(1, 2, 9\), \(frames, vocab\) is needed"),
        (logits_of("A.A|A"), "aa aa", r"2 words need at least 7 frames \(5 letters and spaces, 2 blanks .* has 5"),
        (logits_of(""), "a", r"1 words need at least 1 frames .* the recording has 0"),
        (logits_of("AB") * np.nan, "a", r"logits of frame 0 are not finite"),
        (np.vstack([logits_of("AB"), np.full((1, 9), np.inf)]), "a", r"logits of frame 2 are not finite"),
        (logits_of("AB"), "жук 42", r"no letter of 'жук 42' is in the vocabulary \(A B Ü ' \.\.\.\)"),
        (np.where(np.arange(9) == 5, -np.inf, logits_of("AAB")), "ab", r"has probability 0 wherever it could be"),
        (logits_of("AB")[:, 1:1], "a", r"pad_token='<pad>', the CTC blank, has no column in logits of width 0"),
    ],
)
def test_errors(tokenizer, logits, text, message):
    with pytest.raises(InputError, match=message):
        align_words(logits, [text], tokenizer)


def test_unknown_mode(tokenizer):
    with pytest.raises(InputError, match="untranscribed='some' is unknown: use one of none, lines, words"):
        align_words(logits_of("A"), ["a"], tokenizer, untranscribed="some")


# ---- scripts without spaces -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("don't", ["don't"]),
        ("(well)-known", ["(well)-known"]),
        ("한국어", ["한국어"]),  # Korean has spaces
        ("「東京」タワー2024年、iPhoneを", ["「東", "京」", "タ", "ワ", "ー", "2024", "年、", "iPhone", "を"]),
        ("か\u3099き", ["か\u3099", "き"]),
        ("葛\U000e0100飾", ["葛\U000e0100", "飾"]),
        ("你（好）嗎？", ["你", "（好）", "嗎？"]),
        ("สวัสดีน้ำ๑๒", ["ส", "วั", "ส", "ดี", "น้ำ", "๑๒"]),
        ("ຂ້ອຍ", ["ຂ້", "ອ", "ຍ"]),
        ("ကျွန်တော်", ["ကျွ", "န်", "တော်"]),
        ("ខ្ញុំស្រ", ["ខ្ញុំ", "ស្រ"]),
        ("བོད་སྐད", ["བོ", "ད་", "སྐ", "ད"]),
        ("…", ["…"]),
        ("——你", ["——你"]),
        ("你（", ["你（"]),
    ],
)
def test_units_of_scripts(word, parts):
    assert units(word) == parts


@given(st.text(st.sampled_from("aé'-1日本々か\u3099ーกำ្ខက်（）「」、。\u200b\u0301%")))
def test_units_lose_nothing(word):
    assert "".join(units(word)) == word
    assert all(units(word)) or not word


JAPANESE = {"<pad>": 0, "<unk>": 1, "|": 2, "今": 3, "日": 4, "は": 5, "がく": 6, "a": 7, "b": 8}


def japanese_logits(frames):
    """A frame for each token, '.' the blank."""
    ids = [0 if token == "." else JAPANESE[token] for token in frames]
    probabilities = np.full((len(ids), len(JAPANESE)), 0.1 / (len(JAPANESE) - 1))
    probabilities[np.arange(len(ids)), ids] = 0.9
    return np.log(probabilities).astype(np.float32)


@pytest.mark.parametrize("whole", [False, True])
def test_a_word_for_each_character(tmp_path, whole):
    tokenizer = make_tokenizer(tmp_path, JAPANESE)
    logits = japanese_logits([".", "今", "|", "日", "日", ".", "日", ".", "は", "|", "a", "b", "は", "がく", "."])
    (found,) = align_words(logits, ["「今日日」は、 abはがく。"], tokenizer, whole=whole)
    if whole:
        assert spans([found]) == [[("「今日日」は、", 1, 9), ("abはがく。", 10, 14)]]
        assert not any(word.joined for word in found)
        return
    assert spans([found]) == [
        [
            ("「今", 1, 2),
            ("日", 3, 5),
            ("日」", 6, 7),
            ("は、", 8, 9),
            ("ab", 10, 12),
            ("は", 12, 13),
            ("がく。", 13, 14),
        ]
    ]
    assert [word.joined for word in found] == [False, True, True, True, False, True, True]
    assert [[c.text for c in word.characters] for word in found][4:] == [["a", "b"], ["は"], ["がく"]]
    assert Segment.of([TimedWord.of(word, TIMELINE) for word in found]).text == "「今日日」は、 abはがく。"


def test_characters_that_the_vocabulary_lacks_stay_together(tmp_path):
    tokenizer = make_tokenizer(tmp_path, JAPANESE)
    logits = japanese_logits(["今", ".", "b", "a", ".", "日"])
    (found,) = align_words(logits, ["今東京日"], tokenizer)
    assert [word.text for word in found] == ["今", "東京", "日"]
    assert found[1].confidence == 0


def test_captions_read_as_the_text_was_written(tmp_path):
    tokenizer = make_tokenizer(tmp_path, JAPANESE)
    lines = ["今日は ab。", "今は か\u3099く"]
    logits = japanese_logits([".", "今", "日", "は", "|", "a", "b", "|", "今", "は", "|", "がく"])
    segments = [
        Segment.of([TimedWord.of(word, TIMELINE) for word in line]) for line in align_words(logits, lines, tokenizer)
    ]
    assert [segment.text for segment in segments] == lines
    for layout in (Layout(), Layout(max_line_width=40), Layout(highlight_words=True)):
        shown = re.sub("</?u>", "", render(segments, "srt", layout=layout))
        assert all(line in shown for line in lines)
    assert "今日\nは a" not in render(segments, "srt", layout=Layout(max_line_width=2))
    narrow = render(segments, "vtt", layout=Layout(max_line_width=2))
    assert "今日\nは\nab。\n" in narrow
    assert render(segments, "txt") == "今日は ab。\n今は か\u3099く\n"
    assert [word["word"] for word in json.loads(render(segments, "json"))["segments"][0]["words"]] == [
        *"今日は",
        "ab。",
    ]
    assert [row.split("\t")[2] for row in render(segments, "audacity").splitlines()] == [
        *"今日は",
        "ab。",
        *"今は",
        "か\u3099く",
    ]


def test_transcripts_of_such_scripts_are_parted_alike(tmp_path):
    tokenizer = make_tokenizer(tmp_path, JAPANESE)
    logits = japanese_logits([".", "今", "日", "日", ".", "a", "b", "は", "がく", ".", "|", "a", "b"])
    text, words = greedy_decode(logits, tokenizer)
    assert [word.text for word in words] == ["今日abはがく", "ab"]
    found = [part for word in words for part in split_unspaced(word)]
    assert [part.text for part in found] == ["今", "日", "ab", "は", "がく", "ab"]
    assert [part.joined for part in found] == [False, True, True, True, True, False]
    assert [character for part in found for character in part.characters] == [c for w in words for c in w.characters]
    (aligned,) = align_words(logits, [text], tokenizer)
    assert found == aligned
    assert split_unspaced(words[1]) == [words[1]]
    assert Segment.of([TimedWord.of(word, TIMELINE) for word in found]).text == text


def test_marks_that_are_tokens_of_their_own_stay_with_their_letters():
    word = Word.of([Character(letter, i, i + 1, 0.5 + i / 10) for i, letter in enumerate("น้ำดี")])
    found = split_unspaced(word)
    assert [(part.text, part.start, part.end, part.joined) for part in found] == [
        ("น้ำ", 0, 3, False),
        ("ดี", 3, 5, True),
    ]
    assert found[0].confidence == pytest.approx(0.6)
    other = Word("น้ำ ดี", 0, 5, 0.5, word.characters)  # not spelled by its characters: nothing is known of its units
    assert split_unspaced(other) == [other]
