"""ONNX files: ONNX Runtime computes from each token and state what we compute."""

import io
import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TEXT
from test_huggingface import PORTABLE, random_model, tokenizer_of

from charlm.errors import UsageError
from charlm.export.onnx import metadata, write_onnx
from charlm.models import ARCHITECTURES

CASES: list[tuple[str, dict[str, Any]]] = [
    ("lstm", {"layers": 2}),
    ("gru", {}),
    ("rnn", {}),
    ("feedforward", {"window": 5, "embedding": 8}),
    ("transformer", {**PORTABLE, "layers": 2, "previous": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "settings"), CASES, ids=[case[0] for case in CASES])
def test_a_step_gives_the_log_probabilities_and_the_next_state(architecture: str, settings: dict[str, Any]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs `pip install charlm[onnx] onnxruntime`")
    pytest.importorskip("onnxscript", reason="needs `pip install charlm[onnx]`")
    tokenizer = tokenizer_of()
    model, file = random_model(architecture, settings, tokenizer.vocab_size), io.BytesIO()
    write_onnx(model, tokenizer, file)
    session = runtime.InferenceSession(file.getvalue())
    for streams in (1, 3):
        ids = np.stack([tokenizer.encode(TEXT[begin : begin + 60]) for begin in range(streams)])
        expected = model.initial_state(streams)
        state = [leaf.numpy() for leaf in expected]
        with torch.no_grad():
            for column in np.concatenate([np.zeros((streams, 1), np.int64), ids], 1).T[..., None].astype(np.int64):
                ours, expected = model(torch.from_numpy(column.copy()), expected)
                inputs = {f"state_{number}": leaf for number, leaf in enumerate(state)}
                log_probs, *state = session.run(None, {"tokens": column, **inputs})
                np.testing.assert_allclose(log_probs, ours[:, -1].numpy(), atol=1e-4)
    described = json.loads(session.get_modelmeta().custom_metadata_map["charlm"])
    assert described == metadata(model, tokenizer)
    assert [piece.encode("latin-1") for piece in described["pieces"]] == tokenizer.pieces()


def test_without_the_packages_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    tokenizer = tokenizer_of()
    with pytest.raises(UsageError, match=r"needs onnxscript: pip install 'charlm\[onnx\]'"):
        write_onnx(random_model("lstm", {}, tokenizer.vocab_size), tokenizer, io.BytesIO())


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(UsageError, match="NGram: no graph of one step; there is one for rnn"):
        write_onnx(ARCHITECTURES["ngram"](ARCHITECTURES["ngram"].Config(order=2), 300), tokenizer_of(), io.BytesIO())
