"""No option is without effect: each is given where it cannot matter, and has to be an error.

`HEEDED` lists the options that always matter, so whoever adds one has to say where it does not.
"""

import shlex
import shutil
from pathlib import Path

import click
import pytest
from conftest import Charlm
from test_cli_runs import leaves

from charlm.cli import cli
from charlm.cli.compare import FOR_RUNS
from charlm.cli.text_options import DECODING, MOVED
from charlm.models import ARCHITECTURES
from charlm.tokenizers import TOKENIZERS
from charlm.training import TrainingConfig

COMMANDS = {" ".join(names): leaf for names, leaf in leaves(cli)}
TRAINING = set(TrainingConfig.names()) - {"budget"}
OF_ARCHITECTURES = {name for kind in ARCHITECTURES.values() for name in kind.Config.names()}
OF_TOKENIZERS = {name for kind in TOKENIZERS.values() for name in kind.Config.names()}
OF_MODELS = OF_ARCHITECTURES | OF_TOKENIZERS | {"arch", "size", "tokenizer", "preset"}
RESUMABLE = {"budget", "device", "quiet", "as_json", "resumed"}
EVERYWHERE = {"threads"}  # it matters to whatever computes
HEEDED = {
    "train": {"budget", "output", "force", "start", "resumed", "quiet", "as_json", "held_out"},
    "sample": {"prompt", "prompt_file", "length", "num_samples", "stop", "as_json", "device", "beams"},
    "evaluate": {"text", "adaptation", "proving", "device", "as_json"},
    "compare": FOR_RUNS,
    "report": {"output", "context", "seed", "device", "corpus_moved", "held_out_moved"},
    "mix": {"output", "force", "combine", "text", "as_json"},
    "score": {"adaptation", "device", "as_json"},
    "inspect gradients": {"text", "reach", "device", "as_json"},
    "inspect attention": {"text", "layer", "head", "device", "as_json"},
    "inspect embeddings": {"device", "as_json"},
    "inspect predict": {"text", "top", "device", "as_json"},
    "serve": {
        "host",
        "port",
        "api_key",
        "opened",
        "allow_origin",
        "max_waiting",
        "max_streams",
        "grace",
        "device",
    },
    "bench": {"arch", "seconds", "device", "as_json"},
    "info": {"as_json"},
    "export": {"kind", "output", "as_json"},
    "compress": {"run", "output", "embed", "streams", "backend", "adapt", "verify", "as_json"},
    "decompress": {"run", "output", "force", "as_json"},
    "import": {"output", "force", "space", "newline", "renormalize", "as_json"},
    "data list": {"as_json"},
    "data get": {"to"},
    "data clear": set(),
}


def parameters(command: str) -> dict[str, click.Option]:
    return {p.name or "": p for p in COMMANDS[command].params if isinstance(p, click.Option) and p.name != "help"}


def typed(option: click.Option) -> str:
    """The option with a value that it takes."""
    if option.is_flag:
        return option.opts[0]
    value = option.type.choices[0] if isinstance(option.type, click.Choice) else VALUES.get(option.name or "", "1")
    return f"{option.opts[0]} {value}"


VALUES = {
    "arch": "nosuch", "tokenizer": "bytes", "held_out": "corpus.txt", "budget": "3steps", "top_p": "0.5",
    "min_p": "0.5", "dropout": "0.5", "encoding": "latin-1", "output": "elsewhere", "stop": "x",
}  # fmt: skip

