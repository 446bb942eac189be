"""The laws of engines, for every kind of model and both backends; and the kernels against their equations."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from variants import VARIANTS, built, drawn, loaded

from charlm.errors import UsageError
from charlm.inference import EagerEngine, backend_of, open_engine, opening
from charlm.inference.kernels import arithmetic, output, recurrent
from charlm.inference.opening import COMPILED
from charlm.jit import is_compiled
from charlm.models import ARCHITECTURES
from charlm.models.mixture import Mixture

every_variant = pytest.mark.parametrize("variant", VARIANTS)
LENGTHS = (1, 5, 64, 300)


def near(variant):
    """As chunks agree, where a gate, a gate within it or a sum that grows over 300 tokens makes much of rounding."""
    return {"mixture": 3e-5, "mixture-of-mixtures": 1e-4, "rnn-relu": 1e-4}.get(variant, 1e-5)


def compiles(variant):
    return type(built(variant)) in {*COMPILED, Mixture}


@pytest.fixture(params=["eager", "compiled"])
def backend(request):
    return request.param


def opened(variant, backend, model=None):
    if backend == "compiled" and not compiles(variant):
        pytest.skip("this architecture has no kernels")
    engine = open_engine(model or built(variant), backend)
    assert engine.backend == backend
    return engine


@torch.no_grad()
def said(variant, tokens):
    """What forward says of (B, T) tokens: (B, T, V)."""
    model = built(variant)
    return model(tokens, model.initial_state(len(tokens)))[0].numpy()


def stepped(engine, tokens, state=None):
    """Log-probabilities (B, T, V) of (B, T) tokens, one after the other; and the state."""
    state, parts = engine.start(len(tokens)) if state is None else state, []
    for column in tokens.T:
        log_probs, state = engine.step(column, state)
        assert log_probs.dtype == np.float32
        parts.append(log_probs)
    return np.stack(parts, 1), state


@every_variant
@pytest.mark.parametrize("streams", [1, 3, 21])
def test_an_engine_says_what_forward_says(variant, backend, streams, monkeypatch):
    monkeypatch.setattr("charlm.inference.sharing.MAX_STREAMS_PER_CALL", 6)  # 21 streams in parts of 5 and 6
    engine, tokens = opened(variant, backend, loaded(variant)), drawn(streams, 40)
    np.testing.assert_allclose(stepped(engine, tokens.numpy())[0], said(variant, tokens), rtol=0, atol=1e-4)


@every_variant
def test_a_prompt_is_read_as_its_tokens_are(variant, backend):
    engine, tokens = opened(variant, backend), drawn(1, 360)
    expected, stream, state, at = said(variant, tokens)[0], tokens[0].numpy(), engine.start(1), 0
    for length in (1, 2, 37, 300):
        log_probs, state = engine.read(stream[at : at + length], state)
        at += length
        np.testing.assert_allclose(log_probs[0], expected[at - 1], rtol=0, atol=1e-4)
    log_probs, _ = stepped(engine, stream[None, at:], state)
    np.testing.assert_allclose(log_probs[0], expected[at:], rtol=0, atol=1e-4)


@every_variant
def test_a_state_is_a_value(variant, backend):
    engine, tokens = opened(variant, backend), drawn(3, 30).numpy()
    states = [engine.start(3)]
    for column in tokens.T:
        states.append(engine.step(column, states[-1])[1])
    expected = said(variant, torch.from_numpy(tokens))
    for place in (*range(29, -1, -7), 0, 1, 2, 29):
        np.testing.assert_allclose(
            engine.step(tokens[:, place], states[place])[0], expected[:, place], rtol=0, atol=1e-4
        )
    other = tokens[:, ::-1]  # another text that goes on from the same state changes nothing in this one
    stepped(engine, other, states[10])
    np.testing.assert_allclose(stepped(engine, tokens[:, 10:], states[10])[0], expected[:, 10:], rtol=0, atol=1e-4)


@every_variant
def test_select_commutes_with_steps(variant, backend):
    engine, tokens = opened(variant, backend), drawn(3, 20).numpy()
    _, state = stepped(engine, tokens[:, :10])
    expected, _ = stepped(engine, tokens[:, 10:], state)
    for order in ([2, 0, 0, 1], [1]):
        found, _ = stepped(engine, tokens[order, 10:], engine.select(state, order))
        np.testing.assert_allclose(found, expected[order], rtol=0, atol=near(variant))


@every_variant
def test_joined_streams_of_different_lengths_say_what_each_says_alone(variant, backend):
    engine, stream = opened(variant, backend), drawn(1, max(LENGTHS) + 40)[0].numpy()
    states = [engine.read(stream[:length], engine.start(1))[1] for length in LENGTHS]
    then = np.stack([stream[length : length + 40] for length in LENGTHS])
    alone = np.concatenate([stepped(engine, row[None], state)[0] for row, state in zip(then, states, strict=True)])
    found, state = stepped(engine, then[:, :20], engine.join(states))
    np.testing.assert_allclose(found, alone[:, :20], rtol=0, atol=near(variant))
    left = engine.join([engine.select(state, [3, 1]), engine.select(state, [0])])  # and one that leaves
    found, _ = stepped(engine, then[[3, 1, 0], 20:], left)
    np.testing.assert_allclose(found, alone[[3, 1, 0], 20:], rtol=0, atol=near(variant))


@every_variant
def test_compiled_code_says_the_same_bits_of_a_stream_whatever_streams_are_beside_it(variant):
    engine, tokens = opened(variant, "compiled"), drawn(9, 12).numpy()
    if any(member.backend == "eager" for member in getattr(engine, "members", ())):
        pytest.skip("what torch multiplies depends on the number of rows")
    alone = np.concatenate([stepped(engine, row[None])[0] for row in tokens])
    for streams in (9, 8, 5, 2):
        together, _ = stepped(engine, tokens[:streams])
        assert together.tobytes() == alone[:streams].tobytes()


@pytest.mark.parametrize("length", [1, 5, 64, 77])
def test_a_prompt_that_is_read_again_from_one_state_gives_the_same_bits(length):
    """Though the first reading has taken the slots behind the state, and the second goes on elsewhere."""
    torch.manual_seed(0)
    kind = ARCHITECTURES["transformer"]
    model = kind(kind.Config(width=120, layers=2, kv_heads=1, norm="rms", activation="gelu"), 300).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    engine, stream = open_engine(model, "compiled"), np.random.default_rng(0).integers(1, 300, 400)
    _, state = engine.read(stream[:length], engine.start(1))
    again = [engine.read(stream[length : length + 250], state) for _ in range(3)]
    assert len({log_probs.tobytes() for log_probs, _ in again}) == 1
    assert len({engine.step(stream[:1], after)[0].tobytes() for _, after in again}) == 1


def bits(variant, backend):
    """Of one stream, of ten, of a prompt, in hexadecimal."""
    engine = open_engine(built(variant), backend)
    tokens = drawn(10, 25).numpy()
    one, ten = stepped(engine, tokens[:1])[0], stepped(engine, tokens)[0]
    read, state = engine.read(tokens[0], engine.start(1))
    more = stepped(engine, tokens[:1], state)[0]
    return [part.tobytes().hex() for part in (one, ten, read, more)]


def all_bits(order, backend):
    return {v: bits(v, backend) for v in order if backend == "eager" or compiles(v)}


ELSEWHERE = """
import json, sys, torch
sys.path.insert(0, {folder!r})
torch.set_num_threads(1)
import test_inference as t
variants, backend = json.loads(sys.argv[1])
print(json.dumps(t.all_bits(variants, backend)))
"""


@pytest.mark.slow
def test_the_same_calls_give_the_same_bits_whatever_came_before(backend):
    """In another process as its first thing, in another order; and after 5,000 steps of other models."""
    import json
    from pathlib import Path

    code = ELSEWHERE.format(folder=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, json.dumps([list(VARIANTS)[::-1], backend])]
    elsewhere = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for name in ("lstm", "transformer", "ngram", "feedforward"):
        stepped(open_engine(built(name)), drawn(1, 1250).numpy())
    assert all_bits(VARIANTS, backend) == elsewhere


def test_the_first_architecture_of_a_process_and_the_last_give_equal_bits(backend):
    names = [name for name in ("lstm", "transformer", "ngram", "mixture") if name in ARCHITECTURES]
    first = all_bits(names, backend)
    stepped(open_engine(built("gru")), drawn(2, 50).numpy())
    assert all_bits(names[::-1], backend) == first


def test_the_backend_is_decided_by_model_and_machine(monkeypatch):
    assert open_engine(built("lstm")).backend == "compiled"
    assert all(open_engine(built(variant)).backend == backend_of(built(variant)) for variant in VARIANTS)
    assert open_engine(built("feedforward")).backend == "eager"
    with pytest.raises(UsageError, match="no compiled backend here for FeedForward on cpu"):
        open_engine(built("feedforward"), "compiled")
    with pytest.raises(UsageError, match="`backend` must be one of auto, eager, compiled"):
        open_engine(built("lstm"), "fast")
    monkeypatch.setattr(opening, "find_spec", lambda _: None)
    assert open_engine(built("lstm")).backend == "eager"


def test_nothing_to_keep_compiled_code_in_leaves_the_eager_engine(monkeypatch):
    def unwritable(_):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("charlm.inference.recurrent.load", unwritable)
    assert isinstance(open_engine(built("gru")), EagerEngine)


@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 16, 4), (3, 7, 9), (1, 0, 2), (6, 33, 66)])
def test_the_product(shape):
    (B, D, H), numbers = shape, np.random.default_rng(0)
    x, matrix, y = (numbers.standard_normal(size).astype(np.float32) for size in ((B, D), (H, D), (B, H)))
    expected = y + x.astype(np.float64) @ matrix.T
    arithmetic.load(recurrent.product)(x, matrix, y)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 65, 1000])
def test_the_output_layer(size):
    """Of logits that a product gives for every other id, in descending order; of whole numbers, so that it is exact."""
    numbers = np.random.default_rng(size)
    ids, bias = np.arange(size)[::-2].copy(), 30 * numbers.standard_normal(size, np.float32)
    shapes = (2, 5), (len(ids), 5), (len(ids),)
    x, matrix, offset = (numbers.integers(-6, 7, shape).astype(np.float32) for shape in shapes)
    logits = np.stack([bias, bias]).astype(np.float64)
    logits[:, ids] = x.astype(np.float64) @ matrix.T + offset
    floor, tokens = np.full(size, 0.1, np.float32), np.array([0, size - 1])
    floor[0] = 1e-4
    share = floor[tokens, None].astype(np.float64)
    expected = np.log(torch.from_numpy(logits).softmax(1).numpy() * (1 - share) + share / size)

    def found():
        y = np.empty((2, size), np.float32)
        arithmetic.load(output.log_softmax)(tokens, x, matrix, offset, ids, bias, floor, y)
        return y

    np.testing.assert_allclose(found(), expected, rtol=0, atol=2e-6)
    for bad in (np.nan, np.inf):  # whoever draws must see it
        x[1] = bad
        assert np.isnan(found()).all(1).tolist() == [False, True]


def test_a_kernel_stays_compiled_when_only_the_dates_of_its_files_change() -> None:
    kernel = arithmetic.load(recurrent.product)
    for index in Path(kernel._cache.cache_path).glob("recurrent.product-*.nbi"):
        os.utime(index, (0, 0))  # as if the kernel's file had been checked out or installed again
    assert is_compiled(kernel)
