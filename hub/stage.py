"""The files of a branch while a commit is prepared: operations change them, and the result is written as a git tree."""

from __future__ import annotations

from dulwich.index import commit_tree
from dulwich.objects import Blob, Commit, ObjectID, ShaFile

from bonsai.hub.card_check import check_card
from bonsai.hub.commit_request import AddFile, AddLargeFile, Copy, Delete, Operation
from bonsai.hub.errors import BadRequestError, EntryNotFoundError
from bonsai.hub.names import RepoKind
from bonsai.hub.objects import Pointer
from bonsai.hub.repository import Repository
from bonsai.hub.upload_mode import attribute_line, parse_attributes, tracks

FILE_MODE = 0o100644
_BATCH_BYTES, _BATCH_OBJECTS, _LOOSE_OBJECTS = 32_000_000, 2_000, 16


class Stage:
    """Starts as the files of the parent commit; `apply` changes them, `tree` writes them."""

    def __init__(self, repository: Repository, parent: Commit, kind: RepoKind) -> None:
        self._repository = repository
        self._parent = parent
        self._kind = kind
        self._large: list[str] = []
        self._batch: list[tuple[ShaFile, None]] = []
        self._batch_bytes = 0
        self._files = {
            entry.path.decode(errors="replace"): (entry.mode, entry.sha)
            for entry in repository.git.object_store.iter_tree_contents(parent.tree)
        }

    def apply(self, operation: Operation) -> None:
        """Carries out one operation; later ones see its result.

        Raises:
            BadRequestError: if the content cannot be taken.
            EntryNotFoundError: if there is nothing to delete or copy.
        """
        match operation:
            case AddFile(path=path, content=content):
                self._check_content(path, content)
                self._files[path] = (FILE_MODE, self._add(content))
            case AddLargeFile(path=path):
                self._files[path] = (FILE_MODE, self._add(self._pointer(operation).to_bytes()))
                self._large.append(path)
            case Copy(source=source, revision=revision, path=path):
                commit = self._repository.commit(revision) if revision else self._parent
                node = self._repository.node(commit, source)
                if node.is_folder:
                    raise BadRequestError(f"{source!r} is a folder; copy its files one by one")
                self._files[path] = (FILE_MODE, ObjectID(node.oid.encode()))
                if self._repository.facts(node).pointer:
                    self._large.append(path)
            case Delete(path=path, is_folder=is_folder):
                if not is_folder and path in self._files:
                    del self._files[path]
                    return
                inside = [name for name in self._files if name.startswith(f"{path}/")]
                if not inside:
                    what = "folder" if is_folder else "file"
                    raise EntryNotFoundError(f"A {what} with this name doesn't exist: {path}")
                for name in inside:
                    del self._files[name]

    def tree(self) -> ObjectID:
        """Writes what is staged and returns the id of its tree.

        Raises:
            BadRequestError: if a file stands where another one needs a folder.
        """
        self._track_large_files()
        self._flush()
        for path in self._files:
            folder = path
            while "/" in folder:
                folder = folder.rpartition("/")[0]
                if folder in self._files:
                    raise BadRequestError(f"{path!r} cannot be added: {folder!r} is a file")
        entries = [(path.encode(), oid, mode) for path, (mode, oid) in self._files.items()]
        return commit_tree(self._repository.git.object_store, entries)

    def _check_content(self, path: str, content: bytes) -> None:
        pointer = Pointer.from_bytes(content)
        if pointer:
            self._pointer(AddLargeFile(path=path, oid=pointer.oid, size=pointer.size))
        if path == "README.md" and (errors := check_card(content.decode(errors="replace"), self._kind).errors):
            raise BadRequestError("Invalid metadata in README.md: " + "; ".join(errors))

    def _pointer(self, operation: AddLargeFile) -> Pointer:
        size = self._repository.lfs.size(operation.oid)
        if size is None or operation.size not in (None, size):
            raise BadRequestError(
                f"{operation.path!r} points to the LFS object {operation.oid}, which was not uploaded"
            )
        return Pointer(oid=operation.oid, size=size)

    def _track_large_files(self) -> None:
        content = b""
        if ".gitattributes" in self._files:
            self._flush()
            blob = self._repository.git[self._files[".gitattributes"][1]]
            content = blob.data if isinstance(blob, Blob) else b""
        attributes = parse_attributes(content)
        missing = [path for path in self._large if path in self._files and not tracks(attributes, path)]
        if missing:
            lines = b"".join(attribute_line(path) for path in dict.fromkeys(missing))
            separator = b"" if not content or content.endswith(b"\n") else b"\n"
            self._files[".gitattributes"] = (FILE_MODE, self._add(content + separator + lines))

    def _add(self, content: bytes) -> ObjectID:
        blob = Blob.from_string(content)
        self._batch.append((blob, None))
        self._batch_bytes += len(content)
        if self._batch_bytes > _BATCH_BYTES or len(self._batch) >= _BATCH_OBJECTS:
            self._flush()
        return blob.id

    def _flush(self) -> None:
        """Few objects are written one by one; many as one pack, which is one fsync instead of thousands."""
        if len(self._batch) <= _LOOSE_OBJECTS:
            for blob, _ in self._batch:
                self._repository.git.object_store.add_object(blob)
        else:
            self._repository.git.object_store.add_objects(
                list({blob.id: (blob, None) for blob, _ in self._batch}.values())
            )
        self._batch.clear()
        self._batch_bytes = 0
