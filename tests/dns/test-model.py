#!/usr/bin/env python3
"""Random tables of services: each answer of dns/zone.c is that of the model. Usage: test-model.py [SEED [TABLES]]; MODEL_ANSWERS is the program."""
import os
import random
import subprocess
import sys

from model import A, AAAA, ANY, AXFR, Model, NS, SOA, SRV

SERVICES = ["shop", "db", "a", "near", "x-1", "s" * 63]
PORTS = ["http", "https", "pg", "-", "a" * 15]
ZONES = ["a", "b", "-", "zone%20c"]
INSTANCES = ["@1", "@2", "@web", "@Web", "@a-", "@" + "i" * 63, "@" + "i" * 64, "@near", "", "@x.y"]
NAMES = 100


def table(r):
    """The files of a folder."""
    machines = [(f"{i:x}" * 32, f"m{i}", r.choice(ZONES), f"10.0.0.{i}" if r.random() < 0.8 else f"fd00::{i}") for i in range(1, r.randint(2, 7))]
    files = {}
    if r.random() < 0.95:
        here = r.choice(machines)
        files[".host"] = f"{r.randrange(2 ** 32)} {here[0]} {here[1]} {here[2]} {'complete' if r.random() < 0.8 else 'partial'}\n"
    for service in r.sample(SERVICES, r.randint(0, 4)):
        lines = []
        for e in range(r.choice([0, 1, 2, 3, 5, 8, 40])):
            machine, name, zone, address = r.choice(machines)
            if r.random() < 0.3:
                address = f"10.1.{e}.{r.randint(1, 250)}"
            endpoint = {3: "near", 4: "1"}.get(e if r.random() < 0.1 else 0, f"{name}-{e:08x}")
            unit = service + r.choice(INSTANCES) + r.choice([".service", ".container"])
            for _ in range(r.choice([1, 1, 1, 2, 3])):
                port = r.choice([0, 80, 8080, 65535, r.randint(1, 65535)])
                lines.append(f"{endpoint} {address} {port} {r.choice(['tcp', 'tcp', 'udp'])} {r.choice(PORTS) if port else '-'} {machine} {zone} {unit}")
            if r.random() < 0.02:
                lines.append(r.choice(["", "x", lines[-1] + " y", lines[-1][:20], lines[-1].replace(" tcp ", " sctp ")]))
        lines = sorted(set(lines))
        files[service] = "".join(line + "\n" for line in lines)
    return files


def question(r, files):
    """A name that exists, or nearly so, and a type."""
    service = r.choice([f for f in files if f != ".host"] or ["shop"]) if r.random() < 0.93 else r.choice(SERVICES + ["nope"])
    lines = files.get(service, "").split("\n")[:-1]
    line = r.choice(lines).split(" ") if lines else []
    below = ["", "near.", "_tcp.", "_udp.", "_tcp.near.", f"_{r.choice(PORTS)}._{r.choice(['tcp', 'udp'])}.",
             f"_{r.choice(PORTS)}._tcp.near.", f"{r.choice(INSTANCES)[1:] or 'x'}.", "x.near.", "_http.", "a.b."]
    if len(line) == 8:
        below += [line[0] + ".", f"_{line[4]}._{line[3]}.", f"_{line[4]}._{line[3]}.near.", f"_x._tcp.{line[0]}."] * 3
    name = r.choice(below) + service + ".service.fleet"
    name = r.choices([name, "fleet", "ns.fleet", "service.fleet", service + ".fleet"], [90, 1, 1, 1, 1])[0]
    if any(len(label) > 63 for label in name.split(".")):
        name = "fleet"
    if r.random() < 0.1:
        name = "".join(c.upper() if r.random() < 0.5 else c for c in name)
    return name, r.choices([A, AAAA, SRV, ANY, NS, SOA, 65, AXFR], [30, 15, 40, 2, 2, 2, 2, 1])[0], r.choice(["udp", "tcp"])


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    tables = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    program = os.environ.get("MODEL_ANSWERS", "tests/dns/answers")
    text, asked = [], []
    for i in range(tables):
        r = random.Random(seed * 1000003 + i)
        files = table(r)
        text.append("new\n" + "".join(f"file {name} {len(content)}\n{content}" for name, content in files.items()))
        model = Model(files)
        for _ in range(NAMES):
            name, qtype, protocol = question(r, files)
            text.append(f"ask {name} {qtype} {protocol}\n")
            asked.append((i, files, model, name, qtype, protocol))
    out = subprocess.run([program], input="".join(text), capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    assert len(out) == len(asked)
    kinds = {}
    for line, (i, files, model, name, qtype, protocol) in zip(out, asked):
        head, *records = line.split(";")
        rcode, aa, serial = head.split(" ")
        e_rcode, e_aa, negative, expected = model.answer(name, qtype)
        limit = (1000 if protocol == "tcp" else 16) if qtype in (A, AAAA) else 1500
        good = ((int(rcode), int(aa)) == (e_rcode, e_aa) and serial == (str(model.serial) if negative else "-")
                and len(records) == min(limit, len(expected)) and set(records) <= expected and len(set(records)) == len(records))
        if not good:
            print(f"not ok the_zone_agrees_with_the_model: table {i} of seed {seed}: {name} {qtype} {protocol}")
            print(f"program {line}\nmodel   {e_rcode} {e_aa} {model.serial if negative else '-'} {sorted(expected)}")
            for file, content in files.items():
                print(f"-- {file}\n{content}", end="")
            return 1
        kind = (e_rcode, qtype if e_rcode == 0 else 0, negative)
        kinds[kind] = kinds.get(kind, 0) + 1
    # Random questions that miss a kind of answer test nothing of it.
    for kind in ((0, A, False), (0, A, True), (0, AAAA, False), (0, SRV, False), (0, SRV, True), (0, ANY, False), (2, 0, False), (3, 0, True), (5, 0, False)):
        if kinds.get(kind, 0) < tables // 10:
            print(f"not ok all_kinds_of_answers_occur: {kind} {kinds.get(kind, 0)} times")
            return 1
    print(f"ok the_zone_agrees_with_the_model: {len(asked)} questions to {tables} tables")
    return 0


sys.exit(main())
