"""Downloads: `/NAMESPACE/NAME/resolve/REVISION/PATH`, and `/raw/`, which shows the pointer of a large file.

Large files are answered in place where the Hub redirects to its storage; the clients take both, and read the hash of
the content from `X-Linked-Etag`.
"""

from __future__ import annotations

import mimetypes
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from bonsai.hub.errors import EntryNotFoundError
from bonsai.hub.ranges import Body, send
from bonsai.hub.visit import Visit, visit_of


async def resolve(request: Request) -> Response:
    """A file as its author knows it."""
    visit = visit_of(request)
    body, headers = await run_in_threadpool(_look_up, visit, follow_pointer=True)
    return send(request, body, headers)


async def raw(request: Request) -> Response:
    """A file as git keeps it."""
    visit = visit_of(request)
    body, headers = await run_in_threadpool(_look_up, visit, follow_pointer=False)
    return send(request, body, headers)


def _look_up(visit: Visit, *, follow_pointer: bool) -> tuple[Body, dict[str, str]]:
    with visit.reading() as repository:
        commit = repository.commit(visit.revision)
        commit_id = commit.id.decode()
        node = repository.node(commit, visit.path)
        if node.is_folder:
            raise EntryNotFoundError(f"{visit.path!r} is a folder, not a file", commit=commit_id)
        facts = repository.facts(node)
        headers = {
            "X-Repo-Commit": commit_id,
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(node.path.rpartition('/')[2])}",
            "Access-Control-Expose-Headers": "X-Repo-Commit, X-Linked-Size, X-Linked-Etag, ETag, Content-Range",
            "Content-Type": "text/plain; charset=utf-8",
        }
        if not (facts.pointer and follow_pointer):
            return Body(size=facts.stored, source=repository.content(node)), {**headers, "ETag": f'"{node.oid}"'}
        if repository.lfs.size(facts.pointer.oid) is None:
            raise EntryNotFoundError(f"the LFS object of {node.path!r} is not here", commit=commit_id)
        return Body(size=facts.pointer.size, source=repository.lfs.path(facts.pointer.oid)), {
            **headers,
            "Content-Type": mimetypes.guess_type(node.path)[0] or "application/octet-stream",
            "ETag": f'"{facts.pointer.oid}"',
            "X-Linked-Etag": f'"{facts.pointer.oid}"',
            "X-Linked-Size": str(facts.pointer.size),
        }
