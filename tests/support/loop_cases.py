"""A run whose model is a number, for tests of the loop."""

import math

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.loader import StepData
from wav2vec2_core.devices import Devices
from wav2vec2_core.errors import InputError
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.training.loop import Loop, Note
from wav2vec2_core.training.recipe import read_recipe
from wav2vec2_core.training.run_folder import RunFolder
from wav2vec2_core.training.tasks import Scores

CONFIG = Wav2Vec2Config(num_hidden_layers=1)
HEAD_ALONE = trainable_names(CONFIG, "ForCTC", frozen="base_model")
BODY_TOO = trainable_names(CONFIG, "ForCTC", frozen="feature_encoder")


class NumberTrainer:
    """A model that is one number, which every step changes by its number and rate."""

    config, process, devices = CONFIG, (0, 1), Devices("cpu")

    def __init__(self, loss=lambda number: 1 / (1 + number)):
        self.value, self.loss, self.trained, self.rates = 0.0, loss, [], []

    def set_trainable(self, names):
        self.trained.append(names)

    def step(self, micro, number, values):
        self.rates.append(values.learning_rate)
        loss = self.loss(number)
        if math.isfinite(loss):
            self.value = 0.5 * self.value + number * values.learning_rate
        return loss

    def fetch(self, handle):
        refused = float(not math.isfinite(handle))
        return {"loss": handle, "count": 2.0, "gradient_norm": handle, "refused": refused}

    def save_state(self, folder):
        value = repr(self.value)

        def wait():
            folder.mkdir()
            (folder / "value").write_text(value)

        return wait

    def load_state(self, folder):
        self.value = float((folder / "value").read_text())


class Steps:
    """Data of two utterances a step."""

    def __init__(self, data="these"):
        self.data, self.taken = data, 0

    def get_state(self):
        return {"step": self.taken, "data": self.data}

    def set_state(self, state):
        if state["data"] != self.data:
            raise InputError("the position is one in other data")
        self.taken = state["step"]

    def steps(self, first, end):
        return (StepData(n, n // 4, ({},), 2, 3.0, (f"a{n}.wav", f"b{n}.wav")) for n in range(first, end))


def loop(folder, trainer, *settings, rates=lambda: (0.5, 0.2), stuck="", data=None):
    recipe = read_recipe("1h").changed([
        "schedule.steps=10", "schedule.frozen=0.4", "evaluation.every=4", "checkpoints.every=3",
        "health.most_refused=2", *settings,
    ])  # fmt: skip
    run = RunFolder.resume(folder, {"recipe": recipe.to_dict()})

    def scores():
        wer, cer = rates()
        return Scores({"wer": wer, "cer": cer}, (wer, cer), begun=wer < 0.9, stuck=stuck)

    return Loop(trainer, Steps() if data is None else data, scores, recipe, run, head="ForCTC")


def kinds(events):
    return [(type(event), event.step) for event in events if not isinstance(event, Note)]
