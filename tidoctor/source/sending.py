"""Files sent to the Hub: one commit, or a pull request that is found again rather than doubled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tidoctor.errors import Refused, Unreadable, Unwritable
from tidoctor.names import printable
from tidoctor.source.refusals import refusal

_TIMEOUT = 30.0  # seconds


class Commit(NamedTuple):
    """What one commit does to a repository, and on which commit it rests; None for the newest."""

    repo: str
    parent: str | None
    add: Sequence[tuple[str, Path]]  # the path in the repository, the file here
    delete: Sequence[str]
    title: str
    text: str


def send(commit: Commit, *, pull_request: bool) -> str:
    """Send it; the address of the commit or of the pull request.

    An open pull request of the same title by the same user gets the commit. Raises Refused when
    the repository is no longer at `parent`, Unwritable when it cannot be written to.
    """
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import HfHubHTTPError

    where = printable(commit.repo)
    if is_offline_mode():
        raise Unwritable(where, "nothing is sent because HF_HUB_OFFLINE is set", "unset it")
    api = HfApi(library_name="tidoctor")
    try:
        if not pull_request:
            if commit.parent is None:
                api.create_repo(commit.repo, exist_ok=True)
            return _committed(api, commit, None, False)
        number = _found_again(api, commit)
        if number is None:
            return _committed(api, commit, None, True)
        reference = f"refs/pr/{number}"
        listed = api.model_info(commit.repo, revision=reference, timeout=_TIMEOUT).siblings or ()
        there = {s.rfilename for s in listed}
        again = commit._replace(parent=None, delete=[n for n in commit.delete if n in there])
        _committed(api, again, reference, False)
        return f"{api.endpoint}/{commit.repo}/discussions/{number}"
    except HfHubHTTPError as e:
        status = e.response.status_code if e.response is not None else 0
        if status == 412:
            raise Refused(
                where, "has changed since it was examined", "run the same command again"
            ) from e
        raise _unsent(e, commit.repo) from e
    except (OSError, ValueError) as e:
        raise _unsent(e, commit.repo) from e


def _committed(api: Any, commit: Commit, revision: str | None, pull_request: bool) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path))
        for name, path in commit.add
    ]
    operations += [CommitOperationDelete(path_in_repo=name) for name in commit.delete]
    done = api.create_commit(
        commit.repo, operations, commit_message=commit.title, commit_description=commit.text,
        parent_commit=commit.parent, revision=revision, create_pr=pull_request,
    )  # fmt: skip
    return str(done.pr_url or done.commit_url)


def _found_again(api: Any, commit: Commit) -> int | None:
    """The number of the open pull request that an earlier run opened."""
    me = api.whoami()["name"]
    mine = (
        d.num
        for d in api.get_repo_discussions(
            commit.repo, discussion_type="pull_request", discussion_status="open"
        )
        if d.is_pull_request and d.title == commit.title and d.author == me
    )
    return next(mine, None)


def _unsent(error: Exception, repo: str) -> Unwritable:
    from huggingface_hub.errors import LocalTokenNotFoundError

    if isinstance(error, LocalTokenNotFoundError):
        return Unwritable(printable(repo), "needs a token with write access", "set HF_TOKEN")
    told: Unreadable = refusal(error, repo, None, repo)
    return Unwritable(told.where, told.what, told.hint)
