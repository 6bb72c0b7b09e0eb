"""Looks at the store a few times a second, so that what another server changed is served here within a second.

Decided here: looking costs one short query, needs nothing beyond the store, and works on every database alike; a
message from the database to every server would be faster by a quarter of a second and lost with its connection. A store
that does not answer is asked again, ever less often; what is loaded goes on being served meanwhile.
"""

import logging
import threading
from collections.abc import Callable

from calibrate.errors import SetpointError

log = logging.getLogger(__name__)

EVERY_S = 0.25
_LONGEST_S = 2.0


class Watcher:
    """Calls `refresh` again and again in a thread of its own, from `start` to `stop`."""

    def __init__(self, refresh: Callable[[], None], every_s: float = EVERY_S) -> None:
        self._refresh, self._every_s = refresh, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begins; once."""
        self._thread.start()

    def stop(self, wait_s: float = 1.0) -> None:
        """Ends it; waits for a look that is under way, but no longer than `wait_s`."""
        self._stopped.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        wait_s = self._every_s
        while not self._stopped.wait(wait_s):
            try:
                self._refresh()
            except SetpointError as error:
                if wait_s == self._every_s:
                    log.error("what other servers change is not seen: %s", error)
                wait_s = min(_LONGEST_S, 2 * wait_s)
            except Exception:  # the outermost edge of this thread: it must never end before the server does
                log.exception("what other servers change is not seen")
                wait_s = _LONGEST_S
            else:
                if wait_s != self._every_s:
                    log.warning("what other servers change is seen again")
                wait_s = self._every_s
