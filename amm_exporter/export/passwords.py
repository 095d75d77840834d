"""Basic auth: users, their bcrypt hashes, and clients that guess.

Where they come from is web_config.py's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus

from amm_exporter.errors import AMMError
from amm_exporter.export.http import Response

REMEMBERED = 100
"""Passwords whose check is remembered, as the official exporters do: a check takes 50 ms and more by design."""
SHARE_FOR_CHECKS = 0.25
"""Of the time, for bcrypt: who guesses must not keep the exporter from its scrapes. By time, not by number of checks:
a hash of cost 10 takes 50 ms, one of cost 12 (what Python's bcrypt makes) 200, and each more twice as much."""
MOST_AT_ONCE_SECONDS = 1.0
"""Of checking on end, after a quiet time."""
# A user that is not there costs as much time as one that is: the hash of a password nobody knows.
_NOBODY = "$2b$10$B3wwdp2n56RrUL1jBqoy0eXh1BP6Mbi0NqlnM18g0THwWmIRonpYS"


class Passwords:
    """Users and their bcrypt hashes. Slow checks are remembered, and begun only so often."""

    def __init__(self, users: Mapping[str, bytes], clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import bcrypt
        except ImportError as error:
            raise AMMError("basic_auth_users needs bcrypt: pip install 'amm-exporter[auth]'") from error
        self._check = bcrypt.checkpw
        self._users = dict(users)
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._left_seconds, self._counted_at = MOST_AT_ONCE_SECONDS, clock()

    def refusal(self, authorization: str) -> Response | None:
        """None for a user with the right password; else 401, or 429 for who tries too often."""
        credentials = _credentials(authorization)
        if credentials is None:
            return _UNAUTHORIZED
        mark = hmac.new(self._key, credentials[0].encode() + b"\0" + credentials[1], hashlib.sha256).digest()
        right = self._known.get(mark)
        if right is None:
            if not self._may_check():
                return _TOO_MANY
            begun_at = self._clock()
            right = self._is_right(*credentials)
            self._left_seconds -= self._clock() - begun_at
            self._remember(mark, right)
        return None if right else _UNAUTHORIZED

    def _is_right(self, user: str, password: bytes) -> bool:
        known = user in self._users
        matches = self._check(password[:72], self._users.get(user, _NOBODY.encode()))  # bcrypt reads no further
        return known and matches

    def _may_check(self) -> bool:
        now = self._clock()
        gained = (now - self._counted_at) * SHARE_FOR_CHECKS
        self._left_seconds, self._counted_at = min(MOST_AT_ONCE_SECONDS, self._left_seconds + gained), now
        return self._left_seconds > 0

    def _remember(self, mark: bytes, right: bool) -> None:
        self._known[mark] = right
        if len(self._known) > REMEMBERED:
            # Wrong guesses go first: a flood of them must not push out those that are right.
            oldest = next((one for one, good in self._known.items() if not good), next(iter(self._known)))
            del self._known[oldest]


_UNAUTHORIZED = Response(
    status=HTTPStatus.UNAUTHORIZED, body=b"unauthorized\n", headers={"WWW-Authenticate": 'Basic realm="metrics"'}
)
_TOO_MANY = Response(status=HTTPStatus.TOO_MANY_REQUESTS, body=b"too many attempts\n", headers={"Retry-After": "1"})


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon and b"\0" not in password else None
    except (binascii.Error, ValueError):
        return None
