"""Every error that a user can meet: what was done, the exit code, the message. None shows a traceback.

The last test holds the table to its word: it finds every error that the code raises and asks for its row.
"""

import ast
import errno
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
import torch
from conftest import TEXT, Charlm, observing
from mishaps import (
    FULL,
    NGRAM,
    NO_MEMORY,
    READ_ONLY,
    Prepare,
    always_new,
    as_mixture,
    broken_weights,
    edit,
    held,
    inexact,
    linked_card,
    meanwhile,
    members,
    other_tokenizer,
    packed,
    patch,
    poisoned,
    raising,
    remove,
    replace,
    retokenised,
    together,
    twice_the_mass,
    write,
)

import charlm as package
from charlm import checkpoint, training
from charlm.checkpoint import CARD, corpus_files, loading, saving
from charlm.cli import compress as compress_command
from charlm.compression.fingerprint import machine
from charlm.compression.opening import opened
from charlm.corpus import BUILTINS, Origin, decoder
from charlm.export import write_arpa
from charlm.export.gguf import tokenizer as gguf_tokenizer
from charlm.export.huggingface import starcoder2, with_code
from charlm.models import ARCHITECTURES
from charlm.tokenizers import TOKENIZERS
from charlm.training.loop import Trainer

Case = tuple[str, str, int, str] | tuple[str, str, int, str, Prepare]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and small runs of it: done (lstm), begun (gru, interrupted), counted (ngram), seeing (transformer)."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    origin = Origin((str(folder / "corpus.txt"),))
    split = origin.open()
    tokenizer = TOKENIZERS["characters"].train([TEXT], TOKENIZERS["characters"].Config())
    runs = (("done", "lstm", 99), ("begun", "gru", 2), ("counted", "ngram", 99), ("seeing", "transformer", 99))
    for name, architecture, steps in runs:
        kind = ARCHITECTURES[architecture]
        config = kind.Config(**({"order": 3} if architecture == "ngram" else {"width": 8}))
        asked = iter(range(-2, 99))
        observer = observing(should_stop=lambda: next(asked) >= steps)  # noqa: B023
        settings = training.complete(training.TrainingConfig(budget="4steps", batch=2), architecture)
        history = checkpoint.History(corpus=origin.describe(split))
        path = folder / name
        path.mkdir()
        training.train(
            path, split, tokenizer, architecture, config, settings, history=history,
            observer=observer if name == "begun" else None,
        )  # fmt: skip
        card = path / CARD
        card.write_text(card.read_text().replace(str(folder / "corpus.txt"), "corpus.txt"))
    return folder


def exported(name: str) -> Prepare:
    """The n-gram as an ARPA file, with its tokenizer."""

    def prepare(folder: Path, _: pytest.MonkeyPatch) -> None:
        run = checkpoint.load(folder / "counted")
        with (folder / name).open("wb") as file:
            write_arpa(run.model, run.tokenizer, file)

    return prepare


def machine_here() -> dict[str, str | int]:
    """What a compressed file says of this machine."""
    tokenizer = TOKENIZERS["bytes"].train([TEXT], TOKENIZERS["bytes"].Config())
    with opened(ARCHITECTURES["rnn"](ARCHITECTURES["rnn"].Config(width=8), tokenizer.vocab_size)) as predictor:
        return machine(predictor)


TOO_MUCH = "\\data\\\nngram 1=4\n\n\\1-grams:\n-0.5\t<unk>\n-0.5\t</s>\n-0.5\ta\n-0.5\tb\n\n\\end\\\n"
QUICK = "--budget 4steps --size tiny -q"
NAN = b"\x00\x00\xc0\x7f"
deep = b'{"a":' * 100_000

