"""How bytes get into a result: linked, cloned or copied, and what that takes."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tidoctor
from tests import checkpoints
from tests.test_writer import EMBEDDING, HEAD, UNTIE, planned, state, tensors
from tidoctor import assembly, writer
from tidoctor.errors import Unreadable, Unwritable
from tidoctor.form import Form
from tidoctor.ground import BLOCK, cached
from tidoctor.source.folder import Folder
from tidoctor.tensors import Span

WIDE = {
    EMBEDDING: [4096, 256],  # 2 MiB: whole blocks
    "model.layers.0.mlp.up_proj.weight": [3001, 100],
    "model.norm.weight": [100],
}


class Reflinks:
    """A file system that shares extents, at the seam of the system calls.

    The rules are those of `ioctl_ficlonerange(2)`: whole blocks, or up to the end of the origin.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.cloned = 0
        patch.setattr(fcntl, "ioctl", self)

    def __call__(self, target: int, number: int, request: int | bytes) -> int:
        if number == 0x40049409 and isinstance(request, int):  # FICLONE
            origin, begin, size, at = request, 0, os.fstat(request).st_size, 0
        else:
            assert number == 0x4020940D and isinstance(request, bytes)
            origin, begin, size, at = struct.unpack("qQQQ", request)
        end = os.fstat(origin).st_size
        ends_there = begin + size == end
        if begin % BLOCK or at % BLOCK or (size % BLOCK and not ends_there) or begin + size > end:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        os.pwrite(target, os.pread(origin, size, begin), at)
        self.cloned += size
        return 0


