"""Runs in Hugging Face Transformers: the library computes from an export what we compute, to the fourth decimal.

Without transformers, which is larger than all else that the tests need but torch, only the files are looked at.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TEXT, Charlm
from safetensors.torch import load_file

from charlm import checkpoint
from charlm.checkpoint import History
from charlm.errors import UsageError
from charlm.export.formats import FORMATS, first_fit
from charlm.export.huggingface import starcoder2, with_code
from charlm.export.huggingface.tokenizer import tokenizer_json
from charlm.models import ARCHITECTURES, LanguageModel, Network
from charlm.models.transformer import TransformerConfig
from charlm.tokenizers import TOKENIZERS, Tokenizer

try:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers
except ImportError:
    transformers = None

needs_transformers = pytest.mark.skipif(transformers is None, reason="needs `pip install charlm[huggingface]`")
LONG = (TEXT * 2)[:2000]

PORTABLE: dict[str, Any] = {"width": 48, "layers": 3, "heads": 4, "kv_heads": 2, "window": 24}
NATIVE = [PORTABLE, {**PORTABLE, "activation": "gelu", "kv_heads": 0}, {**PORTABLE, "activation": "relu", "tie": True}]
CODED: list[tuple[str, dict[str, Any]]] = [
    ("lstm", {"layers": 2}),
    ("gru", {"layers": 2}),
    ("rnn", {"tie": True}),
    ("rnn", {"activation": "relu"}),
    ("feedforward", {"window": 5, "embedding": 8}),
    ("feedforward", {"window": 5, "embedding": 8, "direct": True, "activation": "tanh"}),
    ("transformer", {**PORTABLE, "previous": True}),
    ("transformer", {**PORTABLE, "norm": "rms", "activation": "swiglu", "positions": "sinusoidal"}),
    ("transformer", {"heads": 4, "window": 16, "attention": "mean", "positions": "none"}),
    ("transformer", {"heads": 4, "window": 16, "attention": "dot"}),
]
ALL = [*(("transformer", settings) for settings in NATIVE), *CODED]


def tokenizer_of(kind: str = "characters") -> Tokenizer:
    options = {"vocab_size": 300} if kind == "sentencepiece" else {}
    return TOKENIZERS[kind].train([TEXT], TOKENIZERS[kind].Config(**options))


def random_model(architecture: str, settings: dict[str, Any], vocab_size: int) -> Network:
    """A model with every weight drawn, and some ids that training never showed."""
    kind = ARCHITECTURES[architecture]
    model = kind(kind.Config(**{"width": 32, **settings}), vocab_size).eval()
    assert isinstance(model, Network)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.5 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=draw))
        model.known[5:200] = False
    return model


def saved(folder: Path, architecture: str, model: LanguageModel, tokenizer: Tokenizer) -> Path:
    path = folder / architecture
    path.mkdir(exist_ok=True)
    checkpoint.save(path, architecture, model, tokenizer, History(progress={"finished": True}))
    return path


def exported(path: Path, format: str | None = None) -> Path:
    run = checkpoint.load(path)
    chosen = FORMATS[format or first_fit(run.model)]
    out = path.with_name(f"{path.name}-exported")
    chosen.save(run, chosen.fit(run.model), [], out, lambda *_: None)
    return out


def log_probs(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    return model(ids, model.initial_state(len(ids)))[0]


@pytest.fixture(autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bars, and code in a folder of the session's own, where its package is imported from once."""
    if transformers is not None:
        transformers.utils.logging.disable_progress_bar()
        modules = str(tmp_path_factory.getbasetemp() / "modules")
        monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", modules)


@pytest.fixture
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def opened(folder: Path) -> tuple[Any, Any]:
    code = (folder / with_code.CODE_FILE).exists()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=code)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=code)


@pytest.mark.usefixtures("no_gradients")
@needs_transformers
@pytest.mark.parametrize(("architecture", "settings"), ALL, ids=lambda part: str(part)[:40])
def test_transformers_computes_what_we_compute(architecture: str, settings: dict[str, Any], tmp_path: Path) -> None:
    ours = tokenizer_of()
    model = random_model(architecture, settings, ours.vocab_size)
    theirs, tokenizer = opened(exported(saved(tmp_path, architecture, model, ours)))
    ids = torch.tensor([tokenizer(LONG).input_ids])
    assert ids[0].tolist() == [0, *ours.encode(LONG).tolist()]
    expected = FORMATS["huggingface"].fit(model).model  # without the floor where Starcoder2 has none
    assert expected is model or "previous" not in settings
    torch.testing.assert_close(theirs(ids).logits.log_softmax(-1), log_probs(expected, ids), atol=1e-4, rtol=0)


