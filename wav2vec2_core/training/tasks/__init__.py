"""What can be fine-tuned: a module for each kind of head."""

from wav2vec2_core.training.tasks.classes import Classification, FrameClassification
from wav2vec2_core.training.tasks.ctc import CTC
from wav2vec2_core.training.tasks.speakers import SpeakerRecognition
from wav2vec2_core.training.tasks.task import Job, OpenedModel, Scores, Task, Tested

__all__ = [
    "CTC",
    "Classification",
    "FrameClassification",
    "Job",
    "OpenedModel",
    "Scores",
    "SpeakerRecognition",
    "Task",
    "Tested",
]