@pytest.fixture
def reflinks(monkeypatch: pytest.MonkeyPatch) -> Reflinks:
    return Reflinks(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    config = checkpoints.LLAMA | {"tie_word_embeddings": True}
    return checkpoints.write(tmp_path / "source", WIDE, config, files={"tokenizer.json": "{}"})


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    config = checkpoints.LLAMA | {"tie_word_embeddings": True}
    return checkpoints.write(tmp_path / "source", WIDE, config, shards=2)


def same_file(a: Path, b: Path) -> bool:
    return a.stat().st_ino == b.stat().st_ino


# --- clones ------------------------------------------------------------------------------------


def test_untouched_files_are_cloned_whole(
    sharded: Path, tmp_path: Path, reflinks: Reflinks
) -> None:
    result = planned(sharded, UNTIE)
    cost = writer.cost(result, tmp_path / "out")
    receipt = writer.write(result, tmp_path / "out")
    assert receipt.cost == cost
    assert tensors(tmp_path / "out") == tensors(sharded) | {HEAD: tensors(sharded)[EMBEDDING]}
    # The head starts in its shard where the embedding starts in its own, modulo a block.
    assert cost.copied < 2 * BLOCK
    assert cost.written < 2 * BLOCK


def test_a_changed_header_leaves_the_data_where_they_can_be_cloned(
    source: Path, tmp_path: Path, reflinks: Reflinks
) -> None:
    before = tensors(source)
    renames = [{"op": "rename", "from": n, "to": f"a.much.longer.prefix.{n}"} for n in before]
    result = planned(source, *renames)
    cost = writer.cost(result, tmp_path / "out")
    assert writer.write(result, tmp_path / "out").cost == cost
    assert tensors(tmp_path / "out") == {f"a.much.longer.prefix.{n}": row for n, row in before.items()}
    assert cost.cloned > 2_500_000 and cost.copied < 2 * BLOCK and cost.written < 2 * BLOCK
    raw = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert int.from_bytes(raw[:8], "little") % 8 == 0


def test_a_result_that_is_cloned_is_sampled(
    source: Path, tmp_path: Path, reflinks: Reflinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.ioctl

    def wrong(target: int, number: int, request: int | bytes) -> int:
        if isinstance(request, bytes):
            origin, begin, size, at = struct.unpack("qQQQ", request)
            request = struct.pack("qQQQ", origin, begin + BLOCK if begin else 0, size - BLOCK, at)
        return real(target, number, request)

    monkeypatch.setattr(fcntl, "ioctl", wrong)
    rename = {"op": "rename", "from": "model.norm.weight", "to": "a"}
    with pytest.raises(Unwritable, match="other bytes"):
        writer.write(planned(source, rename), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_clones_need_no_room(
    source: Path, tmp_path: Path, reflinks: Reflinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 20_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    rename = {"op": "rename", "from": "model.norm.weight", "to": "a"}
    receipt = writer.write(planned(source, rename), tmp_path / "a")
    assert receipt.cost.cloned > 2_000_000
    with pytest.raises(Unwritable, match=r"no space left on .* MB needed, 20\.0 kB free"):
        writer.write(planned(source, rename), tmp_path / "b", Form(link="never"))


def test_a_clone_that_is_refused_after_all_becomes_a_copy(
    source: Path, tmp_path: Path, reflinks: Reflinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = {"op": "rename", "from": "model.norm.weight", "to": "a"}
    result = planned(source, rename)
    foreseen = writer.cost(result, tmp_path / "out")
    calls = []

    def fickle(target: int, number: int, request: int | bytes) -> int:
        calls.append(number)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return reflinks(target, number, request)

    monkeypatch.setattr(fcntl, "ioctl", fickle)
    receipt = writer.write(result, tmp_path / "out")
    assert receipt.cost.cloned == 0 and receipt.cost.total == foreseen.total
    assert tensors(tmp_path / "out")["a"] == tensors(source)["model.norm.weight"]


def test_never_asks_the_kernel_for_nothing(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> int:
        raise AssertionError("no extents are to be shared")

    monkeypatch.setattr(fcntl, "ioctl", asked)
    receipt = writer.write(planned(sharded, UNTIE), tmp_path / "out", Form(link="never"))
    assert receipt.cost.cloned == receipt.cost.linked == 0
    assert tensors(tmp_path / "out") == tensors(sharded) | {HEAD: tensors(sharded)[EMBEDDING]}


@settings(deadline=None, max_examples=200)
@given(
    begin=st.integers(0, 5 * BLOCK), size=st.integers(0, 9 * BLOCK), at=st.integers(0, 3 * BLOCK),
    block=st.sampled_from([BLOCK, 16 * BLOCK]),
)
def test_pieces_of_a_span_are_the_span(begin: int, size: int, at: int, block: int) -> None:
    span = Span(Folder(Path(), name="x", kind="folder"), "x", begin, begin + size)
    pieces = list(assembly._split(span, at, block))
    assert [p.span.begin for p in pieces] == [begin, *(p.span.end for p in pieces[:-1])]
    assert pieces[-1].span.end == begin + size
    for piece in pieces:
        if piece.how == "clone":
            there = at + piece.span.begin - begin
            assert piece.size and not (piece.span.begin % block or there % block or piece.size % block)


# --- links -------------------------------------------------------------------------------------


def test_links_are_made_of_weights_and_of_large_files_only(sharded: Path, tmp_path: Path) -> None:
    (sharded / "tokenizer.json").write_bytes(b" " * assembly.LINKED)
    before = state(sharded)
    result = planned(sharded, UNTIE)
    cost = writer.cost(result, tmp_path / "out", Form(link="hard"))
    receipt = writer.write(result, tmp_path / "out", Form(link="hard"))
    assert receipt.cost == cost
    out = tmp_path / "out"
    for i in (1, 2):
        old, new = (f"model-{i:05d}-of-{n:05d}.safetensors" for n in (2, 3))
        assert same_file(sharded / old, out / new)
    assert same_file(sharded / "tokenizer.json", out / "tokenizer.json")
    assert not same_file(sharded / "config.json", out / "config.json")
    assert tensors(out) == tensors(sharded) | {HEAD: tensors(sharded)[EMBEDDING]}
    head = 4096 * 256 * 2
    assert cost.room < head + 20_000 and cost.linked > 2_500_000
    assert state(sharded) == before


def test_a_link_is_made_of_what_a_link_leads_to(sharded: Path, tmp_path: Path) -> None:
    first = sharded / "model-00001-of-00002.safetensors"
    (sharded / "store").mkdir()
    first.rename(sharded / "store" / "x")
    first.symlink_to("store/x")
    writer.write(planned(sharded, UNTIE), tmp_path / "out", Form(link="hard"))
    linked = tmp_path / "out" / "model-00001-of-00003.safetensors"
    assert not linked.is_symlink() and same_file(linked, sharded / "store" / "x")


@pytest.mark.parametrize("links", [True, False])
def test_no_link_is_made_of_what_a_hub_cache_owns(
    sharded: Path, tmp_path: Path, links: bool
) -> None:
    home = tmp_path / "models--a--b"
    snapshot = home / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for i, path in enumerate(sorted(sharded.iterdir())):
        if links:
            path.rename(home / "blobs" / str(i))
            (snapshot / path.name).symlink_to(f"../../blobs/{i}")
        else:
            path.rename(snapshot / path.name)
    receipt = writer.write(planned(snapshot, UNTIE), tmp_path / "out", Form(link="hard"))
    assert receipt.cost.linked == 0
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("path", "owned"),
    [
        ("/c/models--a--b/blobs/12", True),
        ("/c/datasets--a--b/snapshots/1/x.safetensors", True),
        ("/c/models--a--b/refs/main", False),
        ("/c/blobs/12", False),
        ("/c/my-models/snapshots/1/x", False),
    ],
)
def test_paths_of_a_hub_cache(path: str, owned: bool) -> None:
    assert cached(Path(path)) is owned


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EACCES])
def test_where_links_cannot_be_made(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    receipt = writer.write(planned(sharded, UNTIE), tmp_path / "out", Form(link="hard"))
    assert receipt.cost.linked == 0 and receipt.cost.copied > 4_000_000
    assert tensors(tmp_path / "out") == tensors(sharded) | {HEAD: tensors(sharded)[EMBEDDING]}


def test_a_file_that_is_replaced_while_it_is_linked(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def late(origin: Path, target: Path, **options: object) -> None:
        copy = Path(origin).with_suffix(".new")
        copy.write_bytes(Path(origin).read_bytes())
        copy.rename(origin)
        real(origin, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(Unreadable, match="changed"):
        writer.write(planned(sharded, UNTIE), tmp_path / "out", Form(link="hard"))
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


# --- what is told ------------------------------------------------------------------------------


def told(folder: Path, form: Form, **options: object) -> Mapping[str, object]:
    import json

    from tidoctor.report import Format, page
    from tidoctor.report.style import Style

    done = tidoctor.untie(folder, folder.parent / "out", form=form, **options)  # type: ignore[arg-type]
    line = page(Format.JSON, Style()).treatment(done, done.cost, dry_run=True, exit_code=0)
    return json.loads(line)  # type: ignore[no-any-return]


def test_a_dry_run_tells_what_writing_then_takes(tmp_path: Path, reflinks: Reflinks) -> None:
    table = checkpoints.llama(head=False) | {EMBEDDING: [4096, 16]}
    config = checkpoints.LLAMA | {"tie_word_embeddings": True, "vocab_size": 4096}
    source = checkpoints.write(tmp_path / "source", table, config, shards=2)
    before = state(tmp_path)
    foreseen = told(source, Form(), dry_run=True)
    assert state(tmp_path) == before
    assert foreseen["cost"]["cloned"] > 100_000  # type: ignore[index]
    came = told(source, Form())
    assert came["written"]["cost"] == foreseen["cost"]  # type: ignore[index]