@pytest.mark.usefixtures("no_gradients")
@needs_transformers
@pytest.mark.parametrize(
    ("architecture", "settings"), [ALL[n] for n in (0, 3, 4, 5, 7, 9)], ids=lambda part: str(part)[:40]
)
def test_generate_takes_the_characters_that_we_take(
    architecture: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The likeliest each time, 500 of them, with the cache."""
    ours = tokenizer_of()
    model = random_model(architecture, settings, ours.vocab_size)
    theirs, tokenizer = opened(exported(saved(tmp_path, architecture, model, ours)))
    begin = tokenizer(TEXT[:60], return_tensors="pt")
    found = theirs.generate(**begin, max_new_tokens=500, do_sample=False)[0, begin.input_ids.shape[1] :]
    expected = FORMATS["huggingface"].fit(model).model
    state, ids = expected.initial_state(1), begin.input_ids
    for token in found.tolist():
        scores, state = expected(ids, state)
        allowed = scores[0, -1].clone()
        allowed[~model.seen_ids()] = allowed[:257] = -torch.inf  # the boundary, and bytes, which TEXT does not need
        assert allowed[token] > allowed.max() - 1e-4
        ids = torch.tensor([[token]])
    assert len(found) == 500


@needs_transformers
@pytest.mark.parametrize("architecture", ["lstm", "transformer"])
def test_greedy_text_is_that_of_sample(architecture: str, tmp_path: Path, charlm: Charlm) -> None:
    ours = tokenizer_of()
    model = random_model(architecture, {}, ours.vocab_size)
    run = saved(tmp_path, architecture, model, ours)
    theirs, tokenizer = opened(exported(run, "huggingface-code"))
    begin = tokenizer("HAMLET:", return_tensors="pt")
    found = tokenizer.decode(theirs.generate(**begin, max_new_tokens=500, do_sample=False)[0], skip_special_tokens=True)
    outcome = charlm("sample", run, "--prompt", "HAMLET:", "--length", "500", "--greedy")
    assert outcome.out.removesuffix("\n") == found.removesuffix("\n")


@pytest.mark.usefixtures("no_gradients")
@needs_transformers
@pytest.mark.parametrize("settings", [{"previous": True}, {"previous": False}], ids=str)
def test_texts_of_different_lengths_are_read_as_each_alone(settings: dict[str, Any], tmp_path: Path) -> None:
    ours = tokenizer_of()
    model = random_model("transformer", {**PORTABLE, **settings}, ours.vocab_size)
    theirs, tokenizer = opened(exported(saved(tmp_path, "transformer", model, ours)))
    texts = ["What pale ghost is this, and who", "HAMLET:"]
    together = tokenizer(texts, return_tensors="pt", padding=True)
    last = theirs(**together).logits[:, -1].log_softmax(-1)
    for text, found in zip(texts, last, strict=True):
        alone = theirs(**tokenizer(text, return_tensors="pt")).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=0)
    beams = theirs.generate(**together, max_new_tokens=20, num_beams=3, do_sample=False)
    assert beams.shape == (2, together.input_ids.shape[1] + 20)


@needs_transformers
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_tokenizer_keeps_every_text(kind: str, tmp_path: Path) -> None:
    ours = tokenizer_of(kind)
    _, tokenizer = opened(exported(saved(tmp_path, "lstm", random_model("lstm", {}, ours.vocab_size), ours)))
    for text in (TEXT, "", " ", "\n", "naïve 漢字 \0 <|endoftext|> <0x41> <s>", "  two  spaces  "):
        ids = tokenizer(text).input_ids
        assert ids == [0, *ours.encode(text).tolist()]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


@needs_transformers
def test_what_training_never_showed_is_not_generated(tmp_path: Path) -> None:
    ours = tokenizer_of()
    theirs, tokenizer = opened(exported(saved(tmp_path, "lstm", random_model("lstm", {}, ours.vocab_size), ours)))
    torch.manual_seed(0)
    found = theirs.generate(**tokenizer("a", return_tensors="pt"), max_new_tokens=2000, temperature=9.0)[0, 2:]
    assert not set(found.tolist()) & {0, *range(5, 200)}


@pytest.mark.parametrize(("architecture", "settings"), ALL, ids=lambda part: str(part)[:40])
def test_an_export_has_the_weights_and_hardly_more(architecture: str, settings: dict[str, Any], tmp_path: Path) -> None:
    ours = tokenizer_of()
    model = random_model(architecture, {**settings, "width": 128}, ours.vocab_size)
    out = exported(saved(tmp_path, architecture, model, ours))
    tensors = load_file(out / "model.safetensors")
    numbers = sum(tensor.nbytes for tensor in tensors.values())
    assert (out / "model.safetensors").stat().st_size < 1.05 * numbers
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == ours.vocab_size
    names = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert {path.name for path in out.iterdir()} - {with_code.CODE_FILE} == names | {"tokenizer_config.json"}
    assert "bits per character" in (out / "README.md").read_text().lower()


def test_settings_that_starcoder2_lacks_are_named() -> None:
    assert starcoder2.misfits(TransformerConfig()) == []
    config = TransformerConfig(previous=True, norm="rms", activation="swiglu", positions="none", attention="dot")
    expected = ["previous true", "norm rms", "positions none", "attention dot", "activation swiglu"]
    assert starcoder2.misfits(config) == expected


def test_the_bias_becomes_part_of_the_matrix() -> None:
    draw = torch.Generator().manual_seed(0)
    W, b = torch.randn(30, 16, generator=draw), 5 * torch.randn(30, generator=draw)
    y = torch.nn.functional.layer_norm(torch.randn(200, 16, generator=draw), (16,))
    torch.testing.assert_close((y + 1) @ starcoder2._without_bias(W, b).T, y @ W.T + b, atol=1e-4, rtol=0)


def test_a_model_without_a_place_is_refused() -> None:
    counted = ARCHITECTURES["ngram"](ARCHITECTURES["ngram"].Config(order=2), 300)
    for name in ("huggingface", "huggingface-code"):  # not fitted
        with pytest.raises(UsageError, match="ngram: Hugging Face Transformers has no place for it"):
            FORMATS[name].fit(counted)
    with pytest.raises(UsageError, match="no format has a place for NGram"):
        first_fit(counted)


def test_the_preset_makes_what_transformers_has(folder: Path, charlm: Charlm) -> None:
    made = charlm(
        "train", "corpus.txt", "--preset", "portable", "--size", "tiny", "--budget", "3steps", "-q", "-o", "run"
    )
    assert made.code == 0, made.err
    outcome = charlm("export", "run", "--json")
    assert outcome.code == 0, outcome.err
    figures = json.loads(outcome.out)
    assert figures["form"].startswith("Starcoder2")
    assert figures["exported_bits_per_character"] == pytest.approx(figures["bits_per_character"], abs=0.5)
    assert "left out: the share of the probability" in outcome.err
    assert "bits per character" in outcome.err
    assert (folder / "run-huggingface" / "config.json").is_file()
    assert charlm("export", "run").code == 2
    assert charlm("export", "run", "--force").code == 0
    run, held_out = folder / "run", checkpoint.read_history(folder / "run").sha256("held_out")
    checkpoint.record_held_out(run, checkpoint.weights_digest(run), str(held_out), 1.5, (1.25, 1.75))
    outcome = charlm("export", "run", "--format", "huggingface-code", "-o", "coded")
    assert outcome.code == 0
    card = (folder / "coded" / "README.md").read_text()
    assert "1.500 bits per character of the held-out text (95 % interval 1.250 to 1.750)" in card
    assert "left out" not in outcome.err


def test_what_comes_back_is_mixed_and_trained_on(folder: Path, charlm: Charlm) -> None:
    (folder / "other.txt").write_text("\n".join(reversed(TEXT.splitlines())))
    for arguments in ("--preset portable -o portable", "--arch rnn -o rnn"):
        made = charlm("train", "corpus.txt", "--size", "tiny", "--budget", "2steps", "-q", *arguments.split())
        assert made.code == 0, made.err
    assert charlm("export", "portable", "-o", "exported").code == 0
    outcome = charlm("import", "exported", "-o", "back")
    assert outcome.code == 0, outcome.err
    outcome = charlm("mix", "back", "rnn", "--text", "other.txt", "-o", "mixed", "--json")
    assert outcome.code == 0, outcome.err
    assert charlm("evaluate", "mixed", "--text", "corpus.txt").code == 0
    assert charlm("mix", "back", "rnn", "-o", "other").code == 2  # on the slice that only one of them has learned apart
    outcome = charlm("train", "corpus.txt", "--from", "back", "--budget", "2steps", "-q", "-o", "tuned")
    assert outcome.code == 0, outcome.err


def test_an_export_is_no_corpus(folder: Path, charlm: Charlm) -> None:
    out = exported(saved(folder, "lstm", random_model("lstm", {}, tokenizer_of().vocab_size), tokenizer_of()))
    outcome = charlm("train", str(out), "-q", "--budget", "1steps")
    assert outcome.code == 3
    assert "only what charlm wrote (an export of charlm)" in outcome.err
    np.testing.assert_equal(sorted(path.name for path in folder.iterdir()), ["corpus.txt", "lstm", "lstm-exported"])


def test_a_piece_that_has_the_name_of_a_byte_is_refused() -> None:
    pieces = [[piece, -1.0] for piece in [*"<0x41>", "<0x41>"]]
    kind = TOKENIZERS["sentencepiece"]
    seen = np.unique([ord(character) for character in "<0x41>"])
    tokenizer = kind.from_vocabulary({"model_type": "unigram", "pieces": pieces}, seen)
    with pytest.raises(UsageError, match="'<0x41>' has the name of a byte"):
        tokenizer_json(tokenizer)
