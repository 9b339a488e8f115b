"""Random cases for beam search: alphabets, language models, logits and options; and what was read, as plain data."""

import collections

import numpy as np

from wav2vec2_core.decoding import Alphabet, BeamSearchDecoder, SearchOptions
from wav2vec2_core.language_model.ngram import NgramModel

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "|"]
LETTERS = list("abcdeé'ü")


class BeamCase:
    """One alphabet, one language model or none, from one seed; any number of utterances."""

    def __init__(self, seed, folder, *, bpe=False):
        self.random = np.random.default_rng(seed)
        self.bpe = bpe
        self.labels = self._pieces() if bpe else self._letters()
        self.order = int(self.random.integers(2, 6))
        self.arpa = folder / f"{seed}.arpa"
        self.words = self._words()
        self.write_arpa()
        self.unigrams = self._unigrams()

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, values):
        return values[int(self.random.integers(len(values)))]

    def _letters(self):
        letters = LETTERS[: int(self.random.integers(2, len(LETTERS) + 1))]
        labels = [*SPECIAL, *letters, *(["ab"] if self.chance(0.2) else [])]
        return [labels[i] for i in self.random.permutation(len(labels))] if self.chance(0.3) else labels

    def _pieces(self):
        pieces = ["▁a", "▁b", "▁ab", "a", "b", "ba", "é", "▁é"]
        return ["<unk>", "<pad>", *(pieces[i] for i in self.random.permutation(len(pieces)))]

    def word(self):
        letters = [label for label in LETTERS if label in "".join(self.labels)]
        length = int(self.pick([1, 1, 2, 2, 3, 4, 8, 9]))
        return "".join(self.pick(letters) for _ in range(length)) + ("q" if self.chance(0.1) else "")

    def _words(self):
        return sorted({self.word() for _ in range(int(self.random.integers(3, 25)))})

    def write_arpa(self):
        """All n-grams of random sentences, with random probabilities; entries without back-off stay without."""
        ngrams = collections.defaultdict(set)
        ngrams[1] |= {("<unk>",), ("<s>",), ("</s>",), *((word,) for word in self.words)}
        for _ in range(int(self.random.integers(1, 12))):
            sentence = ("<s>", *(self.pick(self.words) for _ in range(int(self.random.integers(1, 6)))), "</s>")
            for size in range(1, self.order + 1):
                ngrams[size] |= {sentence[i : i + size] for i in range(len(sentence) - size + 1)}
        self.order = max(ngrams, key=lambda size: (len(ngrams[size]) > 0) * size)
        lines = ["\\data\\", *(f"ngram {size}={len(ngrams[size])}" for size in range(1, self.order + 1))]
        for size in range(1, self.order + 1):
            lines += ["", f"\\{size}-grams:"]
            for ngram in sorted(ngrams[size]):
                probability = -99.0 if ngram == ("<s>",) else -self.random.exponential(1.5)
                line = f"{probability:.6f}\t{' '.join(ngram)}"
                if size < self.order and ngram[-1] != "</s>" and self.chance(0.8):
                    line += f"\t{-self.random.exponential(0.6):.6f}"
                lines.append(line)
        self.arpa.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")

    def _unigrams(self):
        if self.chance(0.25):
            return None
        kept = [word for word in self.words if self.chance(0.8)] or self.words[:1]
        return kept + [self.word() for _ in range(2)]

    def logits(self):
        """(frames, labels) float64: peaks at random labels, or noise; some as probabilities."""
        frames, labels = int(self.pick([1, 1, 2, 3, 5, 8, 12, 20, 30])), len(self.labels)
        logits = self.random.normal(0, self.pick([0.5, 1.5, 3.0]), (frames, labels))
        logits[:, self.labels.index("<pad>")] += self.pick([0.0, 2.0])
        if self.chance(0.7):
            peaks = self.random.integers(0, labels, frames)
            logits[np.arange(frames), peaks] += self.pick([2.0, 4.0, 6.0])
        if "|" in self.labels and self.chance(0.5):
            logits[:: int(self.random.integers(2, 6)), self.labels.index("|")] += 4.0
        if self.bpe:  # "▁⁇▁": its mark leaks from beam to beam in pyctcdecode
            logits[:, self.labels.index("<unk>")] = -40.0
        if self.chance(0.15):
            exponents = np.exp(logits - logits.max(1, keepdims=True))
            return exponents / exponents.sum(1, keepdims=True)
        return logits

    def options(self):
        found = {
            "beam_width": self.pick([1, 2, 3, 5, 10, 30, 100]),
            "beam_prune_logp": self.pick([-10.0, -3.0, -1.0, -30.0, 0.0]),
            "token_min_logp": self.pick([-5.0, -2.0, -10.0, 0.0]),
            "prune_history": self.chance(0.5),
        }
        if self.chance(0.4):
            # Shortest first: pyctcdecode measures a partial word by the hotword that was given first.
            words = [self.pick([self.word(), self.pick(self.words)]) for _ in range(int(self.random.integers(1, 5)))]
            found["hotwords"] = sorted(set(words), key=len) + ([f"{words[0]} {words[-1]}"] if self.chance(0.3) else [])
            found["hotword_weight"] = self.pick([10.0, 1.0, 3.5, -2.0])
        return found

    def fusion(self):
        return {
            "alpha": self.pick([0.5, 0.5, 1.3, 0.0]),
            "beta": self.pick([1.5, 0.0, -1.0]),
            "unk_score_offset": self.pick([-10.0, -2.0, 0.0]),
            "lm_score_boundary": self.chance(0.7),
        }


def decoder_of(case, **options):
    alphabet = Alphabet.build(case.labels)
    return BeamSearchDecoder(alphabet, NgramModel.open(case.arpa), case.unigrams, SearchOptions(**options))


def plain(beams):
    """Everything of readings that can be compared and written as JSON."""
    return [
        [
            beam.text,
            beam.logit_score,
            beam.lm_score,
            beam.last_lm_state and list(beam.last_lm_state.words),
            words(beam.words),
        ]
        for beam in beams
    ]


def words(found):
    return [[word.text, word.start, word.end, word.confidence, *characters(word)] for word in found]


def characters(word):
    return [[character.text, character.start, character.end, character.confidence] for character in word.characters]


def cases_for_processes(folder):
    for seed in range(12):
        case = BeamCase(seed, folder, bpe=seed % 4 == 3)
        options = case.options()
        without = BeamSearchDecoder(Alphabet.build(case.labels))
        decoder = decoder_of(case, **case.fusion()) if seed % 3 else without
        yield plain(decoder.decode_beams(case.logits(), 5, **options))


def readings(decoder, logits):
    return plain(decoder.decode_beams(logits, 2))
