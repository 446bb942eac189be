"""Compressed texts come back byte for byte, in the bits that `evaluate` claims, or not at all."""

import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TEXT, Charlm

from charlm.compression import (
    CodingProgress,
    CompressionConfig,
    Container,
    Content,
    compress,
    decompress,
    embedded_run,
    files_of,
    prove,
)
from charlm.compression.coding import cut
from charlm.compression.content import spelled
from charlm.compression.predictors import EnginePredictor
from charlm.corpus import Text, open_corpus
from charlm.errors import CharlmError, CheckpointError, DataError, TrainingFault, UsageError
from charlm.evaluation import evaluate
from charlm.models import ARCHITECTURES, CountingModel, LanguageModel
from charlm.tokenizers import TOKENIZERS, Tokenizer

SMALL = {"width": 16, "layers": 1, "heads": 2, "window": 16, "embedding": 8, "order": 3}
SHORT = TEXT[:300]
CONTENTS = {
    "nothing": b"",
    "one byte": b"x",
    "a wrong byte": b"\xff",
    "NULs": b"\0\0a\0",
    "CRLF": b"one\r\ntwo\r\n",
    "emoji": "žluť 😀👩‍👩‍👧 ▁\u2585".encode(),
    "a byte order mark": b"\xef\xbb\xbftext",
    "no UTF-8": b"caf\xe9 \xed\xb2\x80\xed\xa0\xbd \xc3",  # halves of surrogates, a character that is cut
    "random bytes": random.Random(0).randbytes(150),
    "text": TEXT.encode()[:200],
}


def trained_tokenizer(kind: str) -> Tokenizer:
    tokenizer = TOKENIZERS[kind]
    return tokenizer.train([TEXT], tokenizer.Config(**({"vocab_size": 290} if kind == "sentencepiece" else {})))


def small_model(architecture: str, tokenizer: Tokenizer) -> LanguageModel:
    kind = ARCHITECTURES[architecture]
    names = kind.Config.names()
    torch.manual_seed(0)
    model = kind(kind.Config().changed({n: v for n, v in SMALL.items() if n in names}), tokenizer.vocab_size).eval()
    if isinstance(model, CountingModel):
        ids = tokenizer.encode(TEXT)
        model.fit(ids[:-200], ids[-200:])
    return model


@pytest.fixture(scope="module", params=ARCHITECTURES)
def by_characters(request: pytest.FixtureRequest) -> tuple[LanguageModel, Tokenizer]:
    tokenizer = trained_tokenizer("characters")
    return small_model(request.param, tokenizer), tokenizer


@pytest.fixture(scope="module")
def lstm() -> tuple[LanguageModel, Tokenizer]:
    tokenizer = trained_tokenizer("characters")
    return small_model("lstm", tokenizer), tokenizer


def packed(
    model: LanguageModel, tokenizer: Tokenizer, data: bytes = CONTENTS["text"], **settings: Any
) -> tuple[bytes, Container]:
    made = compress(model, tokenizer, Content.of_bytes(data, tokenizer), CompressionConfig(**settings))
    return made.content, made.container


def changed(container: Container, **values: object) -> Container:
    """A file whose header says something else, in order otherwise."""
    header = dataclasses.replace(container.header, **values)  # type: ignore[arg-type]
    return Container.from_bytes(container._replace(header=header).to_bytes(), "x.clm")


# Bytes and ids


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", CONTENTS)
def test_any_bytes_are_ids_and_back(kind: str, name: str) -> None:
    tokenizer = trained_tokenizer(kind)
    content = Content.of_bytes(CONTENTS[name], tokenizer)
    assert spelled(content.ids, tokenizer.pieces()) == CONTENTS[name]
    assert (content.size, content.characters is None) == (len(CONTENTS[name]), name in ("a wrong byte", "no UTF-8",
                                                                                        "random bytes"))  # fmt: skip


def test_text_has_the_ids_that_are_evaluated_and_a_wrong_byte_one_of_its_own() -> None:
    tokenizer = trained_tokenizer("sentencepiece")
    assert (Content.of_bytes(TEXT.encode(), tokenizer).ids == tokenizer.encode(TEXT)).all()
    ids = Content.of_bytes(b"night\xffghost", tokenizer).ids
    assert ids.tolist() == [*tokenizer.encode("night"), 1 + 0xFF, *tokenizer.encode("ghost")]


