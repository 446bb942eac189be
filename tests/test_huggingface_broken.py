"""Folders of Hugging Face Transformers that are damaged or do not fit: each is refused in a line that says what.

They are made from an export of a portable Transformer, so nothing but charlm is needed.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXT, Charlm
from safetensors.torch import load_file, save_file

from charlm import checkpoint
from charlm.errors import DataError, UsageError
from charlm.export.formats import FORMATS
from charlm.export.huggingface.reading import read_huggingface
from charlm.models.decoder import Decoder, DecoderConfig
from charlm.models.transformer import Transformer, TransformerConfig
from charlm.tokenizers import TOKENIZERS

Break = Callable[[Path], None]


def edited(name: str, **changes: Any) -> Break:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def written(name: str, content: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content) and None


def removed(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def together(*breaks: Break) -> Break:
    def change(folder: Path) -> None:
        for each in breaks:
            each(folder)

    return change


def of_type(dtype: torch.dtype) -> Break:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)

    return change


def with_more(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({**load_file(path), "model.layers.0.self_attn.q_norm.weight": torch.ones(8)}, path)


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


V = TOKENIZERS["characters"].train([TEXT], TOKENIZERS["characters"].Config()).vocab_size
BROKEN: list[tuple[str, Break, str]] = [
    ("no config", removed("config.json"), "config.json: missing; get the whole folder"),
    ("a config that is none", written("config.json", b"{"), "config.json: damaged: not a JSON object"),
    ("another architecture", edited("config.json", model_type="bert"), "model_type is 'bert'; charlm imports llama,"),
    ("quantized", edited("config.json", quantization_config={"bits": 4}), "the weights are quantized; get those in"),
    ("a size that is none", edited("config.json", hidden_size="x"), "hidden_size is 'x', not a number from 1 on"),
    ("half a size", edited("config.json", hidden_size=1.5), "hidden_size is 1.5, not a whole number"),
    ("an activation", edited("config.json", hidden_act="mish"), "hidden_act is 'mish'; charlm has gelu,"),
    ("a setting that is beyond", edited("config.json", num_hidden_layers=999), "`layers` must be at most 256"),
    ("heads that do not fit", edited("config.json", num_key_value_heads=3), "cannot share 3 heads of keys and values"),
    ("scaled positions", edited("config.json", rope_parameters={"rope_type": "yarn"}), "positions are scaled ('yarn')"),
    ("positions that are none", edited("config.json", rope_parameters="default"), "positions are scaled ('default')"),
    ("a false size", edited("config.json", hidden_size=4096), f"and config.json makes it ({V}, 4096): they differ"),
    ("layers that are missing", edited("config.json", num_hidden_layers=3), "the weights have no model.layers.2."),
    ("too few ids", edited("config.json", vocab_size=20),
     f"the tokenizer has ids up to {V - 1}, the model 20: they differ"),
    ("no tokenizer", removed("tokenizer.json"), "tokenizer.json: missing; get the whole folder"),
    ("a tokenizer that is none", written("tokenizer.json", b'{"model": 3}'), "tokenizer.json: damaged: not what"),
    ("a normalizer", edited("tokenizer.json", normalizer={"type": "NFC"}), "it changes texts before it cuts them"),
    ("another tokenizer", edited("tokenizer.json", pre_tokenizer={"type": "Digits"}),
     "of this kind is not read: BPE, cut before by Digits"),
    ("a space before", edited("tokenizer.json", pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True}),
     "it puts a space before a text (add_prefix_space)"),
    ("an added word", edited("tokenizer.json", added_tokens=[{"id": 1, "content": "x", "special": False}]),
     "it has an added token, 'x', that is cut out of texts"),
    ("nothing before a text", together(edited("config.json", bos_token_id=None),
                                       edited("tokenizer.json", post_processor=None)), "no token begins a text: give"),
    ("bytes that are missing", edited("tokenizer.json", model={"type": "BPE", "vocab": {"a": 1, "<0x00>": 2}}),
     "it has no token <0x01>, so not every text can be spelled"),
    ("bytes that are missing", edited("tokenizer.json", model={"type": "BPE", "vocab": {"a": 1}},
                                      pre_tokenizer={"type": "ByteLevel"}), "it has no id for the byte 0x00, so not"),
    ("no weights", removed("model.safetensors"), "model.safetensors: missing"),
    ("pickled weights", as_pickle, "pytorch_model.bin is a pickle, which charlm does not open: save it as safetensors"),
    ("weights that are none", written("model.safetensors", b"\xff" * 99), "model.safetensors: damaged:"),
    ("weights cut short", cut, "model.safetensors: damaged:"),
    ("wide numbers", of_type(torch.float64), "is of type F64; charlm reads F32, F16, BF16"),
    ("more than such a model has", with_more, "self_attn.q_norm.weight is not part of such a model as config.json"),
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a Transformer of 2 layers, 16 wide, with 2 heads."""
    folder = tmp_path_factory.mktemp("sound")
    tokenizer = TOKENIZERS["characters"].train([TEXT], TOKENIZERS["characters"].Config())
    model = Transformer(TransformerConfig(width=16, layers=2, heads=2, window=8), tokenizer.vocab_size)
    (folder / "run").mkdir()
    checkpoint.save(folder / "run", "transformer", model, tokenizer)
    run, format = checkpoint.load(folder / "run"), FORMATS["huggingface"]
    format.save(run, format.fit(run.model), [], folder / "there", lambda *_: None)
    return folder / "there"