TEXTS: list[Case] = [
    ("no corpus", "train", 2, "no CORPUS: name a text file, or try builtin:"),
    ("a missing file", "train missing.txt", 3, "missing.txt: no such file or folder; `charlm data list` shows"),
    ("a corpus that is not downloaded", "train text8", 3, "text8: not here yet; `charlm data get text8` downloads it"),
    ("the file of a corpus that is named", "train text8.txt", 3, "the corpus to download is named text8, without .txt"),
    ("a built-in corpus without its prefix", "train python-stdlib", 3, "no such file; the built-in corpus of that"),
    ("no such built-in corpus", "train builtin:x", 3, "no such built-in corpus; there are builtin:python-reference"),
    ("a Python without sources", "train builtin:python-stdlib", 3, "this Python came without its sources in",
     patch(BUILTINS["python-stdlib"].pieces.__globals__["sysconfig"], "get_path", lambda _: "nowhere")),
    ("an empty file", "train empty.txt", 3, "empty.txt: empty; a corpus needs text", write("empty.txt", "")),
    ("a text of one character", "train one.txt", 3, "one: 1 characters are too few to split", write("one.txt", "x")),
    ("an empty held-out text", "train corpus.txt --held-out /dev/null", 3, "/dev/null: empty"),
    ("a binary file", "train binary", 3, "binary data, not text (byte 128, line 2 is not utf-8); compressed?",
     write("binary", bytes(range(256)) * 8)),
    ("a file of zeros", "train zeros", 3, "binary data, not text (NULs at byte 4, line 2)",
     write("zeros", "abc\n" + "\0" * 999 + "x" * 9999)),
    ("UTF-16 without a mark", "train wide.txt", 3,
     "say --encoding utf-16-le", write("wide.txt", TEXT.encode("utf-16-le"))),
    ("UTF-16 with a mark", "train wide.txt", 3, 'not utf-8 (byte 0, line 1); it reads as utf-16: "HAMLET: What',
     write("wide.txt", TEXT.encode("utf-16"))),
    ("UTF-16 that has no mark", "train corpus.txt --encoding utf-16", 3,
     'corpus.txt: not utf-16 (no byte order mark); it reads as utf-8: "HAMLET: What'),
    ("Latin-1", "train latin.txt", 3,
     'not utf-8 (byte 3, line 1); it reads as cp1252: "café au lait café au lait',
     write("latin.txt", "caf\xe9 au lait\n".encode("latin-1") * 50)),
    ("a file cut inside its last character", "train cut.txt", 3,
     "not utf-8 (byte 400, line 51): cut inside its last character get a whole copy, or leave the rest of that",
     write("cut.txt", "Gr\xfc\xdfe\n".encode() * 50 + b"\xe4\xb8")),
    ("a wrong byte", "train wrong.txt", 3,
     "not utf-8 (byte 7, line 2): 1 of its bytes is wrong, the rest is utf-8 get a better copy, or read it with",
     write("wrong.txt", b"Gr\xc3\xbc\xc3\x9f\n" + b"\xff" + "Gr\xfc\xdfe\n".encode() * 50)),
    ("bytes that no encoding has", "train wrong.txt --encoding cp1252", 3,
     "not cp1252 (byte 0, line 1), nor in an encoding that its bytes tell",
     together(write("wrong.txt", b"\x81" + b"a" * 999), patch(decoder, "find_encoding", lambda _: None))),
    ("binary data in any encoding", "train binary --encoding auto", 3, "binary data, not text (it fits no encoding)",
     write("binary", bytes(range(256)) * 8)),
    ("an encoding for no text", "evaluate done --encoding latin-1", 2, "--encoding is about --text, which"),
    ("an encoding of no file", "score done abc --errors skip", 2, "--errors is about standard input, and"),
    ("nothing but a run", "train done", 3, "done: only what charlm wrote (a run of charlm), which is never a corpus"),
    ("another text and a new place", "evaluate done --text corpus.txt --corpus corpus.txt", 2,
     "--corpus says where the run's own text is, and --text takes its place"),
    ("a new place of no runs", "compare corpus.txt --corpus corpus.txt", 2, "--corpus says where the corpus"),
    ("an encoding that does not exist", "train corpus.txt --encoding x", 2, "--encoding 'x' is unknown; try utf-8"),
    ("an encoding that gives half a pair", "train half.txt --encoding utf-16-le", 3,
     'half.txt: not utf-16-le (byte 0, line 1); it reads as utf-16-be: "ØØØ',
     write("half.txt", b"\x00\xd8" * 99)),
    ("half a pair from an encoding", "train half.txt --encoding raw_unicode_escape", 3, "gave half a surrogate pair",
     write("half.txt", "\\ud800" * 99)),
    ("a folder without text", "train folder", 3, "folder: no text in this folder (1 binary or empty files left out)",
     write("folder/empty.txt", "")),
    ("no name", "train ''", 3, "'': no such file or folder"),
    ("standard input for two texts", "train - --held-out -", 2, "standard input can be read once only: give - for one"),
    ("standard input twice", "compare - -", 2, "standard input can be read once only: give - for one"),
    ("an unreadable file", "train corpus.txt", 3, "cannot be read: Permission denied",
     patch(Path, "open", raising(PermissionError(errno.EACCES, "Permission denied")))),
    ("an unknown corpus to download", "data get x", 3, "x: no such corpus to download; there are tinyshakespeare"),
]  # fmt: skip

