"""The laws of every architecture, before and after a save; and each network against its equations written out here."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import nn
from variants import TOKENIZER, VARIANTS, V, built, drawn, loaded, small

from charlm import checkpoint
from charlm.models import (
    ARCHITECTURES,
    GRU,
    LSTM,
    RNN,
    FeedForward,
    Network,
    Transformer,
    device_of,
)
from charlm.models.base import MIN_INITIAL_PROBABILITY, Dropout, detach, select
from charlm.models.gru import Recurrence
from charlm.models.recurrent import RecurrentConfig, RNNConfig
from charlm.models.transformer import rotary_tables, rotate
from charlm.training import policy_of


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["built", "loaded"])
def stage(request):
    return {"built": built, "loaded": loaded}[request.param]


every_variant = pytest.mark.parametrize("variant", VARIANTS)


@every_variant
@torch.no_grad()
def test_normalised(variant, stage):
    model = stage(variant)
    log_probs, _ = model(drawn(2, 12), model.initial_state(2))
    assert log_probs.shape == (2, 12, V)
    assert log_probs.dtype == torch.float32
    assert log_probs.isfinite().all()
    assert log_probs.double().logsumexp(-1).abs().max() < 1e-5


@every_variant
@torch.no_grad()
def test_causal(variant, stage):
    model, tokens = stage(variant), drawn(2, 12)
    before, _ = model(tokens, model.initial_state(2))
    changed = tokens.clone()
    changed[:, 6] = TOKENIZER.encode("c")[0] + (tokens[:, 6] == TOKENIZER.encode("c")[0])
    after, _ = model(changed, model.initial_state(2))
    torch.testing.assert_close(after[:, :6], before[:, :6], rtol=0, atol=1e-6)
    assert (after[:, 6] - before[:, 6]).abs().max() > 1e-4


@every_variant
@torch.no_grad()
def test_chunk_invariant(variant, stage):
    model, tokens = stage(variant), drawn(2, 23)
    whole, end = model(tokens, model.initial_state(2))
    for sizes in ([1] * 23, [1, 9, 2, 11], [4, 19]):
        state, parts = model.initial_state(2), []
        for chunk in tokens.split(sizes, 1):
            log_probs, state = model(chunk, state)
            parts.append(log_probs)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-4)
        for leaf, expected in zip(state, end, strict=True):
            torch.testing.assert_close(leaf, expected, rtol=0, atol=1e-4)


@every_variant
@torch.no_grad()
def test_pure(variant, stage):
    model, tokens = stage(variant), drawn(2, 9)
    for state in (model.initial_state(2), model(tokens, model.initial_state(2))[1]):
        kept, read = [leaf.clone() for leaf in state], tokens.clone()
        first, _ = model(tokens, state)
        model.score(tokens, tokens, state)
        again, _ = model(tokens, state)
        assert torch.equal(first, again)
        assert torch.equal(tokens, read)
        assert all(torch.equal(leaf, old) for leaf, old in zip(state, kept, strict=True))


@every_variant
@torch.no_grad()
def test_select_commutes(variant, stage):
    model, tokens, order = stage(variant), drawn(3, 9), torch.tensor([2, 0, 0, 1])
    _, state = model(tokens, model.initial_state(3))
    assert all(len(leaf) == 3 for leaf in state)
    expected, after = model(tokens.flip(1), state)
    found, selected = model(tokens.flip(1)[order], select(state, order))
    near = 3e-5 if variant in ("mixture", "mixture-of-mixtures") else 1e-5  # a gate makes more of rounding
    torch.testing.assert_close(found, expected[order], rtol=0, atol=near)
    for leaf, wanted in zip(selected, select(after, order), strict=True):
        torch.testing.assert_close(leaf, wanted, rtol=0, atol=1e-5)


@every_variant
@torch.no_grad()
def test_score_is_forward_gathered(variant, stage):
    model, tokens, targets = stage(variant), drawn(2, 12), drawn(2, 12, seed=1)
    _, state = model(tokens, model.initial_state(2))
    log_probs, end = model(tokens, state)
    found, after = model.score(tokens, targets, state)
    torch.testing.assert_close(found, log_probs.gather(-1, targets[..., None])[..., 0], rtol=0, atol=1e-5)
    assert found.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(after, end, strict=True))


@every_variant
@torch.no_grad()
def test_saved_and_loaded_to_the_bit(variant):
    model, copy, tokens = built(variant), loaded(variant), drawn(2, 12)
    assert (copy.config, copy.vocab_size) == (model.config, model.vocab_size)
    assert copy.parameters_count == model.parameters_count
    assert not copy.training
    assert torch.equal(model(tokens, model.initial_state(2))[0], copy(tokens, copy.initial_state(2))[0])
    assert torch.equal(
        model.score(tokens, tokens, model.initial_state(2))[0], copy.score(tokens, tokens, copy.initial_state(2))[0]
    )


@every_variant
@torch.no_grad()
def test_a_frozen_model_is_one_that_does_not_adapt(variant, stage):
    model, tokens = stage(variant), drawn(2, 40)
    before, _ = model(tokens, model.initial_state(2))
    frozen = model.frozen()
    assert not frozen.adapts
    assert (frozen is model) == (not model.adapts)
    log_probs, _ = frozen(tokens, frozen.initial_state(2))
    assert log_probs.double().logsumexp(-1).abs().max() < 1e-5
    assert torch.equal(log_probs, before) == (not model.adapts)
    assert torch.equal(model(tokens, model.initial_state(2))[0], before)
    with TemporaryDirectory() as folder:  # it is a model of its own, which can be saved
        checkpoint.save(Path(folder), VARIANTS[variant][0], frozen, TOKENIZER)
        copy = checkpoint.load(Path(folder)).model
    assert torch.equal(copy(tokens, copy.initial_state(2))[0], log_probs)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_size_is_a_configuration(architecture):
    kind = ARCHITECTURES[architecture]
    for size in policy_of(architecture).sizes.values():
        kind.Config(**size)
    assert device_of(built(architecture)).type == "cpu"


# Each network against its equations


def network(kind, V=7, **options):
    """A small network in float64 whose numbers are all random."""
    torch.manual_seed(3)
    config = kind.Config(**(small(next(k for k, v in ARCHITECTURES.items() if v is kind))[1] | options))
    model = kind(config, V).double().eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model


def floored(logits):
    """ln of the softmax with its share for every id."""
    return ((1 - 1e-4) * logits.softmax(-1) + 1e-4 / logits.shape[-1]).log()


def agrees(model, tokens, features):
    """Whether the model says what the output layer makes of the features (T, D)."""
    log_probs, _ = model(tokens[None], model.initial_state(1))
    expected = floored(features @ model.output.weight.T + model.output.bias)
    torch.testing.assert_close(log_probs[0].double(), expected, rtol=0, atol=2e-5)


def rnn_step(activation):
    return lambda W, U, b, c, x, h, _: (activation(W @ x + b + U @ h + c), None)


def gru_step(W, U, b, c, x, h, _):
    (r, z, n), (hr, hz, hn) = (W @ x + b).chunk(3), (U @ h + c).chunk(3)
    r, z = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
    n = torch.tanh(n + r * hn)
    return (1 - z) * n + z * h, None


def lstm_step(W, U, b, c, x, h, cell):
    i, f, g, o = (W @ x + b + U @ h + c).chunk(4)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


@pytest.mark.parametrize(
    ("kind", "options", "step"),
    [
        (RNN, {}, rnn_step(torch.tanh)),
        (RNN, {"activation": "relu"}, rnn_step(torch.relu)),
        (GRU, {}, gru_step),
        (LSTM, {}, lstm_step),
    ],
)
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_recurrences_are_their_equations(kind, options, step, layers):
    model, tokens = network(kind, width=5, layers=layers, **options), torch.tensor([0, 3, 1, 6, 6, 2])
    x = model.embedding.weight[tokens]
    for layer in model.layers:
        W, U, b, c = layer.parameters()
        h, cell, rows = torch.zeros(5).double(), torch.zeros(5).double(), []
        for row in x:
            h, cell = step(W, U, b, c, row, h, cell)
            rows.append(h)
        x = x + torch.stack(rows)
    agrees(model, tokens, x)


def through_torch(layer, x, h):
    y, _ = layer(x, h.unsqueeze(0))
    return y.transpose(0, 1)


def through_ours(layer, x, h):
    return Recurrence.apply(x.transpose(0, 1), h, *layer.parameters())


def with_gradients(run, layer, x, h, weights):
    """Every state, and the gradients of x, h and all of a layer's weights by a sum of the states."""
    y = run(layer, x, h)
    return [y, *torch.autograd.grad((y * weights).sum(), [x, h, *layer.parameters()])]


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize(("kind", "off"), [(torch.float64, 1e-14), (torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_the_gru_learns_as_torchs_does(kind, off, streams):
    torch.manual_seed(0)
    layer = nn.GRU(5, 16, batch_first=True).double()
    inputs = [torch.randn(size).double() for size in [(streams, 9, 5), (streams, 16), (9, streams, 16)]]
    expected = with_gradients(through_torch, layer, *(each.requires_grad_() for each in inputs))
    rounded = [each.detach().to(kind).requires_grad_() for each in inputs]
    for found, wanted in zip(with_gradients(through_ours, layer.to(kind), *rounded), expected, strict=True):
        assert found.dtype == kind
        assert (found - wanted).norm() < off * wanted.norm()


def test_the_gru_layer_learns_as_torchs_does():
    model = network(GRU, layers=2, width=5)
    x, state = torch.randn(3, 4, 5).double(), torch.randn(3, 5).double().requires_grad_()
    (layer, _), found = model.layers, []
    for run in (model.run, super(GRU, model).run):
        y, (last,) = run(layer, x, (state,))
        assert torch.equal(last, y[:, -1])
        found.append((y, *torch.autograd.grad((y.square().sum() + last.sum()), [state, *layer.parameters()])))
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs)


def test_the_grus_gradient_is_that_of_its_numbers():
    torch.manual_seed(0)
    layer = nn.GRU(2, 3).double()
    numbers = [torch.randn(4, 2, 2).double().requires_grad_(), torch.randn(2, 3).double().requires_grad_()]
    assert torch.autograd.gradcheck(Recurrence.apply, (*numbers, *layer.parameters()))


def test_recurrences_start_as_the_papers_say():
    layer = LSTM(RecurrentConfig(width=4), 7).layers[0]
    assert torch.equal(layer.bias_ih_l0 + layer.bias_hh_l0, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1.0] + [0] * 8))
    layer = RNN(RNNConfig(width=4, activation="relu"), 7).layers[0]
    assert torch.equal(layer.weight_hh_l0, torch.eye(4))
    assert not (layer.bias_ih_l0.any())
    assert not (layer.bias_hh_l0.any())