@pytest.mark.parametrize("number", range(len(BROKEN)), ids=[case[0] for case in BROKEN])
def test_what_is_damaged_or_does_not_fit_is_named_in_a_line(
    number: int, sound: Path, folder: Path, charlm: Charlm
) -> None:
    _, prepare, message = BROKEN[number]
    shutil.copytree(sound, folder / "there")
    prepare(folder / "there")
    outcome = charlm("import", "there")
    assert outcome.code == 3, outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert message in outcome.err
    assert not list(folder.glob("checkpoints/*"))


def test_an_index_names_files_of_the_folder_only(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    shutil.copytree(sound, folder)
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    for name in ("../run/weights.safetensors", "/etc/passwd", 3, "model.bin"):
        index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
        with pytest.raises(DataError, match="it names files that are no weights"):
            read_huggingface(folder)
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model-1.safetensors"}}))
    with pytest.raises(DataError, match=r"model-1\.safetensors: missing; get the whole folder"):
        read_huggingface(folder)


def test_files_beyond_measure_are_not_read(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from charlm.export.huggingface import reading

    monkeypatch.setattr(reading, "physical_memory", lambda: 1000)
    with pytest.raises(DataError, match="larger than the memory of this machine"):
        read_huggingface(sound)
    monkeypatch.setattr(reading, "JSON_LIMIT", 10)
    with pytest.raises(DataError, match="so not what its name says"):
        read_huggingface(sound)


def test_files_that_cannot_be_read_are_named(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(DataError, match=r"config\.json: cannot be read: Permission denied"):
        read_huggingface(sound)


def test_what_is_exported_without_code_comes_back(sound: Path) -> None:
    """As another architecture with the same probabilities, but for the floor."""
    found = read_huggingface(sound)
    run = checkpoint.load(sound.with_name("run"))
    ids = torch.from_numpy(found.tokenizer.encode(TEXT[:300])).long()[None]
    with torch.no_grad():
        expected, _ = FORMATS["huggingface"].fit(run.model).model(ids, run.model.initial_state(1))
        log_probs, _ = found.model(ids, found.model.initial_state(1))
    torch.testing.assert_close(log_probs, expected, atol=1e-4, rtol=0)
    assert found.tokenizer.encode(TEXT).tolist() == run.tokenizer.encode(TEXT).tolist()


def test_settings_that_contradict_each_other() -> None:
    for settings, problem in (
        ({"positions": "learned", "window": 8, "rotated": 0}, "learned positions do not fit a window that slides"),
        ({"rotated": 7}, "7 of 16 numbers of a head cannot be turned in pairs"),
    ):
        with pytest.raises(UsageError, match=problem):
            DecoderConfig(**settings)


def said(model: Decoder, ids: list[int]) -> torch.Tensor:
    """(N, V): ln P of what comes after the boundary and each id."""
    with torch.no_grad():
        return model(torch.tensor([[0, *ids]]), model.initial_state(1))[0][0]


def test_tokens_without_text_count_as_the_boundary() -> None:
    torch.manual_seed(0)
    model = Decoder(
        DecoderConfig(width=16, heads=2, kv_heads=2, head_width=8, rotated=8, inner=16, reserved=5), 300
    ).eval()
    torch.nn.init.normal_(model.output.weight)
    with torch.no_grad():
        features, _ = model.features(torch.tensor([[0, 5]]), model.initial_state(1))
        every = model.output(features).softmax(-1)[0, -1]
    found = said(model, [5])[-1].exp()
    assert float(found[0]) == pytest.approx(float(every[0] + every[300:].sum()), rel=1e-4)
    torch.testing.assert_close(found[1:], every[1:300])
