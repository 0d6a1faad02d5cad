#!/usr/bin/env python3
"""Replays sessions at a terminal: a file of commands and of what they are to say, on which stream, with which status.

    sessions.py FILE FOLDER ID=ADDRESS...      machines in the order of their ids

Commands run in FOLDER. In what they say the machines' ids and addresses are those of the file (1111..., 3333..., 2222...).
'== TITLE' begins a check, '@ NAME' a file that ends with a line '@', '$ COMMAND' a command; then come its lines of stdout, of
stderr as '[stderr] LINE', and '[exit N]'. '~' before a line of stdout or stderr: it may come or not, and anywhere; '*' in a line
stands for anything; '# ' is a comment. Lists are asked again for some seconds, until they say what they should: states arrive when they arrive.
"""
import os
import re
import subprocess
import sys
import time

PATIENCE_S = 8


class Step:
    def __init__(self, command):
        self.command, self.out, self.err, self.status = command, [], [], None


def read(path):
    """[(title, [Step or (name, text)])]"""
    checks, lines = [], open(path).read().split("\n")
    i = 0
    while i < len(lines):
        line = lines[i]
        i += 1
        if line.startswith("== "):
            checks.append((line[3:], []))
        elif line.startswith("@ "):
            end = lines.index("@", i)
            checks[-1][1].append((line[2:], "".join(l + "\n" for l in lines[i:end])))
            i = end + 1
        elif line.startswith("$ "):
            step = Step(line[2:])
            while not lines[i].startswith("[exit "):
                (step.err if re.match(r"~?\[stderr\] ?", lines[i]) else step.out).append(re.sub(r"^(~?)\[stderr\] ?", r"\1", lines[i]))
                i += 1
            step.status = int(lines[i][6:-1])
            i += 1
            checks[-1][1].append(step)
        elif line and not line.startswith("# "):
            sys.exit(f"{path}:{i}: neither title, file nor command: {line}")
    return checks


def fits(pattern, line):
    return re.fullmatch(".*".join(re.escape(p) for p in pattern.split("*")), line) is not None


def same(wanted, got):
    """In order, but for runs of lines that begin with 'Unit ': units arrive when they arrive."""
    got = list(got)
    for optional in (w[1:] for w in wanted if w.startswith("~")):
        got = [g for g in got if not fits(optional, g)]
    wanted = [w for w in wanted if not w.startswith("~")]
    if len(wanted) != len(got):
        return False
    i = 0
    while i < len(wanted):
        j = i
        while j < len(wanted) and wanted[j].startswith("Unit "):
            j += 1
        left = got[i:max(j, i + 1)]
        for w in wanted[i:max(j, i + 1)]:
            found = next((g for g in left if fits(w, g)), None)
            if found is None:
                return False
            left.remove(found)
        i = max(j, i + 1)
    return True


class Replay:
    def __init__(self, folder, machines):
        self.folder = folder
        self.names = []
        for (machine, address), digit in zip(machines, "132"):
            self.names += [(machine, digit * 32), (machine[:8] + "...", digit * 8 + "..."), (address, f"10.0.0.{digit}")]

    def run(self, step):
        p = subprocess.run(["bash", "-c", step.command], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        said = []
        for text in (p.stdout, p.stderr):
            for ours, theirs in self.names:
                text = text.replace(ours, theirs)
            said.append(text.split("\n")[:-1] if text.endswith("\n") else text.split("\n") if text else [])
        return p.returncode, *said

    def step(self, step):
        """None, or why not."""
        until = time.monotonic() + (PATIENCE_S if re.match(r"fleetctl list-|fleetctl status|fleetctl journal", step.command) else 0)
        while True:
            status, out, err = self.run(step)
            if status == step.status and same(step.out, out) and same(step.err, err):
                return None
            if time.monotonic() >= until:
                break
            time.sleep(0.1)
        print(f"$ {step.command}\n" + "".join(f"  wanted {l}\n" for l in step.out) + "".join(f"  wanted on stderr {l}\n" for l in step.err) +
              "".join(f"  got {l}\n" for l in out) + "".join(f"  got on stderr {l}\n" for l in err) + f"  exit {status}, not {step.status}")
        return f"{step.command}: exit {status}, {' | '.join((out + err)[:6])}"


def main():
    machines = [a.split("=") for a in sys.argv[3:]]
    replay = Replay(sys.argv[2], machines)
    for title, steps in read(sys.argv[1]):
        why, n = None, 0
        for step in steps:
            if isinstance(step, tuple):
                with open(os.path.join(sys.argv[2], step[0]), "w") as f:
                    f.write(step[1])
                continue
            n += 1
            why = replay.step(step) or why
        name = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
        print(f"ok {name}: {n} commands" if why is None else f"not ok {name}: {why}", flush=True)


main()
