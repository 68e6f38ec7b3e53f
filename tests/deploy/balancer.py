"""The balancer's configuration: what it says, and what of it does not fit the compose document."""

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.settings import Settings
from tests.deploy.compose import gateways
from tests.deploy.document import Document, substitute

_SECTIONS = {"global", "defaults", "resolvers", "frontend", "backend"}
_VARIABLE = re.compile(r"\$\{(\w+)(?:\[\*\])?\}")


@dataclass(frozen=True)
class Balancer:
    """The lines of each section of an HAProxy configuration, in words; sections go by their kind and name."""

    sections: dict[str, list[list[str]]]
    variables: frozenset[str]

    @classmethod
    def read(cls, text: str) -> "Balancer":
        sections: dict[str, list[list[str]]] = {}
        lines: list[list[str]] = []
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in _SECTIONS:
                lines = sections.setdefault(" ".join(words), [])
            elif words:
                lines.append(words)
        return cls(sections, frozenset(_VARIABLE.findall(text)))

    def lines(self, section: str, *start: str) -> Iterator[list[str]]:
        """What follows the words `start` on the lines of a section that begin with them."""
        for words in self.sections[section]:
            if words[: len(start)] == list(start):
                yield words[len(start) :]

    def one(self, section: str, *start: str) -> list[str]:
        """The same of the one line there has to be."""
        (found,) = self.lines(section, *start)
        return found

    def passes(self, path: str, *, administrator: bool) -> bool:
        """Whether a path is asked of a gateway: by the access lists, which match the path as it is written."""
        names = ["published", *(["administration"] if administrator else [])]
        rules = [rule for name in names for rule in self.lines("frontend api", "acl", name, "path", "-m")]
        return any(
            path.startswith(tuple(values)) if how == "beg" else path in values for how, *values in rules if values
        )


def servers(balancer: Balancer, document: Document, settings: Settings) -> list[str]:
    """Both backends ask every gateway, where it listens, by name anew, and find out whether it is ready or alive."""
    wanted = {f"{name}:{settings.server.port}" for name in gateways(document)}
    found = []
    for backend, path in (("backend ready", "/readyz"), ("backend alive", "/livez")):
        if {words[1] for words in balancer.lines(backend, "server")} != wanted:
            found.append(f"{backend}: does not ask {' and '.join(sorted(wanted))}")
        if path not in next(balancer.lines(backend, "http-check", "send"), []):
            found.append(f"{backend}: does not check {path}")
        defaults = next(balancer.lines(backend, "default-server"), [])
        found += [f"{backend}: has no {word}" for word in ("check", "resolvers") if word not in defaults]
    return found


def places(balancer: Balancer, document: Document, settings: Settings) -> list[str]:
    """It listens where it is published and where its health check asks, and its variables are given."""
    service = document["services"]["balancer"]
    port = service["ports"][0].rpartition(":")[2]
    found = [] if balancer.one("frontend api", "bind") == [f":{port}"] else [f"nothing listens at {port}, as published"]
    asked = service["healthcheck"]["test"][-1]
    if f"http://{balancer.one('frontend health', 'bind')[0]}/" != asked:
        found.append(f"nothing listens at {asked}, as the health check asks")
    found += [f"{name} is not in the environment" for name in sorted(balancer.variables - set(service["environment"]))]
    return found


def times(balancer: Balancer, document: Document, settings: Settings) -> list[str]:
    """Nothing is cut before the gateway itself gives up, and streams may end before a container is killed."""
    found = [
        f"timeout {name} is no longer than times.total"
        for name in ("client", "server")
        if _seconds(balancer.one("defaults", "timeout", name)[0]) <= settings.times.total
    ]
    stop = _seconds(balancer.one("global", "hard-stop-after")[0])
    if stop < settings.server.shutdown_seconds:
        found.append("hard-stop-after is shorter than server.shutdown_seconds")
    if stop >= _seconds(document["services"]["balancer"]["stop_grace_period"]):
        found.append("hard-stop-after is no shorter than stop_grace_period")
    return found


def addresses(balancer: Balancer, document: Document, settings: Settings) -> list[str]:
    """The gateway believes the balancer's network and nobody else, and the balancer says who is asking, whatever callers say."""
    (network,) = substitute(document["networks"]["balanced"], {})["ipam"]["config"]
    found = []
    if settings.server.trusted_proxies != [network["subnet"]] or not ipaddress.ip_network(network["subnet"]).is_private:
        found.append(f"trusted_proxies is not {network['subnet']}")
    if ["%[src]"] not in balancer.lines("frontend api", "http-request", "set-header", "x-forwarded-for"):
        found.append("x-forwarded-for is what callers say")
    removed = {words[0] for words in balancer.lines("frontend api", "http-request", "del-header")}
    named = {
        "forwarded",
        "x-real-ip",
        "x-forwarded-host",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "proxy-authorization",
    }
    return found + [f"{name} is passed on" for name in sorted(named - removed)]


def streams(balancer: Balancer, document: Document, settings: Settings) -> list[str]:
    """Events leave at once, a caller's leaving is passed on, and nothing is sent twice."""
    options = {words[0] for words in balancer.lines("defaults", "option")}
    wanted = {"http-no-delay", "http-server-close", "abortonclose", "redispatch"}
    found = [f"option {name} is off" for name in sorted(wanted - options)]
    if balancer.one("defaults", "retry-on") != ["conn-failure"]:
        found.append("a request may be sent twice")
    return found


Rule = Callable[[Balancer, Document, Settings], list[str]]
RULES: tuple[Rule, ...] = (servers, places, times, addresses, streams)


def configuration(document: Document, root: Path) -> Balancer:
    """The file that the compose document mounts."""
    (mount,) = document["services"]["balancer"]["volumes"]
    source, target, _ = mount.split(":")
    if target not in document["services"]["balancer"]["entrypoint"]:
        raise ValueError(f"the balancer does not read {target}")
    return Balancer.read((root / source).read_text(encoding="utf-8"))


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]
