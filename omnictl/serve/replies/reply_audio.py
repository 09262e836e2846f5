"""What was said aloud, by its id: a client may name a spoken reply in later requests instead of repeating it."""

import time
import uuid
from collections import OrderedDict
from threading import Lock

from omnictl.serve.traffic.errors import RequestError

KEPT_SECONDS = 3600
MOST_KEPT = 1_000


class SpokenReplies:
    """Texts of the latest spoken replies."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def new_id(self) -> str:
        """The id of a reply that is about to be said."""
        return f"audio_{uuid.uuid4().hex}"

    def keep(self, reply_id: str, text: str) -> int:
        """Keep a reply; returns until when, in seconds since 1970."""
        with self._lock:
            self._texts[reply_id] = text
            while len(self._texts) > MOST_KEPT:
                self._texts.popitem(last=False)
        return int(time.time()) + KEPT_SECONDS

    def text(self, reply_id: str, where: str) -> str:
        """What was said.

        Raises:
            RequestError: there is no such reply any more.
        """
        with self._lock:
            text = self._texts.get(reply_id)
        if text is None:
            fix = "send its transcript as the message's content"
            raise RequestError(f"no spoken reply {reply_id[:60]!r} is kept here", fix=fix, where=where)
        return text
