"""Models from Hugging Face Transformers as runs: the library's own small random ones, one of each family, four layers.

They say what the library says, within their context exactly and beyond it by the laws; and exported they say it again.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXT, Charlm
from serving import serving

from charlm import checkpoint
from charlm.export.formats import FORMATS
from charlm.export.huggingface.reading import read_huggingface
from charlm.export.huggingface.tokenizer import BYTE_CHARACTERS, CONFIG, to_json, tokenizer_json
from charlm.models import Network
from charlm.tokenizers import TOKENIZERS
from charlm.tokenizers.bpe import BPE

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", reason="needs `pip install charlm[huggingface]`")
tokenizers = pytest.importorskip("tokenizers", reason="needs `pip install charlm[huggingface]`")

CONTEXT = 64
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
ROPE: dict[str, Any] = {**SIZES, "max_position_embeddings": CONTEXT}
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**ROPE, "num_key_value_heads": 2}),
    "llama with biases, tied": (
        "Llama",
        {**ROPE, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 12},
    ),
    "mistral": ("Mistral", {**ROPE, "num_key_value_heads": 2, "sliding_window": 16}),
    "starcoder2": ("Starcoder2", {**ROPE, "num_key_value_heads": 1, "sliding_window": 16}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": CONTEXT}),
    "gpt_neox": ("GPTNeoX", {**ROPE, "rotary_pct": 0.5}),
    "gpt_neox, one after the other": ("GPTNeoX", {**ROPE, "use_parallel_residual": False, "attention_bias": False}),
}
EXTRA = 7  # rows of the embedding that no token has


def byte_level(merges: int = 0) -> Any:
    """A tokenizer as `tokenizers` trains it: bytes, or GPT-2's byte pairs."""
    special = ["<|endoftext|>", "<|padding|>"]
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=258 + merges, special_tokens=special, initial_alphabet=BYTE_CHARACTERS, show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    return made


def write_tokenizer(folder: Path, kind: str) -> int:
    """tokenizer.json of one kind; how many ids it has."""
    if kind in TOKENIZERS:
        options = {"vocab_size": 300} if kind == "sentencepiece" else {}
        ours = TOKENIZERS[kind].train([TEXT], TOKENIZERS[kind].Config(**options))
        (folder / "tokenizer.json").write_bytes(to_json(tokenizer_json(ours)))
        (folder / "tokenizer_config.json").write_bytes(to_json(CONFIG))
        return ours.vocab_size
    made = byte_level(0 if kind == "byte-level" else 60)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return int(made.get_vocab_size())