DRAWING = {"temperature", "top_k", "top_p", "min_p", "seed"}
OF_RECURRENT = {"width", "layers", "dropout", "tie", "activation"}
CASES: list[tuple[str, str, set[str]]] = [  # a command, what is given, the parameters that cannot matter beside it
    ("train", "--resume begun", set(parameters("train")) - RESUMABLE - EVERYWHERE),
    ("train", "corpus.txt --from begun", OF_MODELS),
    ("train", "corpus.txt --arch ngram", TRAINING | {"size", "device", "preset"}),
    ("train", "builtin:python-reference", DECODING),
    ("train", "corpus.txt --arch transformer --attention dot", {"kv_heads"}),
    ("train", "corpus.txt --arch transformer --attention mean", {"kv_heads", "heads", "positions"}),
    *(
        ("train", f"corpus.txt --arch {name}", OF_ARCHITECTURES - set(kind.Config.names()))
        for name, kind in ARCHITECTURES.items()
    ),
    *(
        ("train", f"corpus.txt --tokenizer {name}", OF_TOKENIZERS - set(kind.Config.names()))
        for name, kind in TOKENIZERS.items()
    ),
    ("compare", "begun counted", set(parameters("compare")) - FOR_RUNS),
    ("compare", "corpus.txt --arch ngram", TRAINING - {"seed"} | {"size", "seeds"}),
    ("compare", "corpus.txt --arch rnn,gru", OF_ARCHITECTURES - {"adapt"} - OF_RECURRENT),
    ("compare", "builtin:python-reference", DECODING),
    ("compare", "corpus.txt", {"corpus_moved"}),
    ("sample", "begun", {"length_penalty"}),
    ("sample", "begun --beams 2", DRAWING | {"greedy", "stream", "length_penalty"}),
    ("sample", "begun --greedy", DRAWING),
    ("sample", "begun --temperature 0", DRAWING - {"temperature"}),
    ("sample", "begun --json", {"stream"}),
    ("sample", "begun -n 2", {"stream"}),
    ("evaluate", "begun", DECODING),
    ("evaluate", "begun --text corpus.txt", MOVED),
    ("evaluate", "begun --prove", {"context", "adapt_rate"}),
    ("evaluate", "begun", {"adapt_rate"}),
    ("compare", "begun counted --prove", {"context"}),
    ("compare", "begun counted --adapt all", {"context"}),
    ("compress", "corpus.txt -o -", {"force"}),
    ("compress", "corpus.txt --run counted --backend integer", {"threads"}),
    ("mix", "begun counted", DECODING),
    ("mix", "begun counted --text corpus.txt", {"corpus_moved"}),
    ("score", "begun abc", DECODING),
    ("inspect gradients", "begun --text abc", MOVED),
    ("inspect attention", "begun --text abc", MOVED),
    ("export", "counted -o -", {"force"}),
    ("import", "checkpoints", {"space", "newline", "renormalize"}),
    ("bench", "--arch ngram", {"size"}),
    ("info", "begun", {"show_devices"}),
    ("info", "--device", {"show_formats"}),
]  # fmt: skip

ELSEWHERE = {("score", "top"), ("compare", "match")}  # tested below


@pytest.fixture(autouse=True)
def within(begun_and_counted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun_and_counted)


@pytest.mark.parametrize(("command", "arguments", "names"), CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_an_option_that_cannot_matter_is_an_error(
    command: str, arguments: str, names: set[str], begun_and_counted: Path, charlm: Charlm
) -> None:
    before = sorted(begun_and_counted.rglob("*"))
    accepted = {}
    for name in sorted(names):
        option = parameters(command)[name]
        outcome = charlm(*command.split(), *shlex.split(f"{arguments} {typed(option)}"))
        if outcome.code != 2 or option.opts[0] not in outcome.err:
            accepted[name] = outcome
    assert not accepted
    assert sorted(begun_and_counted.rglob("*")) == before


def test_every_option_is_given_where_it_cannot_matter_or_always_matters() -> None:
    tried = {(command, name) for command, _, names in CASES for name in names} | ELSEWHERE
    for command in COMMANDS:
        missing = {name for name in parameters(command) if (command, name) not in tried} - HEEDED[command] - EVERYWHERE
        assert not missing, f"{command}: say in CASES where these have no effect, or in HEEDED that they always have"


def test_parameters_of_one_network_are_equal_anyway(charlm: Charlm) -> None:
    for names in "lstm", "lstm,ngram":
        outcome = charlm("compare", "corpus.txt", "--arch", names, "--match", "parameters")
        assert (outcome.code, "--match makes networks equally large" in outcome.err) == (2, True)


def test_coloured_text_shows_no_predictions(charlm: Charlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    outcome = charlm("score", "counted", "abc", "--top", "2")
    assert (outcome.code, "--top is for --json and for tables" in outcome.err) == (2, True)
    assert charlm("score", "counted", "abc", "--top", "2", "--json").code == 0


@pytest.mark.parametrize("command", ["train corpus.txt --arch ngram -q", "import counted.arpa"])
def test_force_without_a_folder_replaces_the_run_of_that_name(
    command: str, tmp_path: Path, begun_and_counted: Path, charlm: Charlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(begun_and_counted, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert charlm("export", "counted").code == 0
    for more in (), ("--force",), ("--force",):
        assert charlm(*command.split(), *more).code == 0
    names = {"begun", "counted", "corpus-ngram" if command.startswith("train") else "counted-2"}
    assert {path.name for path in Path("checkpoints").iterdir()} == names
