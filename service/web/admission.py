"""Who is let in: one function for every route, also for those answered ahead of the framework.

A server without keys and without a token serves its own machine alone, and a web browser runs there too: so the host
must be a loopback name, or one that the settings name (a page that rebinds its own name to this address keeps that
name), and a browser must not say that another site is calling. Every browser says so with each call that could change
something; the content type of a body proves nothing, because many clients send a form's for JSON.

With keys, the caller must present one: `Authorization: Bearer KEY`, `X-API-Key: KEY`, or as the password of
`Authorization: Basic`. Other sites are refused then too, because a browser sends a remembered password to a page's
server whichever page asks. A key is 256 random bits, which no guessing finds; the token was chosen by people: an
address that failed too often is not compared with it for a while.
"""

import binascii
import ipaddress
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

from service.auth.rates import Rates
from service.auth.ring import KeyRing
from service.domain import Principal
from service.errors import BadRequest, Forbidden, ForeignOrigin, TooMany, Unauthorized, UnknownRoute, WrongVerb
from service.keys import LOCAL, digest
from service.settings import Settings
from service.web.rules import Rule, Rules

NOBODY = Principal("nobody", frozenset())
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ASKED = frozenset({b"authorization", b"x-api-key", b"host", b"origin", b"sec-fetch-site", b"setpoint-operating-point"})
_SAME_SITE = (b"same-origin", b"none")
_PORT = re.compile(r":\d+$")


class Asking(NamedTuple):
    """What the head of a request says to who lets callers in: the rule of its address and what that names, the headers
    that decide, and the digest of the key or token that came along.
    """

    rule: Rule | None
    given: Mapping[str, str]
    told: Mapping[bytes, bytes]
    presented: str | None


class Admission:
    """Lets callers in, or says why not."""

    def __init__(self, settings: Settings, ring: KeyRing, rules: Rules) -> None:
        self._ring, self._rules = ring, rules
        self._local = Principal(LOCAL)
        self._named_hosts = settings.named_hosts
        self._failures = Rates(settings.failures_per_min / 60, settings.failures_per_min)
        self._rates: dict[str, Rates] = {}
        if settings.predict_per_s is not None:
            self._rates["predict"] = Rates(settings.predict_per_s, settings.predict_per_s)
        if settings.calibrate_per_min is not None:
            self._rates["calibrate"] = Rates(settings.calibrate_per_min / 60, settings.calibrate_per_min)

    def read(self, scope: MutableMapping[str, Any], headers: Mapping[bytes, bytes]) -> Asking:
        """What the head of a request says, an ASGI HTTP scope; `headers` are the same by name. Raises: `BadRequest`."""
        rule, given = self._rules.find(scope["method"], scope["path"])
        if rule is not None and rule.access == "open":
            return Asking(rule, given, headers, None)
        told = headers if len(headers) == len(scope["headers"]) else _told(scope["headers"])
        presented = _presented(told)
        return Asking(rule, given, told, None if presented is None else digest(presented))

    def admit(self, asking: Asking, scope: MutableMapping[str, Any]) -> Principal:
        """Who calls, where the call may be made. A model in the address is checked here; one in a body is the handler's
        to check.

        Raises: `Unauthorized`, `Forbidden`, `ForeignOrigin`, `TooMany`, `UnknownRoute`, `WrongVerb`.
        """
        rule, given, told, _ = asking
        if rule is not None and rule.access == "open":
            return NOBODY
        guarded = self._ring.guarded
        if not guarded or b"origin" in told or b"sec-fetch-site" in told or self._named_hosts:
            self._refuse_other_sites(told, scope, guarded)
        principal = self._identify(asking, scope) if guarded else self._local
        if rule is None:
            self._refuse_unknown(scope["method"], scope["path"])
        else:
            self._permit(principal, rule, given)
        return principal

    def _permit(self, principal: Principal, rule: Rule, given: Mapping[str, str]) -> None:
        if rule.access != "open":
            principal.check(rule.access)
        if rule.access == "metrics" and principal.models is not None:
            raise Forbidden(f"metrics tell of every model, and {principal.name} may not use every one")
        if "model" in given:
            principal.check_model(given["model"])
        rates = self._rates.get(rule.work or "")
        if rates is not None and (wait_s := rates.take(principal.name)):
            raise TooMany(f"{principal.name} calls {rule.path} more often than this server's limit", wait_s)

    def _identify(self, asking: Asking, scope: Mapping[str, Any]) -> Principal:
        presented = asking.presented
        if presented is None:
            raise Unauthorized(
                "this call needs a key: the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY', with a key of this "
                "server or its token"
            )
        wait_s = self._failures.wait_s(_address(scope)) if self._failures.are_any else 0.0
        principal = self._ring.find(presented, may_be_token=not wait_s)
        if principal is not None:
            return principal
        if wait_s:
            raise TooMany("too many calls from this address came with a wrong key", wait_s)
        self._failures.take(_address(scope))
        raise Unauthorized("the key is not one of this server's, or it has expired or was revoked")

    def _refuse_other_sites(self, told: Mapping[bytes, bytes], scope: Mapping[str, Any], guarded: bool) -> None:
        origin, site = told.get(b"origin"), told.get(b"sec-fetch-site", b"none")
        host = told.get(b"host", b"").decode("latin-1").lower()
        named = _PORT.sub("", host)
        if (not guarded and named not in LOOPBACK_NAMES and named not in self._named_hosts) or (
            guarded and self._named_hosts and named not in self._named_hosts
        ):
            known = sorted(self._named_hosts if guarded else LOOPBACK_NAMES | self._named_hosts)
            raise ForeignOrigin(f"the host must be one of {', '.join(known)}, got {named[:100]!r}")
        if site not in _SAME_SITE or (
            origin is not None and not _is_own(origin.decode("latin-1").lower(), host, scope["scheme"], guarded)
        ):
            raise ForeignOrigin("a web page of another site may not call this server")

    def _refuse_unknown(self, verb: str, path: str) -> None:
        if verbs := self._rules.verbs(path):
            raise WrongVerb(f"{path[:200]} does not take {verb}, only {', '.join(verbs)}", verbs)
        raise UnknownRoute(f"there is nothing at {path[:200]}")


def _is_own(origin: str, host: str, scheme: str, guarded: bool) -> bool:
    """Whether a page is this server's own; behind a proxy that ends TLS the schemes may differ, and keys guard that."""
    return origin == f"{scheme}://{host}" or (guarded and origin == f"https://{host}")


def _told(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that decide, each once. Raises: `BadRequest`: of two, a proxy and this server may read another."""
    told: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _ASKED:
            if name in told:
                raise BadRequest(f"the header '{name.decode()}' came more than once")
            told[name] = value
    return told


def _presented(told: Mapping[bytes, bytes]) -> bytes | None:
    """The key or token that came along, None where there is none that can be read."""
    kind, _, rest = told.get(b"authorization", b"").partition(b" ")
    kind, rest = kind.lower(), rest.strip()
    if kind == b"bearer":
        return rest or None
    if kind == b"basic":
        try:
            return b64decode(rest, validate=True).partition(b":")[2] or None
        except binascii.Error:
            return None
    return told.get(b"x-api-key", b"").strip() or None


def _address(scope: Mapping[str, Any]) -> str:
    """Where a call comes from; of an IPv6 address the network, which one caller has whole."""
    client = scope.get("client")
    host = str(client[0]) if client else ""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host