@pytest.mark.parametrize("direct", [False, True])
@torch.no_grad()
def test_feed_forward_is_bengios_equation_1(direct):
    model = network(FeedForward, layers=1, activation="tanh", direct=direct, window=3, embedding=2, width=5)
    tokens = torch.tensor([0, 4, 2, 5, 1])
    padded, rows = [0, 0, *tokens.tolist()], []
    H, d = model.hidden[0].weight, model.hidden[0].bias
    U, W = model.output.weight[:, :5], model.output.weight[:, 5:]
    for t in range(len(tokens)):
        x = torch.stack([model.embedding.weight[padded[t + n]] for n in range(3)], 1).flatten()  # (E C,)
        rows.append(model.output.bias + U @ torch.tanh(d + H @ x) + (W @ x if direct else 0))
    log_probs, _ = model(tokens[None], model.initial_state(1))
    torch.testing.assert_close(log_probs[0].double(), floored(torch.stack(rows)), rtol=0, atol=1e-5)


def normalised(norm, x):
    if isinstance(norm, nn.LayerNorm):
        return (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    return x / (x.square().mean() + torch.finfo(x.dtype).eps).sqrt()


def activated(layer, x, kind):
    h = layer.inner.weight @ x
    if kind == "swiglu":
        gate, h = h.chunk(2)
        return layer.out.weight @ (gate * torch.sigmoid(gate) * h)
    by_name = {
        "gelu": lambda v: v * (1 + torch.erf(v / math.sqrt(2))) / 2,
        "relu": lambda v: v * (v > 0),
        "relu2": lambda v: v * v * (v > 0),
    }
    return layer.out.weight @ by_name[kind](h)


def similarity(q, k, distance, rotary):
    """q . k, as complex numbers turned by the distance if `rotary`."""
    if not rotary:
        return q @ k
    half = len(q) // 2
    q, k = torch.complex(q[:half], q[half:]), torch.complex(k[:half], k[half:])
    turn = distance * 10000.0 ** -(torch.arange(half).double() / half)
    return (q * torch.polar(torch.ones_like(turn), turn) * k.conj()).real.sum()


def attended(model, attention, rows, t):
    config = model.config
    visible = range(max(0, t - config.window + 1), t + 1)
    learned = attention.project.weight if config.attention == "qkv" else torch.eye(config.width).double().repeat(3, 1)
    heads, size = [], config.width // config.heads
    shared = (len(learned) - config.width) // 2
    WQ, WK, WV = learned.split([config.width, shared, shared])
    for n in range(config.heads):
        q = (WQ @ rows[t])[n * size : (n + 1) * size]
        begin = n * shared // config.width * size
        part = slice(begin, begin + size)
        scores = [
            0.0
            if config.attention == "mean"
            else similarity(q, (WK @ rows[s])[part], t - s, config.positions == "rotary") / math.sqrt(size)
            for s in visible
        ]
        weights = torch.tensor(scores).double().exp()
        values = torch.stack([(WV @ rows[s])[part] for s in visible])
        heads.append(weights @ values / weights.sum())
    return attention.out.weight @ torch.cat(heads)


def sinusoid(position, width, window):
    period, row = 4 * window, []
    for pair in range(width // 2):
        turns = max(1, round(10000.0 ** (-2 * pair / width) * period / (2 * math.pi)))
        row.append(2 * math.pi * turns * position / period)
    return torch.tensor([*map(math.sin, row), *map(math.cos, row)]).double()


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal", "none"])
@pytest.mark.parametrize(("attention", "kv_heads"), [("qkv", 0), ("qkv", 1), ("qkv", 2), ("dot", 1), ("mean", 1)])
@pytest.mark.parametrize(
    ("norm", "activation"), [("rms", "relu2"), ("layer", "gelu"), ("rms", "swiglu"), ("rms", "relu")]
)
@torch.no_grad()
def test_the_transformer_is_its_equations(positions, attention, kv_heads, norm, activation):
    chosen = {"positions": positions, "attention": attention, "norm": norm, "activation": activation}
    model = network(Transformer, width=16, heads=4, kv_heads=kv_heads, window=3, layers=2, previous=True, **chosen)
    tokens = torch.tensor([0, 3, 1, 6, 6, 2, 5, 4])
    rows = list(model.embedding.weight[tokens] + model.previous.weight[torch.tensor([0, *tokens[:-1]])])
    if positions == "sinusoidal":
        rows = [row + sinusoid(t, 16, 3) for t, row in enumerate(rows)]
    for block in model.blocks:
        seen = [normalised(block.norm_attention, row) for row in rows]
        rows = [row + attended(model, block.attention, seen, t) for t, row in enumerate(rows)]
        rows = [row + activated(block.feedforward, normalised(block.norm_feedforward, row), activation) for row in rows]
    agrees(model, tokens, torch.stack([normalised(model.norm, row) for row in rows]))


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(0)).double()

    def turned(x, position):
        return rotate(x, *(part.double() for part in rotary_tables(torch.tensor([position]), 8, 2)))

    def score(t, s):
        return (turned(q, t) * turned(k, s)).sum()

    torch.testing.assert_close(score(7, 3), score(107, 103), rtol=0, atol=1e-5)
    assert (score(7, 3) - score(8, 3)).abs() > 1e-3


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal", "none"])
@pytest.mark.parametrize("previous", [False, True])
@torch.no_grad()
def test_what_leaves_the_window_is_forgotten_a_layer_at_a_time(positions, previous):
    model = network(Transformer, V=V, window=4, layers=2, positions=positions, previous=previous)
    tokens = drawn(1, 14)
    changed = tokens.clone()
    changed[0, 2] = 9
    before, after = (model(ids, model.initial_state(1))[0][0] for ids in (tokens, changed))
    moved = (before - after).abs().amax(-1) > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(2, 2 + 2 * 3 + previous + 1))


