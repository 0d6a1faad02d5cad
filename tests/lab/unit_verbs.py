"""The verbs of fleetctl that ask the host of a unit, from a host with and from one without a replica, for a unit on each of them.

unit_verbs.py FLEETCTL VOTER NAME ID ATTACHED NAME ID     socket, name and machine ID of each host

The units are on-voter.service and on-attached.service, and fails-on-voter.service and fails-on-attached.service, with equal texts. Both hosts have to
print the same about each unit. About the two units they print the same, but for what belongs to one host or moment. The first difference of each
verb is printed."""
import os
import re
import subprocess
import sys
import time

fleetctl, *hosts = sys.argv[1:]
sockets = {"voter": hosts[0], "attached": hosts[3]}
names = {hosts[1]: "HOST", hosts[2]: "ID", hosts[4]: "HOST", hosts[5]: "ID", hosts[2][:8]: "ID", hosts[5][:8]: "ID"}
problems = []

# Command, and a word of its output.
QUERIES = [
    ("status UNIT", "Active: active (running)"), ("status --lines=0 UNIT", "Loaded: loaded"), ("show UNIT", "MainPID="), ("show -p Id,ActiveState,SubState UNIT", "ActiveState=active"),
    ("cat UNIT", "ExecReload="), ("journal UNIT", "has started"), ("journal --lines=9 UNIT", "bash"), ("is-active UNIT", "active"), ("is-failed UNIT", "active"),
    ("list-dependencies UNIT", "sysinit.target"), ("why UNIT", "is active (running) on"), ("events UNIT", "UNIT"), ("log UNIT=UNIT", "start"),
    ("list-units UNIT", "active"), ("list-unit-files UNIT", "launched"), ("history UNIT", "submitted"), ("rollout UNIT", "UNIT"),
    ("status fails-UNIT", "Active: failed"), ("is-failed fails-UNIT", "failed"), ("is-active fails-UNIT", "failed"), ("show -p Result fails-UNIT", "Result=exit-code"),
    ("journal fails-UNIT", "will fail"), ("why fails-UNIT", "failed")]
# By each host, for each unit; afterwards the query prints the words so many times more. A unit whose failure was reset once is not loaded.
CROSSED, OWN = [("attached", "voter"), ("voter", "attached")], [("voter", "voter"), ("attached", "attached")]
ACTIONS = [("reload UNIT", "journal UNIT", "has reloaded", CROSSED + OWN), ("kill --signal=USR1 --kill-whom=main UNIT", "journal UNIT", "got USR1", CROSSED + OWN),
           ("reset-failed fails-UNIT", "show -p ActiveState fails-UNIT", "ActiveState=inactive", CROSSED)]


def run(asked, command, of):
    r = subprocess.run([fleetctl, "--endpoint=unix://" + sockets[asked], *command.replace("UNIT=", "FIELD=").replace("UNIT", "on-%s.service" % of).replace("FIELD=", "UNIT=").split()],
                       capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    return "status %d\n%s%s" % (r.returncode, r.stdout, r.stderr)


def plain(out):
    """Without times, sizes, numbers and identities."""
    out = re.sub(r"\bon-(voter|attached)\b", "UNIT", out)
    for name, word in names.items():
        out = re.sub(r"\b%s\b" % name, word, out)
    out = re.sub(r"\b[0-9a-f]{32}\b", "HEX", out)
    out = re.sub(r"; [0-9a-z ]* ago", "; AGO", out)
    out = re.sub(r"\b[0-9]+(\.[0-9]+)?(us|ms|s|min|h|d|B|K|M|G)?\b", "N", out)
    return re.sub(r"\bN( N)+\b", "N", out)


def plain_unit(out):
    """In an order that does not depend on the machine ID; without the hash of the text, which has that ID."""
    words = lambda line: sorted(re.sub("^([0-9a-f]{7}|N)$", "N", w) for w in re.split(r"[\s=]+", line))
    return "\n".join(sorted(" ".join(words(line)) for line in plain(out).split("\n")))


def differs(a, b):
    """The first line that differs."""
    if a == b:
        return None
    a, b = a.split("\n"), b.split("\n")
    return next(("%s, not %s" % (y, x) for x, y in zip(a, b) if x != y), "%d lines, not %d" % (len(b), len(a)))


def compare(command, word):
    """Again for two seconds: a unit writes to its journal, and hosts report states, after the start has returned."""
    for attempt in range(20):
        found = compare_once(command, word)
        if not found:
            return
        time.sleep(0.1)
    problems.extend(found)


def compare_once(command, word):
    said, found = {(asked, of): run(asked, command, of) for of in sockets for asked in sockets}, []
    for (asked, of), out in said.items():
        if word.replace("UNIT", "on-" + of) not in out:
            found.append("%s on the %s host, of the unit on the %s host: %s" % (command, asked, of, out))
    for of in sockets:
        difference = differs(plain(said["voter", of]), plain(said["attached", of]))
        if difference:
            found.append("%s on the attached host, of the unit on the %s host: %s" % (command, of, difference))
    difference = differs(plain_unit(said["voter", "voter"]), plain_unit(said["voter", "attached"]))
    if difference:
        found.append("%s of the unit on the attached host: %s" % (command, difference))
    return found


def act(command, query, word, pairs):
    n = {of: run("voter", query, of).count(word) for of in sockets}
    for asked, of in pairs:
        out = run(asked, command, of)
        if out != "status 0\n":
            problems.append("%s on the %s host, of the unit on the %s host: %s" % (command, asked, of, out))
        n[of] += 1
        for attempt in range(40):
            if run(asked, query, of).count(word) == n[of]:
                break
            time.sleep(0.1)
        else:
            problems.append("%s on the %s host has no effect on the unit on the %s host: %s" % (command, asked, of, run(asked, query, of)))


for query in QUERIES:
    compare(*query)
for action in ACTIONS:
    act(*action)
print("%d questions and %d actions about units are equal on both kinds of hosts" % (len(QUERIES), sum(len(a[3]) for a in ACTIONS)) if not problems else "\n".join(p[:400] for p in problems))
sys.exit(1 if problems else 0)
