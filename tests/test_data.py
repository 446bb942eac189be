"""`charlm data`: downloads against a server on this machine that misbehaves in every way, and the two commands."""

import hashlib
import io
import json
import shlex
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Charlm

from charlm.cli.data import command
from charlm.corpus import CLASSICS, Classic, catalogue, fetch, open_corpus
from charlm.corpus.download import MAX_FAILURES, download
from charlm.errors import DataError

BODY = b"".join(b"line %d\n" % i for i in range(30_000))  # more than one block
TAG = '"first"'
BLOCK = 1 << 14  # what is written at a time


class Server:
    """Serves one file; its attributes say how badly."""

    def __init__(self) -> None:
        self.body, self.tag, self.modified = BODY, TAG, ""
        self.ranges, self.careless = True, False  # careless: sends ranges of whatever version it has
        self.status: list[int] = []  # answers to the next requests instead of the file
        self.cuts: list[int] = []  # after how many bytes of the body the next connections break
        self.shift = 0  # how far from the range asked for the answer begins
        self.requests: list[str] = []  # the Range asked for, or ""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range", "")
        self.requests.append(asked)
        if self.status:
            request.send_error(self.status.pop(0))
            return
        start = 0
        current = request.headers.get("If-Range") in (self.tag or None, self.modified or None)
        if asked and self.ranges and (current or self.careless):
            start = int(asked.removeprefix("bytes=").removesuffix("-")) - self.shift
            if start >= len(self.body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(self.body)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(self.body) - start))
        for name, value in {"ETag": self.tag, "Last-Modified": self.modified}.items():
            if value:
                request.send_header(name, value)
        request.end_headers()
        stop = start + self.cuts.pop(0) if self.cuts else len(self.body)
        request.wfile.write(self.body[start:stop])


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.http.shutdown()
    thread.join()
    served.http.server_close()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, no proxies, and nobody's own folders."""
    monkeypatch.setattr("charlm.corpus.download.PAUSE_SECONDS", 0)
    monkeypatch.setenv("NO_PROXY", "*")
    for variable in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "file.part"


