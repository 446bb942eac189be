"""N-grams and mixtures in Hugging Face Transformers, by the code that an export brings: nothing is lost there.

Without transformers only the files are looked at.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TEXT
from test_export import fitted
from test_huggingface import (
    LONG,
    PORTABLE,
    exported,
    log_probs,
    needs_transformers,
    opened,
    random_model,
    saved,
    tokenizer_of,
)
from test_huggingface import quiet as quiet

from charlm.errors import UsageError
from charlm.export.formats import FORMATS
from charlm.export.huggingface import with_code
from charlm.models import ARCHITECTURES, LanguageModel, Member, Mixture, MixtureConfig, architecture_of
from charlm.tokenizers import TOKENIZERS

OURS = tokenizer_of()
NGRAM: dict[str, Any] = {"order": 5, "cache": 0}


def with_cache(window: int = 70) -> LanguageModel:
    """An n-gram with a cache whose weights are drawn, so that each of them matters."""
    model = fitted(OURS, TEXT, **{**NGRAM, "cache": window})
    assert model.cache is not None
    draw = np.random.default_rng(2)
    for weight in model.cache._weights():
        weight[:] = draw.normal(size=weight.shape)
    return model


def mixed(combine: str, *members: LanguageModel) -> Mixture:
    """A mixture whose weights are drawn."""
    config = MixtureConfig(combine, tuple(Member(architecture_of(one), one.config) for one in members))
    model, draw = Mixture(config, members[0].vocab_size, members), torch.Generator().manual_seed(4)
    for weight in model.combination.parameters():
        weight.copy_(0.3 * torch.randn(weight.shape, generator=draw))
    return model.eval()


def pair() -> tuple[LanguageModel, LanguageModel]:
    return fitted(OURS, TEXT, **NGRAM), random_model("lstm", {"layers": 2}, OURS.vocab_size)


def nested() -> Mixture:
    transformer = random_model("transformer", {**PORTABLE, "previous": True}, OURS.vocab_size)
    return mixed("gate", mixed("linear", *pair()), transformer, with_cache())


MADE = {
    "ngram": lambda: fitted(OURS, TEXT, **NGRAM),
    "ngram of one length": lambda: fitted(OURS, TEXT, order=1),
    "ngram with a cache": with_cache,
    "ngram with a cache that holds the text": lambda: with_cache(4096),
    "linear": lambda: mixed("linear", *pair()),
    "log-linear": lambda: mixed("log-linear", *pair()),
    "gate": lambda: mixed("gate", *pair()),
    "nested": nested,
}


@pytest.fixture
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@needs_transformers
@pytest.mark.parametrize("name", MADE)
@pytest.mark.usefixtures("no_gradients")
def test_transformers_computes_what_we_compute(name: str, tmp_path: Path) -> None:
    """At once, in two calls, and as `generate` goes on, the likeliest each time."""
    model = MADE[name]()
    theirs, tokenizer = opened(exported(saved(tmp_path, architecture_of(model), model, OURS), "huggingface-code"))
    ids = torch.tensor([tokenizer(LONG).input_ids])
    expected = log_probs(model, ids)
    torch.testing.assert_close(theirs(ids).logits, expected, atol=1e-4, rtol=0)
    first = theirs(ids[:, :700])
    second = theirs(ids[:, 700:], state=first.state)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), expected, atol=1e-4, rtol=0)
    begin = ids[:, :40]
    found = theirs.generate(begin, max_new_tokens=60, do_sample=False)
    scores = log_probs(model, found)[0, 39:-1]
    scores[:, ~model.seen_ids()] = scores[:, :257] = -torch.inf
    assert (scores.gather(1, found[0, 40:, None])[:, 0] > scores.amax(1) - 1e-4).all()


@needs_transformers
@pytest.mark.usefixtures("no_gradients")
def test_streams_are_read_as_each_alone(tmp_path: Path) -> None:
    model = nested()
    theirs, tokenizer = opened(exported(saved(tmp_path, "mixture", model, OURS)))
    texts = ["What pale ghost is this, and who", "HAMLET:"]
    together = tokenizer(texts, return_tensors="pt", padding=True)
    for text, found in zip(texts, theirs(**together).logits[:, -1], strict=True):
        alone = log_probs(model, tokenizer(text, return_tensors="pt").input_ids)[0, -1]
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=0)
    beams = theirs.generate(**together, max_new_tokens=10, num_beams=3, do_sample=False)
    assert beams.shape == (2, together.input_ids.shape[1] + 10)


@needs_transformers
@pytest.mark.usefixtures("no_gradients")
def test_more_than_256_symbols(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4F80))) * 9
    tokenizer = TOKENIZERS["characters"].train([text], OURS.Config())
    model = fitted(tokenizer, text, **NGRAM)
    assert model.symbol.dtype == torch.int32
    theirs, _ = opened(exported(saved(tmp_path, "ngram", model, tokenizer), "huggingface-code"))
    ids = torch.from_numpy(tokenizer.encode("一丁丂七丄旦丆万")).long()[None]
    torch.testing.assert_close(theirs(ids).logits, log_probs(model, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["ngram with a cache", "nested"])
def test_the_folder_has_the_weights_and_both_files_of_code(name: str, tmp_path: Path) -> None:
    model = MADE[name]()
    run = saved(tmp_path, architecture_of(model), model, OURS)
    out = exported(run, "huggingface-code")
    (weights,) = run.glob("weights-*")
    assert (out / "model.safetensors").stat().st_size < 1.01 * weights.stat().st_size + 8 * OURS.vocab_size + 9000
    assert {path.name for path in out.glob("*.py")} == {with_code.CODE_FILE, with_code.MIXTURE_FILE}
    config = json.loads((out / "config.json").read_text())
    assert config["auto_map"]["AutoModelForCausalLM"] == "mixture_charlm.CharlmMixtureForCausalLM"
    card = (out / "README.md").read_text()
    assert "trust_remote_code=True" in card
    assert "What this form does not hold" not in card


def test_what_the_code_does_not_compute_is_named() -> None:
    contexts = ARCHITECTURES["contexts"](ARCHITECTURES["contexts"].Config(), OURS.vocab_size)
    _, lstm = pair()
    for model, problem in (
        (contexts, "contexts: Hugging"),
        (mixed("linear", contexts, lstm), "mixture with contexts: H"),
    ):
        for name in ("huggingface", "huggingface-code"):
            with pytest.raises(UsageError, match=problem):
                FORMATS[name].fit(model)
