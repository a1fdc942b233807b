"""Where reports and errors end up, and when progress is shown."""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.report_samples import validated
from tidoctor.errors import Refused, Unreadable, Unwritable, Usage
from tidoctor.report import Format, page
from tidoctor.report.delivery import Delivery, Told
from tidoctor.report.output import Output
from tidoctor.report.progress import PATIENCE, Progress
from tidoctor.report.style import Style


def delivery(format_: Format, target: Path | None = None, *, quiet: bool = False) -> Delivery:
    return Delivery(page(format_, Style()), Output(target), quiet=quiet)


def examine(source: str) -> Told:
    raised = {"gone": Unreadable("gone", "is not there", "look"), "no": Refused("no", "will not"),
              "usage": Usage("--as", "odd"), "bug": ZeroDivisionError("oops")}  # fmt: skip
    if source in raised:
        raise raised[source]
    return f"<{source}>\n", {"ill": 1}.get(source, 0)


@pytest.mark.parametrize(
    ("sources", "code", "out"),
    [
        (["a"], 0, "<a>\n"),
        (["a", "ill"], 1, "<a>\n\n<ill>\n"),
        (["gone", "a", "ill"], 3, "<a>\n\n<ill>\n"),
        (["no", "a"], 1, "<a>\n"),
        (["bug", "a"], 3, "<a>\n"),
        (["usage", "a"], 2, ""),
    ],
)
def test_an_error_concerns_its_source_only(
    capsys: pytest.CaptureFixture[str], sources: list[str], code: int, out: str
) -> None:
    assert delivery(Format.TEXT).each(sources, examine) == code
    captured = capsys.readouterr()
    assert captured.out == out
    assert len(captured.err.splitlines()) == sum(
        s in ("gone", "no", "bug", "usage") for s in sources
    )
    assert "Traceback" not in captured.err


def test_json_errors_are_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert delivery(Format.JSON).each(["gone", "bug", "no"], examine) == 3
    captured = capsys.readouterr()
    told = [validated(line) for line in captured.out.splitlines()]
    assert [t["exit_code"] for t in told] == [3, 3, 1]
    assert [t["source"]["name"] for t in told] == ["gone", "bug", "no"]
    assert captured.err == ""


def test_quiet_leaves_out_hints(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet, told in ((True, "error: gone: is not there\n"),
                        (False, "error: gone: is not there; look\n")):  # fmt: skip
        delivery(Format.TEXT, quiet=quiet).each(["gone"], examine)
        assert capsys.readouterr().err == told


def test_the_traceback_is_shown_for_debugging_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDOCTOR_DEBUG", "1")
    delivery(Format.TEXT).each(["bug"], examine)
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_file_holds_the_whole_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.txt"
    target.write_text("old and longer than what is new, by far and without any doubt" * 9)
    assert delivery(Format.TEXT, target).each(["a", "gone"], examine) == 3
    assert target.read_text() == "<a>\n\nerror: gone: is not there; look\n"
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: gone: is not there; look\n")
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    real = tmp_path / "real.txt"
    real.write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(real)
    delivery(Format.TEXT, link).each(["a"], examine)
    assert link.is_symlink() and real.read_text() == "<a>\n"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        delivery(Format.TEXT, pipe).each(["a"], examine)
        assert os.read(reader, 100) == b"<a>\n"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_interruption_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "report.txt"
    target.write_text("old")

    def interrupted(source: str) -> Told:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        delivery(Format.TEXT, target).each(["a"], interrupted)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["no/such/folder.txt", ".", "folder", "n" * 300])
def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unwritable):
        Output(tmp_path / name)


def test_a_link_in_a_circle_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Unwritable, match="Too many levels of symbolic links"), Output(tmp_path / "loop") as out:
        out.write("text")


def test_a_failure_at_the_end_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "report.txt"

    def meanwhile(source: str) -> Told:
        target.mkdir()
        (target / "in the way").touch()
        return "x", 0

    with pytest.raises(Unwritable, match="cannot be written"):
        delivery(Format.TEXT, target).each(["a"], meanwhile)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "model.safetensors.index.json"]
)
def test_a_report_never_replaces_a_part_of_a_checkpoint(tmp_path: Path, name: str) -> None:
    with pytest.raises(Usage, match="part of a checkpoint"):
        Output(tmp_path / name)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, after: float, quiet: bool) -> str:
    clock = [100.0]
    monkeypatch.setattr("tidoctor.report.progress.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "60")
    with Progress(quiet=quiet) as progress:
        clock[0] += after
        progress("copy\x1b[31m", 500, 2000)
        progress("too soon after the last", 501, 2000)
    return stream.getvalue()


def test_progress_is_shown_when_work_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal(), PATIENCE + 0.01, quiet=False)
    assert text == "\r\x1b[K 25 %  500 bytes of 2.0 kB  copy\\x1b[31m\r\x1b[K"


@pytest.mark.parametrize(
    ("stream", "after", "quiet"),
    [(Terminal(), PATIENCE / 2, False), (io.StringIO(), 9.0, False), (Terminal(), 9.0, True)],
)
def test_progress_is_silent_otherwise(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, after: float, quiet: bool
) -> None:
    assert shown(monkeypatch, stream, after, quiet) == ""


def test_progress_may_count_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = [100.0], Terminal()
    monkeypatch.setattr("tidoctor.report.progress.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "60")
    with Progress(unit="checkpoints") as progress:
        clock[0] += PATIENCE + 1
        progress("models/a", 250, 1000)
    assert stream.getvalue() == "\r\x1b[K 25 %  250 of 1000 checkpoints  models/a\r\x1b[K"
