"""A run on disk: a folder that describes itself, is saved whole or not at all, and is verified before it is believed.

    checkpoint.json               what this is, how it was made, and the size and SHA-256 of every other file
    weights-<digest>.safetensors  the model's numbers
    tokenizer-<digest>.json       what the tokenizer needs
    files-<digest>.json           which files of a folder it was made from
    resume-<digest>.safetensors   of a run that has not finished: optimizer, random state, place in the text
    metrics.jsonl                 what was measured on the way, a line each (not verified; for learning curves)
    .lock                         while a run is trained: by whom

A save writes new files beside the old and then replaces checkpoint.json, which is the moment it happens; what it no
longer names is then removed. Nothing here is executed: the weights are safetensors, the rest is JSON.

folders  where runs live       saving   a run into its folder     lock     one trainer at a time
card     checkpoint.json       loading  and out of it again       metrics  what was measured
lineage  the runs it came from  corpus_files  the files that its corpus was read from
results  its one figure        history  how it came to be
"""

from charlm.checkpoint.card import CARD, METRICS, Card, read_card
from charlm.checkpoint.corpus_files import read_history
from charlm.checkpoint.folders import RUNS, find_run, is_run, new_run, newest, runs
from charlm.checkpoint.history import HELD_OUT, VALIDATION, History, Result
from charlm.checkpoint.lineage import lineage
from charlm.checkpoint.loading import Run, load
from charlm.checkpoint.lock import LOCK, locked
from charlm.checkpoint.metrics import add_metrics, keep_metrics, read_metrics
from charlm.checkpoint.results import record_held_out, result_of, weights_digest
from charlm.checkpoint.saving import save

__all__ = [
    "CARD",
    "HELD_OUT",
    "LOCK",
    "METRICS",
    "RUNS",
    "VALIDATION",
    "Card",
    "History",
    "Result",
    "Run",
    "add_metrics",
    "find_run",
    "is_run",
    "keep_metrics",
    "lineage",
    "load",
    "locked",
    "new_run",
    "newest",
    "read_card",
    "read_history",
    "read_metrics",
    "record_held_out",
    "result_of",
    "runs",
    "save",
    "weights_digest",
]
