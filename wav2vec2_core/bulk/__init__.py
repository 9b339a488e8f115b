"""More recordings than one machine transcribes: shards of them for many processes, each result written once."""

from wav2vec2_core.bulk.inputs import Item, find_items
from wav2vec2_core.bulk.jobs import Job, Outcome
from wav2vec2_core.bulk.running import ENGINES, run_bulk

__all__ = ["ENGINES", "Item", "Job", "Outcome", "find_items", "run_bulk"]
