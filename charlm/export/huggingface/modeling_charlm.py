"""A small language model that charlm trained, for Hugging Face Transformers. It needs torch and transformers only.

WHAT `trust_remote_code=True` MEANS: Transformers runs this file, as it would any other that it is pointed at, with all
that you may do on your machine. Load it only if you have read it, or trust whoever gave it to you. It opens no file, no
connection and no other program; it only computes.

    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)

Networks: rnn, gru, lstm, feedforward, transformer; `mixture_charlm.py`, where it lies here, has n-grams and mixtures.
Their state, what a model remembers of a text, is a tuple of tensors whose dimension 0 is the stream; `generate` carries
it from token to token. Logits are log-probabilities.

Shapes: B streams, T tokens, V vocabulary, D width, N heads, G heads of keys and values, C cached positions, S = C + T,
W window.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

BOUNDARY = 0  # the token before a text
FLOOR, FLOOR_AFTER_UNKNOWN = 1e-4, 0.5  # the share of the probability that is spread evenly over the vocabulary
ACTIVATIONS = {"tanh": torch.tanh, "relu": F.relu, "gelu": F.gelu, "relu2": lambda x: F.relu(x).square()}
State = tuple[Tensor, ...]


class CharlmConfig(PretrainedConfig):
    """`network` names the class below, `settings` are its own."""

    model_type = "charlm"

    def __init__(self, network="lstm", settings=None, vocab_size=257, bos_token_id=BOUNDARY, **more):
        self.network, self.settings, self.vocab_size = network, settings or {}, vocab_size
        super().__init__(bos_token_id=bos_token_id, **more)


class Recurrent(nn.Module):
    """Embedding -> layers of one recurrence, each added to its input. State: h, or h and c, of each layer, (B, D)."""

    layer = nn.LSTM
    carried = 2

    def __init__(self, settings, vocab_size):
        super().__init__()
        self.D = D = settings["width"]
        self.embedding = nn.Embedding(vocab_size, D)
        more = {"nonlinearity": settings["activation"]} if "activation" in settings else {}
        self.layers = nn.ModuleList(self.layer(D, D, batch_first=True, **more) for _ in range(settings["layers"]))

    def start(self, B):
        return tuple(self.embedding.weight.new_zeros(B, self.D) for _ in range(self.carried * len(self.layers)))

    def forward(self, tokens, state):
        x, after = self.embedding(tokens), []
        for number, layer in enumerate(self.layers):
            before = [leaf.unsqueeze(0) for leaf in state[number * self.carried : (number + 1) * self.carried]]
            y, now = layer(x, tuple(before) if self.carried == 2 else before[0])
            after += [leaf.squeeze(0) for leaf in (now if self.carried == 2 else (now,))]
            x = x + y
        return x, tuple(after)


class RNN(Recurrent):
    layer, carried = nn.RNN, 1


class GRU(Recurrent):
    layer, carried = nn.GRU, 1


class FeedForward(nn.Module):
    """The last W tokens, embedded side by side, through hidden layers. State: the last W ids (B, W)."""

    def __init__(self, settings, vocab_size):
        super().__init__()
        self.settings, D = settings, settings["width"]
        inputs = settings["window"] * settings["embedding"]
        self.embedding = nn.Embedding(vocab_size, settings["embedding"])
        self.hidden = nn.ModuleList(nn.Linear(D if n else inputs, D) for n in range(settings["layers"]))

    def start(self, B):
        device = self.embedding.weight.device
        return (torch.full((B, self.settings["window"]), BOUNDARY, dtype=torch.int64, device=device),)

    def forward(self, tokens, state):
        W, activation = self.settings["window"], ACTIVATIONS[self.settings["activation"]]
        ids = torch.cat([state[0], tokens], 1)
        x = self.embedding(ids).unfold(1, W, 1)[:, 1:].flatten(2)  # (B, T, inputs)
        h = activation(self.hidden[0](x))
        for layer in self.hidden[1:]:
            h = h + activation(layer(h))
        return torch.cat([h, x], -1) if self.settings["direct"] else h, (ids[:, -W:],)


class Attention(nn.Module):
    """Each position takes a weighted mean of the last W. Keys are cached as they are and turned when they are used."""

    def __init__(self, settings):
        super().__init__()
        D, self.N, self.kind = settings["width"], settings["heads"], settings["attention"]
        self.G = (settings["kv_heads"] or self.N) if self.kind == "qkv" else self.N
        self.rotary = settings["positions"] == "rotary"
        if self.kind == "qkv":
            self.project = nn.Linear(D, D + 2 * (D // self.N * self.G), bias=False)
        self.out = nn.Linear(D, D, bias=False)

    def forward(self, x, keys, values, mask):
        (B, T, D), width = x.shape, x.shape[2] // self.N * self.G
        q, k, v = self.project(x).split([D, width, width], -1) if self.kind == "qkv" else (x, x, x)
        keys, values = torch.cat([keys, k], 1), torch.cat([values, v], 1)  # (B, S, G d)
        q, k, v = (y.unflatten(-1, (-1, D // self.N)).transpose(1, 2) for y in (q, keys, values))  # (B, ., ., d)
        if self.rotary:
            q, k = rotated(q, k.shape[2] - T), rotated(k, 0)
        k, v = (y.repeat_interleave(self.N // self.G, 1) for y in (k, v))
        scores = mask.expand(B, self.N, -1, -1) if self.kind == "mean" else q @ k.mT / math.sqrt(q.shape[-1]) + mask
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)), keys, values


def rotated(x, first):
    """Turn each pair (first half, second half) of the heads in x (B, N, T, d) by the angles of its position."""
    rates = 10000.0 ** -(torch.arange(0, x.shape[-1], 2, device=x.device) / x.shape[-1])
    angles = torch.arange(first, first + x.shape[2], device=x.device)[:, None] * rates
    cosine, sine, (a, b) = angles.cos().to(x.dtype), angles.sin().to(x.dtype), x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)


def sinusoids(positions, D, period):
    """(B, T) -> (B, T, D); the wavelengths are rounded to divide `period`."""
    rates = 10000.0 ** -(torch.arange(0, D, 2, device=positions.device) / D)
    turns = (rates * period / math.tau).round().clamp(min=1)
    angles = (positions % period).unsqueeze(-1) * (turns * math.tau / period)
    return torch.cat([angles.sin(), angles.cos()], -1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, settings):
        super().__init__()
        D, self.kind = settings["width"], settings["activation"]
        self.norm, self.attention = settings["norm"], Attention(settings)
        self.feedforward = nn.ModuleDict(
            {
                "inner": nn.Linear(D, (8 if self.kind == "swiglu" else 4) * D, bias=False),
                "out": nn.Linear(4 * D, D, bias=False),
            }
        )

    def forward(self, x, keys, values, mask):
        y, keys, values = self.attention(normed(x, self.norm), keys, values, mask)
        x = x + y
        h = self.feedforward["inner"](normed(x, self.norm))
        if self.kind == "swiglu":
            gate, h = h.chunk(2, -1)
            h = F.silu(gate) * h
        else:
            h = ACTIVATIONS[self.kind](h)
        return x + self.feedforward["out"](h), keys, values


def normed(x, kind):
    return F.layer_norm(x, x.shape[-1:]) if kind == "layer" else F.rms_norm(x, x.shape[-1:])


class Transformer(nn.Module):
    """State: keys and values (B, < W, G d) of each layer, the position (B, 1) in the text, the id last read (B, 1)."""

    def __init__(self, settings, vocab_size):
        super().__init__()
        self.settings, D = settings, settings["width"]
        self.embedding = nn.Embedding(vocab_size, D)
        self.previous = nn.Embedding(vocab_size, D) if settings["previous"] else None
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings["layers"]))

    def start(self, B):
        attention = self.blocks[0].attention
        empty = self.embedding.weight.new_zeros(B, 0, self.settings["width"] // attention.N * attention.G)
        position = torch.zeros(B, 1, dtype=torch.int64, device=empty.device)
        return (*[empty] * (2 * len(self.blocks)), position, torch.full_like(position, BOUNDARY))

    def forward(self, tokens, state):
        *caches, position, last = state
        W, T, C = self.settings["window"], tokens.shape[1], caches[0].shape[1]
        x, read, steps = self.embedding(tokens), torch.cat([last, tokens], 1), torch.arange(C + T, device=tokens.device)
        if self.previous is not None:
            x = x + self.previous(read)[:, :-1]
        if self.settings["positions"] == "sinusoidal":
            x = x + sinusoids(position + steps[:T], self.settings["width"], 4 * W).to(x.dtype)
        distance, after = steps[C:, None] - steps, []  # (T, S)
        mask = x.new_zeros(distance.shape).masked_fill_((distance < 0) | (distance >= W), -math.inf)
        for block, keys, values in zip(self.blocks, caches[::2], caches[1::2], strict=True):
            x, keys, values = block(x, keys, values, mask)
            after += [keys[:, max(0, C + T - W + 1) :], values[:, max(0, C + T - W + 1) :]]
        return normed(x, self.settings["norm"]), (*after, position + T, read[:, -1:])


NETWORKS = {"rnn": RNN, "gru": GRU, "lstm": Recurrent, "feedforward": FeedForward, "transformer": Transformer}


class Network(nn.Module):
    """ln P of the next token: a network, a layer of logits, and a share that is spread evenly over all ids."""

    def __init__(self, name, settings, vocab_size):
        super().__init__()
        self.body = NETWORKS[name](settings, vocab_size)
        self.output = nn.Linear(settings["output_width"], vocab_size)
        self.register_buffer("known", torch.ones(vocab_size, dtype=torch.bool))  # that training has shown

    def start(self, B):
        return self.body.start(B)

    def forward(self, ids, state):
        features, state = self.body(ids, state)
        log_probs = self.output(features).float().log_softmax(-1)
        share = torch.where(self.known[ids], FLOOR, FLOOR_AFTER_UNKNOWN)[..., None]
        return torch.logaddexp(log_probs + (-share).log1p(), (share / log_probs.shape[-1]).log()), state


@dataclass
class CharlmOutput(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None
    state: list[State] | None = None  # of each stream


class CharlmForCausalLM(PreTrainedModel, GenerationMixin):
    """ln P of the next token, given all before it. A masked token is not read; masked ones come first, or last."""

    config_class = CharlmConfig
    build = Network  # (name, settings, vocab_size) -> ids (B, T), state -> ln P (B, T, V), state
    _is_stateful = True

    def __init__(self, config):
        super().__init__(config)
        self.model = self.build(config.network, config.settings, config.vocab_size)
        self.post_init()

    def _init_weights(self, module):  # torch has done it
        pass

    def get_input_embeddings(self):
        return next((part for part in self.modules() if isinstance(part, nn.Embedding)), None)

    def forward(self, input_ids, attention_mask=None, state=None, labels=None, use_cache=True, **_):
        B, T = input_ids.shape
        before = [self.model.start(1) for _ in range(B)] if state is None else state
        attended = torch.ones_like(input_ids) if attention_mask is None else attention_mask[:, -T:]
        logits, after = self._read_all(input_ids, before, attended.bool())
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CharlmOutput(loss, logits, after if use_cache else None)

    def _read_all(self, ids, states, attended):
        """Streams of equal states together, the others one by one; of each the ids (B, T) that are `attended`."""
        if attended.all() and len({tuple(leaf.shape for leaf in state) for state in states}) == 1:
            logits, after = self.model(ids, tuple(map(torch.cat, zip(*states, strict=True))))
            return logits, list(zip(*(leaf.split(1) for leaf in after), strict=True))
        logits, after = torch.zeros(*ids.shape, self.config.vocab_size, device=ids.device), list(states)
        for b, mask in enumerate(attended):
            if mask.any():
                logits[b, mask], after[b] = self.model(ids[b : b + 1, mask], states[b])
        return logits, after

    def prepare_inputs_for_generation(self, input_ids, state=None, attention_mask=None, use_cache=True, **_):
        if state is not None:
            input_ids = input_ids[:, -1:]
        return {"input_ids": input_ids, "attention_mask": attention_mask, "state": state, "use_cache": use_cache}

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, **more):
        return {**super()._update_model_kwargs_for_generation(outputs, model_kwargs, **more), "state": outputs.state}

    @classmethod
    def _supports_default_dynamic_cache(cls):
        return False

    @staticmethod
    def _reorder_cache(state, beams):
        return [state[beam] for beam in beams.tolist()]