SETTINGS: list[Case] = [
    ("a command that does not exist", "nonsense", 2, "No such command"),
    ("an option that does not exist", "train corpus.txt --colour red", 2, "No such option"),
    ("an architecture that does not exist", "train corpus.txt --arch lstn", 2, "'lstn' is unknown; did you mean lstm?"),
    ("a tokenizer that does not exist", "train corpus.txt --tokenizer words", 2,
     "'words' is unknown; there are characters"),
    ("an option of another architecture", "train corpus.txt --heads 4", 2, "--heads is not an option of lstm; it has"),
    ("an option of no architecture named", "compare corpus.txt --arch rnn,gru --heads 2", 2,
     "--heads is not an option of rnn or gru; transformer has it"),
    ("an option of another tokenizer", "train corpus.txt --vocab-size 300", 2, "--vocab-size is not an option of the"),
    ("a value too high", "train corpus.txt --dropout 1.5", 2, "--dropout must be less than 1"),
    ("a value too low", "train corpus.txt --width 0", 2, "--width must be at least 1"),
    ("a value that is no number", "train corpus.txt --width wide", 2, "'wide' is not a valid integer"),
    ("a value that is not finite", "train corpus.txt --learning-rate nan", 2,
     "--learning-rate must be a finite number"),
    ("a choice that is none", "train corpus.txt --optimizer adamm", 2, "--optimizer must be one of adamw"),
    ("a size that is none", "train corpus.txt --size huge", 2, "'huge' is not one of"),
    ("a size where there is but one", "bench --arch ngram --size small", 2,
     "--size has no effect on ngram models, which have one size"),
    ("a width that heads cannot share", "train corpus.txt --arch transformer --width 30", 2,
     "must be a multiple of twice"),
    ("heads that share keys unevenly", "train corpus.txt --arch transformer --heads 4 --kv-heads 3", 2,
     "--heads 4 must be a multiple of --kv-heads 3"),
    ("a budget that is none", "train corpus.txt --budget soon", 2, "is not an amount: try 90s, 5m, 2h, 10epochs"),
    ("a time between saves that is none", "train corpus.txt --save-every 3steps", 2, "is not a time: try 30s or 5m"),
    ("a device that is not there", "train corpus.txt --device tpu", 2, "--device tpu: not on this machine; there is"),
    ("too many pieces", "train corpus.txt --tokenizer sentencepiece --vocab-size 9999", 2,
     "the largest size possible is"),
    ("no character as frequent", "train corpus.txt --tokenizer sentencepiece --min-count 99999", 2,
     "--min-count 99999: no character of the training text occurs so often; the most frequent occurs"),
    ("no pieces", f"train lines.txt --tokenizer sentencepiece {QUICK}", 3, "SentencePiece finds no pieces in this text",
     write("lines.txt", "\n" * 999)),
    ("settings of a run that goes on", "train --resume begun --width 9", 2, "with the run's own text and settings"),
    ("a budget that is used up", "train --resume done --budget 2steps", 2,
     "is for the whole run, which has had 4 steps"),
    ("a larger budget for what over-fits", "train --resume done --budget 9steps", 2, "a larger one is of no use",
     edit("done", progress=lambda progress: progress | {"since_best": 2, "joined": 2})),
    ("a larger budget for what was mixed", "train --resume done --budget 9steps", 3, "mixed of other runs",
     edit("done", mixed=["a", "b"])),
    ("heads where nothing is compared", "train corpus.txt --arch transformer --attention mean --heads 2", 2,
     "--heads has no effect with --attention mean; leave it out"),
    ("contexts that there is no time for", "train corpus.txt --arch mixture --adapt none --budget 0.001s", 2,
     "--adapt has no effect here: counting contexts would take too much of the budget"),
    ("a shape with --from", "train corpus.txt --from done --width 9", 2, "cannot change with --from"),
    ("--from a run that is counted", "train corpus.txt --from counted", 2,
     "ngram models are counted; count old and new text together"),
    ("--from what was mixed", "train corpus.txt --from done", 2, "train those on, then `charlm mix` them again",
     together(as_mixture, edit("done", mixed=["a", "b"]))),
    ("a temperature below 0", "sample done -t -1", 2, "--temperature must be at least 0"),
    ("top-p of nothing", "sample done --top-p 0", 2, "--top-p must be greater than 0"),
    ("top-p of too much", "sample done --top-p 1.1", 2, "--top-p must be at most 1"),
    ("greedy and drawn", "sample done --greedy --top-k 3", 2, "--greedy always takes the likeliest"),
    ("searched and drawn", "sample done --beams 3 -t 0.5", 2, "--beams searches instead of drawing"),
    ("more texts than beams", "sample done --beams 3 -n 5", 2, "no fewer than the 5 texts asked for, not 3"),
    ("too many beams", "sample done --beams 99999", 2, "--beams must be 1 to 4096"),
    ("a length penalty below 0", "sample done --beams 2 --stop e --length-penalty -1", 2,
     "--length-penalty must be at least 0"),
    ("an empty stop string", "sample done --stop ''", 2, "--stop must not be empty"),
    ("two prompts", "sample done -p a --prompt-file b", 2, "--prompt and --prompt-file: give one of them"),
    ("a missing prompt", "sample done --prompt-file missing.txt", 3, "missing.txt: cannot be read"),
    ("a prompt that is no text", "sample done --prompt-file latin.txt", 3,
     "not UTF-8 at byte 3", write("latin.txt", b"caf\xe9")),
    ("a text in several words", "score done to be or not", 2, "put the text into quotation marks"),
    ("a run and no text", "score done", 2, "done is a run, and there is no text; give one after it, or -"),
    ("no text at all", "score", 2, "Missing argument '[RUN] TEXT'"),
    ("an empty text", "score done ''", 3, "TEXT: an empty text cannot be evaluated"),
    ("a typed text that is not UTF-8", "score done 'ab\udcff'", 3, "TEXT: not UTF-8 at byte 2; convert it first"),
    ("a typed prompt that is not UTF-8", "sample done -p 'caf\udce9'", 3, "--prompt: not UTF-8 at byte 3; convert it"),
    ("the attention of an LSTM", "inspect attention done --text a", 2, "LSTM has no attention; inspect a transformer"),
    ("the attention of an n-gram", "inspect attention counted --text abc", 2, "NGram has no attention"),
    ("the gradients of an n-gram", "inspect gradients counted", 2, "NGram has no embeddings and no gradients"),
    ("the embeddings of an n-gram", "inspect embeddings counted", 2, "NGram has no embeddings and no gradients"),
    ("the gradients of a mixture", "inspect gradients done", 2, "Mixture has no embeddings and no gradients of its own",
     as_mixture),
    ("an n-gram that should learn", "evaluate counted --adapt all", 2, "NGram has no gradients of its own to learn by"),
    ("a network that should count", "evaluate done --adapt counts", 2, "--adapt counts: LSTM does not count"),
    ("a comparison of what counts, whose weights should learn", "compare corpus.txt --arch ngram --adapt all", 2,
     "--adapt has no effect on ngram models, which are counted"),
    ("integers that should count", "compress corpus.txt --run counted --backend integer --adapt counts", 2,
     "--adapt counts: does not go with backend integer, which stays as it is"),
    ("two that should count", "evaluate done seeing --adapt counts", 2, "--adapt counts: no model of these can"),
    ("gradients of a letter", "inspect gradients done --text a", 3, "--text: one token is too little to look"),
    ("a map of a long text", "inspect attention seeing --text " + "a" * 512, 2, "--text has 513 tokens, too many"),
    ("a layer that is not there", "inspect attention seeing --text abc --layer 9", 2, "seeing has 4"),
    ("a head that is not there", "inspect attention seeing --text abc --head 9", 2, "seeing has 4"),
    ("predictions after nothing", "inspect predict done", 2, "Missing option '--text'"),
    ("a context of nothing", "evaluate done --context 0", 2, "--context must be at least 1 character"),
    ("two forms of output", "compare corpus.txt --json --csv", 2, "--json and --csv: give one of them"),
    ("runs and a corpus", "compare done corpus.txt", 2, "done is a run and corpus.txt is not"),
    ("training what is trained", "compare done --budget 3s", 2, "--budget is for training, and these runs are trained"),
    ("comparing into a file", "compare corpus.txt -o corpus.txt", 2, "corpus.txt exists, and not as a folder of runs"),
    ("equal tokens, budget of time", "compare corpus.txt --match tokens --budget 9s", 2,
     "--match tokens wants a --budget in tokens or epochs, such as 1Mtokens, not in seconds"),
    ("equal parameters and a width", "compare corpus.txt --match parameters --width 64", 2, "leave --width out"),
    ("a page over a text", "report done -o corpus.txt", 2, "corpus.txt exists and is no report; choose another"),
    ("a page in no folder", "compare corpus.txt --report nowhere/a.html", 2, "there is no folder nowhere; make it"),
    ("a page on a full disk", "report counted", 1, "report.html: cannot be written: No space left on device",
     patch(os, "fsync", FULL)),
    ("two things on standard output", "export counted -o - --json", 2, "both want standard output: name a file"),
    ("exporting over a file", "export counted -o corpus.txt", 2, "corpus.txt exists; choose another --output"),
    ("exporting a network", "export done --format arpa", 2, "only a fitted n-gram can be written as an ARPA file"),
    ("contexts in Transformers", "export done --format huggingface-code", 2,
     "lstm with contexts: Hugging Face Transformers has no place for it, and charlm has code for rnn, gru",
     patch(with_code, "without_code", lambda _: ["contexts"])),
    ("a graph of an n-gram", "export counted --format onnx", 2, "NGram: no graph of one step; there is one for rnn"),
    ("a graph without packages", "export done --format onnx", 2, "an ONNX file needs onnxscript: pip install",
     lambda _, monkeypatch: monkeypatch.setitem(sys.modules, "onnxscript", None)),
    ("an LSTM for llama.cpp", "export done --format gguf", 2, "lstm: a GGUF file has a place for"),
    ("root mean squares for llama.cpp", "export seeing --format gguf", 2, "a transformer with norm rms: a GGUF file",
     patch(starcoder2, "misfits", lambda _: ["norm rms"])),
    ("pieces for llama.cpp", "export seeing --format gguf", 2,
     "characters: a GGUF file has no place for such a tokenizer; train with characters or bytes",
     patch(gguf_tokenizer, "KINDS", {})),
    ("a mixture as n-grams", "export done --format arpa", 2, "only a fitted n-gram can be written as an ARPA file",
     as_mixture),
    ("a folder on standard output", "export done -o -", 2, "this format is a folder of files, and standard output"),
    ("exporting over what is no export", "export done -o begun --force", 2,
     "begun exists and is no such export; --force replaces only those: choose another --output"),
    ("a preset of another architecture", "train corpus.txt --preset portable --arch gru", 2,
     "--preset portable is for transformer models, not for gru; leave --arch or --preset out"),
    ("a preset and its contrary", "train corpus.txt --preset portable --previous", 2,
     "--preset portable has --no-previous; leave --previous out, or --preset"),
    ("importing a folder that is no model", "import done", 3, "config.json: missing; get the whole folder"),
    ("two runs of one name", "serve done elsewhere/done", 2, "two runs of one name cannot be told apart; rename one",
     lambda folder, _: shutil.copytree(folder / "done", folder / "elsewhere" / "done")),
    ("an empty key", "serve done --api-key ''", 2, "--api-key must not be empty; leave it out to ask for none"),
    ("a key in no file", "serve done --api-key @none", 3,
     "none: cannot be read: No such file or directory; --api-key @FILE names a file"),
    ("serving nothing", "serve", 3, "no run in checkpoints/ yet"),
    ("an ARPA file that does not add up", "import x.arpa", 3, ": --renormalize scales them", write("x.arpa", TOO_MUCH)),
    ("one word for two characters", "import x.arpa --space a --newline a", 2,
     ": one word cannot stand for two characters", write("x.arpa", TOO_MUCH)),
    ("a special word for a space", "import x.arpa --space '<unk>'", 2,
     ": that is never a character of a text; name the word that stands for one", write("x.arpa", TOO_MUCH)),
    ("a word for a space that is not there", "import x.arpa --space q", 2,
     "has no such word; name one of its 1-grams", write("x.arpa", TOO_MUCH)),
    ("a space for a file that says its own", "import own.arpa --space ▁", 2,
     "brings its own tokenizer, which says it; leave it out", exported("own.arpa")),
    ("all anew, and some of them", "compare corpus.txt --again --again-disturbed", 2,
     "--again trains all anew, those that were slowed down included: give one of the two"),
    ("pairs in JSON", "compare corpus.txt --json --pairs", 2, "--pairs: JSON always has them; leave it out"),
    ("a stop string that cannot come", "sample done --stop ≠", 2, ": never matches, the training text has no"),
    ("threads for one thread", "train corpus.txt --deterministic --threads 2", 2,
     "--deterministic trains on one thread: it goes with no --threads but 1"),
    ("importing over a run", "import missing.arpa -o done", 2, "done exists; choose another --output, or --force"),
    ("importing nothing", "import missing.arpa", 3, "missing.arpa: cannot be read: No such file"),
    ("importing what is no ARPA file", "import corpus.txt", 3, "not an ARPA file"),
    ("nothing to mix with", "mix done", 2, "name two RUNS or more to mix"),
    ("mixing runs of different texts", "mix done counted", 2, "learned from different texts, or hold out different",
     edit("done", corpus=lambda corpus: corpus | {"sha256": corpus["sha256"] | {"training": "x"}})),
    ("mixing runs of different tokenizers", "mix counted other", 2, "have different tokenizers", retokenised),
    ("mixing what has learned from the slice", "mix counted done", 2, "train it with charlm train TEXT --no-join",
     edit("done", progress=lambda progress: progress | {"joined": 2})),
    ("mixing by the held-out text", "mix counted done --text held.txt", 2, "is what these runs hold out",
     write("held.txt", TEXT[len(TEXT) * 9 // 10 :])),
    ("mixing runs whose text is gone", "mix counted done", 3,
     "if it has moved, say where it is now: --corpus PATH; or train the runs again", remove("corpus.txt")),
    ("--from a mixture", "train corpus.txt --from done", 2, "a larger budget trains it on: --resume done", as_mixture),
    ("this machine and formats", "info --device --formats", 2, "--formats and --device: give one of them"),
    ("this machine and a run", "info done --device", 2, "--device is about this machine, not about a run"),
]  # fmt: skip

RUNS: list[Case] = [
    ("no run yet", "sample", 3, "no run in checkpoints/ yet: make one with `charlm train CORPUS`"),
    ("a file instead of a run", "sample corpus.txt", 3, "corpus.txt does not exist; `charlm info` lists"),
    ("a folder that is no run", "evaluate .", 3, "is not a run: it has no checkpoint.json"),
    ("an output that exists", f"train corpus.txt -o done {QUICK}", 2,
     "done exists; choose another --output, or --force"),
    ("force on what is no run", f"train corpus.txt -o corpus.txt --force {QUICK}", 2,
     "not a run; --force replaces only runs"),
    ("an output whose name is not UTF-8", f"train corpus.txt -o 'r\udcff' {QUICK}", 2,
     "the name of a run's folder must be UTF-8; choose another"),
    ("a run whose name is not UTF-8", "sample 'r\udcff'", 3, "is not UTF-8, so its weights cannot be read; rename it",
     lambda folder, _: (folder / "done").rename(folder / "r\udcff")),
    ("an output within a file", f"train corpus.txt -o corpus.txt/run {QUICK}", 1,
     "cannot make this folder: Not a directory"),
    ("going on with what is finished", "train --resume done", 3,
     "this run is finished; a larger budget trains it on: charlm train --resume done --budget 10m"),
    ("going on with what went wrong", "train --resume done", 3, "its numbers went wrong, so it cannot be resumed",
     edit("done", progress=lambda progress: progress | {"finished": False})),
    ("going on with what is counted", "train --resume counted", 3,
     "this run is finished: counted. To count more text: charlm train TEXT TEXT --arch ngram"),
    ("what counts, and is said to be unfinished", "train --resume counted", 3,
     "a model that is counted cannot be resumed",
     together(edit("counted", training={}), lambda folder, _: edit("counted", files=lambda files: {
         **files, "resume": files["weights"]})(folder, _))),
    ("two trainers", "train --resume begun -q", 1, f"process {os.getpid()} on ", held),
    ("another trainer meanwhile", "train --resume begun -q", 3,
     "another process has trained it on meanwhile", meanwhile),
    ("saved while it is read", "sample done", 3, "is saved faster than it can be read", always_new),
    ("a text that has changed", "train --resume begun", 3, "not the text that this run was made from (it has changed",
     write("corpus.txt", TEXT + "More.\n")),
    ("a text that has changed", "evaluate done", 3, "restore it, or name another text with --text",
     write("corpus.txt", TEXT + "More.\n")),
    ("a text that is gone", "train --resume begun", 3, "no longer there, and this run was made from it if it has "
     "moved, say where it is now: charlm train FILE --resume begun", remove("corpus.txt")),
    ("a text that is gone", "evaluate done", 3,
     "say where it is now: --corpus PATH; or name another text with --text", remove("corpus.txt")),
    ("a text that is gone", "compare done counted", 3,
     "say where it is now: --corpus PATH; or measure each with charlm evaluate RUN --text FILE", remove("corpus.txt")),
    ("a list of files that is none", "evaluate done", 3, "damaged: the list of the corpus's files is none",
     edit("done", files=lambda files: files | {"files": files["weights"]})),
    ("a list of files beyond measure", "evaluate done", 3, "damaged: larger than any list of files",
     together(patch(corpus_files, "MAX_LIST_BYTES", 1),
              edit("done", files=lambda files: files | {"files": files["tokenizer/tokenizer.json"]}))),
    ("a list of files that cannot be read", "evaluate done", 3, "done: the list of files cannot be read: Permission",
     together(patch(corpus_files, "verify", raising(PermissionError(errno.EACCES, "Permission denied"))),
              edit("done", files=lambda files: files | {"files": files["tokenizer/tokenizer.json"]}))),
    ("a text from standard input", "train --resume begun", 3, "say where it is now: charlm train FILE --resume begun",
     edit("begun", corpus=lambda corpus: corpus | {"sources": ["-"]})),
    ("a held-out text from standard input", "evaluate done", 3,
     "this run's held-out text came from standard input and cannot be read again; name another text with --text",
     edit("done", corpus=lambda corpus: corpus | {"held_out_file": "-"})),
    ("a text that nobody knows", "evaluate done", 3,
     "does not say which text it was made from", edit("done", corpus=None)),
    ("a text that nobody knows", "compare done", 3, "does not say which text it held out", edit("done", corpus=None)),
    ("different texts", "compare done counted", 2, "two texts, so their figures cannot be compared",
     edit("done", corpus=lambda corpus: corpus | {"sha256": corpus["sha256"] | {"held_out": "x"}})),
    ("a broken card", "sample done", 3, "checkpoint.json: damaged: not the JSON of a run", replace("done", CARD, b"{")),
    ("a card beyond measure", "sample done", 3, "larger than any card", replace("done", CARD, b" " * (2 << 20))),
    ("a card too deep", "sample done", 3, "damaged: not the JSON of a run", replace("done", CARD, deep)),
    ("a link for a card", "sample done", 3, "not a file of its own", linked_card),
    ("a newer format", "sample done", 3, "format 2, this charlm reads 1: upgrade charlm", edit("done", format=2)),
    ("an unknown architecture", "sample done", 3,
     "unknown architecture 'quantum'", edit("done", architecture="quantum")),
    ("a card without files", "sample done", 3, "'weights' is wrong or missing", edit("done", files={})),
    ("files beyond number", "sample done", 3, "names more files than any run has",
     edit("done", files=lambda files: files | {str(n): files["weights"] for n in range(9)})),
    ("a file outside", "sample done", 3, "names a file that no run has",
     edit("done", files=lambda files: files | {"weights": {"name": "../../x", "bytes": 1, "sha256": ""}})),
    ("a file that is missing", "sample done", 3, "missing; the run is incomplete", remove("done/weights*")),
    ("a file that was cut", "sample done", 3, "damaged: not the content that was saved",
     replace("done", "weights", lambda content: content[:-1])),
    ("a file with another bit", "sample done", 3, "damaged: not the content that was saved",
     replace("done", "weights", lambda content: content[:-1] + bytes([content[-1] ^ 1]))),
    ("a tokenizer with another bit", "sample done", 3, "damaged: not the content that was saved",
     replace("done", "tokenizer", lambda content: b"[" + content[1:])),
    ("a tokenizer beyond measure", "sample done", 3, "larger than any tokenizer",
     replace("done", "tokenizer", b" " * (17 << 20), vouch=True)),
    ("a tokenizer that is none", "sample done", 3, "not what charlm writes for a tokenizer of kind 'characters'",
     replace("done", "tokenizer", deep, vouch=True)),
    ("no tokenizer", "sample done", 3, "tokenizer.json is missing: the run is incomplete",
     edit("done", files=lambda files: {"weights": files["weights"]})),
    ("another tokenizer", "sample done", 3, "the tokenizer has 260 ids, the model", other_tokenizer),
    ("weights of another shape", "sample done", 3, "the weights do not fit the configuration",
     edit("done", config=lambda config: config | {"width": 9})),
    ("weights of another type", "sample done", 3, "the weights do not fit the configuration",
     replace("done", "weights", lambda content: content.replace(b'"F32"', b'"I32"'), vouch=True)),
    ("weights that are none", "sample done", 3, "not what a run has for numbers",
     replace("done", "weights", b"\xff" * 999, vouch=True)),
    ("weights beyond this machine", "sample done", 3, "larger than the memory of this machine",
     patch(loading, "physical_memory", lambda: 1000)),
    ("n-grams that are none", "sample done", 3, "the weights are not those of an n-gram model",
     edit("done", architecture="ngram", config={"order": 3, "smoothing": "gated"})),
    ("n-grams without sense", "sample counted", 3, "contradict each other",
     replace("counted", "weights", lambda content: content[:-8] + 8 * b"\xff", vouch=True)),
    ("n-grams that do not add up", "sample counted", 3, "do not add up to 1", twice_the_mass),
    ("a setting from the future", "sample done", 3, "unknown setting 'colour'; a newer charlm may have written it",
     edit("done", config=lambda config: config | {"colour": 3})),
    ("a setting that is lost", "sample done", 3, "expected an object of settings", edit("done", config=3)),
    ("a setting of another type", "sample done", 3, "`width` must be int, not 'wide'",
     edit("done", config=lambda config: config | {"width": "wide"})),
    ("members that are none", "sample done", 3, "the members of the mixture are not listed",
     edit("done", architecture="mixture", config={"members": 3})),
    ("a member that is none", "sample done", 3, "a member of the mixture is not described as one", members(member=3)),
    ("a member of the future", "sample done", 3, "unknown architecture 'quantum'; a newer charlm may know it",
     members(member={"architecture": "quantum", "config": {}})),
    ("too few members", "sample done", 3, "a mixture has 2 to 16 members, not 1", members(count=1, member=NGRAM)),
    ("too many members", "sample done", 3, "a mixture has 2 to 16 members, not 17", members(count=17, member=NGRAM)),
    ("mixtures too deep", "sample done", 3, "these are mixtures within mixtures", members(levels=4, member=NGRAM)),
    ("members of other runs", "sample done", 3, "the weights do not fit the configuration", members(member=NGRAM)),
    ("counters that cannot be", "train --resume begun", 3, "cannot be resumed: step cannot be -1",
     edit("begun", progress=lambda progress: progress | {"step": -1})),
    ("counters without an end", "train --resume begun", 3, "cannot be resumed: the number of steps is missing",
     edit("begun", progress=lambda progress: progress | {"steps": None})),
    ("counters at odds", "train --resume begun", 3, "cannot be resumed: the counters contradict each other",
     edit("begun", progress=lambda progress: progress | {"measured": 9})),
    ("an optimizer of another run", "train --resume begun", 3, "the state of the optimizer does not fit the model",
     edit("begun", training=lambda training: training | {"optimizer": "rmsprop"})),
    ("broken weights", "evaluate done", 4, "is zero or not a number", broken_weights),
    ("broken weights", "score done abc", 4, "is zero or not a number", broken_weights),
    ("broken weights", "inspect predict done --text a", 4, "the model's probabilities are not numbers", broken_weights),
    ("broken weights", "inspect gradients done", 4, "tokens are not numbers: they explode, or", broken_weights),
    ("broken weights", "sample done", 4, "the model's probabilities are not numbers", broken_weights),
    ("broken weights", "sample done --beams 2", 4, "the model's probabilities are not numbers", broken_weights),
]  # fmt: skip

TRAINING: list[Case] = [
    ("a loss that is not finite", f"train corpus.txt --arch rnn {QUICK}", 4,
     "the loss is not finite at step 3. Try --learning-rate 0.003", poisoned(3)),
    ("no compiler", f"train corpus.txt --compile {QUICK}", 2, "--compile needs a C++ compiler, and none is on the PATH",
     patch(shutil, "which", lambda _name: None)),
    ("a gradient that is not finite", f"train corpus.txt {QUICK}", 4, "the gradient is not finite at step 1",
     patch(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))),
    ("weights that are not finite", f"train corpus.txt --learning-rate 1e39 {QUICK}", 4, "is not finite at step 2"),
    ("more than this machine has", f"train corpus.txt --width 3000000 {QUICK}", 1, "and this machine has"),
    ("memory that runs out", f"train corpus.txt {QUICK}", 1,
     "out of memory with --batch 32, --segment 64, --width 128, --layers 1 try --batch 16",
     patch(Trainer, "_step", NO_MEMORY)),
    ("memory that runs out", "sample done", 1, "out of memory; try a shorter text or prompt",
     patch(package.decoding.generation, "read", NO_MEMORY)),
    ("a full disk", f"train corpus.txt {QUICK}", 1,
     "cannot save the run: No space left on device; nothing is saved yet",
     patch(os, "fsync", FULL)),
    ("a full disk", "train --resume begun -q", 1,
     "No space left on device; the last save is untouched; mend that, then",
     patch(saving, "write_atomically", FULL)),
    ("a folder that cannot be written to", "train --resume begun -q", 1,
     "cannot be written to: Read-only file system; choose another --output, or resume a copy",
     patch(checkpoint.lock, "_taken", READ_ONLY)),
    ("a port that is taken", "serve done --port 1", 1, "cannot listen on 127.0.0.1 port 1:",
     patch(socket.socket, "bind", raising(OSError(errno.EADDRINUSE, "Address already in use")))),

    ("a folder that cannot be made", f"train corpus.txt {QUICK}", 1, "cannot make this folder: Read-only file system",
     patch(Path, "mkdir", READ_ONLY)),
    ("metrics that cannot be written", "train --resume begun -q", 1,
     "metrics.jsonl: cannot be written: Is a directory; mend that, then charlm train --resume begun",
     together(remove("begun/metrics.jsonl"), lambda folder, _: (folder / "begun/metrics.jsonl").mkdir())),
    ("SIGTERM while a text is read", f"train corpus.txt {QUICK}", 143, "interrupted",
     patch(Origin, "open", lambda *_: os.kill(os.getpid(), signal.SIGTERM))),
    ("Ctrl-C while a text is read", f"train corpus.txt {QUICK}", 130, "interrupted",
     patch(Origin, "open", lambda *_: os.kill(os.getpid(), signal.SIGINT))),
    ("Ctrl-C while a text is evaluated", "evaluate done", 130, "interrupted",
     patch(package.models.LSTM, "score", raising(KeyboardInterrupt()))),
]  # fmt: skip

COMPRESSION: list[Case] = [
    ("compressing nothing", "compress missing.txt --run done", 3, "missing.txt: cannot be read: No such file"),
    ("compressing over a file", "compress corpus.txt --run done -o x.clm", 2,
     "x.clm exists; choose another --output, or --force to replace it", packed()),
    ("compressing into a folder", "compress corpus.txt --run done -o done", 2, "done is a folder; name a file with"),
    ("compressing over the text itself", "compress corpus.txt --run done -o corpus.txt --force", 2,
     "corpus.txt is the input, which stays; choose another --output"),
    ("compressed on a terminal", "compress corpus.txt --run done -o -", 2, "a terminal shows no compressed file",
     patch(compress_command, "is_terminal", lambda: True)),
    ("two things on standard output", "compress corpus.txt --run done -o - --json", 2, "--json and -o - both want"),
    ("two things on standard output", "decompress x.clm -o - --json", 2, "--json and -o - both want", packed()),
    ("no more streams than that", "compress corpus.txt --run done --streams 9999", 2, "--streams must be at most 1024"),
    ("more threads than cores", "compress corpus.txt --run done --threads 1000", 2,
     "1000 threads are more than this machine has cores: "),
    ("integers of a network", "compress corpus.txt --run done --backend integer", 2,
     "--backend integer is for n-grams: LSTM is none; leave it out"),
    ("a full disk", "compress corpus.txt --run done -o y.clm", 1, "y.clm: cannot be written: No space left on device",
     patch(os, "fsync", FULL)),
    ("arithmetic that is not repeatable", "compress corpus.txt --run done", 1,
     "does not decode again: the compressed text: ", inexact),
    ("broken weights", "compress corpus.txt --run done", 4, "is zero or not a number", broken_weights),
    ("a name that is not known", "decompress corpus.txt", 2, "does not end in .clm, so what to call the text is not"),
    ("decompressing a text", "decompress corpus.txt -o y", 3, "corpus.txt: not a file that `charlm compress` wrote"),
    ("compressed with a run that is not here", "decompress x.clm", 3,
     "x.clm: compressed with done (lstm, SHA-256 ", together(packed(), edit("done", files={}))),
    ("compressed with another run", "decompress x.clm --run counted", 3,
     "x.clm: compressed with another model: done (lstm, SHA-256 ", packed()),
    ("compressed on another machine", "decompress x.clm --run done", 1,
     "x.clm: made where probabilities are computed otherwise: processor abacus, here ",
     packed(machine={**machine_here(), "processor": "abacus"})),
    ("compressed with a backend that is not here", "decompress x.clm --run done", 1,
     "x.clm: `backend` must be one of auto", packed(machine={**machine_here(), "backend": "abacus"})),
    ("compressed text that was cut", "decompress x.clm --run done", 3, "; take a whole copy",
     packed(lambda content: content[:-1])),
    ("compressed text that was cut early", "decompress x.clm --run done", 3, "x.clm: cut short in its header",
     packed(lambda content: content[:99])),
    ("another bit in a block", "decompress x.clm --run done", 3,
     "x.clm: damaged in block 1 of 1: its checksum is wrong; take an intact copy",
     packed(lambda content: content[:-1] + bytes([content[-1] ^ 1]))),
    ("another bit in a header", "decompress x.clm --run done", 3, "x.clm: damaged in its header: the checksum is wrong",
     packed(lambda content: content.replace(b"done", b"gone"))),
    ("a header that is none", "decompress x.clm --run done", 3, "x.clm: damaged in its header: not what charlm writes",
     packed(sha256="x")),
    ("compressed by a newer charlm", "decompress x.clm --run done", 3, "x.clm: format 2, this charlm reads 1: upgrade",
     packed(lambda content: content[:8] + b"\x02" + content[9:])),
    ("a compressed text that was sent as text", "decompress x.clm --run done", 3, "x.clm: damaged by a change of line",
     packed(lambda content: content.replace(b"\r\n", b"\n"))),
    ("more text than there can be", "decompress x.clm --run done", 3,
     "x.clm: block 1 does not decode: either the file was tampered with, or this machine computes otherwise",
     packed(tokens=2**30, bytes=2**30)),
    ("another text than was compressed", "decompress x.clm --run done", 3,
     "x.clm: what it decodes to is not what was compressed: either the file", packed(sha256="0" * 64)),
]  # fmt: skip

CASES = TEXTS + SETTINGS + RUNS + TRAINING + COMPRESSION
said: dict[int, str] = {}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{case[0]}: {case[1]}" for case in CASES])
def test_errors_say_what_where_and_what_next(
    number: int, made: Path, tmp_path: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, arguments, code, message, *prepare = CASES[number]
    folder = tmp_path / "here"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    before = sorted(folder.glob("checkpoints/*"))
    try:
        with monkeypatch.context() as patched:
            for prepared in prepare:
                prepared(folder, patched)
            outcome = charlm(*shlex.split(arguments))
    finally:
        getattr(checkpoint, "_over", lambda: None)()
    found = " ".join(outcome.err.split())
    said[number] = found
    assert message in found
    assert outcome.code == code
    assert outcome.out == ""
    assert "Traceback" not in found
    complaint = outcome.err[max(0, outcome.err.find("error:")) :]  # notes of the texts that were read may stand before
    assert len(complaint.strip().splitlines()) <= 2 or code == 2  # click shows the usage too
    if code in (2, 3):
        assert sorted(folder.glob("checkpoints/*")) == before


RAISED = {
    "CharlmError",
    "UsageError",
    "DataError",
    "CheckpointError",
    "TrainingFault",
    "damaged",
    "error",
    "_fail",
    "fault",
}
ELSEWHERE = {  # what no command can bring about, or only with a server or a huge text: tested in these files
    "corpus/download.py": "test_data.py",
    "corpus/classics.py": "test_data.py",
    "corpus/ids.py": "test_corpus.py",
    "corpus/text.py": "test_corpus.py",
    "evaluation/walk.py": "test_evaluation.py",
    "models/contexts/reader.py": "test_contexts.py",
    "evaluation/result.py": "test_evaluation.py",
    "export/huggingface/reading.py": "test_huggingface_broken.py",  # which has a table like this one
    "export/huggingface/tokenizer.py": "test_huggingface.py",
    "library/comparing.py": "test_library.py",
    "library/training.py": "test_library.py",
    "models/decoder.py": "test_huggingface_broken.py",
}
UNREACHED = (  # within the commands; each has its test, or says what must not happen
    "no corpus given; name a file",  # the commands ask for one before
    "came without pydoc_data",  # no such Python here
    "no copy of",  # a full temporary folder: test_corpus.py
    "the held-out text is empty",  # refused when it is opened
    "is missing; the file is damaged or incomplete",  # every setting there is has a default
    "has more n-grams here than fit in",  # the least that can be allowed holds a large text: test_ngram.py
    "a mixture is trained with one network",  # the command trains no other: test_mixing.py
    "members within members without end",  # JSON as deep as that is hardly read: test_mixing.py
    ":1: cannot be read:",  # a file that changes while its beginning is read
    "has no units; inspect",  # the page asks networks only
    "this model knows no character that it may write",  # a card and counts that were changed: tests/faults
    "torchrun is for",  # with several processes only: test_distributed.py
    "no format has a place for",  # contexts, which hardly a command trains alone: test_huggingface.py
    "streams of text cannot be shared among",  # the same
    "has another text or tokenizer than process 0",  # the same
    "symbols apart, and this text has",  # a text with 65,535 of them
    "no compiled backend here for",  # the command takes what there is: test_inference.py
    "the system",  # of an OSError that nobody expected
)


CODE = re.compile(r"`\w+`|`\w+[=(][^`]*`|`(?:\w+=[^` ]*|\w+\([^`]*)?$|^[^` ]*`")
"""A setting or call within a piece of a message, which the command line spells in its own way."""


def messages() -> list[tuple[str, str]]:
    """Where an error is made, and the longest piece of its text that is always the same."""
    found = []
    root = Path(package.__file__).parent
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and node.args
                and getattr(node.func, "id", getattr(node.func, "attr", "")) in RAISED
            ):
                pieces = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                parts = [part for piece in pieces for part in CODE.split(piece)]
                longest = max((" ".join(part.split()) for part in parts), key=len, default="")
                if len(longest) >= 8:
                    found.append((f"{file.relative_to(root).as_posix()}:{node.lineno}", longest))
    return found


def test_no_error_is_missing_from_the_table() -> None:
    if len(said) < len(CASES):
        pytest.skip("only where all of the table was tried, in one process: --dist loadfile")
    everything = "\n".join(said.values())
    missing = [
        f"{place}: {text}"
        for place, text in messages()
        if text not in everything and place.split(":")[0] not in ELSEWHERE and not any(own in text for own in UNREACHED)
    ]
    assert not missing, "\n".join(["add a row to the tables above for:", *missing])
