"""GGUF files: the `gguf` package reads them; tests/clients/llama_cpp.py asks llama.cpp itself."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TEXT, Charlm
from test_huggingface import PORTABLE, random_model, saved, tokenizer_of

from charlm import checkpoint
from charlm.errors import UsageError
from charlm.export.fit import WithoutFloor
from charlm.export.gguf.nemotron import Shifting, fit, write_gguf
from charlm.export.gguf.tokenizer import SPACE_MARK, tokenizer_lost, tokenizer_values
from charlm.tokenizers import TOKENIZERS, Tokenizer
from charlm.tokenizers.bpe import BPE


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_gguf_package_reads_the_values_and_the_tensors(kind: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="needs `pip install gguf`")
    tokenizer = tokenizer_of(kind)
    model, path = random_model("transformer", PORTABLE, tokenizer.vocab_size), tmp_path / "model.gguf"
    with path.open("wb") as file:
        write_gguf(model, tokenizer, "Hamlet", file)
    reader = gguf.GGUFReader(path)
    values = {name: field.contents() for name, field in reader.fields.items()}
    assert values["general.architecture"] == "nemotron"
    assert values["general.name"] == "Hamlet"
    assert values["nemotron.context_length"] == PORTABLE["window"]
    assert values["nemotron.attention.head_count_kv"] == PORTABLE["kv_heads"]
    assert values["nemotron.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    written = tokenizer_values(tokenizer)
    assert {name: values[name] for name in written} == {
        name: np.float32(value).tolist() if name.endswith("scores") else value for name, value in written.items()
    }
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    block = model.blocks[2]
    np.testing.assert_array_equal(tensors["token_embd.weight"], model.embedding.weight.detach())
    np.testing.assert_array_equal(tensors["blk.2.ffn_down.weight"], block.feedforward.out.weight.detach())
    np.testing.assert_array_equal(tensors["blk.2.attn_q.weight"], block.attention.project.weight[:48].detach())
    expected = set(gguf.MODEL_TENSORS[gguf.MODEL_ARCH.NEMOTRON])
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.NEMOTRON, PORTABLE["layers"])
    assert {known.get_type(name.rpartition(".")[0]) for name in tensors} <= expected


def encoded_there(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text by the vocabulary of the file: the bytes of it, merged where the file says so."""
    values = tokenizer_values(tokenizer)
    tokens, merges = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.merges"]
    assert isinstance(tokens, list)
    assert isinstance(merges, list)
    known = {name: token for token, name in enumerate(tokens)}
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    spelled = [tokenizer_values(tokenizer_of("bytes"))["tokenizer.ggml.tokens"][1 + byte] for byte in text.encode()]
    while pairs := [(ranks[pair], at) for at, pair in enumerate(pairwise(spelled)) if pair in ranks]:
        _, at = min(pairs)
        spelled[at : at + 2] = ["".join(spelled[at : at + 2])]
    whole = [[known[name]] if name in known else [known[character] for character in name] for name in spelled]
    return [token for tokens_of_name in whole for token in tokens_of_name]


@pytest.mark.parametrize("tokenizer", [
    tokenizer_of("characters").train([TEXT, "Grüße „日本語“ 日木 🙂 ▁ÿ"], tokenizer_of().Config()),
    tokenizer_of("bytes"),
    BPE([b"th", b"the", b"\xc3\xbc"], [(117, 105), (257, 102), (196, 189)], np.arange(128)),
], ids=lambda tokenizer: tokenizer.kind)  # fmt: skip
def test_a_text_has_the_same_ids_there(tokenizer: Tokenizer) -> None:
    for text in (TEXT[:100], "the Grüße „日本語“ 旦 🙂🙃 ▁ÿþ", "<0x41> <|endoftext|> \x00\r\n\u0100Ġ"):
        assert encoded_there(tokenizer, text) == tokenizer.encode(text).tolist()


def test_it_is_ours_within_the_window_and_then_forgets_half_of_it() -> None:
    tokenizer = tokenizer_of()
    model = random_model("transformer", PORTABLE, tokenizer.vocab_size)
    ids, W = torch.from_numpy(tokenizer.encode(TEXT)[:100].astype(np.int64))[None], PORTABLE["window"]
    there = fit(model).model
    with torch.no_grad():
        log_probs, _ = there(ids, there.initial_state(1))
        ours, _ = WithoutFloor(model)(ids[:, : 2 * W], model.initial_state(1))
        torch.testing.assert_close(log_probs[:, :W], ours[:, :W], atol=1e-4, rtol=0)
        assert (log_probs[:, W : W + W // 2 - 1] - ours[:, W : W + W // 2 - 1]).abs().max() > 1e-3
        state, parts = there.initial_state(1), []
        for begin, end in ((0, 1), (1, 30), (30, 31), (31, 48), (48, 100)):
            part, state = there(ids[:, begin:end], state)
            parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), log_probs, atol=1e-4, rtol=0)
    assert isinstance(there, Shifting)


