"""Checkpoint folders and tokenizer files that somebody has tampered with: an error, or a run that works; never more.

Half of the time the card vouches for what was changed, as only malice would have it: then the content itself is met.
"""

import copy
import hashlib
import json
import os
import random
import re
import resource
import shutil
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from charlm import checkpoint
from charlm.checkpoint import CARD
from charlm.corpus import Split, Text, split
from charlm.decoding import Sampling, sample
from charlm.errors import CharlmError, CheckpointError
from charlm.models import ARCHITECTURES
from charlm.tokenizers import TOKENIZERS
from charlm.training import TrainingConfig, TrainingObserver, complete, train
from charlm.training import resume as go_on
from faults.processes import SMALL, Tally

BATCH = 100  # mutations in one process
SECONDS = 5.0
GROWTH = 256 << 20  # bytes
WORDS = "the cat sat on the mat; the rat ate that hat, and the cat was fat.\n"
HARMFUL = ("exec", "compile", "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen",
           "pickle.find_class", "marshal.loads", "ctypes.dlopen", "socket.connect", "import")  # fmt: skip

SIGNATURE = re.compile(rb"(void|[iufb]\d)\([iufbTuple0-9:, ()\[\]]*\)")

Folder = dict[str, bytes]
ABSURD: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**30, -(10**30), 1.5, -0.0, 1e308, float("inf"), float("nan"), "",
    "a" * 100_000, "../../../etc/passwd", "/etc/passwd", "\u0000", "\ud800", [], {}, [[]], [0] * 10_000, {"": ""},
    {"name": "checkpoint.json"}, "weights", "lstm", "ngram", "characters", "sentencepiece", [1, 2, 3], ["a"], 2**53 + 1,
]  # fmt: skip


class _StopsAfter(TrainingObserver):
    """Says so many times that training may go on."""

    def __init__(self, answers: int) -> None:
        self.answers = answers

    def should_stop(self) -> bool:
        self.answers -= 1
        return self.answers < 0


def _split() -> Split:
    return split(Text.from_string(WORDS * 20, "cats"))