def made(folder: Path, name: str, kind: str = "byte-pairs", dtype: torch.dtype = torch.float32) -> Path:
    """A folder with the library's own random model."""
    folder.mkdir(parents=True, exist_ok=True)
    family, settings = MADE[name]
    size = write_tokenizer(folder, kind)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=size + EXTRA, bos_token_id=0, eos_token_id=0, **settings
    )
    torch.manual_seed(1)
    classes = {"GPT2": "GPT2LMHeadModel"}
    model = getattr(transformers, classes.get(family, f"{family}ForCausalLM"))(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.to(dtype).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def no_bars() -> None:
    transformers.utils.logging.disable_progress_bar()


def opened(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def said(model: Network, ids: list[int]) -> torch.Tensor:
    """(N, V): ln P of what comes after the boundary and each id."""
    with torch.no_grad():
        return model(torch.tensor([[0, *ids]]), model.initial_state(1))[0][0]


@pytest.mark.parametrize("kind", ["byte-pairs", "byte-level", *TOKENIZERS])
@pytest.mark.parametrize("name", ["llama"])
def test_tokens_are_the_same_and_so_are_their_probabilities(name: str, kind: str, tmp_path: Path) -> None:
    same_as_theirs(made(tmp_path / "there", name, kind), kind)


@pytest.mark.parametrize("name", MADE)
def test_every_family_says_what_the_library_says(name: str, tmp_path: Path) -> None:
    same_as_theirs(made(tmp_path / "there", name), "byte-pairs")


def same_as_theirs(folder: Path, kind: str) -> None:
    found = read_huggingface(folder)
    model, tokenizer = opened(folder)
    text = TEXT[100:140] + "naïve 漢字 12 don't  stop\n\n x"
    theirs = tokenizer(text, add_special_tokens=False).input_ids[: CONTEXT - 1]
    ours = found.tokenizer.encode(text).tolist()[: CONTEXT - 1]
    assert found.tokenizer.decode(found.tokenizer.encode(text)) == text
    with torch.no_grad():
        expected = model(torch.tensor([[0, *theirs]])).logits[0].log_softmax(-1)
    log_probs = said(found.model, ours)
    assert log_probs.exp().sum(-1).sub(1).abs().max() < 1e-5
    found_there, found_here = (
        table[:-1].gather(1, torch.tensor(ids)[:, None]) for table, ids in ((expected, theirs), (log_probs, ours))
    )
    torch.testing.assert_close(found_here, found_there, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_short_numbers_are_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    same_as_theirs(made(tmp_path / "there", "llama", dtype=dtype), "byte-pairs")


def test_shards_are_read(tmp_path: Path) -> None:
    folder = made(tmp_path / "there", "gpt_neox")
    model, _ = opened(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    same_as_theirs(folder, "byte-pairs")


@pytest.mark.parametrize("name", MADE)
def test_beyond_the_context_the_laws_hold(name: str, tmp_path: Path) -> None:
    """Any split of a long text into calls gives the same, and nothing before a change changes."""
    model = read_huggingface(made(tmp_path / "there", name)).model
    ids = torch.randint(1, model.vocab_size, (2, 5 * CONTEXT + 3), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, _ = model(ids, model.initial_state(2))
        for size in (1, 7, CONTEXT, CONTEXT + 1):
            state, parts = model.initial_state(2), []
            for chunk in ids.split(size, 1):
                before = [leaf.clone() for leaf in state]
                part, after = model(chunk, state)
                assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))
                state = after
                parts.append(part)
            torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=0)
        other = ids.clone()
        other[:, 200] = (other[:, 200] + 1) % model.vocab_size
        changed, _ = model(other, model.initial_state(2))
    torch.testing.assert_close(changed[:, :200], whole[:, :200], atol=1e-5, rtol=0)
    assert not torch.equal(changed[:, 200:], whole[:, 200:])


@pytest.mark.parametrize("name", MADE)
def test_exported_again_it_is_the_same(name: str, tmp_path: Path) -> None:
    found = read_huggingface(made(tmp_path / "there", name))
    run = tmp_path / "run"
    run.mkdir()
    checkpoint.save(run, "decoder", found.model, found.tokenizer)
    loaded = checkpoint.load(run)
    format = FORMATS["huggingface"]
    fit = format.fit(loaded.model)
    assert not fit.lost
    format.save(loaded, fit, [], tmp_path / "again", lambda *_: None)
    model, tokenizer = opened(tmp_path / "again")
    ids = tokenizer(TEXT[:150]).input_ids[:CONTEXT]
    assert ids[1:] == found.tokenizer.encode(TEXT[:150]).tolist()[: CONTEXT - 1]
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    V = found.model.vocab_size
    torch.testing.assert_close(theirs[:, 1:V], said(found.model, ids[1:])[:, 1:], atol=1e-4, rtol=0)
    assert read_huggingface(tmp_path / "again").family == found.family


def test_byte_pairs_are_those_of_the_library() -> None:
    theirs = byte_level(60)
    content = json.loads(theirs.to_str())
    from charlm.export.huggingface.tokenizer_reading import read_tokenizer

    found = read_tokenizer(content, 0)
    assert isinstance(found.tokenizer, BPE)
    alphabet = [*"aeiost THW'", "'ll", "  ", "\n", "\t", "12", "é", "漢", "\u3000", "_", "🙂", "\x1c", "\x85", "²", "ǅ"]
    import random

    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 40)))
        ids = found.tokenizer.encode(text)
        assert [found.theirs[token] for token in ids] == theirs.encode(text).ids
        assert found.tokenizer.decode(ids) == text
    again = BPE.from_files(found.tokenizer.files())
    assert again.encode(TEXT).tolist() == found.tokenizer.encode(TEXT).tolist()
    assert again.decode(again.encode("\ud800 x")) == "\ud800 x"


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "starcoder2"])
def test_an_imported_run_is_a_run(name: str, folder: Path, charlm: Charlm) -> None:
    """Whatever a run is put through; and exported again it says the same."""

    def done(*arguments: str) -> str:
        outcome = charlm(*arguments)
        assert outcome.code == 0, outcome.err
        assert "left out" not in outcome.err
        return outcome.out

    made(folder / "there", name)
    made(folder / "other", "mistral")
    (folder / "short.txt").write_text(TEXT[:200])
    assert json.loads(done("import", "there", "-o", "run", "--json"))["family"] == name
    done("import", "other", "-o", "second")
    done("evaluate", "run", "--text", "corpus.txt", "--json")
    done("sample", "run", "--length", "80", "--seed", "1")
    done("sample", "run", "--length", "20", "--beams", "2")
    done("info", "run")
    done("inspect", "predict", "run", "--text", "HAMLET")
    done("mix", "run", "second", "--text", "corpus.txt", "-o", "mixed")
    done("evaluate", "mixed", "--text", "short.txt")
    done("compress", "short.txt", "--run", "run")
    done("decompress", "short.txt.clm", "--run", "run", "-o", "back.txt")
    assert (folder / "back.txt").read_bytes() == (folder / "short.txt").read_bytes()
    before = json.loads(done("score", "run", "To be", "--json"))
    with serving([folder / "run"]) as client:
        served = client.complete("run", "To be", max_tokens=0, echo=True, logprobs=0).json
    found = sum(value or 0 for value in served["choices"][0]["logprobs"]["token_logprobs"])
    model = read_huggingface(folder / "there")
    ids = model.tokenizer.encode("To be").tolist()
    assert found == pytest.approx(
        float(said(model.model, ids)[:-1].gather(1, torch.tensor(ids)[:, None]).sum()), abs=1e-3
    )
    done("export", "run", "-o", "again")
    done("import", "again", "-o", "third")
    assert json.loads(done("score", "third", "To be", "--json")) == {**before, "run": "third"}