@pytest.mark.parametrize(("architecture", "settings", "problem"), [
    ("lstm", {}, "lstm: a GGUF file has a place for Transformers of the preset `portable` only"),
    ("transformer", {"heads": 4, "previous": True}, "a transformer with previous true"),
    ("transformer", {"heads": 4, "activation": "gelu"}, "a transformer with activation gelu"),
])  # fmt: skip
def test_what_llama_cpp_does_not_have_is_refused(architecture: str, settings: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        fit(random_model(architecture, settings, 300))


def vocabulary_of(tokenizer: Tokenizer) -> tuple[dict[str, int], list[float]]:
    """The names of the pieces, and the scores of all ids, as the file has them."""
    values = tokenizer_values(tokenizer)
    tokens, kinds, scores = (values[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type", "scores"))
    return {name: token for token, name in enumerate(tokens) if kinds[token] == 1}, scores


def byte_ids(character: str) -> list[int]:
    return [1 + byte for byte in character.encode()]


def best_segmentation(tokenizer: Tokenizer, text: str) -> list[int]:
    """As llama.cpp's plamo2: the best sum of rounded scores, where -1000 is that of a character without a piece."""
    known, scores = vocabulary_of(tokenizer)
    best: list[tuple[int, list[int]]] = [(0, [])]  # of what is left, from the end
    for at in range(len(text) - 1, -1, -1):
        ways = [(best[0][0] - 10_000_000, [*byte_ids(text[at]), *best[0][1]])]
        for length in range(1, len(text) - at + 1):
            if (token := known.get(text[at : at + length])) is not None:
                total, rest = best[length - 1]
                ways.append((total + round(scores[token] * 1e4), [token, *rest]))
        best.insert(0, max(ways, key=lambda way: way[0]))
    return best[0][1]


def merged(tokenizer: Tokenizer, text: str) -> list[int]:
    """As llama.cpp's llama: the pair whose piece has the best score is merged first, of several the leftmost."""
    known, scores = vocabulary_of(tokenizer)
    parts = list(text.replace(" ", SPACE_MARK))
    while pairs := [
        (-scores[known[pair]], at) for at, pair in enumerate(map("".join, pairwise(parts))) if pair in known
    ]:
        _, at = min(pairs)
        parts[at : at + 2] = ["".join(parts[at : at + 2])]
    return [token for part in parts for token in ([known[part]] if part in known else byte_ids(part))]


@pytest.mark.parametrize(("model_type", "read"), [("unigram", best_segmentation), ("bpe", merged)])
def test_pieces_have_the_same_ids_there(model_type: str, read: Callable[[Tokenizer, str], list[int]]) -> None:
    kind = TOKENIZERS["sentencepiece"]
    tokenizer = kind.train([TEXT], kind.Config(vocab_size=310, model_type=model_type))
    for text in (*TEXT.splitlines()[:60], "  the  Grüße „日本語“ 🙂", "<0x41> <|endoftext|> \x00\r\n", ""):
        assert read(tokenizer, text) == tokenizer.encode(text).tolist(), text
    names, kinds = (tokenizer_values(tokenizer)[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type"))
    assert kinds[:257] == [3, *[6] * 256]
    assert names[1 + 0x41] == "<0x41>"


def test_what_a_tokenizer_loses_is_said(charlm: Charlm, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("sentencepiece")
    path = saved(tmp_path, "transformer", random_model("transformer", PORTABLE, tokenizer.vocab_size), tokenizer)
    done = charlm("export", path, "--format", "gguf", "-o", tmp_path / "run.gguf")
    assert done.code == 0, done.err
    assert "left out: the boundary before a text" in done.err
    assert "the boundary before a text" in charlm("info", path, "--formats", "--json").out
    with pytest.raises(UsageError, match="words: a GGUF file has no place for such a tokenizer"):
        tokenizer_lost(SimpleNamespace(kind="words"))  # type: ignore[arg-type]


def test_export_says_what_is_lost(charlm: Charlm, tmp_path: Path) -> None:
    tokenizer = tokenizer_of()
    path = saved(tmp_path, "transformer", random_model("transformer", PORTABLE, tokenizer.vocab_size), tokenizer)
    file = tmp_path / "run.gguf"
    done = charlm("export", str(path), "--format", "gguf", "-o", str(file))
    assert done.code == 0
    assert "left out: the sliding window of 24 tokens: llama.cpp reads 24, forgets the older half" in done.err
    weights = sum(parameter.numel() * 4 for parameter in checkpoint.load(path).model.parameters())
    assert weights < file.stat().st_size < weights + 16000
