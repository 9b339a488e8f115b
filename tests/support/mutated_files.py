"""Language models with random damage."""

import random

from wav2vec2_core.errors import Wav2Vec2Error
from wav2vec2_core.language_model.ngram import NgramModel


def mutated(chance, content):
    content = bytearray(content)
    for _ in range(chance.randrange(1, 5)):
        kind = chance.randrange(5)
        place = chance.randrange(len(content) + 1)
        if kind == 0:
            content[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
        elif kind == 1:
            del content[place : place + chance.randrange(1, 40)]
        elif kind == 2 and place < len(content):
            content[place] = chance.choice([0, 9, 10, 32, 45, 46, 48, 57, 92, 0xFF, chance.randrange(256)])
        elif kind == 3:
            del content[place:]
        elif content:
            start = chance.randrange(len(content))
            content[place:place] = content[start : start + chance.randrange(60)]
    return bytes(content)


def fuzz(tmp_path, content, vocabulary, rounds, seed):
    """Open mutated files and score with those that open; returns how many did. Anything but our errors is a failure."""
    chance, path = random.Random(seed), tmp_path / "mutated"
    fine = 0
    for _ in range(rounds):
        try:
            path.write_bytes(mutated(chance, content))
            model = NgramModel.open(path)
            _ = model.unigrams
        except Wav2Vec2Error:
            continue
        scores = model.word_scores([chance.choice(vocabulary) for _ in range(20)])
        assert len(scores) == 21
        fine += 1
    return fine