def failure(action: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestDownload:
    def test_whole(self, server: Server, part: Path) -> None:
        told: list[tuple[int, int | None]] = []
        download(server.url, part, 10**6, lambda done, total: told.append((done, total)))
        assert part.read_bytes() == BODY
        assert told == sorted(told)
        assert told[-1] == (len(BODY), len(BODY))
        assert list(part.parent.glob("file.part*")) == [part]

    @pytest.mark.parametrize("tag", [TAG, 'W/"weak"', ""])
    def test_broken_connections_are_taken_up_where_they_broke(self, server: Server, part: Path, tag: str) -> None:
        server.tag, server.modified = tag, "Wed, 21 Oct 2015 07:28:00 GMT"
        server.cuts = [5 * BLOCK + 1, 6 * BLOCK - 1]
        download(server.url, part, 10**6)
        assert part.read_bytes() == BODY
        assert server.requests == ["", f"bytes={5 * BLOCK}-", f"bytes={10 * BLOCK}-"]

    def test_a_later_call_goes_on(self, server: Server, part: Path) -> None:
        server.cuts = [4 * BLOCK] + [0] * MAX_FAILURES
        message = failure(lambda: download(server.url, part, 10**6))
        assert message.endswith(f"{4 * BLOCK} bytes are kept, run it again to go on")
        server.requests.clear()
        server.cuts.clear()
        download(server.url, part, 10**6)
        assert part.read_bytes() == BODY
        assert server.requests == [f"bytes={4 * BLOCK}-"]

    def test_a_file_that_changed_meanwhile_is_fetched_anew(self, server: Server, part: Path) -> None:
        server.cuts = [4 * BLOCK] + [0] * MAX_FAILURES
        failure(lambda: download(server.url, part, 10**6))
        server.cuts, server.body, server.tag = [], BODY[::-1], '"second"'
        download(server.url, part, 10**6)
        assert part.read_bytes() == BODY[::-1]

    @pytest.mark.parametrize("harm", ["no ranges", "no validator", "shorter", "other range", "other version"])
    def test_a_server_that_cannot_resume(self, server: Server, part: Path, harm: str) -> None:
        if harm == "no validator":
            server.tag = ""
        server.cuts = [12 * BLOCK] + [0] * MAX_FAILURES
        failure(lambda: download(server.url, part, 10**6))
        server.cuts = []
        server.ranges = harm != "no ranges"
        server.shift = 5 if harm == "other range" else 0
        if harm == "other version":
            server.careless, server.tag, server.body = True, '"second"', BODY[::-1]
        if harm == "shorter":
            server.body = BODY[:1000]
        download(server.url, part, 10**6)
        assert part.read_bytes() == server.body

    def test_a_body_that_always_ends_early(self, server: Server, part: Path) -> None:
        server.ranges, server.cuts = False, [BLOCK] * MAX_FAILURES
        assert f"{BLOCK} bytes are kept" in failure(lambda: download(server.url, part, 10**6))
        assert len(server.requests) == MAX_FAILURES

    def test_a_busy_server_is_asked_again(self, server: Server, part: Path) -> None:
        server.status = [503, 429, 500]
        download(server.url, part, 10**6)
        assert part.read_bytes() == BODY
        server.status = [503] * MAX_FAILURES
        assert "answered 503 Service Unavailable" in failure(lambda: download(server.url, part, 10**6))

    def test_a_missing_file_is_not_asked_for_again(self, server: Server, part: Path) -> None:
        server.status = [404]
        assert failure(lambda: download(server.url, part, 10**6)) == f"{server.url}: the server answered 404 Not Found"
        assert len(server.requests) == 1

    def test_a_file_that_is_too_large_is_given_up(self, server: Server, part: Path) -> None:
        assert "larger than it can be" in failure(lambda: download(server.url, part, 100_000))
        assert not list(part.parent.glob("file.part*"))

    def test_refused_connection(self, server: Server, part: Path) -> None:
        with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as gone:
            url = f"http://127.0.0.1:{gone.server_port}/file"
        assert failure(lambda: download(url, part, 10**6)) == (
            f"{url}: no connection; are you offline? builtin:python-reference needs none"
        )


@pytest.fixture
def offer(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a corpus, `verse` unless named, into the catalogue: the size and SHA-256 of BODY, or what is given."""

    def add(
        sha256: str | None = hashlib.sha256(BODY).hexdigest(), member: str | None = None, name: str = "verse"
    ) -> None:
        classic = Classic("lines", server.url, len(BODY), "none", sha256=sha256, member=member)
        monkeypatch.setitem(CLASSICS, name, classic)

    return add


def zipped(body: bytes, name: str = "verse") -> bytes:
    with zipfile.ZipFile(target := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(name, body)
    return target.getvalue()


class TestFetch:
    def test_into_the_users_folder_and_then_by_name(self, offer: Callable[..., None], tmp_path: Path) -> None:
        offer()
        assert failure(lambda: open_corpus(["verse"])) == ("verse: not here yet; `charlm data get verse` downloads it")
        fetched = fetch("verse")
        assert (tmp_path / "home") in fetched.path.parents
        assert (fetched.pinned, fetched.was_there) == (False, False)
        text = open_corpus(["verse"])
        assert (text.name, text.sha256) == ("verse", fetched.sha256)
        assert list(fetched.path.parent.iterdir()) == [fetched.path]

    def test_into_data_where_there_is_one(self, offer: Callable[..., None], server: Server, tmp_path: Path) -> None:
        offer()
        (tmp_path / "data").mkdir()
        assert fetch("verse").path == Path("data/verse.txt")
        assert fetch("verse").was_there
        assert len(server.requests) == 1

    def test_wrong_hash_is_thrown_away(self, offer: Callable[..., None], tmp_path: Path) -> None:
        offer(sha256="0" * 64)
        assert "the download was thrown away: its SHA-256 is" in failure(lambda: fetch("verse", tmp_path / "to"))
        assert not list((tmp_path / "to").iterdir())

    def test_first_download_pins(self, offer: Callable[..., None], server: Server, tmp_path: Path) -> None:
        offer(sha256=None)
        fetched = fetch("verse", tmp_path)
        assert fetched.pinned
        assert json.loads((tmp_path / "sha256.json").read_text()) == {"verse": hashlib.sha256(BODY).hexdigest()}
        assert not fetch("verse", tmp_path).pinned
        fetched.path.unlink()
        server.body = BODY[1:]
        assert "thrown away" in failure(lambda: fetch("verse", tmp_path))

    def test_a_corpus_changed_in_its_place(self, offer: Callable[..., None], tmp_path: Path) -> None:
        offer()
        path = fetch("verse", tmp_path).path
        path.write_bytes(b"mine")
        assert "changed since it was downloaded" in failure(lambda: fetch("verse", tmp_path))
        assert path.read_bytes() == b"mine"

    def test_damaged_pins(self, offer: Callable[..., None], tmp_path: Path) -> None:
        offer(sha256=None)
        for damaged in ("", "[]", "{"):
            (tmp_path / "sha256.json").write_text(damaged)
            assert "sha256.json: damaged; delete it" in failure(lambda: fetch("verse", tmp_path))

    def test_zip(self, offer: Callable[..., None], server: Server, tmp_path: Path) -> None:
        offer(member="verse")
        server.body = zipped(BODY)
        assert fetch("verse", tmp_path).path.read_bytes() == BODY
        assert [path.name for path in tmp_path.glob("verse*")] == ["verse.txt"]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (zipped(BODY + b"x"), "has not the"),
            (zipped(BODY[:-1]), "has not the"),
            (zipped(bytes(2 * len(BODY))), "has not the"),  # a small bomb
            (zipped(BODY, "../verse"), "not the zip file that was expected"),
            (b"<html>sign in to this network</html>", "not the zip file that was expected"),
            (zipped(BODY)[:-30], "not the zip file that was expected"),
            (zipped(BODY)[:200] + b"\xff" * 100 + zipped(BODY)[300:], "not the zip file that was expected"),
        ],
    )
    def test_strange_zip(
        self, offer: Callable[..., None], server: Server, tmp_path: Path, body: bytes, message: str
    ) -> None:
        offer(member="verse")
        server.body = body
        assert message in failure(lambda: fetch("verse", tmp_path))
        assert not list(tmp_path.glob("verse*"))

    def test_unknown_name(self) -> None:
        assert "no such corpus to download; there are tinyshakespeare, names" in failure(lambda: fetch("nothing"))

    def test_folder_that_cannot_be(self, offer: Callable[..., None], tmp_path: Path) -> None:
        offer()
        (tmp_path / "file").touch()
        assert "choose another folder for it" in failure(lambda: fetch("verse", tmp_path / "file"))


class TestCommand:
    def test_list(self) -> None:
        result = CliRunner().invoke(command, ["list"])
        assert result.exit_code == 0
        assert result.stderr == ""
        assert all(entry.name in result.stdout for entry in catalogue())

    def test_list_as_json(self, offer: Callable[..., None]) -> None:
        offer(sha256=None)

        def entry() -> dict[str, object]:
            listed = json.loads(CliRunner().invoke(command, ["list", "--json"]).stdout)
            return next(item for item in listed if item["name"] == "verse")

        assert (entry()["here"], entry()["path"], entry()["sha256"]) == (False, None, None)
        fetched = fetch("verse")
        assert (entry()["here"], entry()["path"]) == (True, str(fetched.path))
        assert (entry()["sha256"], entry()["sha256_from"]) == (fetched.sha256, "download")

    def test_get(self, offer: Callable[..., None], tmp_path: Path) -> None:
        offer(sha256=None)
        result = CliRunner().invoke(command, ["get", "verse", "--to", str(tmp_path)])
        assert result.exit_code == 0
        assert result.stdout == f"{tmp_path / 'verse.txt'}\n"
        assert "pinned now" in result.stderr
        assert "already here" in CliRunner().invoke(command, ["get", "verse", "--to", str(tmp_path)]).stderr

    def test_the_session_in_the_readme_runs_as_written(self, offer: Callable[..., None], charlm: Charlm) -> None:
        readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
        session = readme.split("## A session")[1].split("```")[1]
        typed = [shlex.split(line[2:]) for line in session.splitlines() if line.startswith("$ charlm ")]
        commands = [words[1:] for words in typed if words[1] != "compare"]  # which has a corpus that needs no download
        assert [words[:2] for words in commands[:2]] == [["data", "get"], ["train", commands[0][2]]]
        assert {words[0] for words in commands} == {"data", "train", "evaluate", "sample"}
        name = commands[0][2]
        assert name in CLASSICS
        offer(name=name)
        for words in commands:
            more = ["--budget", "2steps", "--size", "tiny", "--quiet"] if words[0] == "train" else []
            assert charlm(*words, *more).code == 0

    def test_get_says_how_to_train_on_it(self, offer: Callable[..., None], tmp_path: Path) -> None:
        offer()
        assert "charlm train verse\n" in CliRunner().invoke(command, ["get", "verse"]).stderr
        elsewhere = CliRunner().invoke(command, ["get", "verse", "--to", str(tmp_path)]).stderr
        assert f"charlm train {tmp_path / 'verse.txt'}\n" in elsewhere

    def test_get_nothing(self) -> None:
        result = CliRunner().invoke(command, ["get", "nothing"])
        assert isinstance(result.exception, DataError)
        assert result.stdout == ""


def test_clear_says_what_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path))
    (tmp_path / f"{'0' * 64}.npy").write_bytes(bytes(1_500_000))
    assert CliRunner().invoke(command, ["clear"]).output == f"{tmp_path}: 1.5 MB removed\n"
    assert CliRunner().invoke(command, ["clear"]).output == f"{tmp_path}: 0.0 MB removed\n"
