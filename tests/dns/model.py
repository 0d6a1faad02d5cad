"""A model of the zone: the files of /run/fleet/services in, the answer to a question out. It follows fleet-dns(8), not the program."""
import ipaddress
import re

A, NS, SOA, HINFO, AAAA, SRV, IXFR, AXFR, ANY = 1, 2, 6, 13, 28, 33, 251, 252, 255
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def is_label(text, size=63):
    return bool(LABEL.fullmatch(text)) and len(text) <= size


class Line:
    def __init__(self, text):
        """ValueError: the line is invalid."""
        self.endpoint, address, port, self.protocol, self.port_name, self.machine, self.zone, self.unit = text.split(" ")
        self.address = ipaddress.ip_address(address)
        if not re.fullmatch("[0-9]+", port) or int(port) > 65535 or not is_label(self.endpoint, 49):
            raise ValueError
        if self.protocol not in ("tcp", "udp") or not (self.port_name == "-" or is_label(self.port_name, 15)):
            raise ValueError
        if not re.fullmatch("[0-9a-f]{32}", self.machine) or not all(re.fullmatch("[!-~]+", f) for f in (self.zone, self.unit)):
            raise ValueError
        self.port = int(port)
        instance = self.unit[self.unit.index("@") + 1:self.unit.rindex(".")] if "@" in self.unit else ""
        self.instance = instance if is_label(instance) else None


class Model:
    def __init__(self, files):
        """'files' maps names to texts."""
        self.services = {}
        for name, text in files.items():
            if not is_label(name):
                continue
            lines = []
            for line in text.split("\n")[:-1]:
                try:
                    lines.append(Line(line))
                except ValueError:
                    pass
            if lines:
                self.services[name] = lines
        self.host = files[".host"].split() if ".host" in files else None
        self.serial = int(self.host[0]) if self.host else 0
        self.complete = bool(self.host) and self.host[4] == "complete"

    def near(self, lines):
        """Those on this host, or else in its zone, or else all."""
        if not self.host:
            return lines
        here = [line for line in lines if line.machine == self.host[1]]
        zone = [line for line in lines if line.zone == self.host[3] != "-"]
        return here or zone or lines

    def select(self, service, labels):
        """The lines of a name below a service, and what it has: "first" ports and addresses, "ports", "address", or "nothing". None: no name."""
        lines = self.services.get(service)
        if not lines:
            return None
        rest = list(labels)
        near = bool(rest) and rest[-1] == "near"
        if near:
            rest.pop()
        has = "first"
        if rest and rest[-1] in ("_tcp", "_udp"):
            protocol = rest.pop()[1:]
            lines = [line for line in lines if line.port and line.protocol == protocol]
            has = "nothing"
            if rest and re.fullmatch("_.+", rest[-1]):
                name = rest.pop()[1:]
                lines = [line for line in lines if line.port_name == name]
                has = "ports"
        elif len(rest) == 1 and not near:
            label = rest.pop()
            endpoint = [line for line in lines if line.endpoint == label]
            has = "address" if endpoint else "first"
            lines = endpoint or [line for line in lines if line.instance == label]
        if rest or not lines:
            return None
        return (self.near(lines) if near else lines), has

    def answer(self, name, qtype):
        """(response code, AA, whether it is negative, the set of records)"""
        labels = name.lower().rstrip(".").split(".")
        assert labels[-1] == "fleet"
        if qtype in (AXFR, IXFR):
            return REFUSED, False, False, set()
        records, found = set(), None
        if labels == ["fleet"]:
            found = True
            records = {SOA: {f"SOA {self.serial}"}, NS: {"NS"}}.get(qtype, set())
        elif labels == ["service", "fleet"]:
            found = True
        elif labels == ["ns", "fleet"]:
            found = True
            records = {"169.254.23.79"} if qtype == A else set()
        elif labels[-2] == "service":
            found = self.select(labels[-3], labels[:-3])
            if not found and not self.complete:
                return SERVFAIL, False, False, set()
            if found:
                records = self.records(labels[-3], *found, qtype)
        if not found:
            return NXDOMAIN, True, True, set()
        if qtype == ANY:
            records = {"HINFO"}
        return NOERROR, True, not records, records

    @staticmethod
    def records(service, lines, has, qtype):
        if qtype in (A, AAAA) and has in ("first", "address"):
            return {str(line.address) for line in lines if line.address.version == (4 if qtype == A else 6)}
        if qtype == SRV and has in ("first", "ports"):
            if has == "first":
                first = {}
                for line in lines:
                    first.setdefault((line.endpoint, line.machine, line.unit), line)
                lines = [line for line in first.values() if line.port]
            return {f"SRV {line.port} {line.endpoint}.{service} {line.address}" for line in lines}
        return set()