def bases(folder: Path) -> list[Folder]:
    """An interrupted run of every architecture, each with every tokenizer, as file name -> content."""
    made = []
    for architecture, kind in ARCHITECTURES.items():
        for name, tokenizer_kind in TOKENIZERS.items():
            tokenizer = tokenizer_kind.train(
                [WORDS], tokenizer_kind.Config(**({"vocab_size": 265} if name == "sentencepiece" else {}))
            )
            known = kind.Config.names()
            config = kind.Config().changed(
                {n: value // 4 if n == "width" else value for n, value in SMALL.items() if n in known}
            )
            training = complete(TrainingConfig(budget="9steps", batch=2, segment=8, precision="float32"), architecture)
            path = folder / f"{architecture}-{name}"
            path.mkdir()
            observer = _StopsAfter(5) if kind.by_gradient else None
            train(path, _split(), tokenizer, architecture, config, training, observer=observer)
            made.append({file.name: file.read_bytes() for file in path.iterdir()})
            rehearse(lambda: _tried(path))  # noqa: B023
    return made


USUAL: set[tuple[str, str]] = set()
"""What unchanged files bring about as well, and so is no doing of a changed one: event, and what of."""

_listeners: list[Callable[[str, tuple[Any, ...]], None]] = []


@contextmanager
def _heard(listener: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    """Meanwhile the listener is told the interpreter's audit events."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


sys.addaudithook(lambda event, arguments: [listener(event, arguments) for listener in _listeners])


def rehearse(act: Callable[[], object]) -> None:
    """Do with unchanged files what will be done with changed ones: modules and libraries are loaded, and noted."""
    with _heard(lambda event, arguments: USUAL.add((event, str(arguments[0]))) if event in HARMFUL else None):
        random.Random("")  # Python 3.13 imports only here what it hashes a seed with
        act()


# One change each


def _vouch(folder: Folder, name: str, content: bytes) -> None:
    """Change a file, and the card's word for it."""
    folder[name] = content
    card = json.loads(folder[CARD])
    for entry in card["files"].values():
        if entry["name"] == name:
            entry["bytes"], entry["sha256"] = len(content), hashlib.sha256(content).hexdigest()
    folder[CARD] = json.dumps(card).encode()


def _file(folder: Folder, rng: random.Random) -> str:
    return rng.choice(sorted(folder))


def _garbled(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, cut, lengthened, a stretch repeated, replaced or removed."""
    data = bytearray(content)
    at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(min(200, len(data)) + 1)
    length = rng.choice([1, 2, 8, 100, 1000])
    match rng.randrange(7):
        case 0:
            for _ in range(rng.choice([1, 1, 3, 50])):
                if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case 2:
            data += rng.randbytes(length)
        case 3:
            data[at:at] = data[at : at + length]
        case 4:
            data[at : at + length] = rng.randbytes(length)
        case 5:
            del data[at : at + length]
        case 6 if data:
            data[at : at + 1] = rng.choice(b'0123456789-"[]{},:e.\\u\x00\xff').to_bytes(1, "little")
    return bytes(data)


def garble(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    name = _file(folder, rng)
    folder[name] = _garbled(folder[name], rng)


def garble_and_vouch(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    name = rng.choice([name for name in sorted(folder) if name not in (CARD, checkpoint.METRICS)])
    _vouch(folder, name, _garbled(folder[name], rng))


def swap(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    """A file of another run under the name of the same kind of file here; half of the time vouched for."""
    name, other = _file(folder, rng), rng.choice(others)
    same = [n for n in sorted(other) if n.split("-")[0] == name.split("-")[0]]
    if same:
        if rng.random() < 0.5 and name not in (CARD, checkpoint.METRICS):
            _vouch(folder, name, other[same[0]])
        else:
            folder[name] = other[same[0]]


def lose(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    del folder[_file(folder, rng)]


def edit_card(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    card = json.loads(folder[CARD])
    for _ in range(rng.choice([1, 1, 2, 5])):
        _edit(card, rng)
    folder[CARD] = json.dumps(card).encode(errors="surrogatepass")


def edit_tokenizer(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    name = next(name for name in folder if name.startswith("tokenizer"))
    _vouch(folder, name, edited_json(folder[name], rng))


def edit_header(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    """Absurd names, types, shapes and places of the tensors in a safetensors file, vouched for."""
    name = rng.choice([name for name in sorted(folder) if name.endswith(".safetensors")])
    content = folder[name]
    size = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    for _ in range(rng.choice([1, 1, 2, 5])):
        _edit(header, rng)
    head = json.dumps(header).encode(errors="surrogatepass")
    claimed = len(head) if rng.random() < 0.9 else rng.choice([0, 1, 2**31, 2**63, 2**64 - 1, len(head) + 1])
    _vouch(folder, name, struct.pack("<Q", claimed) + head + body)


def edit_tensor(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    """Other numbers in a tensor, vouched for: extremes, or one value for all."""
    name = rng.choice([name for name in sorted(folder) if name.endswith(".safetensors")])
    content = bytearray(folder[name])
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:size])
    begin, end = rng.choice([entry["data_offsets"] for key, entry in sorted(header.items()) if key != "__metadata__"])
    value = rng.choice([b"\xff", b"\x00", b"\x7f", b"\x80", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f", rng.randbytes(8)])
    content[size + begin : size + end] = (value * (end - begin))[: end - begin]
    _vouch(folder, name, bytes(content))


def nest(folder: Folder, rng: random.Random, others: list[Folder]) -> None:
    """JSON far deeper than any reader likes, or longer."""
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    depth = rng.choice([900, 5000, 200_000])
    text = (opening * depth + "1" + closing * depth * rng.randrange(2)).encode()
    text = rng.choice([text, b"[" + b"[]," * 300_000 + b"1]", b"9" * 100_000, b'{"format": 1, "files": ' + text + b"}"])
    name = rng.choice([CARD, next(name for name in folder if name.startswith("tokenizer"))])
    if name == CARD:
        folder[name] = text
    else:
        _vouch(folder, name, text)


CHANGES = [garble, garble_and_vouch, garble_and_vouch, swap, lose, edit_card, edit_card, edit_tokenizer, edit_header,
           edit_tensor, nest]  # fmt: skip


def link(path: Path, rng: random.Random) -> None:
    """A link, a pipe, a folder, a device or a huge file of nothing in the place of a file."""
    file = path / rng.choice(sorted(os.listdir(path)))
    content = file.read_bytes()
    file.unlink()
    match rng.randrange(6):
        case 0:
            file.symlink_to(rng.choice(["/dev/zero", "/etc/passwd", "..", str(file), "nowhere"]))
        case 1:
            os.mkfifo(file)
        case 2:
            file.mkdir()
        case 3:
            file.write_bytes(content)
            os.truncate(file, 1 << 40)
        case 4:
            outside = path.parent / f"outside-{path.name}"
            outside.write_bytes(content)
            file.symlink_to(outside)
        case 5:  # and the card says that it is that large
            file.write_bytes(content)
            os.truncate(file, 1 << 40)
            with suppress(Exception):  # there may be no card to change
                card = json.loads((path / CARD).read_bytes() if file.name != CARD else b"")
                for entry in card["files"].values():
                    entry["bytes"] = 1 << 40 if entry["name"] == file.name else entry["bytes"]
                (path / CARD).write_text(json.dumps(card))


def edited_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON file with some of its values replaced by absurd ones."""
    data = json.loads(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        _edit(data, rng)
    return json.dumps(data, separators=(",", ":")).encode(errors="surrogatepass") + b"\n"


def _edit(data: Any, rng: random.Random) -> None:
    places = list(_places(data))
    if not places:
        return
    holder, key = rng.choice(places)
    match rng.randrange(5):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(["colour", "", "a" * 1000, "weights", "__class__"])] = copy.deepcopy(holder[key])
        case 2 if isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] += rng.choice([-1, 1, 256, -256, 10**6])
        case _:
            holder[key] = copy.deepcopy(rng.choice(ABSURD))


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else []
    for key in keys:
        yield data, key
        yield from _places(data[key])


# What must come of it


def folders(count: int, folder: Path, seed: int) -> Tally:
    """`count` changed folders: loaded, sampled from, and gone on with where they still load."""
    tally = Tally("changed checkpoint folders")
    made = bases(folder)

    def one(number: int, place: Path) -> str:
        rng = random.Random(f"{seed} {number}")
        content = dict(rng.choice(made))
        for _ in range(rng.choice([1, 1, 1, 2])):
            with suppress(Exception):
                rng.choice(CHANGES)(content, rng, made)  # unless it does not go together with the one before
        path = place / "run"
        path.mkdir()
        for name, data in content.items():
            (path / name).write_bytes(data)
        if rng.random() < 0.1:
            link(path, rng)
        return _tried(path)

    _in_batches(count, folder, one, tally)
    return tally


def _tried(path: Path) -> str:
    """Load a run, draw from it, go on with it for two steps; what came of it."""
    try:
        run = checkpoint.load(path)
    except CheckpointError as problem:
        assert len(str(problem)) < 1500, "an error longer than anybody reads"
        return "refused"
    try:
        sample(run.model, run.tokenizer, "the", length=3, settings=Sampling(temperature=0.0))
    except CharlmError:
        return "loaded, and could not be drawn from"
    try:
        whole = checkpoint.load(path, resume=True)
        go_on(whole, _split(), observer=_StopsAfter(4))
    except CharlmError:
        return "loaded and drawn from"
    return "loaded, drawn from and gone on with"


def tokenizers(count: int, folder: Path, seed: int) -> Tally:
    """`count` changed tokenizer files: refused, or a tokenizer that still keeps every text."""
    tally, files = Tally("changed tokenizer files"), {}
    text = "the cat \ud800 žluť \U0001f600\r\n\0" * 3
    for name, kind in TOKENIZERS.items():
        config = kind.Config(**({"vocab_size": 265} if name == "sentencepiece" else {}))
        files[name] = kind.train([WORDS], config).files()
        rehearse(lambda: kind.from_files(files[name]))  # noqa: B023

    def one(number: int, _: Path) -> str:
        rng = random.Random(f"{seed} {number}")
        kind = rng.choice(sorted(files))
        name, content = next(iter(files[kind].items()))
        changed = edited_json(content, rng) if rng.random() < 0.5 else _garbled(content, rng)
        try:
            tokenizer = TOKENIZERS[rng.choice([kind] * 4 + sorted(files))].from_files({name: changed})
        except CheckpointError:
            return "refused"
        assert tokenizer.decode(tokenizer.encode(text)) == text, "a text is not kept"
        return "still a tokenizer"

    _in_batches(count, folder, one, tally)
    return tally


def bits(count: int, folder: Path, seed: int) -> Tally:
    """Each single bit of the weights of a run, flipped: every one is found out. A smaller count takes every n-th."""
    tally, made = Tally("single bits of the weights"), bases(folder)
    content = min(made, key=lambda base: sum(len(data) for name, data in base.items() if name.startswith("weights")))
    name = next(name for name in content if name.startswith("weights"))
    path = folder / "flipped"
    path.mkdir()
    for other, data in content.items():
        (path / other).write_bytes(data)
    checkpoint.load(path)
    every = max(1, 8 * len(content[name]) // count)
    with (path / name).open("r+b", buffering=0) as file:
        for bit in range(seed % every, 8 * len(content[name]), every):
            file.seek(bit // 8)
            file.write(bytes([content[name][bit // 8] ^ 1 << bit % 8]))
            try:
                checkpoint.load(path)
                tally.check(False, f"bit {bit} of {name} is not noticed")
            except CheckpointError:
                tally.add("noticed")
            file.seek(bit // 8)
            file.write(content[name][bit // 8 : bit // 8 + 1])
    return tally


def _in_batches(count: int, folder: Path, one: Callable[[int, Path], str], tally: Tally) -> None:
    """`one` for each number, in processes that are watched: for time, memory, crashes and what they call."""
    for begin in range(0, count, BATCH):
        numbers = iter(range(begin, min(begin + BATCH, count)))
        while (at := next(numbers, None)) is not None:
            reading, writing = os.pipe()
            if not (pid := os.fork()):
                os.close(reading)
                _work([at, *numbers], folder / f"batch-{at}", one, writing)
            os.close(writing)
            last = _watch(pid, reading, at, tally)
            numbers = iter(range(last + 1, min(begin + BATCH, count)))  # behind the one that it died of, if it did


def _work(numbers: list[int], place: Path, one: Callable[[int, Path], str], writing: int) -> None:
    place.mkdir()
    called: list[str] = []
    warnings.simplefilter("error")  # nobody who samples wants to read them
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory counts from here
    for number in numbers:
        before = _peak()
        began = time.monotonic()
        try:
            with _heard(lambda event, arguments: _note(event, arguments, called)):
                what = one(number, place)
        except BaseException as problem:
            where = traceback.extract_tb(problem.__traceback__)[-1]
            what = f"!{type(problem).__name__}: {str(problem)[:300]} ({where.filename}:{where.lineno})"
        seconds, grown = time.monotonic() - began, _peak() - before
        if called:
            what = f"!called {called[0]}"
            called.clear()
        os.write(writing, (json.dumps([number, what, seconds, grown]) + "\n").encode())
        shutil.rmtree(place)
        place.mkdir()
    os._exit(0)


def _note(event: str, arguments: tuple[Any, ...], called: list[str]) -> None:
    """Remember what a file of a stranger must never bring about: code that runs, or a way out of the folder."""
    if event in HARMFUL and not _harmless(event, arguments):
        called.append(f"{event} {str(arguments)[:200]}")
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(("/etc", "/dev", "..")):
        called.append(f"open {arguments[0]}")


def _harmless(event: str, arguments: tuple[Any, ...]) -> bool:
    if (event, str(arguments[0])) in USUAL:
        return True
    if event == "compile":  # numba parses the signatures of kernels, which stand in the source
        return isinstance(arguments[0], bytes) and SIGNATURE.fullmatch(arguments[0]) is not None
    if event == "exec":
        return all(re.fullmatch(r"void|Tuple|[iufb]\d", name) for name in arguments[0].co_names)
    return event == "import" and str(arguments[0]).split(".")[0] in sys.modules  # a part of what is there already


def _peak() -> int:
    """The most memory this process has had, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def _watch(pid: int, reading: int, first: int, tally: Tally) -> int:
    """Read what a batch reports; the number of the last that was done, or that it died of."""
    last = first - 1
    alarm = time.monotonic() + SECONDS + 1
    os.set_blocking(reading, False)
    rest = b""
    while True:
        try:
            data = os.read(reading, 1 << 16)
            if not data:
                break
        except BlockingIOError:
            if time.monotonic() > alarm:
                os.kill(pid, 9)
                tally.check(False, f"number {last + 1}: longer than {SECONDS:.0f} s")
                last += 1
                break
            time.sleep(0.002)
            continue
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            last, what, seconds, grown = json.loads(line)
            alarm = time.monotonic() + SECONDS + 1
            tally.add(what if not what.startswith("!") else "failures")
            tally.check(not what.startswith("!"), f"number {last}: {what[1:]}")
            tally.check(seconds < SECONDS, f"number {last}: {seconds:.1f} s")
            tally.check(grown < GROWTH, f"number {last}: {grown >> 20} MB")
            tally.counts["seconds at most"] = float(max(seconds, tally.counts.get("seconds at most", 0.0)))
            tally.counts["MB at most"] = max(grown >> 20, tally.counts.get("MB at most", 0))
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -9):
        tally.check(False, f"number {last + 1}: the process died with {status}")
        last += 1
    return last if status else 10**9