NETWORKS = {
    name: variant
    for name, variant in VARIANTS.items()
    if issubclass(ARCHITECTURES[variant[0]], Network) and name.count("-") < 3
}


@pytest.mark.parametrize("variant", NETWORKS)
def test_gradients(variant, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)  # let float64 pass through
    architecture, options = VARIANTS[variant]
    sizes = {k: v for k, v in {"width": 4, "embedding": 2, "heads": 1, "window": 3}.items() if k in options}
    model = network(ARCHITECTURES[architecture], V=5, **{**options, **sizes})
    tokens, targets = torch.randint(5, (2, 2, 5), generator=torch.Generator().manual_seed(0))
    state = detach(model.score(tokens, targets, model.initial_state(2))[1])
    assert torch.autograd.gradcheck(
        lambda *_: model.score(tokens, targets, state)[0], tuple(model.parameters()), fast_mode=True
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_dropout(share):
    layer, ones = Dropout(share), torch.ones(7, 30011)
    torch.manual_seed(0)
    out = layer(ones)
    kept = out != 0
    scale = 1 / (1 - min(round(256 * share), 255) / 256)
    assert out[kept].unique().tolist() == pytest.approx([scale])
    assert kept.double().mean().item() == pytest.approx(1 / scale, abs=4 * 0.5 / math.sqrt(ones.numel()))
    assert out.double().mean().item() == pytest.approx(1, abs=4 * math.sqrt((scale - 1) / ones.numel()))
    assert layer.eval()(ones) is ones
    assert layer.train()(ones.bfloat16()).dtype == torch.bfloat16
    assert layer(torch.ones(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("architecture", [name for name, kind in ARCHITECTURES.items() if issubclass(kind, Network)])
@torch.no_grad()
def test_expected_frequencies_and_the_floor(architecture):
    kind = ARCHITECTURES[architecture]
    model = kind(kind.Config(**small(architecture)[1]), V).eval()
    counts = torch.zeros(V, dtype=torch.float64)
    counts[3], counts[5] = 30, 10
    model.output.weight.zero_()
    model.expect(counts)
    probabilities = torch.full((V,), MIN_INITIAL_PROBABILITY, dtype=torch.float64)
    probabilities[3], probabilities[5] = 0.75, 0.25
    known, unknown = torch.full((1, 4), 3), torch.full((1, 4), 7)
    log_probs, _ = model(known, model.initial_state(1))
    expected = (1 - model.FLOOR) * probabilities / probabilities.sum() + model.FLOOR / V
    torch.testing.assert_close(log_probs[0, -1].double(), expected.log(), rtol=0, atol=1e-5)
    model.output.bias[7] = -1000
    log_probs, _ = model(known, model.initial_state(1))
    assert log_probs[0, :, 7].tolist() == pytest.approx([math.log(model.FLOOR / V)] * 4)
    log_probs, _ = model(unknown, model.initial_state(1))
    assert log_probs[0, :, 7].tolist() == pytest.approx([math.log(model.FLOOR_AFTER_UNKNOWN / V)] * 4)


@pytest.mark.parametrize(("heads", "tie"), [(2, False), (4, True)])
def test_a_new_transformer_without_previous_attends_to_the_token_before(heads: int, tie: bool) -> None:
    torch.manual_seed(0)
    model = Transformer(Transformer.Config(width=128, heads=heads, kv_heads=1, window=32, tie=tie), 300)
    ids = torch.randint(300, (1, 32))
    x, empty = model.blocks[0].norm_attention(model.embedding(ids)), torch.zeros(1, 0, 128 // heads)
    mask = torch.full((32, 32), -torch.inf).triu(1)
    weights, _, _ = model.blocks[0].attention.attend(x, empty, empty, mask, rotary_tables(torch.arange(32), 128, heads))
    by_distance = torch.stack([weights[0, 0].diagonal(-distance).mean() for distance in range(12)])
    assert by_distance.argmax() == 1
    assert by_distance[1] > 1.5 * by_distance[2]