def test_a_piece_that_is_half_a_surrogate_does_not_stand_for_a_byte() -> None:
    tokenizer = TOKENIZERS["characters"].train(["\udcff\udcffab"], TOKENIZERS["characters"].Config())
    content = Content.of_bytes(b"ab\xff", tokenizer)
    assert spelled(content.ids, tokenizer.pieces()) == b"ab\xff"


def test_blocks_are_equal_within_one_and_never_empty() -> None:
    for tokens in range(40):
        for blocks in range(1, 9):
            lengths = cut(tokens, blocks)
            assert sum(lengths) == tokens
            assert len(lengths) == min(tokens, blocks)
            assert not lengths or lengths[0] - 1 <= lengths[-1] > 0
            assert lengths == sorted(lengths, reverse=True)


# Round trips


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_content_comes_back(architecture: str, kind: str) -> None:
    tokenizer = trained_tokenizer(kind)
    model = small_model(architecture, tokenizer)
    for data in CONTENTS.values():
        for streams in 1, 3:
            content, _ = packed(model, tokenizer, data, streams=streams, verify=False)
            assert decompress(content, model, tokenizer) == data


def test_stored_bits_are_those_that_evaluate_claims(by_characters: tuple[LanguageModel, Tokenizer]) -> None:
    model, tokenizer = by_characters
    text = Text.from_string(TEXT[:600], "text")
    evaluation = evaluate(model, tokenizer, text)
    proof = prove(model, tokenizer, text, evaluation)
    assert proof.claimed_bits == evaluation.bits
    assert -1 <= proof.stored_bits - evaluation.bits <= 64 + 1e-4 * evaluation.bits


