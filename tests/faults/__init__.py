"""Faults, made on purpose, and what is left of a run, a checkpoint or a text after them.

`python -m tests.faults --tenth` does a tenth of what is done before a release, `--all` all of it; `--kills 200` and
the like do one thing as often as they say. Needs `fork`.

processes   the command line in processes that can be killed at any moment
kills       SIGKILL at random moments; SIGINT and SIGTERM
disk        every write, fsync and rename of a save fails or is the last; the disk is full
mutations   checkpoint folders and tokenizer files that somebody has tampered with
containers  compressed files that somebody has tampered with
roundtrips  files of every sort, compressed and decompressed
inputs      strings and corpora of every sort
"""
