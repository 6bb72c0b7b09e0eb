"""What is in memory of the models' files: sessions that run them, and the numbers of their heads.

Every default version is held, and of the staged ones those that were used last. Where all are larger than they may be,
those that were not used for longest are let go of, defaults too; the next call loads them again.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from calibrate.io.model import Head
from service.domain import ModelVersion
from service.errors import StorageFailed
from service.ports import Artifacts, Engine, Session

MOST_STAGED = 8
Key = tuple[str, int]  # of a model version
T = TypeVar("T")


class Loaded:
    """Sessions and heads, of `most_bytes` of files at most; `defaults` tells which versions are served now."""

    def __init__(
        self, artifacts: Artifacts, engine: Engine, most_bytes: int | None, defaults: Callable[[], set[Key]]
    ) -> None:
        self._artifacts, self._engine = artifacts, engine
        self._most_bytes, self._defaults = most_bytes, defaults
        self._sessions: OrderedDict[Key, Session] = OrderedDict()
        self._heads: OrderedDict[Key, Head] = OrderedDict()
        self._providers: dict[Key, str] = {}
        self._sizes: dict[Key, int] = {}
        self._let_go: set[Key] = set()
        self._loading, self._keeping = threading.Lock(), threading.Lock()

    def session(self, version: ModelVersion) -> Session:
        """What runs a version, loaded now if it was not.

        Raises: `BadRequest` where it has no graph, `StorageFailed`, `BadModel`.
        """
        graph, key = version.check_runs(), (version.model, version.version)
        found = self._used(self._sessions, key)
        if found is None:
            with self._loading:
                found = self._used(self._sessions, key)
                if found is None:
                    data, apart = self._artifacts.get(graph.digest), version.depends_on_batch
                    found = self._engine.load(data, graph.output, graph.output_kind, rows_apart=apart)
                    found.warm(version.inputs)
                    self.take(version, found, len(data))
        return found

    def held(self, version: ModelVersion) -> Session | None:
        """What runs a version if it is in memory; never waits."""
        return self._used(self._sessions, (version.model, version.version))

    def head(self, version: ModelVersion) -> Head | None:
        """The numbers of a version's linear head, None where it has none. Raises: `StorageFailed`."""
        key = (version.model, version.version)
        if version.head is None or version.graph is None:
            return None
        found = self._used(self._heads, key)
        if found is None:
            from calibrate.io.graph import read_model  # onnx takes long to import, and few requests bring features

            found = read_model(self._artifacts.get(version.graph.digest), output=version.graph.output).head
            if found is None:
                raise StorageFailed(f"the head of version {version.version} of model '{version.model}' is gone")
            self._keep(self._heads, key, found)
        return found

    def provider(self, version: ModelVersion) -> str | None:
        """What a version really runs on, None where it was not loaded yet."""
        return self._providers.get((version.model, version.version))

    def is_held(self, version: ModelVersion) -> bool:
        """Whether a version is loaded, or has no graph to load."""
        return version.graph is None or (version.model, version.version) in self._sessions

    def is_missing(self, version: ModelVersion) -> bool:
        """Whether a version is neither loaded nor was let go of, to be loaded by the next call that needs it."""
        key = (version.model, version.version)
        return not self.is_held(version) and key not in self._let_go

    def leave_out(self, version: ModelVersion) -> None:
        """A version is not loaded before it is asked for."""
        self._let_go.add((version.model, version.version))

    def take(self, version: ModelVersion, session: Session, size_bytes: int, *, keeps: bool = True) -> None:
        """Takes in what runs a version, of a file of that size, and lets go of what is too much.

        A call that runs on one holds it until it is through. Without `keeps` only what it runs on is told from now on.
        """
        key = (version.model, version.version)
        self._providers[key] = session.provider
        if not keeps:
            return
        self._keep(self._sessions, key, session)
        with self._keeping:
            self._sizes[key] = size_bytes
            self._let_go.discard(key)
            total = sum(self._sizes[other] for other in self._sessions)
            for other in [other for other in self._sessions if other != key]:
                if self._most_bytes is None or total <= self._most_bytes:
                    break
                del self._sessions[other]
                total -= self._sizes[other]
                self._let_go.add(other)

    def _used(self, held: OrderedDict[Key, T], key: Key) -> T | None:
        with self._keeping:
            if key in held:
                held.move_to_end(key)
            return held.get(key)

    def _keep(self, held: OrderedDict[Key, T], key: Key, value: T) -> None:
        """Keeps a value, and lets go of those of staged versions that were not used for longest."""
        with self._keeping:
            held[key] = value
            live = self._defaults()
            staged = [other for other in held if other not in live and other != key]
            for other in staged[: max(0, len(staged) + 1 - MOST_STAGED)]:
                del held[other]