def test_blocks_cost_what_they_do_not_know_of_the_text_before_them(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    model, tokenizer = lstm
    data = TEXT.encode()[:600]
    made = compress(model, tokenizer, Content.of_bytes(data, tokenizer), CompressionConfig(streams=5))
    parts = [TEXT[120 * n : 120 * (n + 1)] for n in range(5)]
    alone = sum(evaluate(model, tokenizer, Text.from_string(part, "part")).bits for part in parts)
    assert made.bits == pytest.approx(alone, rel=1e-5)


def test_any_number_of_streams_gives_the_same_text(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    for streams in 2, 7, 199, 200, 1024:
        content, container = packed(*lstm, streams=streams)
        assert len(container.blocks) == min(200, streams)
        assert decompress(Container.from_bytes(content, "x.clm"), *lstm) == CONTENTS["text"]


def test_the_number_of_streams_grows_with_the_text() -> None:
    config = CompressionConfig()
    assert [config.streams_for(n) for n in (0, 1, 10**5, 10**6, 10**9)] == [0, 1, 1, 15, 64]
    assert [config.streams_for(n, in_parallel=False) for n in (0, 1, 10**9)] == [0, 1, 1]


def test_an_embedded_run_suffices(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    model, tokenizer = lstm
    made = compress(
        model, tokenizer, Content.of_bytes(b"the night", tokenizer), files=files_of(model, tokenizer), run="x"
    )
    container = Container.from_bytes(made.content, "x.clm")
    run = embedded_run(container, "x.clm")
    assert decompress(container, run.model, run.tokenizer) == b"the night"
    assert made.stored_bits + made.header_bits + made.embedded_bits == 8 * len(made.content)
    assert run.history.corpus is None


def test_progress_ends_at_all_tokens_with_the_bits_that_were_paid(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    told: list[CodingProgress] = []
    content = Content.of_bytes(TEXT.encode()[:700], lstm[1])
    made = compress(*lstm, content, CompressionConfig(streams=2), on_progress=told.append)
    for what in "compressing", "verifying":
        those = [progress for progress in told if progress.what == what]
        assert len(those) >= 2
        assert those[-1].done == 1
        assert those[-1].bits_per_unit == pytest.approx(made.bits / 700, rel=1e-4)


def test_the_same_file_whatever_was_computed_before(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    first, _ = packed(*lstm)
    torch.manual_seed(5)
    torch.randn(300, 300) @ torch.randn(300, 300)
    small_model("gru", lstm[1])
    torch.set_num_threads(3)
    try:
        assert packed(*lstm)[0] == first
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("adapt", ["counts", "none"])
def test_contexts_give_the_same_file_whatever_they_read_before(adapt: str) -> None:
    tokenizer = trained_tokenizer("characters")
    first, again = small_model("contexts", tokenizer), small_model("contexts", tokenizer)
    models = [model if adapt == "counts" else model.frozen() for model in (first, again)]
    data = (TEXT[:500] + TEXT[100:400]).encode()  # goes on beyond the delay after which it learns
    content, container = packed(models[0], tokenizer, data, streams=2)
    assert (container.header.adapt, container.header.backend) == (adapt, "eager")
    assert {"numba", "llvmlite"} <= set(container.header.machine)
    evaluate(models[1], tokenizer, Text.from_string(TEXT, "text"))
    packed(models[1], tokenizer, data[:300])
    assert packed(models[1], tokenizer, data, streams=2)[0] == content
    assert decompress(content, models[1], tokenizer) == data


# Integers


def by_halves(tokenizer: Tokenizer) -> LanguageModel:
    """An n-gram whose probabilities are powers of two and sums of them, without rounding on any machine."""
    model = small_model("ngram", tokenizer).frozen()
    children = model.first.diff()  # type: ignore[operator, union-attr]
    shares = 0.5 / 2 ** (children - 1).clamp(min=0).float().log2().ceil().clamp(min=1)
    model.mass.copy_(shares.repeat_interleave(children))  # type: ignore[operator, union-attr]
    model.backoff.copy_(1 - shares * children)  # type: ignore[operator, union-attr]
    model.unigram.fill_(1 / 512)  # type: ignore[operator, union-attr]
    model.unigram[: 512 - tokenizer.vocab_size] = 1 / 256  # type: ignore[index, operator]
    return model


def test_integers_give_the_same_bits_on_every_machine() -> None:
    tokenizer = trained_tokenizer("characters")
    model = by_halves(tokenizer)
    content, container = packed(model, tokenizer, TEXT.encode(), backend="integer", streams=2)
    assert hashlib.sha256(b"".join(container.blocks)).hexdigest()[:16] == "edfa0ed913c5e783"
    assert set(container.header.machine) == {"backend", "threads", "constriction"}
    assert decompress(Container.from_bytes(content, "x.clm"), model, tokenizer) == TEXT.encode()


def test_integers_cost_next_to_nothing_more_than_the_frozen_n_gram() -> None:
    tokenizer = trained_tokenizer("characters")
    model = small_model("ngram", tokenizer)
    text = Text.from_string(TEXT[:800] + "≠", "text")
    made = compress(model, tokenizer, Content.of_bytes(text.read().encode(), tokenizer),
                    CompressionConfig(backend="integer"))  # fmt: skip
    assert made.container.header.adapt == "none"
    assert made.bits == pytest.approx(evaluate(model.frozen(), tokenizer, text).bits, rel=1e-4)
    assert made.stored_bits == pytest.approx(made.bits, abs=65)


# Refusals


def refusal(container: Container, model: LanguageModel, tokenizer: Tokenizer, *, force: bool = False) -> str:
    with pytest.raises(CharlmError) as caught:
        decompress(container, model, tokenizer, "x.clm", force=force)
    assert str(caught.value).startswith("x.clm: ")
    return str(caught.value)


def test_another_model_is_refused_and_never_gives_another_text(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    model, tokenizer = lstm
    _, container = packed(model, tokenizer)
    for other in small_model("gru", tokenizer), small_model("ngram", tokenizer):
        assert "compressed with another model" in refusal(container, other, tokenizer)
        assert "does not decode" in refusal(container, other, tokenizer, force=True) or "is not what was"
    almost = small_model("lstm", tokenizer)
    with torch.no_grad():
        next(almost.parameters()).view(-1)[:] *= 1 + 2**-20
    assert "compressed with another model" in refusal(container, almost, tokenizer)


def test_another_tokenizer_is_refused(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    model, tokenizer = lstm
    _, container = packed(model, tokenizer)
    letters = sorted(set(TEXT))
    other = TOKENIZERS["characters"].train(["".join([*letters[:-1], "ž"]) * 2], TOKENIZERS["characters"].Config())
    assert other.vocab_size == tokenizer.vocab_size
    assert "its tokenizer has SHA-256" in refusal(container, model, other)


@pytest.mark.parametrize(
    ("name", "value"),
    [("torch", "0.1"), ("processor", "an abacus"), ("instruction sets", "mmx"), ("charlm", "0.0"), ("magic", "more")],
)
def test_another_machine_is_refused_by_name_and_may_be_tried(
    name: str, value: str, lstm: tuple[LanguageModel, Tokenizer]
) -> None:
    _, container = packed(*lstm)
    there = changed(container, machine={**container.header.machine, name: value})
    assert f"{name} {value}, here" in refusal(there, *lstm)
    assert decompress(there, *lstm, force=True) == CONTENTS["text"]


@pytest.mark.skipif(os.cpu_count() == 1, reason="wants two cores")
def test_the_file_says_with_how_many_threads_it_is_computed(
    lstm: tuple[LanguageModel, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, container = packed(*lstm, threads=2)
    assert container.header.threads == 2
    assert decompress(container, *lstm) == CONTENTS["text"]
    assert torch.get_num_threads() == 1
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # a machine that has its own will
    assert "threads 2, here 1" in refusal(container, *lstm)
    many = changed(container, machine={**container.header.machine, "threads": 1000})
    assert "1000 threads are more than this machine has cores" in refusal(many, *lstm, force=True)


def test_a_backend_that_is_not_to_be_had_is_refused(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    _, container = packed(*lstm, backend="eager")
    other = changed(container, machine={**container.header.machine, "backend": "abacus"})
    assert "`backend` must be one of" in refusal(other, *lstm)


def test_a_flipped_bit_is_found_wherever_it_is(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    content, _ = packed(*lstm, streams=3)
    for bit in range(0, 8 * len(content), 5):
        data = bytearray(content)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DataError, match=r"x\.clm: "):
            Container.from_bytes(bytes(data), "x.clm")


def test_a_file_that_is_cut_or_goes_on_is_refused(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    content, _ = packed(*lstm)
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"cut short|not a file that"):
            Container.from_bytes(content[:length], "x.clm")
    with pytest.raises(DataError, match="followed by something else"):
        Container.from_bytes(content + b"\n", "x.clm")


def test_blocks_in_another_order_are_refused(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    _, container = packed(*lstm, streams=3)
    header, (first, second, third) = container.header, container.blocks
    swapped = container._replace(blocks=[second, first, third])
    with pytest.raises(DataError, match="damaged in block 1 of 3"):
        Container.from_bytes(swapped.to_bytes(), "x.clm")
    parts = [header.blocks[1], header.blocks[0], header.blocks[2]]
    vouched = changed(swapped, blocks=parts)
    assert "does not decode" in refusal(vouched, *lstm) or "is not what was compressed" in refusal(vouched, *lstm)


@pytest.mark.parametrize("architecture", ["lstm", "ngram"])
def test_a_length_that_cannot_be_ends_soon(
    architecture: str, lstm: tuple[LanguageModel, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(architecture, lstm[1])
    _, container = packed(model, lstm[1])
    steps, step = [], EnginePredictor.step
    monkeypatch.setattr(EnginePredictor, "step", lambda *arguments: steps.append(1) or step(*arguments))
    endless = changed(container, tokens=2**40, bytes=2**40)
    assert "does not decode" in refusal(endless, model, lstm[1])
    assert len(steps) < 20_000


def test_what_no_header_has_is_refused(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    _, container = packed(*lstm)
    for name, value in {
        "tokens": -1, "bytes": 1.5, "characters": "many", "sha256": "abc", "model": None, "run": 3, "machine": {},
        "blocks": [], "files": [["../../x", 0, 0]],
    }.items():  # fmt: skip
        with pytest.raises(DataError, match="not what charlm writes"):
            Container.from_bytes(_rewritten(container, {name: value}), "x.clm")
    with pytest.raises(DataError, match="format 2, this charlm reads 1"):
        Container.from_bytes(container.to_bytes().replace(b"\x1a\n\x01", b"\x1a\n\x02", 1), "x.clm")


def _rewritten(container: Container, values: dict[str, object]) -> bytes:
    from faults.containers import written

    header = json.loads(json.dumps(dataclasses.asdict(container.header)))
    return written(header | values, list(container.blocks), {}, vouch=False)


def test_what_does_not_come_back_is_not_kept(
    lstm: tuple[LanguageModel, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, rounds = EnginePredictor.step, iter(range(10**6))

    def inexact(*arguments: Any) -> Any:
        weights, state = step(*arguments)
        return weights * (1 + 1e-6 * np.random.default_rng(next(rounds)).normal(size=weights.shape)), state

    monkeypatch.setattr(EnginePredictor, "step", inexact)
    with pytest.raises(CharlmError, match="does not decode again"):
        packed(*lstm)
    assert packed(*lstm, verify=False)


def test_broken_weights_are_no_predictions(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    model = small_model("gru", lstm[1])
    for weight in model.parameters():
        weight.data.fill_(float("nan"))
    with pytest.raises(TrainingFault):
        packed(model, lstm[1])


def test_settings_have_bounds(lstm: tuple[LanguageModel, Tokenizer]) -> None:
    for settings in {"streams": 0}, {"threads": 0}, {"threads": 10**6}, {"backend": "abacus"}, {"streams": 10**5}:
        with pytest.raises(UsageError):
            CompressionConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="they are of different runs"):
        packed(lstm[0], trained_tokenizer("bytes"))


# The commands


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.txt, a short text and two runs in checkpoints/: counted, and net, which is the newest."""
    folder, before = tmp_path_factory.mktemp("runs"), Path.cwd()
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    (folder / "short.txt").write_text(SHORT, encoding="utf-8")
    os.chdir(folder)
    try:
        from charlm.cli import cli

        for name, *more in ("counted", "ngram", "--order", "3"), ("net", "rnn", "--width", "16", "--budget", "3steps"):
            arguments = ["train", "corpus.txt", "-q", "-o", f"checkpoints/{name}", "--arch", *more]
            cli.main(arguments, standalone_mode=False)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(runs)
    for file in runs.iterdir():
        if file.is_file() and file.name not in ("corpus.txt", "short.txt"):
            file.unlink()
    return runs


def test_a_file_and_back(here: Path, charlm: Charlm) -> None:
    made = charlm("compress", "short.txt", "--json", "--run", "counted")
    assert made.code == 0
    told = json.loads(made.out)
    assert told["file_bytes"] == Path("short.txt.clm").stat().st_size
    assert told["file_bytes"] * 8 == told["stored_bits"] + told["header_bits"]
    assert told["verified"] is True
    assert charlm("compress", "short.txt").code == 2  # it exists
    assert charlm("compress", "short.txt", "--force", "--run", "counted", "--no-verify").code == 0
    back = charlm("decompress", "short.txt.clm", "-o", "back.txt")  # finds the run by its weights
    assert (back.code, Path("back.txt").read_text()) == (0, SHORT)
    assert charlm("decompress", "short.txt.clm").code == 2  # corpus.txt exists
    assert charlm("decompress", "short.txt.clm", "--force", "--run", "counted").code == 0
    assert Path("short.txt").read_text() == SHORT


@pytest.mark.slow
def test_pipes(here: Path) -> None:
    command = [sys.executable, "-m", "charlm"]
    data = b"What ghost \xff\r\n"
    packed = subprocess.run([*command, "compress", "-"], input=data, capture_output=True, check=True)
    back = subprocess.run([*command, "decompress", "-"], input=packed.stdout, capture_output=True, check=True)
    assert back.stdout == data
    assert sorted(file.name for file in here.iterdir()) == ["checkpoints", "corpus.txt", "short.txt"]


def test_another_process_with_another_environment_decodes(here: Path, charlm: Charlm) -> None:
    for name in "net", "counted":
        assert charlm("compress", "short.txt", "--run", name, "--streams", "2", "-o", f"{name}.clm").code == 0
    code = (
        "import torch, numpy; torch.manual_seed(7); torch.randn(400, 400) @ torch.randn(400, 400); "
        "numpy.random.rand(300, 300) @ numpy.random.rand(300, 300); "
        "from charlm.cli import run; "
        "assert not any(run(['decompress', f'{name}.clm', '-o', f'{name}.txt']) for name in ('net', 'counted'))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [Path(f"{name}.txt").read_text() for name in ("net", "counted")] == [SHORT, SHORT]


@pytest.mark.slow
def test_code_that_was_compiled_just_now_computes_what_it_does_later(here: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for command in ["compress", "short.txt", "--run", "net"], ["decompress", "short.txt.clm", "-o", "back.txt"]:
        done = subprocess.run(
            [sys.executable, "-m", "charlm", *command], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert Path("back.txt").read_text() == SHORT


def test_a_device_is_written_to_and_stays_one(here: Path, charlm: Charlm, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen([sys.executable, "-c", f"print(len(open({str(pipe)!r}, 'rb').read()))"], stdout=-1)
    assert charlm("compress", "short.txt", "-o", str(pipe), "--no-verify").code == 0
    assert int(reader.communicate()[0]) > 500
    assert pipe.is_fifo()


def test_a_run_in_the_file(here: Path, charlm: Charlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert charlm("compress", "short.txt", "--embed", "-o", str(tmp_path / "all.clm")).code == 0
    monkeypatch.chdir(tmp_path)
    assert charlm("decompress", "all.clm").code == 0
    assert Path("all").read_text() == SHORT


def test_a_compressed_text_is_never_part_of_a_corpus(here: Path, charlm: Charlm, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text to learn")
    assert charlm("compress", "short.txt", "-o", str(tmp_path / "b.txt")).code == 0
    assert open_corpus(tmp_path).read() == "some text to learn"


def test_what_is_stopped_leaves_nothing(here: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert charlm("compress", "short.txt", "-o", "whole.clm", "--run", "net").code == 0
    before, step, steps = sorted(here.rglob("*")), EnginePredictor.step, iter(range(10**6))

    def stopped(*arguments: Any) -> Any:
        if next(steps) % 150 == 149:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(EnginePredictor, "step", stopped)
    for command in ("compress", "short.txt"), ("decompress", "whole.clm"):
        outcome = charlm(*command, "--run", "net")
        assert (outcome.code, outcome.err.strip().splitlines()[-1]) == (143, "error: interrupted")
        assert sorted(here.rglob("*")) == before


def test_proofs(here: Path, charlm: Charlm) -> None:
    proof = json.loads(charlm("evaluate", "net", "--prove", "--json").out)["proof"]
    assert 0 <= proof["stored_bits"] - proof["claimed_bits"] <= 65
    assert proof["ratio"] == proof["stored_bits"] / proof["claimed_bits"]
    assert f"{proof['stored_bits']:,} stored" in charlm("evaluate", "net", "--prove").out
    compared = json.loads(charlm("compare", "net", "counted", "--prove", "--json").out)
    ratios = {row["name"]: row["proof"]["ratio"] for row in compared["rows"]}
    assert set(ratios) == {"rnn", "ngram", "ngram (frozen)"}
    assert ratios["rnn"] == proof["ratio"]
    table = charlm("compare", "net", "counted", "--prove").out
    assert f"{proof['ratio']:.5f}" in table
    assert "stored" in table.splitlines()[0]
    csv = charlm("compare", "net", "counted", "--prove", "--csv").out
    assert "proof_ratio" in csv.splitlines()[0]
    assert "stored" not in charlm("compare", "net", "counted").out


def test_the_page_shows_the_proofs(here: Path, charlm: Charlm) -> None:
    assert charlm("compare", "net", "counted", "--prove", "--report", "page.html").code == 0
    assert ">stored</button>" in Path("page.html").read_text(encoding="utf-8")
