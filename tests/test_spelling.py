"""Messages of the library in the words of the command line, and what Python users read of them."""

import ast
import importlib
import pickle
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlm as package
from charlm.cli import COMMANDS, sample, train
from charlm.cli.spelling import spelled
from charlm.decoding import Sampling
from charlm.errors import UsageError
from charlm.names import code_quoted


def test_an_error_has_the_name_of_the_setting_as_python_has_it() -> None:
    with pytest.raises(UsageError) as refusal:
        Sampling(top_k=-3)
    assert (refusal.value.setting, refusal.value.problem) == ("top_k", "must be at least 0, not -3")
    assert str(refusal.value) == "`top_k` must be at least 0, not -3"
    assert spelled(str(refusal.value), sample.command) == "--top-k must be at least 0, not -3"
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)
    assert str(UsageError("these texts differ")) == "these texts differ"


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("leave `width` out", "leave --width out"),
        ("try `weight_decay=0.1` or `join=False`", "try --weight-decay 0.1 or --no-join"),
        ("read it with `errors='skip'`", "read it with --errors skip"),  # whatever click calls that parameter
        ("`start='a b'` trains on", "--from 'a b' trains on"),
        ("`corpus` is missing", "CORPUS is missing"),
        ("`evaluate(RUN, text=FILE)`", "charlm evaluate RUN --text FILE"),
        ("`train(TEXT, architecture='ngram')`", "charlm train TEXT --arch ngram"),
        ("`train([TEXT, TEXT], start='run')`", "charlm train TEXT TEXT --from run"),
        ("`top_k` and `top_k=3`", "`top_k` and `top_k=3`"),  # which `charlm train` has not
        ("`charlm data list` and `wide` and `x(1)`", "`charlm data list` and `wide` and `x(1)`"),
        ("a file named `weight_decay=(((` and `train(`", "a file named `weight_decay=(((` and `train(`"),
        ("`weight_decay=open('x')`", "`weight_decay=open('x')`"),
    ],
)
def test_settings_become_options_of_the_command(message: str, typed: str) -> None:
    assert spelled(message, train.command) == typed


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1))
def test_any_name_comes_through(name: str) -> None:
    words = shlex.split(spelled(f"`train(resume={code_quoted(name)})`"))
    assert words == ["charlm", "train", "--resume", f"./{name}" if name.startswith("-") and name != "-" else name]


def test_only_the_command_line_spells_options() -> None:
    root = Path(package.__file__).parent
    options = {option for name in COMMANDS for option in long_options(name)}
    found = []
    for file in root.rglob("*.py"):
        if file.relative_to(root).parts[0] == "cli":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                spelt = options & set(re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![\w=-])", node.value))
                found += [f"{file.relative_to(root)}:{node.lineno}: {option}" for option in spelt]
    assert not found, "name the setting as Python does: see charlm.errors"


def long_options(name: str) -> set[str]:
    command = importlib.import_module(f"charlm.cli.{name}").command
    commands = [command, *getattr(command, "commands", {}).values()]
    return {option for one in commands for p in one.params for option in p.opts if option.startswith("--")}
