"""What takes too long is ended, and nothing else."""

import time

from service.engine.deadlines import Deadlines


class Options:
    """What the watch tells to end."""

    terminate = False


def test_only_what_is_late_is_ended() -> None:
    """Two at once; the watch goes to sleep and wakes again."""
    deadlines = Deadlines(0.1)
    for _ in range(2):
        late, early = Options(), Options()
        with deadlines.over(late):
            with deadlines.over(early):
                pass
            until = time.monotonic() + 5
            while not late.terminate and time.monotonic() < until:
                time.sleep(0.01)
        assert late.terminate
        assert not early.terminate
        time.sleep(0.1)
