"""Names of files in messages: what is to be typed is one word for a shell, and what is shown can be read."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Charlm
from hypothesis import given
from hypothesis import strategies as st

import charlm as package
from charlm import names
from charlm.cli import COMMANDS
from charlm.names import shell_quoted

ODD = ("plain", "a b", "it's", "$HOME; ls", "-dash", "line\nend", "tab\t", "\xa0", "é", "\udce91", "~", "a\\b!'\n")
BASH = shutil.which("bash")
any_name = st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)


def typed(words: list[str]) -> list[bytes]:
    """The arguments that bash makes of words."""
    assert BASH is not None
    command = os.fsencode(f"printf '%s\\0' {' '.join(words)}")
    return subprocess.run([BASH, "-c", command], capture_output=True, check=True).stdout.split(b"\0")[:-1]


@pytest.mark.skipif(BASH is None, reason="no bash to ask")
@given(words=st.lists(any_name | st.sampled_from(ODD), min_size=1, max_size=20))
def test_a_shell_reads_the_very_name(words: list[str]) -> None:
    expected = [os.fsencode(f"./{word}" if word.startswith("-") else word) for word in words]
    assert typed([shell_quoted(word) for word in words]) == expected


@given(any_name | st.sampled_from(ODD))
def test_what_is_to_be_typed_can_be_seen(name: str) -> None:
    assert shell_quoted(name).isprintable()
    assert not shell_quoted(Path(name)).startswith("-")


def test_plain_names_stay_and_windows_has_its_own_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell_quoted(Path("checkpoints/corpus-lstm_2.0")) == "checkpoints/corpus-lstm_2.0"
    monkeypatch.setattr(names.sys, "platform", "win32")
    assert shell_quoted("two words") == '"two words"'


PATHS = "resume|from|output|text|held-out|prompt-file"
COMMAND = re.compile(rf"(charlm ({'|'.join(COMMANDS)})( [\w-]+)*|--({PATHS})) $")
"""What stands before a name in a command that is to be typed."""

CODE = re.compile(rf"(`|`\w+\(([A-Z]+, )?)(start|{PATHS.replace('-', '_')})=$")
"""What stands before a name in a setting that a message has as code."""

KNOWN = {"source", "architecture"}  # keys of CLASSICS and ARCHITECTURES


def test_every_command_in_a_message_quotes_its_names() -> None:
    found, bare = 0, []
    for file in Path(package.__file__).parent.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        quoted = KNOWN | quoted_names(tree)
        for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
            for before, value in zip(text.values, text.values[1:], strict=False):
                if isinstance(before, ast.Constant) and any(p.search(str(before.value)) for p in (COMMAND, CODE)):
                    assert isinstance(value, ast.FormattedValue)
                    code, found = ast.unparse(value.value), found + 1
                    if "_quoted" not in code and code not in quoted:
                        bare.append(f"{file.name}:{value.lineno}: {code}")
    assert found > 8
    assert not bare, "quote these by charlm.names.shell_quoted or code_quoted"


def quoted_names(tree: ast.AST) -> set[str]:
    """The variables of a module that only ever hold a quoted name."""
    assigned: dict[str, set[bool]] = {}
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Assign)):
        pair = (node.targets[0], node.value)
        both = all(isinstance(side, ast.Tuple) for side in pair)
        for target, value in zip(*(side.elts for side in pair), strict=True) if both else [pair]:
            if isinstance(target, ast.Name):
                assigned.setdefault(target.id, set()).add("_quoted" in ast.unparse(value))
    return {name for name, quoted in assigned.items() if quoted == {True}}


@pytest.mark.skipif(BASH is None, reason="no bash to ask")
@pytest.mark.parametrize("name", ["two words", "it's", "-dash", "line\nend"])
def test_the_advice_after_training_can_be_pasted(name: str, folder: Path, charlm: Charlm) -> None:
    outcome = charlm("train", "corpus.txt", "--arch", "ngram", "--order", "2", "-o", f"./{name}")
    assert outcome.code == 0, outcome.err
    (line,) = (line for line in outcome.err.splitlines() if "charlm evaluate" in line)
    command, *arguments = (os.fsdecode(word) for word in typed([line.strip()]))
    assert command == "charlm"
    assert charlm(*arguments).code == 0


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_a_name_that_is_not_utf_8_is_shown_byte_by_byte(folder: Path) -> None:
    called = [sys.executable, "-m", "charlm"]
    shown = subprocess.run([*called, "train", b"caf\xe91.txt"], capture_output=True, cwd=folder)
    assert shown.stderr.startswith(b"error: caf\\xe91.txt: no such file")
