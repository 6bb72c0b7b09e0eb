"""The keys of a store as a server holds them: read every half second, looked up without the store.

A caller is found by SHA-256 of what it presents, in a table by digest. The time that takes says nothing of use: whoever
could choose digests near to a kept one would have broken SHA-256. Where the store does not answer, the keys that were
read last go on to hold; nobody can revoke one then, and those that expire do so by this clock.

Decided here: a store that has ever held a key is guarded from then on, also when every key is revoked or expired; a
server that was open to its machine closes as soon as the first key is made.
"""

import logging
import threading
from collections.abc import Iterable
from time import time

from service.domain import Principal
from service.errors import StorageFailed
from service.keys import TOKEN, Key, digest
from service.ports import Keys

log = logging.getLogger(__name__)

EVERY_S = 0.5


class KeyRing:
    """Callers by what they present: the keys of a store, and the token where there is one."""

    def __init__(self, keys: Keys, token: str | None = None, every_s: float = EVERY_S) -> None:
        self._keys, self._every_s = keys, every_s
        self._token = None if token is None else digest(token.encode())
        self._of_token = Principal(TOKEN)
        self._held: dict[str, tuple[Principal, float]] = {}
        self._has_keys, self._failing = False, False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def guarded(self) -> bool:
        """Whether callers must say who they are."""
        return self._token is not None or self._has_keys

    def find(self, presented: str, *, may_be_token: bool = True) -> Principal | None:
        """Who presents the key or token of that digest, None where it is none, or one that expired or was revoked."""
        held = self._held.get(presented)
        if held is not None:
            return held[0] if time() < held[1] else None
        return self._of_token if may_be_token and presented == self._token else None

    def holds(self, principal: Principal) -> bool:
        """Whether the key of somebody who was let in goes on to hold; who came without one has none to lose."""
        now = time()
        return principal.key is None or any(
            found.key == principal.key and now < until for found, until in self._held.values()
        )

    def refresh(self) -> None:
        """Reads the keys now. Raises: `StorageFailed`."""
        kept = self._keys.all()
        self._held = held(kept)
        self._has_keys = self._has_keys or bool(kept)

    def start(self) -> None:
        """Reads the keys, and again every half second until `stop`. Raises: `StorageFailed`."""
        self.refresh()
        self._stop.clear()
        self._thread = threading.Thread(target=self._follow, name="keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Reads no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.refresh()
            except StorageFailed as error:
                if not self._failing:
                    log.error("keys cannot be read, those that were read last hold: %s", error)
                self._failing = True
            else:
                self._failing = False


def held(keys: Iterable[Key]) -> dict[str, tuple[Principal, float]]:
    """By digest, the principal and the second at which the key expires; revoked ones are left out."""
    return {
        key.hash: (key.principal, float("inf") if key.expires_at is None else key.expires_at.timestamp())
        for key in keys
        if key.revoked_at is None
    }
