#!/usr/bin/env python3
"""The output of fleetctl on terminals and in pipes, against a fleetd in Python: streams, tabs, exit statuses."""

import copy
import ctypes
import hashlib
import inspect
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import bad_input  # noqa: E402
import fake_fleetd  # noqa: E402

PROGRAM = os.path.join(os.environ.get("BUILD", os.getcwd()), "client/fleetctl")
AT_ONCE = 8
TEST_SECONDS = 600  # of one test, on a slow and busy machine
WAIT_SECONDS = 300  # for one event, likewise
STOPS_LATER = "has not stopped yet; its target state is launched again: it keeps running, or starts when it has stopped"
UNIT_TEXT = "[Unit]\nDescription=Example\n\n[Service]\nExecStart=/bin/sleep 1000\n"


class Test:
    """A folder with unit files, a cluster, and fleetctl in it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="fleetctl-")
        self.socket = os.path.join(self.dir, "sock")
        self.cluster = fake_fleetd.start(self.socket)
        self.runs = 0  # the first one is searched for leaks, which takes as long as the rest of it; so are all cases of test-client
        self.env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", "FLEETCTL_ENDPOINT": "unix://" + self.socket,
                    "FLEETCTL_REQUEST_TIMEOUT": str(WAIT_SECONDS)}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "GCOV_PREFIX"):
            if name in os.environ:
                self.env[name] = os.environ[name]

    def close(self):
        self.cluster.server.shutdown()
        self.cluster.server.server_close()
        shutil.rmtree(self.dir)

    def file(self, name, text=UNIT_TEXT):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def run(self, *args, stdin="", env=None):
        if self.runs == 1:
            self.env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        self.runs += 1
        p = subprocess.run([PROGRAM, *args], cwd=self.dir, env={**self.env, **(env or {})}, input=stdin, text=True,
                           capture_output=True, timeout=WAIT_SECONDS)
        return p.returncode, p.stdout, p.stderr

    def expect(self, args, status=0, out="", err=""):
        """Run 'args'. Strings are complete outputs, lists are required parts."""
        got = self.run(*(args.split() if isinstance(args, str) else args))
        where = f"fleetctl {args}"
        assert got[0] == status, f"{where}: exit status {got[0]}, not {status}\n{got[1]}{got[2]}"
        for name, text, wanted in (("stdout", got[1], out), ("stderr", got[2], err)):
            if isinstance(wanted, str):
                assert text == wanted, f"{where}: {name} is\n{text!r}, not\n{wanted!r}"
            else:
                for part in wanted:
                    assert part in text, f"{where}: {name} has no {part!r}:\n{text!r}"
        return got[1]

    def terminal(self, *args, columns=80, rows=24, term="xterm", blocked=()):
        return Terminal([PROGRAM, *args], self.dir, {**self.env, "TERM": term}, columns, rows, blocked)

    def on_terminal(self, *args, columns=80, typed="", **kwargs):
        """Return the output on a terminal with this input."""
        terminal = self.terminal(*args, columns=columns, **kwargs)
        os.write(terminal.me, typed.encode())
        return terminal.end(), terminal.said.decode()


class Terminal:
    """A program with a controlling terminal. Its parent process has blocked these signals."""

    def __init__(self, command, cwd, env, columns, rows, blocked=()):
        import fcntl
        import struct
        import termios
        self.columns, self.rows, self.said = columns, rows, b""
        self.me, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        attributes = termios.tcgetattr(other)
        attributes[3] |= termios.NOFLSH  # otherwise Ctrl-C discards unread output
        termios.tcsetattr(other, termios.TCSANOW, attributes)
        self.before = termios.tcgetattr(other)
        self.process = subprocess.Popen(command, cwd=cwd, env=env, stdin=other, stdout=other, stderr=other, start_new_session=True,
                                        preexec_fn=lambda: (fcntl.ioctl(0, termios.TIOCSCTTY, 0), signal.pthread_sigmask(signal.SIG_BLOCK, blocked)))
        os.close(other)

    def read(self, seconds):
        ready, _, _ = select.select([self.me], [], [], seconds)
        part = None
        for _ in range(2 if ready else 0):  # Linux may report the end before the last bytes (n_tty_read()), once
            try:
                part = os.read(self.me, 65536)
                break
            except OSError:
                part = b""
        self.said += part or b""
        return part

    def wait_for(self, what):
        """Wait until the screen contains this text; with a colour: until it has been printed."""
        end = time.monotonic() + WAIT_SECONDS
        while not any(what in line for line in ([self.said.decode(errors="replace")] if "\033" in what else self.screen())):
            assert time.monotonic() < end and self.read(1) != b"", f"no {what!r} on the screen: {self.screen()!r}"

    def end(self):
        """Read all output and return the exit status."""
        end = time.monotonic() + WAIT_SECONDS
        while self.read(1) != b"":
            assert time.monotonic() < end, f"goes on: {self.screen()!r}"
        os.close(self.me)
        assert self.said.rfind(b"\033[?7l") <= self.said.rfind(b"\033[?7h"), "lines would not be wrapped any more"
        return self.process.wait(WAIT_SECONDS)

    def screen(self):
        """Return the visible lines. Only the control sequences of fleetctl are supported."""
        lines, y, x, at, text, wraps = [[]], 0, 0, 0, self.said.decode(errors="replace"), True
        while at < len(text):
            escape = re.compile(r"\033\[([?0-9;]*)([A-Za-z])").match(text, at)
            if escape:
                value, what = escape.groups()
                if what == "A":
                    y = max(y - int(value or 1), 0)
                elif what == "K":
                    del lines[y][x:]
                elif what == "J":
                    del lines[y][x:], lines[y + 1:]
                elif what in "hl" and value == "?7":
                    wraps = what == "h"
                else:
                    assert what == "m", escape.group()
                at = escape.end()
                continue
            c, at = text[at], at + 1
            if c == "\r":
                x = 0
                continue
            if c == "\n":
                y, x = y + 1, 0
            else:
                if x == self.columns and wraps:
                    y, x = y + 1, 0
                elif x == self.columns:
                    x -= 1
            while len(lines) <= y:
                lines.append([])
            if c != "\n":
                lines[y][x:x + 1] = [c] if x <= len(lines[y]) else [" "] * (x - len(lines[y])) + [c]
                x += 1
        return ["".join(line).rstrip() for line in lines]


# -- lists --

def lists_of_an_empty_cluster_print_the_legend_only(t):
    t.expect("list-units", out="UNIT\tMACHINE\tACTIVE\tSUB\n")
    t.expect("list-unit-files", out="UNIT\tHASH\tDSTATE\tSTATE\tTARGET\n")
    t.expect("list-units --no-legend")


def machines_are_listed_with_the_tabs_of_fleet(t):
    t.expect("list-machines", out="MACHINE\t\tIP\t\tMETADATA\n"
             "11111111...\t10.0.0.1\thost=h1,n=1,region=eu\n22222222...\t10.0.0.2\thost=h2,n=2,region=eu\n"
             "33333333...\t10.0.0.3\thost=h3,n=3,region=eu\n")
    t.expect("list-machines --full --no-legend --fields=machine,ip",
             out="".join(f"{d * 32}\t10.0.0.{d}\n" for d in "123"))


def flags_are_accepted_short_and_long_before_and_after_arguments(t):
    whole = t.expect("list-machines --full --no-legend", out=["1" * 32])
    for args in ("-l list-machines --no-legend", "list-machines -l --no-legend", "list-machines --l --no-legend=true",
                 "--no-legend --full=yes list-machines", "list-mach -l --no-legend"):
        t.expect(args, out=whole)


def units_are_listed_by_fields(t):
    t.file("hello.service")
    t.expect("start --no-block hello.service", out=["Triggered unit hello.service start\n"])
    t.expect("list-units", out="UNIT\t\tMACHINE\t\t\tACTIVE\tSUB\nhello.service\t11111111.../10.0.0.1\tactive\trunning\n")
    t.expect("list-units --fields=unit,load,machine --full --no-legend",
             out=f"hello.service\tloaded\t{'1' * 32}/10.0.0.1\n")
    got = t.expect("list-unit-files --fields=unit,desc,dstate,global,hash,state,target,tmachine",
                   out=["UNIT\t\tDESC\tDSTATE\t\tGLOBAL\tHASH\tSTATE\t\tTARGET\t\t\tTMACHINE\n", "launched\tfalse\t"],
                   err='WARNING: The "tmachine" field is deprecated. Use "target" instead\n')
    assert got.count("11111111.../10.0.0.1") == 2


def an_unknown_field_is_rejected_without_a_request(t):
    t.expect("list-units --fields=unit,bogus", 1, err='Invalid key in output format: "bogus"\nfleetctl: --fields= knows unit,machine,load,active,sub,hash,health,available,why,hostname\n')
    t.expect(["list-units", "--fields="], 1, err="Must define output format\n")
    assert t.cluster.requests == []


def the_help_of_a_list_has_each_field(t):
    for verb in ("list-machines", "list-units", "list-unit-files"):
        _, _, err = t.run(verb, "--fields=bogus")
        known = set(err.split("--fields= knows ")[1].split()[0].split(",")) - {"tmachine"}  # deprecated
        _, out, _ = t.run("help", verb)
        listed = re.search(r"Fields: ([^.]*)\.", out)[1].replace(",", " ").split()
        assert sorted(listed) == sorted(known), f"help {verb} lists {listed}, and there are {known}"


def all_pages_of_a_list_are_read(t):
    for i in range(250):
        t.cluster.units[f"p{i:03}.service"] = {
            "name": f"p{i:03}.service", "text": UNIT_TEXT, "options": fake_fleetd.parse(UNIT_TEXT), "desiredState": "inactive",
            "currentState": "inactive", "machineID": "", "hash": "a" * 40, "reason": ""}
    got = t.expect("list-unit-files --no-legend --fields=unit", out=["p000.service\n", "p249.service\n"])
    assert got.count("\n") == 250
    assert len(json.loads(t.expect("list-unit-files --output=json", out=["p123"]))["units"]) == 250


def json_output_is_complete(t):
    t.file("hello.service")
    t.expect("start hello.service", out=["launched"])
    state = json.loads(t.expect("list-units --output=json", out=["{"]))["states"][0]
    assert state["machineID"] == "1" * 32 and state["systemdSubState"] == "running", state
    unit = json.loads(t.expect("cat --output=json hello.service", out=["{"]))
    assert unit["text"] == UNIT_TEXT and unit["desiredState"] == "launched", unit
    t.expect("list-units --output=xml", 2, err="fleetctl: --output=xml: expected json\n")


# -- submit, cat, replace --

def a_unit_is_submitted_once(t):
    t.file("plain.service")
    t.expect("submit plain.service", out="Unit plain.service inactive\n")
    t.expect("submit plain.service")
    t.expect("cat plain", out=UNIT_TEXT)
    t.expect("list-unit-files --fields=unit,dstate,state,target --no-legend", out="plain.service\tinactive\tinactive\t-\n")
    t.expect("status plain.service", 1, err="Unit plain.service does not appear to be loaded.\n")
    t.expect("journal plain.service", 1, err="Unit plain.service does not appear to be running.\nfleetctl: plain.service has no journal entry on any machine, and its target state is inactive: to start it, fleetctl start plain.service\n")


def a_file_is_sent_unchanged_and_printed_in_canonical_form(t):
    t.file("c.service", "# why\n[Service]\n  ExecStart = /bin/true  \n")
    t.expect("submit c", out="Unit c.service inactive\n")
    assert t.cluster.units["c.service"]["text"].startswith("# why\n")
    t.expect("cat c", out="[Service]\nExecStart=/bin/true\n")


def a_changed_file_requires_replace(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    t.file("a.service", UNIT_TEXT.replace("Example", "Changed"))
    warning = "WARNING: Unit a.service in registry differs from local unit file a.service. Add --replace to override.\n"
    t.expect("start a.service", err=warning)
    t.expect("submit --replace a.service",
             err="Warning: can not replace Unit(a.service) in state 'launched', use the appropriate command\n"
             "fleetctl: a.service was not replaced; to replace and start it again: fleetctl start --replace a.service\n")
    t.expect("cat a", out=UNIT_TEXT)
    t.expect("start --replace a.service", out="Unit a.service inactive\nUnit a.service launched on 11111111.../10.0.0.1\n")
    t.expect("cat a", out=["Changed"])
    t.expect("start --replace a.service", out="Found same Unit(a.service) in Registry, nothing to do\n")


def an_error_in_one_file_prevents_the_submission_of_all(t):
    t.file("good.service")
    t.file("bad.service", "[Service]\nExecStart=/bin/true\n[X-Fleet]\nMachineMetadata=gpu\n")
    t.expect("submit good.service bad.service", 1,
             err=["fleetctl: bad.service: line 4: ", "MachineMetadata", "fleetctl: nothing was submitted\n"])
    assert t.cluster.units == {} and all(m == "GET" for m, _ in t.cluster.requests)


def a_unit_that_an_older_version_stored_is_started_from_its_own_file(t):
    text = UNIT_TEXT + "[Install]\n" + "Also=b.service\n" * 257
    t.file("a.service")
    t.file("a@.service")
    t.expect("submit a.service a@1.service", out=["Unit a.service inactive\n"])
    for name in ("a.service", "a@.service", "b.service"):
        t.file(name, text)
    options = fake_fleetd.parse(text)
    for name in ("a.service", "a@1.service"):
        t.cluster.units[name].update(text=text, options=options, hash=hashlib.sha1(fake_fleetd.canonical(options).encode()).hexdigest())
    refused = ["[Install] has more than 256 names in Alias= and Also=", "fleetctl: nothing was submitted\n"]
    t.expect("start a.service a@1.service", out=["Unit a.service launched on ", "Unit a@1.service launched on "])
    t.expect("submit --replace a.service", out="Found same Unit(a.service) in Registry, nothing to do\n")
    t.expect("start b.service", 1, err=["fleetctl: b.service: ", *refused])
    t.expect("start a@2.service", 1, err=["fleetctl: a@.service: ", *refused])
    t.file("a.service", text + "Also=c.service\n")
    t.expect("start a.service", 1, err=["fleetctl: a.service: ", *refused])
    assert t.cluster.units["a.service"]["text"] == text and "b.service" not in t.cluster.units


def an_error_of_the_daemon_about_a_file_is_printed_with_the_name_of_the_file(t):
    t.file("odd.service", "[Service]\nExecStart=/bin/echo refused-by-daemon\n")
    t.expect("submit odd.service", 1, err="fleetctl: odd.service: line 2: fleetd knows better\nfleetctl: nothing was submitted\n")


def a_unit_with_many_empty_options_is_listed_and_printed(t):
    t.file("x.service", "[]\n" + "=\n" * 5000)
    t.expect("submit x.service", out="Unit x.service inactive\n")
    t.cluster.units["x.service"]["options"] = [{}] * 5000  # as in answers of the daemon, which omits empty members
    t.expect("list-unit-files --fields=unit,target --no-legend", out="x.service\t-\n")
    t.expect("cat --source x", out="[]\n" + "=\n" * 5000)


def an_unknown_option_is_a_warning(t):
    t.file("u.service", "[Service]\nExecStart=/bin/true\n[X-Fleet]\nConflict=x\n")
    t.expect("submit u.service", out="Unit u.service inactive\n", err=["fleetctl: u.service: line 4: warning: ", "Conflict"])


def missing_units_and_files_are_reported_with_the_messages_of_fleet(t):
    missing = "Error creating units: unable to find Unit(missing.service) in Registry or on filesystem\n"
    for verb in ("submit", "load", "start", "restart"):
        t.expect(f"{verb} missing", 1, err=missing)
        t.expect(verb, 0, err="No units given\n")
    t.expect("submit missing@1.service", 1,
             err="Error creating units: failed getting Unit(missing@1.service) from template: "
                 "unable to find template Unit(missing@.service) in Registry or on filesystem\n")
    t.expect(["start", "t@{4..5}.service"], 1, err="Error creating units: invalid character '{' in unit name\n"
             "fleetctl: t@{4..5}.service: invalid character '{' in unit name\n")
    for verb in ("stop", "unload", "destroy"):
        t.expect(f"{verb} missing", 0, err="Units not found in registry\nfleetctl: missing.service: the cluster has no such unit\n")
        t.expect(verb, 0, err="No units given\n")
    t.expect("cat missing", 1, err="Unit missing.service not found\n")
    t.expect("cat a b", 1, err="One unit file must be provided\n")
    t.expect("status missing", 1, err="Unit missing.service does not exist.\n")
    t.expect("journal missing", 1, err="Unit missing.service does not exist.\n")
    t.expect("journal", 1, err="One unit file must be provided.\nfleetctl: journal: name a unit (fleetctl list-units)\n")


# -- start, stop and similar verbs --

def the_life_cycle_of_a_unit_prints_the_messages_of_fleet(t):
    t.file("hello.service")
    place = " on 11111111.../10.0.0.1\n"
    t.expect("load hello.service", out="Unit hello.service inactive\nUnit hello.service loaded" + place)
    t.expect("start hello.service", out="Unit hello.service launched" + place)
    t.expect("start hello.service")
    t.expect("stop hello.service", out="Unit hello.service loaded" + place, err="Successfully stopped units [hello.service].\n")
    t.expect("stop hello.service", err="Successfully stopped units [].\n")
    t.expect("restart hello.service", out="Unit hello.service launched" + place)
    t.expect("restart hello.service", out="Unit hello.service launched" + place)
    t.expect("unload hello.service", out="Unit hello.service inactive\n", err="Successfully unloaded units [hello.service].\n")
    t.expect("unload hello.service", err="Successfully unloaded units [].\n")
    t.expect("restart hello.service", err="Unable to restart unit hello.service in state inactive\n"
             "fleetctl: hello.service is on no machine; to start it: fleetctl start hello.service\n")
    t.expect("destroy hello.service", out="Destroyed hello.service\n")
    t.expect("destroy hello.service", err="Units not found in registry\nfleetctl: hello.service: the cluster has no such unit\n")


def stop_checks_all_units_before_it_changes_one(t):
    t.file("a.service")
    t.file("b.service")
    t.expect("start a.service", out=["launched"])
    t.expect("submit b.service", out=["inactive"])
    t.expect("stop a.service b.service", 1, err="Unable to stop unit b.service in state inactive\n"
             "fleetctl: b.service is on no machine: nothing was stopped\n")
    assert t.cluster.units["a.service"]["desiredState"] == "launched"


def many_units_start_in_parallel_and_are_followed_by_events(t):
    names = [f"w{i}.service" for i in range(12)]
    for name in names:
        t.file(name)
    t.cluster.delay = 0.2
    got = t.expect(["start", *names], out=[f"Unit {n} launched on " for n in names])
    assert got.count("\n") == 24
    assert t.cluster.requests.count(("GET", "/fleet/v1/events")) == 1, t.cluster.requests


def ask(t, kind, digit, *names):
    t.cluster.problems += [{"kind": kind, "machineID": digit * 32, "name": n, "reason": f"{n}: {kind}, so to say"} for n in names]


def drop_ins_are_submitted_with_their_file(t):
    t.file("web.service")
    os.mkdir(os.path.join(t.dir, "web.service.d"))
    t.file("web.service.d/10.conf", "# why\n[Service]\nNice=1\n")
    t.expect("submit web.service", out=[])
    assert t.cluster.units["web.service"]["text"] == UNIT_TEXT + "\n\n# web.service.d/10.conf\n# why\n[Service]\nNice=1\n"
    t.expect("cat --source web.service", out=UNIT_TEXT + "\n\n# web.service.d/10.conf\n# why\n[Service]\nNice=1\n")
    assert "Nice=1\n" in t.expect("cat web.service", out=["[Service]\n"]) and "#" not in t.expect("cat web.service", out=["Nice"])
    t.expect("submit --replace web.service", out="Found same Unit(web.service) in Registry, nothing to do\n")
    t.expect("diff web.service", out="")
    t.file("web.service.d/10.conf", "Nice=1\n")
    t.expect("submit web.service", 1, err=["fleetctl: web.service.d/10.conf: line 1: an option before the first [section]\n",
                                           "fleetctl: nothing was submitted\n"])


def an_instance_has_drop_ins_of_its_own(t):
    t.file("web@.service")
    for folder, n in (("web@.service.d", 1), ("web@2.service.d", 2)):
        os.mkdir(os.path.join(t.dir, folder))
        t.file(folder + "/10.conf", f"[Service]\nNice={n}\n")
    t.expect("submit web@.service", out=[])
    t.expect("submit web@1.service web@2.service", out=[])
    text = {i: t.cluster.units[f"web@{i}.service"]["text"] for i in (1, 2)}
    assert "Nice=1" in text[1] and "Nice=2" not in text[1]
    assert text[2].index("# web@2.service.d/10.conf\n[Service]\nNice=2") > text[2].index("Nice=1")


def problems_of_directories_are_printed_after_the_list_and_in_the_row_of_the_unit(t):
    t.file("a.service")
    t.expect("submit a.service", out=[])
    ask(t, "taken", "2", "a.service")
    ask(t, "refused", "3", "b.service")
    below = "fleetctl: beta: a.service: taken, so to say\nfleetctl: gamma: b.service: refused, so to say\n"
    t.expect("list-unit-files --no-legend --fields=unit,problem", out="a.service\tbeta: a.service: taken, so to say\n", err=below)
    t.expect("directory", out=["UNIT\t", "a.service\t", "beta", "taken", "b.service\t", "gamma", "refused"])
    assert len(json.loads(t.expect("directory --output=json", out=["refused"]))["problems"]) == 2


def held_units_are_confirmed_by_name_or_all_of_one_host(t):
    ask(t, "held", "1", "a.service", "b.service", "c.service")
    ask(t, "taken", "1", "d.service")
    t.expect("directory confirm b", out="b.service: confirmed; the removal follows\n")
    assert t.cluster.answered == [{"kind": "held", "machineID": "1" * 32, "names": ["b.service"]}]
    t.expect("directory confirm b", 1, err="fleetctl: b.service: no unit directory has such a problem (fleetctl directory lists all)\n")
    ask(t, "held", "2", "e.service")
    t.expect("directory confirm", 1, err="fleetctl: alpha and beta have such a problem: choose by --machine=\n")
    t.expect("directory confirm --machine=alpha", out="a.service, c.service: confirmed; the removal follows\n")
    assert [p["name"] for p in t.cluster.problems] == ["d.service", "e.service"]


def take_over_replaces_a_unit_by_the_file_of_the_named_host(t):
    ask(t, "taken", "2", "a.service")
    ask(t, "taken", "3", "a.service")
    t.expect("directory take-over", 2, err="fleetctl: directory take-over: expected the names of units\n")
    t.expect("directory take-over a.service", 1, err="fleetctl: beta and gamma have such a problem: choose by --machine=\n")
    t.expect("directory take-over a.service --machine=delta", 4, err="fleetctl: delta: no machine has this name or ID; fleetctl list-machines --all\n")
    t.expect("directory take-over a.service --machine=gamma", out="a.service: taken over: the directory owns it\n")
    assert t.cluster.answered == [{"kind": "taken", "machineID": "3" * 32, "names": ["a.service"]}]


def without_events_the_state_is_polled(t):
    t.file("a.service")
    t.cluster.events, t.cluster.delay = False, 0.6
    t.expect("start a.service", out="Unit a.service inactive\nUnit a.service launched on 11111111.../10.0.0.1\n")


def block_attempts_end_the_wait(t):
    t.file("nowhere.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n")
    said = "timed out waiting for unit nowhere.service to report state launched\n"
    began = time.monotonic()
    t.expect("start --block-attempts=1 nowhere.service", 1, out="Unit nowhere.service inactive\n",
             err=["Error waiting for units: " + said, "Error waiting for unit states, exit status: " + said,
                  "fleetctl: nowhere.service: needs metadata region=mars, no machine has it; to cancel: fleetctl unload nowhere.service\n"])
    assert time.monotonic() - began > 1.5
    t.expect("list-unit-files --no-legend --fields=unit,target,reason",
             out="nowhere.service\t-\tneeds metadata region=mars, no machine has it\n")


def a_unit_that_fails_ends_the_wait_at_once(t):
    t.file("bad.service", "[Service]\nExecStart=/bin/false\n")
    said = "Failed to find an active unit bad.service: it is failed on alpha\n"
    t.expect("start bad.service", 1, out=["Unit bad.service launched on 11111111.../10.0.0.1\n"],
             err="Error waiting for units: " + said.rstrip("\n") + "; fleetctl journal bad.service\n")


def a_job_that_ended_successfully_counts_as_started(t):
    t.file("job.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    t.expect("start job.service", out=["Unit job.service launched on "])


def the_end_of_the_previous_run_is_ignored(t):
    t.file("bad.service", "[Service]\nExecStart=/bin/false\n")
    t.cluster.lag = 0.5
    t.expect("start bad.service", 1, out=["launched"], err=["failed"])
    t.cluster.units["bad.service"]["text"] = UNIT_TEXT
    for verb in ("stop", "unload"):
        t.run(verb, "bad.service")
        t.cluster.states["bad.service", "1" * 32] = {
            "name": "bad.service", "machineID": "1" * 32, "hash": "a" * 40, "systemdLoadState": "loaded",
            "systemdActiveState": "failed", "systemdSubState": "failed", "since": 17}
        t.expect("start bad.service", out=["launched"])
    t.expect("list-units --no-legend --fields=unit,active", out="bad.service\tactive\n")


def start_reports_units_that_it_does_not_start_again(t):
    t.file("bad.service", "[Service]\nExecStart=/bin/false\n")
    t.file("job.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    t.expect("start job.service", out=["Unit job.service launched on "])
    t.expect("start bad.service", 1, out=["launched"], err=["failed"])
    t.expect("start job", err="fleetctl: job.service ended successfully on alpha just now; to start it again: fleetctl restart job.service\n")
    t.expect("start bad job", 1, err=["fleetctl: bad.service failed on beta just now; to start it again: fleetctl restart bad.service\n"])
    assert [m for m, path in t.cluster.requests if m != "GET"] == ["PUT"] * 2  # each unit is created with its target state
    t.cluster.units["bad.service"]["text"] = UNIT_TEXT
    t.expect("restart bad.service", out=["Unit bad.service launched on "])
    t.expect("start bad.service")


def exit_statuses_are_those_of_the_table_in_the_manual(t):
    with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../man/fleetctl.1.scd")) as f:
        manual = f.read()
    cells = [line[2:].strip(" -<[") for line in re.search(r"\[\[ \*Verb\*(.*?)\n\n", manual, re.S).group(0).strip().splitlines()]
    rows = [cells[i:i + 4] for i in range(4, len(cells), 4)]
    for verb in ("load", "start", "edit", "restart", "why", "stop", "kill", "status", "is-active"):
        assert any(f"*{verb}*" in row[0] for row in rows), f"the table has no row for {verb}"
    t.env["EDITOR"] = "true"
    t.file("idle.service")
    t.file("bad.service", "[Service]\nExecStart=/bin/false\n")
    for verbs, absent, idle, failed in rows:
        for verb in re.findall(r"\*(.*?)\*", verbs):
            for unit, status in (("nothing", absent), ("idle", idle), ("bad", failed)):
                if status == "–":
                    continue
                t.run("destroy", "idle", "bad")
                assert t.run("submit", "idle")[0] == 0 and t.run("start", "bad")[0] == 1
                got = t.run(verb, unit)
                assert str(got[0]) == status, f"{verb} {unit}: exit status {got[0]}, and the manual says {status}: {got}"
                assert got[0] == 0 or verb.startswith("is-") or got[2], f"{verb} {unit}: exit status {got[0]} without a message"


def a_failure_equal_to_the_previous_one_counts_after_some_seconds(t):
    t.file("bad.service", "[Service]\nExecStart=/bin/false\n")
    t.expect("load bad.service", out=["loaded"])
    t.cluster.states["bad.service", "1" * 32].update(systemdActiveState="failed", since=17)
    t.expect("start bad.service", 1, out=["launched"], err=["it is failed on alpha"])


def stop_returns_when_the_unit_has_stopped(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    t.cluster.lag = 0.6
    t.expect("stop a.service", out="Unit a.service loaded on 11111111.../10.0.0.1\n", err=["Successfully"])
    t.expect("list-units --no-legend --fields=unit,active", out="a.service\tinactive\n")
    t.expect("restart a.service", out="Unit a.service launched on 11111111.../10.0.0.1\n")
    t.expect("list-units --no-legend --fields=unit,active", out="a.service\tactive\n")


def a_unit_that_loses_its_machine_while_it_starts_is_followed_to_the_next(t):
    t.file("s.service", UNIT_TEXT.replace("Example", "slow"))

    def move():
        until(lambda: ("GET", "/fleet/v1/events") in t.cluster.requests, "no wait")
        has_read(t, "s.service")
        with t.cluster.lock:
            del t.cluster.states["s.service", "1" * 32]
            t.cluster.units["s.service"].update(currentState="inactive", machineID="")
            t.cluster.notify(kind="unit", name="s.service")
        has_read(t, "s.service")
        with t.cluster.lock:
            t.cluster.units["s.service"].update(currentState="launched", machineID="2" * 32)
            t.cluster.put_state("s.service", "2" * 32, "launched", UNIT_TEXT)
            t.cluster.notify(kind="unit", name="s.service")

    threading.Thread(target=move).start()
    t.expect("start s.service", out="Unit s.service inactive\nUnit s.service launched on 11111111.../10.0.0.1\n"
             "Unit s.service launched on 22222222.../10.0.0.2\n")


def a_slow_unit_is_waited_for(t):
    t.file("s.service", UNIT_TEXT.replace("Example", "slow"))
    said = "Failed to find an active unit s.service within 2s, err: it is activating (start-pre) on 11111111.../10.0.0.1\n"
    t.expect("start --block-attempts=1 s.service", 1, out=["launched"], err=["Error waiting for systemd unit states, err: " + said])


def no_block_prints_each_triggered_unit_once(t):
    t.file("a.service")
    t.expect("start --no-block a.service", out="Unit a.service inactive\nTriggered unit a.service start\n")
    t.expect("stop --no-block a.service", out="Triggered unit a.service stop\n", err="Successfully stopped units [a.service].\n")


def global_units_are_triggered(t):
    t.file("g.service", UNIT_TEXT + "[X-Fleet]\nGlobal=true\n")
    t.expect("start g.service", out="Unit g.service inactive\nTriggered global unit g.service start\n")
    t.expect("list-unit-files --no-legend --fields=unit,dstate,state,target,global", out="g.service\tlaunched\t-\tglobal\ttrue\n")
    assert t.expect("list-units --no-legend", out=["g.service"]).count("\n") == 3
    assert t.expect("status g.service", out=["● g.service on 1\n\n● g.service on 2\n\n"]).count("●") == 3
    assert t.expect("journal g.service", out=["3: journal of g.service"]).count("\n") == 3
    t.expect(f"journal -m {'2' * 32} g.service", out=["journal of g.service"])
    t.expect("status --machine=beta g.service", out="● g.service on 2\n")
    t.expect("journal -m absent g.service", 1, err="Unable to proceed: machine does not exist\n"
             "fleetctl: --machine=absent: no machine has this name or ID; fleetctl list-machines --all\n")
    t.expect("stop g.service", out="Triggered global unit g.service stop\n", err="Successfully stopped units [].\n")
    t.expect("destroy g.service", out="Destroyed g.service\n")


def destroy_waits_until_no_machine_reports_the_unit(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    t.cluster.delay = 0.5
    t.expect("destroy a.service", out="Destroyed a.service\n")
    assert t.cluster.states == {}
    t.cluster.delay = 0
    t.cluster.stuck.add("a.service")
    t.expect("start a.service", out=["launched"])
    t.expect("destroy --block-attempts=1 a.service", 1, err=["Error destroying units: timed out waiting for unit a.service"])
    t.expect("start a.service", out=["launched"])
    t.expect("destroy --no-block a.service", out="Destroyed a.service\n")


# -- templates --

def an_instance_uses_the_template_of_the_cluster_or_of_the_folder(t):
    t.file("t@.service", UNIT_TEXT.replace("Example", "T %i"))
    t.expect("start t@1.service", out=["Unit t@1.service launched on "])
    t.expect("submit t@.service", out="Unit t@.service inactive\n")
    os.unlink(os.path.join(t.dir, "t@.service"))
    t.expect("start t@2 t@3", out=["Unit t@2.service launched on ", "Unit t@3.service launched on "])
    t.expect("cat t@3", out=UNIT_TEXT.replace("Example", "T %i"))
    t.expect("start t@.service", 1, err='Error starting units: googleapi: Error 400: cannot activate template "t@.service"\n'
             "fleetctl: t@.service is a template: name an instance, for example fleetctl start t@1.service\n")


def a_rejected_template_leaves_the_cluster_unchanged(t):
    t.file("t@.service", UNIT_TEXT)
    t.file("a.service")
    t.expect("submit t@.service", out=["inactive"])
    t.expect("start t@1.service", out=["launched"])
    t.file("t@.service", UNIT_TEXT.replace("Example", "New"))
    t.file("n@.service", UNIT_TEXT)
    before = len(t.cluster.requests)
    for verb, words in (("start", "Error starting units: "), ("load", "Error loading units: "), ("restart", "Unable to restart unit ")):
        for args in ("t@.service", "a t@.service", "n@.service", "a t@1.service n@.service"):
            for flag in ("", "--replace ") if verb != "restart" else ("",):
                t.expect(f"{verb} {flag}{args}", 1, err=[words, " is a template"])
    t.expect("start --replace a t@.service", 1, err='Error starting units: googleapi: Error 400: cannot activate template "t@.service"\n'
             "fleetctl: t@.service is a template; to update the instances of t@.service: fleetctl submit --replace t@.service\n"
             "fleetctl: no unit was changed\n")
    assert all(method == "GET" for method, _ in t.cluster.requests[before:])
    assert "n@.service" not in t.cluster.units and "a.service" not in t.cluster.units and "New" not in t.cluster.units["t@.service"]["text"]


def replacing_an_instance_uses_the_template_that_was_compared(t):
    t.file("t@.service", UNIT_TEXT)
    t.expect("submit t@.service", out=["inactive"])
    t.expect("start t@1.service", out=["launched"])
    t.file("t@.service", UNIT_TEXT.replace("Example", "New"))
    t.expect("start t@1.service", err=["differs from local template unit file t@1.service. Add --replace to override.\n"])
    t.expect("start --replace t@1.service", out=["Unit t@1.service launched on "])
    t.expect("cat t@1", out=["New"])


# -- status and journal --

def status_and_journal_print_the_remote_output_and_return_its_status(t):
    t.file("a.service")
    t.file("f.service", "[Service]\nExecStart=/bin/false\n")
    t.expect("start a.service", out=["launched"])
    t.expect("start f.service", 1, out=["launched"], err=["failed"])
    t.expect("status a f", 3, out="● a.service on 1\n\n● f.service on 2\n", err="fleetctl: f.service failed on beta just now; fleetctl journal f.service\n")
    t.expect("journal a", out="Nov 14 22:13:20 host 1: journal of a.service: 10 false short-unix\n")
    t.expect("journal -f --lines=3 --output=cat a", out="journal of a.service: 3 true cat\n")
    t.expect("journal -n 7 -o json-pretty --sudo --ssh-port=22 a", out="journal of a.service: 7 false json-pretty\n")


def journals_of_several_machines_are_merged_by_time(t):
    t.file("g.service", UNIT_TEXT + "[X-Fleet]\nGlobal=true\n")
    t.expect("start g.service", out=["Triggered"])
    t.cluster.talks = True
    said = t.expect("journal -n 4 --since=-1h g.service", out=["journal"])
    since = re.search(r" (@[0-9]+)\n", said)[1]
    assert abs(time.time() - 3600 - int(since[1:])) < 60, said
    line = "Nov 14 22:13:{} host {}: journal of g.service: 100000 false short-unix " + since + "\n  goes on\n"
    assert said == line.format(22, 3) + "".join(line.format(23, m) for m in (1, 2, 3)), said
    said = t.expect("journal -n 2 -o json g.service", out=["journal"])
    times = [x[25:41] for x in said.splitlines() if x.startswith("{")]
    assert times == ["1700000000300000", "1700000001100000", "1700000001200000", "1700000001300000"][-2:], said
    assert t.expect("journal -n 1 -o cat g.service", out=["journal"]).count("goes on") == 3


def journals_of_several_units_are_merged_like_those_of_several_machines(t):
    for name in ("a1.service", "a2.service", "b.service"):
        t.file(name)
    t.expect("start a1 a2 b", out=["launched"])
    a1, a2 = (f"Nov 14 22:13:20 host {m}: journal of a{m}.service: 10 false short-unix\n" for m in (1, 2))
    t.expect("journal a2 a1", out=a1 + a2)
    t.expect(["journal", "a*"], out=a1 + a2)
    t.expect(["journal", "-n", "1", "a*"], out=a2.replace("10 false", "1 false"))
    t.expect(["journal", "-m", "beta", "a*"], out=a2)
    t.expect(["journal", "-o", "cat", "a*"], out="journal of a1.service: 10 false cat\njournal of a2.service: 10 false cat\n")
    t.expect("journal a1 none", 1, err="Unit none.service does not exist.\n")


def an_empty_journal_is_reported(t):
    t.file("a.service")
    t.expect("start a", out=["launched"])
    t.cluster.states.clear()
    t.expect("journal a", err="fleetctl: a.service: no journal entries on alpha, beta, gamma\n")
    t.expect("journal -m beta --since=-1h a", err="fleetctl: a.service: no journal entries of this time on beta\n")
    t.expect("journal --until=yesterday a a", err="fleetctl: 2 units: no journal entries of this time on alpha, beta, gamma\n")
    t.expect("journal -o cat a", err="fleetctl: a.service: no journal entries on alpha, beta, gamma\n")
    t.expect("submit --replace a", out=["Found same"])
    t.expect("unload --no-block a", out=["Triggered"], err=["unloaded"])
    t.expect("journal a", 1, err="Unit a.service does not appear to be running.\nfleetctl: a.service has no journal entry on any machine, and its target state is inactive: to start it, fleetctl start a.service\n")


def other_verbs_of_systemctl_run_on_the_machine_of_the_unit(t):
    t.file("a.service")
    t.file("bad.service")
    t.file("g.service", UNIT_TEXT + "[X-Fleet]\nGlobal=true\n")
    t.expect("start a bad g", out=["launched"])
    t.expect("show -p Id,MainPID a", out="GET show a.service on 1 Id,MainPID\n")
    said = t.expect("show -p Id g", out=["FleetMachine=alpha\nGET show g.service on 1 Id\n", "\n\nFleetMachine=beta\n"])
    assert said.count("FleetMachine=") == 3, said
    t.expect("list-dependencies a", out="GET dependencies a.service on 1\n")
    t.expect("kill -s HUP --kill-whom=main a", out="POST kill a.service on 1 HUP main\n")
    t.expect("reload bad a", 5, out="POST reload bad.service on 2\nPOST reload a.service on 1\n")
    t.expect("reset-failed g", out="".join(f"POST reset-failed g.service on {m}\n" for m in (1, 2, 3)))
    t.expect("reload", 2, err="fleetctl: reload: expected at least one unit\n")
    t.expect("kill nothing", 4, err="Unit nothing.service does not exist.\n")
    t.expect("submit a@.service", 1, err=["unable to find"])


def is_active_and_is_failed_return_the_statuses_of_systemctl(t):
    t.file("a.service")
    t.file("f.service", "[Service]\nExecStart=/bin/false\n")
    t.file("idle.service")
    t.expect("start a.service", out=["launched"])
    t.expect("start f.service", 1, out=["launched"], err=["failed"])
    t.expect("submit idle.service", out=["inactive"])
    t.expect("is-active a", out="active\n")
    t.expect("is-active a f idle nothing", out="active\nfailed\ninactive\nunknown\n")
    t.expect("is-active f idle", 3, out="failed\ninactive\n")
    t.expect("is-active nothing", 4, out="unknown\n")
    t.expect("is-failed a", 1, out="active\n")
    t.expect("is-failed -q a f")


def many_units_are_one_request(t):
    names = [f"u{n:02}.service" for n in range(30)]
    for name in names:
        t.file(name)
    t.file("bad.service", UNIT_TEXT + "# refused-by-daemon\n")
    t.expect(["submit", *names, "bad.service"], 1, err="fleetctl: bad.service: line 2: fleetd knows better\nfleetctl: nothing was submitted\n")
    assert t.cluster.units == {}
    t.cluster.requests.clear()
    said = t.expect(["start", *names], out=["launched"])
    assert said.count(" inactive\n") == 30 and said.count(" launched on ") == 30, said
    changes = [r for r in t.cluster.requests if r[0] != "GET"]
    assert changes == [("POST", "/fleet/v1/batch")], changes


def patterns_match_units_of_the_cluster(t):
    for name in ("web@1.service", "web@2.service", "web@.service", "db.service", "idle.service"):
        t.file(name)
    t.expect("start web@1 web@2 db", out=["launched"])
    t.expect("submit web@.service idle.service", out=["inactive"])
    assert t.expect(["status", "web@*"], out=["web@1.service", "web@2.service"]).count("●") == 2
    t.expect(["stop", "*"], out=["web@1.service loaded", "db.service loaded"], err="Successfully stopped units [db.service web@1.service web@2.service].\n")
    t.expect(["status", "nothing*"], 1, err="Unit nothing*.service does not exist.\n")
    t.expect(["is-active", "*"], 3, out=["inactive\n" * 5])
    t.expect(["destroy", "*.service"], 1, err="fleetctl: 5 units match: db.service idle.service web@.service web@1.service web@2.service\n"
             "fleetctl: nothing was changed; confirm with --yes\n")
    t.expect(["destroy", "x*"], err="Units not found in registry\nfleetctl: x*.service: no unit of the cluster matches\n")
    assert len(t.cluster.units) == 5
    t.expect(["destroy", "--yes", "web@*"], out="Destroyed web@.service\nDestroyed web@1.service\nDestroyed web@2.service\n")
    status, said = t.on_terminal("destroy", "*", typed="n\n")
    assert status == 1 and "Destroy these 2 units?" in said and "nothing was changed" in said, said
    status, said = t.on_terminal("destroy", "*", typed="y\n")
    assert status == 0 and t.cluster.units == {}, said


def lists_are_filtered_by_names_states_and_machines(t):
    for name in ("a.service", "b.service", "c.service"):
        t.file(name)
    t.expect("start a b", out=["launched"])
    t.expect("load c", out=["loaded"])
    rows = lambda args: t.expect(args, out=[""]).splitlines()
    assert rows("list-units --no-legend --fields=unit --state=running") == ["a.service", "b.service"]
    assert rows("list-units --no-legend --fields=unit --state=inactive") == ["c.service"]
    assert rows("list-unit-files --no-legend --fields=unit --state=loaded") == ["c.service"]
    assert rows(["list-units", "--no-legend", "--fields=unit", "[ab]*", "c"]) == ["a.service", "b.service", "c.service"]
    assert rows("list-units --no-legend --fields=unit b") == ["b.service"]
    t.expect("list-units extra a b", 4, out=["UNIT\t", "a.service\t", "b.service\t"], err="Unit extra.service does not exist.\n")
    t.expect("list-unit-files extra", 4, out="UNIT\tHASH\tDSTATE\tSTATE\tTARGET\n", err="Unit extra.service does not exist.\n")
    t.expect("list-units --machine=nohost", 4, out="UNIT\tMACHINE\tACTIVE\tSUB\n", err="fleetctl: --machine=nohost: no machine has this name or ID; fleetctl list-machines --all\n")
    t.expect("list-units --state=blah", 2, err=["fleetctl: --state=blah: no such state; there are active, "])
    assert rows(["list-units", "--no-legend", "--fields=unit", "x*"]) == []
    here = rows("list-units --no-legend --fields=unit --machine=alpha")
    assert here and here == rows("list-units --no-legend --fields=unit --machine=1111"), here
    assert len(json.loads(t.expect("list-units -o json --state=inactive", out=["c.service"]))["states"]) == 1


def services_are_listed_on_all_pages(t):
    t.cluster.services = {"s%03d" % i: [] for i in range(250)}
    t.cluster.services["shop"] = [{"address": "10.0.0.1", "endpoint": "alpha-1", "machine": "alpha", "ports": ["http/tcp:%d" % i], "unit": "web@%d.service" % i} for i in range(150)]
    assert len(t.expect("services --no-legend", out=["shop\t"]).splitlines()) == 251
    rows = t.expect("services shop", out=["ENDPOINT\t", "http/tcp:149"]).splitlines()
    assert len(rows) == 151, rows  # it does not ask the resolver of this host about another one
    t.expect("services none", 4, err="fleetctl: no unit has the service none; for a list: fleetctl services\n")


# -- verify, plan, why, diff, edit --

def verify_prints_all_errors_without_a_request(t):
    t.file("bad.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=gpu\nConflict=a\nMachineMetadata=b\n")
    t.file("no-section.service", "just words\n")
    t.file("good.service")
    t.expect("verify bad.service no-section.service good.service", 1, err=[
        "fleetctl: bad.service: line 7: MachineMetadata=gpu: ", "fleetctl: bad.service: line 9: MachineMetadata=b: ",
        "fleetctl: bad.service: line 8: warning: [X-Fleet] has no option Conflict; did you mean Conflicts?", "fleetctl: no-section.service: "])
    t.expect("verify good.service")
    t.expect("verify missing.service", 1, err="fleetctl: missing.service: No such file or directory\n")
    t.expect("verify", 2, err="fleetctl: verify: expected at least one file\n")
    assert t.cluster.requests == []


def a_plan_is_a_table_and_changes_nothing(t):
    t.file("a.service")
    t.file("far.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=planet=mars\n")
    t.file("bad.service", "[X-Fleet]\nMachineMetadata=gpu\n")
    t.expect("plan a.service far.service", out="UNIT\t\tACTION\tMACHINE\tREASON\na.service\tplace\talpha\tbecause\nfar.service\twait\t-\tbecause\n")
    assert '"hostname"' in t.expect("plan -o json a.service", out=["place"])
    t.expect("plan a.service bad.service", 1, err=["fleetctl: bad.service: line 2: "])
    t.file("web@.service", UNIT_TEXT)
    t.expect("plan a web@1 web@2.service", out=["a.service\tplace", "web@1.service\tplace", "web@2.service\tplace"])
    t.expect("verify a web@1")
    t.file("web@.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=nothing\n")
    t.expect("verify web@1", 1, err=["fleetctl: web@.service: line "])
    assert t.cluster.units == {}


def a_plan_of_an_instance_has_the_text_that_a_start_would_use(t):
    planned = {"near": "web@1.service\tplace", "far": "web@1.service\twait"}
    far = UNIT_TEXT + "[X-Fleet]\nMachineMetadata=planet=mars\n"
    t.file("web@.service", UNIT_TEXT)
    t.expect("submit web@.service", out=["inactive"])
    t.file("web@.service", far)
    differs = ["fleetctl: web@1.service gets the text of web@.service of the cluster, from which the file differs; to use the file: fleetctl submit --replace web@.service\n"]
    t.expect("plan web@1", out=[planned["near"]], err=differs)  # as start does, a new instance follows the template of the cluster
    t.file("web@1.service", far)
    t.expect("plan web@1", out=[planned["far"]])
    os.remove(os.path.join(t.dir, "web@1.service"))
    os.makedirs(os.path.join(t.dir, "web@1.service.d"))
    t.file("web@1.service.d/far.conf", "[X-Fleet]\nMachineMetadata=planet=mars\n")
    t.expect("plan web@1", out=[planned["far"]], err=differs)
    t.file("web@.service", "[X-Fleet]\nMachineMetadata=gpu\n")
    t.expect("plan web@1", 1, err=["fleetctl: web@.service: line 2: MachineMetadata=gpu: "])
    t.file("web@.service", far)
    shutil.rmtree(os.path.join(t.dir, "web@1.service.d"))
    t.expect("submit web@1", out=["inactive"], err=["web@"])
    t.expect("plan web@1", out=[planned["far"]])  # as start --replace
    os.remove(os.path.join(t.dir, "web@.service"))
    t.expect("plan web@1", out=[planned["near"]])


def why_prints_each_machine_with_its_reason(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    said = t.expect("why a", out=["a.service is on alpha: alpha was the only machine that qualified\n", "  beta   no: MachineMetadata=zone=a, and it has no zone\n"])
    assert re.match(r"a\.service is active \(running\) on alpha; last change (just now|\d+ s ago)\n", said), said
    assert said.count("\n") == 5 and "  alpha  yes; assigned to run here\n" in said, said
    assert json.loads(t.expect("why --output=json a", out=["machines"]))["name"] == "a.service"
    t.expect("why nothing", 4, err="Unit nothing.service does not exist.\n")


def a_unit_that_runs_without_the_cluster_is_taken_into_it(t):
    t.file("later.service")
    t.expect("start later.service", out=["launched"])
    del t.cluster.units["later.service"]
    os.makedirs(os.path.join(t.dir, "run/fleet/units"))
    t.file("run/fleet/units/later.service")
    said = t.expect(f"start {t.dir}/run/fleet/units/later.service", out=["Unit later.service runs: taken into the cluster, and not restarted\n"])
    assert "inactive" not in said, said


def diff_compares_a_file_with_the_cluster(t):
    t.file("a.service")
    t.expect("submit a.service", out=["inactive"])
    t.expect("diff a.service")
    t.file("a.service", UNIT_TEXT.replace("Example", "Bye"))
    t.expect("diff a.service", 1, out=["--- a.service in the cluster\n+++ a.service\n", "-Description=Example\n+Description=Bye\n"])
    t.file("b.service")
    t.expect("diff b.service", 4, err="Unit b.service not found\n")
    os.unlink(os.path.join(t.dir, "a.service"))
    t.expect("diff a.service", 1, err="fleetctl: a.service: No such file or directory\n")
    t.file("web@.service")
    t.expect("submit web@1", out=["inactive"])
    t.file("web@.service", UNIT_TEXT.replace("Example", "Bye"))
    t.expect("diff web@1", 1, out=["--- web@1.service in the cluster\n+++ web@.service\n"])


def edit_replaces_a_running_unit_and_keeps_rejected_texts(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    env = {"EDITOR": "sed -i s/Example/Changed/", "TMPDIR": t.dir}
    assert t.run("edit", "a", env=env)[:2] == (0, "Unit a.service changed\n")
    assert "Changed" in t.expect("cat a", out=["Description"])
    assert t.cluster.units["a.service"]["desiredState"] == "launched"
    assert t.run("edit", "a", env=env)[2] == "fleetctl: a.service is unchanged\n"
    status, _, err = t.run("edit", "a", env={**env, "EDITOR": "sh -c 'echo [X-Fleet]; echo MachineMetadata=x' >"})
    assert status == 1 and "line 2: MachineMetadata=x" in err and "the edited text is kept in " in err, err
    kept = err.split("the edited text is kept in ")[1].strip()
    assert "MachineMetadata=x" in open(kept).read()
    assert "Changed" in t.expect("cat a", out=["Description"])
    status, _, err = t.run("edit", "a", env={**env, "EDITOR": "echo text >"})
    assert status == 1 and err.startswith("fleetctl: a.service: a unit file needs at least one option"), err  # of the whole: no line
    assert t.run("edit", "a", env={**env, "EDITOR": "false"})[0] == 1
    t.run("edit", "a", env={**env, "EDITOR": "sh -c 'grep SigIgn /proc/$$/status >ignored' sh"})
    assert int(open(os.path.join(t.dir, "ignored")).read().split()[1], 16) & 2 == 0  # the editor receives Ctrl-C
    t.expect("edit nothing", 4, err="Unit nothing.service not found\n")
    # A unit directory that is held has no file for the unit.
    t.cluster.units["a.service"]["owner"] = "1" * 32
    assert t.run("edit", "a", env={**env, "EDITOR": "false"})[2] == "fleetctl: a.service comes from the unit directory on alpha; edit the file there\n"
    t.cluster.problems = [{"machineID": "1" * 32, "name": "a.service", "kind": "held", "reason": "its file is gone"}]
    assert t.run("edit", "a", env={**env, "EDITOR": "true"})[2] == "fleetctl: a.service is unchanged\n"


def bytes_of_others_are_escaped_on_a_terminal_and_unchanged_in_a_pipe(t):
    hostile = "a\x1b]0;owned\x07\x9b2J\u202eb"
    t.cluster.keys["/" + hostile] = ("one\n\ttwo\x1b[2J\x9b31m", 11)
    escaped = r"a\x1b]0;owned\x07\xc2\x9b2J\xe2\x80\xaeb"
    assert t.run("kv", "ls") == (0, f"/{hostile}\n", "")
    assert t.on_terminal("kv", "ls") == (0, f"/{escaped}\r\n")
    assert t.on_terminal("kv", "ls", "--recursive") == (0, f"/{escaped}\r\n")
    assert t.run("kv", "get", "/" + hostile) == (0, "one\n\ttwo\x1b[2J\x9b31m\n", "")
    assert t.on_terminal("kv", "get", "/" + hostile) == (0, "one\r\n\ttwo\\x1b[2J\\xc2\\x9b31m\r\n")
    with t.cluster.lock:
        t.cluster.notify(action="set", key="/w/" + hostile, value="\x1bc")
    status, said = t.on_terminal("kv", "watch", "--recursive", f"--after-index={t.cluster.index - 1}", "/w")
    assert (status, said) == (0, f"set /w/{escaped} \\x1bc\r\n"), said

    t.file("talks.service")
    t.expect("start talks.service", out=["launched"])
    t.cluster.says = "status \x1b]0;owned\x07 \u202e"
    for verb in (["status", "talks.service"], ["journal", "--output=cat", "talks.service"], ["show", "talks.service"]):
        status, said = t.on_terminal(*verb)
        assert r"status \x1b]0;owned\x07 \xe2\x80\xae" in said and "owned\x07" not in said, said
        assert t.cluster.says in t.run(*verb)[1]

    t.file("raw.service", UNIT_TEXT.replace("Example", "\x1b]0;owned\x07"))
    t.expect("submit raw.service", out=["inactive"])
    t.file("raw.service")
    status, said = t.on_terminal("diff", "raw.service")
    assert r"-Description=\x1b]0;owned\x07" in said and "owned\x07" not in said, said
    assert "-Description=\x1b]0;owned\x07" in t.run("diff", "raw.service")[1]


TOKEN = ("fleet1-Ae_Nq4lnRSMBAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8KGyw9Tl_"
         "w8fLz9PX29_j5-vv8_f7_Ag0xMC4wLjAuMTo3NDEyElsyMDAxOmRiODo6MV06NzQxMp7QvZ0")


def a_leave_prints_what_it_waits_for(t):
    t.cluster.leaving = [{"step": "none"}, {"step": "units", "units": 2, "unit": "a.service", "reason": "waiting: no other machine qualifies", "reasonKind": "waiting", "waiting": ["a.service"]},
                         {"step": "units", "units": 2, "unit": "a.service", "reason": "waiting: no other machine qualifies", "reasonKind": "waiting", "waiting": ["a.service"]},
                         {"step": "units", "units": 2, "unit": "a.service", "reason": "waiting: other units start first", "reasonKind": "waiting", "waiting": ["b.service"]},
                         {"step": "units", "units": 2, "unit": "a.service", "reason": "waiting: other units start first", "reasonKind": "waiting", "waiting": []},
                         {"step": "units", "units": 2, "unit": "a.service", "reason": "alpha had the fewest units (1)", "waiting": []},
                         {"step": "units", "units": 3, "unit": "a.service", "reason": "waiting: no other machine qualifies", "reasonKind": "waiting", "waiting": ["a.service", "c\x1b.service"]},
                         {"step": "units", "units": 1, "unit": "b.service", "waiting": []}, {"step": "global"}, {"step": "vote"}, {"step": "wait", "other": "beta"},
                         {"step": "end"}, {"clusterId": "0", "step": "none"}, {"clusterId": "def", "step": "none"}]
    t.expect("leave --yes", out="alpha leaves its cluster. It continues without this command; to cancel: fleetctl leave --cancel\n"
             "2 units to move: a.service: waiting: no other machine qualifies; to release it: fleetctl unload a.service\n"
             "2 units to move: a.service: waiting: other units start first\n"
             "2 units to move: a.service is moving\n"
             "3 units to move: 2 of them cannot move (fleetctl why): a.service c\\x1b.service; to release them: fleetctl unload a.service c\\x1b.service\n"
             "1 unit to move: b.service is moving\n"
             "no unit is left to move; global units stop\n"
             "no unit is left; another host takes its vote\n"
             "no unit is left; waiting for beta, which leaves first\n"
             "no unit is left, and it does not vote; it is being removed\n"
             "Left: alpha starts empty; its former state is in /var/lib/fleet/old\n")
    assert t.cluster.left == ["POST"]
    # A repetition reports a leave that is under way, and does not ask.
    t.cluster.leaving = [{"step": "vote"}, {"step": "vote"}, {"step": "none"}]
    t.expect("leave", status=1, out="no unit is left; another host takes its vote\n", err=["the leave of alpha was cancelled; its units do not move back"])
    t.cluster.leaving = [{"step": "vote"}, {"step": "owner", "reason": "its directory has late.service"},
                         {"step": "none", "reason": "its directory has late.service"}]
    t.expect("leave", status=1, out="its directory has late.service\n",
             err=["the leave of alpha was cancelled: its directory has late.service; its units do not move back"])
    t.expect("leave --cancel", out="alpha stays in the cluster; units that have moved do not move back\n")
    assert t.cluster.left == ["POST", "DELETE"]
    t.expect("leave", status=1, err=["nothing was changed; confirm with --yes"])


def a_drain_prints_each_change(t):
    unit = lambda name, state, **more: {"name": name, "state": state, **more}
    t.file("a.service")
    t.expect("start --no-block a.service", out=["Triggered"])
    t.cluster.maintenance = [
        {"mode": "draining", "units": [unit("a.service", "queued", machine="beta"), unit("b\x1b.service", "waiting", reason="Move=no")], "unitsLeft": 2, "deadlineMs": 300000},
        {"mode": "draining", "units": [unit("a.service", "moving", machine="beta"), unit("b\x1b.service", "waiting", reason="Move=no")], "unitsLeft": 2},
        {"mode": "draining", "units": [unit("a.service", "moving", machine="beta", reason="it is available after 10 s (UpdateWatchSec=)"), unit("b\x1b.service", "waiting", reason="Move=no")], "unitsLeft": 2},
        {"mode": "draining", "units": [unit("b\x1b.service", "waiting", reason="no other machine qualifies")], "unitsLeft": 1},
        {"mode": "draining", "units": [unit("b\x1b.service", "waiting", reason="its key cannot be read by this fleetd: upgrade the host", blocked=True)], "unitsLeft": 1},
        {"mode": "draining", "units": [unit("b\x1b.service", "waiting", reason="alpha is away; on it: systemctl start fleetd", blocked=True)], "unitsLeft": 1, "deadlineMs": 1},
        {"mode": "draining", "units": [unit("b\x1b.service", "stopping")], "unitsLeft": 1}, {"mode": "drained", "units": [], "unitsLeft": 0}]
    said = t.run("drain", "alpha", "--deadline=5min", "--force", "--reason=new disk")
    assert said[0] == 0 and not said[2], said
    lines = said[1].splitlines()
    assert lines[:2] == ["alpha: cordoned; 2 units to move; in 300 s, the rest stops", "a.service → beta starting"], lines
    assert lines[2].startswith("b\\x1b.service waiting: Move=no; to move it: fleetctl drain alpha --force"), lines
    assert "a.service → beta active: it is available after 10 s (UpdateWatchSec=)" in lines, lines
    assert "b\\x1b.service waiting: no other machine qualifies; to stop it: fleetctl drain alpha --deadline=5min" in lines, lines
    assert "b\\x1b.service waiting: its key cannot be read by this fleetd: upgrade the host" in lines, lines
    assert "b\\x1b.service waiting: alpha is away; on it: systemctl start fleetd" in lines, lines
    assert lines[-3:] == ["b\\x1b.service stopping", "b\\x1b.service destroyed", "alpha: drained"], lines
    assert any(line.startswith("a.service → ") and " active " in line for line in lines), lines
    assert t.cluster.maintained == [("PUT", {"deadlineMs": 300000, "force": True, "mode": "draining", "reason": "new disk"})], t.cluster.maintained
    # No unit moves from one of several machines to another one of them.
    t.cluster.maintained, t.cluster.maintenance = [], [{"mode": "drained", "units": [], "unitsLeft": 0}]
    t.expect("drain alpha beta --reason=move", out="alpha: drained\nbeta: drained\n")
    assert [body["mode"] for _, body in t.cluster.maintained] == ["cordoned", "cordoned", "draining", "draining"], t.cluster.maintained
    # A unit that stays beside another one (MachineOf=) waits for it; one of the queue has no line.
    units = [unit("queue.service", "queued"), unit("tail.service", "queued", reason="after lead.service, beside which it stays")]
    t.cluster.maintenance = [{"mode": "draining", "units": units, "unitsLeft": 2}]
    t.expect("drain alpha --timeout=100ms", status=5, out="alpha: cordoned; 2 units to move\ntail.service waiting: after lead.service, beside which it stays\n", err=["timed out"])
    # The end of the wait is not the end of the drain.
    t.cluster.maintenance = [{"mode": "draining", "units": [unit("b.service", "waiting", reason="Move=no")], "unitsLeft": 1}]
    t.expect("drain alpha --timeout=100ms", status=5, out=["1 unit to move"], err=["timed out: 1 unit of alpha is left; the drain continues: fleetctl drain alpha shows it, "
                                                                                   "fleetctl uncordon alpha ends it"])
    t.expect("drain alpha --no-block", out="alpha: cordoned; 1 unit to move\n")
    t.cluster.maintenance += [{"mode": "cordoned", "units": [], "unitsLeft": 1}]
    t.expect("drain alpha", status=1, out=["1 unit to move"], err=["alpha: the drain was cancelled; the machine is cordoned"])
    terminal = t.terminal("drain", "alpha")
    t.cluster.maintenance = [{"mode": "draining", "units": [unit("b.service", "waiting", reason="Move=no")], "unitsLeft": 1}]
    terminal.wait_for("b.service")
    os.write(terminal.me, b"\x03")
    assert terminal.end() == 5 and b"the drain continues" in terminal.said, terminal.said


def cordon_and_uncordon_state_whether_they_changed_anything(t):
    for verb, mode, text in (("cordon", "none", "cordoned; its units stay, and it gets no others"), ("cordon", "cordoned", "is cordoned already"),
                             ("cordon", "draining", "is being drained already"), ("cordon", "drained", "is drained already"),
                             ("uncordon", "none", "is not cordoned; nothing was changed"),
                             ("uncordon", "draining", "uncordoned; units that have moved do not move back")):
        t.cluster.maintenance = [{"mode": mode}]
        t.expect(f"{verb} alpha beta", out=f"alpha: {text}\nbeta: {text}\n")
    t.expect("cordon alpha -o json", out='{"machines":[{"mode": "draining"}]}\n')
    assert t.cluster.maintained[-1] == ("PUT", {"mode": "cordoned"}), t.cluster.maintained[-1]


def a_unit_returns_to_a_former_revision(t):
    t.file("web.service", "[Service]\nExecStart=/bin/new\n")
    t.expect("submit web.service", out=["inactive"])
    t.cluster.former["web.service"] = ["[Service]\nExecStart=/bin/old\n", "# kept\n[Service]\nExecStart=/bin/middle\n"]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1500000000))
    lines = t.expect("history web", out=["HOW"]).splitlines()
    assert [re.sub(" +|\t+", " ", line).strip() for line in lines] == [
        "REV HASH WHEN BY HOW OUTCOME", f"3 * {t.cluster.units['web.service']['hash'][:7]} {when} root@alpha submitted -",
        "2 0000000 - - directory -", "1 0000000 - - directory -"], lines
    assert len(t.expect("history web --lines=1", out=["HOW"]).splitlines()) == 2
    assert [x["number"] for x in json.loads(t.expect("history web -o json", out=["{"]))["revisions"]] == [3, 2, 1]
    t.expect("cat web --rev=1", out="[Service]\nExecStart=/bin/old\n")
    t.expect("cat web --rev=2 --source", out="# kept\n[Service]\nExecStart=/bin/middle\n")
    t.expect("cat web --rev=3", out="[Service]\nExecStart=/bin/new\n")
    t.expect("diff web --from=1", status=1, out=["--- web.service, revision 1\n+++ web.service in the cluster\n", "-ExecStart=/bin/old\n+ExecStart=/bin/new\n"])
    t.expect("diff web --from=1 --to=2", status=1, out=["+++ web.service, revision 2\n", "+ExecStart=/bin/middle\n"])
    t.expect("diff web --from=3 --to=3", out="")
    t.expect("revert web", status=1, err=["web.service returns to revision 2, as an update of its text.", "confirm with --yes"])
    t.expect("revert web --yes", out="Unit web.service reverted to revision 2\n")
    assert t.cluster.units["web.service"]["text"] == t.cluster.former["web.service"][1]
    t.expect("revert web 3 --yes", out="", err="fleetctl: web.service has revision 3 already; others: fleetctl history web.service\n")

    def row(number, wanted=False, how="submitted"):
        return {"by": "", "hash": "a" * 40, "how": how, "number": number, "since": 1500000000000, "wanted": wanted}
    t.cluster.revisions = {"name": "web.service", "previous": 3, "revisions": [row(3), row(2, True, "reverted"), row(1)]}
    t.expect("revert web --yes", status=1, err=f"fleetctl: web.service was reverted from 3 to 2 at {when[11:16]}; name the revision: fleetctl revert web.service 1\n")
    t.cluster.revisions = {"name": "web.service", "revisions": [row(3, True), row(2), {**row(1), "outcome": "completed"}]}
    t.expect("revert web", status=1, err=["web.service returns to revision 1, as an update of its text."])
    t.cluster.revisions = {"name": "web.service", "revisions": [row(1, True)]}
    t.expect("revert web --yes", status=1, err="fleetctl: web.service has no revision other than 1: fleetctl history web.service\n")


def no_verb_lets_a_server_control_the_terminal(t):
    """Run each verb on a terminal, with control characters in the messages, in all strings, and in the errors of answers."""
    hostile = "\x1b]0;owned\x07\x1b[8m\x9b2J\u202e"
    words = {"action", "address", "assignment", "cause", "clusterId", "data", "hostname", "message", "metadata", "order", "presence", "primaryIP", "problem", "reason",
             "role", "rule", "seat", "value", "waitsFor", "why"}

    def spoil(value, everything, name=""):
        if isinstance(value, dict):
            return {k: spoil(v, everything, name if name == "metadata" else k) for k, v in value.items()}
        if isinstance(value, list):
            return [spoil(v, everything, name) for v in value]
        return value + hostile if isinstance(value, str) and (everything or name in words or (name == "name" and value in ("alpha", "beta"))) else value

    t.env.update(PATH=f"{t.dir}:{t.env['PATH']}", EDITOR="true", TMPDIR=t.dir)
    t.file("ssh", "#!/bin/sh\n")
    os.chmod(os.path.join(t.dir, "ssh"), 0o755)
    t.file("keys.json", '{"writes":[{"action":"set","key":"/k","value":"1"}]}')
    server, etcd = malicious_server({"action": hostile, "node": {"key": "/_coreos.com/fleet/" + hostile, "value": hostile, "dir": True, "nodes": [
        {"key": f"/_coreos.com/fleet/job/{hostile}.service/object", "value": hostile}]}})
    calls = {"a": [["cat"], ["destroy"], ["diff"], ["edit"], ["is-active"], ["is-failed"], ["history"], ["journal"], ["kill"], ["list-dependencies"], ["move"], ["plan"], ["reload"],
                   ["reset-failed"], ["restart", "wait"], ["revert"], ["show"], ["ssh"], ["start", "wait"], ["status"], ["stop", "wait"], ["submit"], ["load", "wait"],
                   ["rollout"], ["unload", "wait"], ["verify"], ["why"]],
             "": [["ca"], ["cert", "ls"], ["cluster"], ["cordon", "2" * 32], ["drain", "2" * 32], ["uncordon", "2" * 32], ["directory"], ["rollout"], ["rebalance", "--yes"], ["reboot", "2" * 32, "--yes"], ["events"], ["help"], ["init", "--voters=3"], ["join", TOKEN], ["leave", "--yes"], ["list-machines", "--full"], ["list-members"], ["machine", "show", "2" * 32], ["list-unit-files"], ["list-units"], ["log"], ["remove", "2" * 32, "--yes"], ["scale", "a@.service", "3"], ["secret"], ["services"], ["services", "a"], ["token"], ["top", "--once"], ["version"], ["status"],
                  ["fd-forward", "/none"], ["backup", "out.backup"], ["recover", "--yes=x"], ["restore", "out.backup"], ["export", "out"], ["import", etcd.replace("--endpoint", "--etcd"), "--yes"],
                  ["kv", "get", "/k"], ["kv", "set", "/k", "1"], ["kv", "mk", "/new"], ["kv", "ls", "/"], ["kv", "rm", "/k"],
                  ["kv", "watch", "--recursive", "--after-index=10", "/w"], ["kv", "exec-watch", "--recursive", "--after-index=10", "/w", "--", "sh", "-c", "kill $PPID"],
                  ["kv", "lock", "job", "--", "true"], ["kv", "txn", "keys.json"], ["kv", "export", "/"], ["kv", "import", "/", "keys.json"]]}
    calls = [[*call, *([name] if name else [])] for name, some in calls.items() for call in some]
    listed = set(t.expect("help --verbs", out=["kv get"]).splitlines()) - {"kv", "web"}  # web is another program
    tried = {" ".join(call[:2]) if call[0] == "kv" else call[0] for call in calls}
    assert listed == tried, listed ^ tried

    add_rows(t, {"kind": "presence", "machine": "2" * 32, "reason": "lost: it is silent" + hostile})
    own = re.compile("\x1b\\[(\\?7[hl]|[0-9]+A|[JK]|(0|1|(1;)?3[1236]|90)?m)")
    driven, seen = {}, {}
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    t.cluster.units["a.service"]["text"] += "# " + hostile
    before = t.cluster.units, t.cluster.states
    for mode in ("words", "everything", "error", "missing"):
        for call in calls:
            verb = " ".join(call[:2]) if call[0] == "kv" else call[0]
            t.cluster.broken, (t.cluster.units, t.cluster.states) = None, copy.deepcopy(before)
            t.cluster.keys = {"/k": ("1", 11)}
            t.cluster.problems = [{"machineID": "1" * 32, "hostname": "alpha", "name": "b.service", "problem": "refused", "reason": "because"}]
            t.cluster.problem, t.cluster.waits_for = "it is", ["alpha"]
            t.cluster.leaving = [{"step": "none"}, {"step": "units", "units": 1, "unit": "a.service", "reason": "waits"}, {"clusterId": "def", "step": "none"}]
            t.cluster.maintenance = [{"mode": "draining", "units": [{"name": "a.service", "state": "waiting", "reason": "waits"}], "unitsLeft": 1}, {"mode": "drained"}]
            with t.cluster.lock:
                t.cluster.notify(action="set", key="/w/k", value="1")
            if mode in ("words", "everything"):
                t.cluster.spoil = lambda value, everything=mode == "everything": spoil(value, everything)
            else:
                t.cluster.broken = {"error": (500, {"error": {"code": 500, "message": hostile}, "errorCode": 300, "message": hostile, "cause": hostile}),
                                    "missing": (404, {"error": {"code": 404, "message": hostile}, "errorCode": 100, "message": hostile, "cause": hostile})}[mode]
            args = [a for a in call if a != "wait"] + (["--no-block"] if "wait" in call and mode == "everything" else [])
            terminal = t.terminal(*args, columns=300)
            try:
                terminal.end()
            except AssertionError as e:
                assert False, f"{mode}, fleetctl {args}: {e}"
            said = terminal.said.decode()
            left = own.sub("", said)
            if any(c not in "\r\n\t" and (c < " " or "\x7f" <= c <= "\x9f" or c == "\u202e") for c in left):
                driven.setdefault(verb, (mode, said))
            seen.setdefault(mode, set()).update({verb} if "owned" in said else set())
    assert not driven, driven
    # The hostile text was printed: messages about the success of a verb contain nothing from the server.
    local = {"fd-forward", "help", "kv import", "recover", "restore", "verify", "version"}
    assert listed - seen["error"] == local, listed - seen["error"]
    assert {"cat", "cluster", "directory", "events", "kv get", "kv mk", "kv watch", "list-machines", "log", "show", "status", "top", "why"} <= seen["words"] | seen["everything"], seen
    t.cluster.spoil, t.cluster.broken = lambda value: value, None
    said = t.on_terminal("events")[1]
    assert "\x1b[31mlost: it is" in said, said  # and colours of fleetctl are not escaped
    server.shutdown()
    server.server_close()


def an_edit_keeps_concurrent_changes_of_others(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    editor = lambda meanwhile: {"TMPDIR": t.dir, "EDITOR": f"sh -c '{PROGRAM} {meanwhile} >/dev/null 2>&1; sed -i s/Description=.*/Description=Mine/ $1' sh"}
    # Another client changes the target state: the new text is stored, and the unit stays unloaded, or started.
    assert t.run("edit", "a", env=editor("unload a"))[:2] == (0, "Unit a.service changed\n")
    assert t.cluster.units["a.service"]["desiredState"] == "inactive" and "Mine" in t.cluster.units["a.service"]["text"]
    t.expect("destroy a", out=["Destroyed"])
    t.expect("submit a.service", out=["inactive"])
    assert t.run("edit", "a", env=editor("start a"))[0] == 0
    assert t.cluster.units["a.service"]["desiredState"] == "launched"
    # Another client changes the text: it stays, and the edited text is kept in a file.
    t.file("b.service")
    t.expect("submit b.service", out=["inactive"])
    t.file("b.service", UNIT_TEXT.replace("Example", "Theirs"))
    status, _, err = t.run("edit", "b", env=editor("submit --replace b.service"))
    assert status == 1 and "another client changed the unit meanwhile" in err and "the edited text is kept in " in err, err
    assert "Theirs" in t.cluster.units["b.service"]["text"]
    assert "Mine" in open(err.split("the edited text is kept in ")[1].split("\n")[0].strip()).read()


def many_units_are_destroyed_in_few_requests(t):
    names = [f"u@{i}.service" for i in range(450)]
    t.file("u@.service")
    t.expect(["start", "--no-block", *names], out=["Triggered"])
    del t.cluster.requests[:]
    assert t.expect(["destroy", "--yes", "--no-block", "u@*"], out=["Destroyed u@1.service\n"]).count("Destroyed ") == 450
    assert [m for m, _ in t.cluster.requests].count("DELETE") == 0 and len([1 for m, _ in t.cluster.requests if m == "POST"]) == 3
    assert t.cluster.units == {}
    # A daemon without removals in transactions rejects the request; so does one that cannot remove one of the units.
    t.cluster.destroys = False
    t.expect(["submit", "u@1.service", "u@2.service"], out=["inactive"])
    t.expect(["destroy", "u@1.service", "u@2.service"], out="Destroyed u@1.service\nDestroyed u@2.service\n")
    assert t.cluster.units == {}


def a_restart_starts_the_unit_that_it_stopped_despite_errors(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    t.cluster.fails = ["launched"]
    t.expect("restart a.service", out=["launched on"])
    assert t.cluster.units["a.service"]["desiredState"] == "launched" and t.cluster.fails == []
    # A unit that another client has unloaded meanwhile is not started.
    t.cluster.fails = ["launched"]
    t.cluster.on_fail = lambda: t.cluster.units["a.service"].update(desiredState="inactive")
    t.expect("restart a.service", 1, err=["changed meanwhile"])
    assert t.cluster.units["a.service"]["desiredState"] == "inactive"


def a_restart_whose_stop_takes_too_long_does_not_become_a_stop(t):
    def targets():
        return [u["desiredState"] for u in t.cluster.units.values()]

    for name in "ab":
        t.file(f"{name}.service")
    t.expect("start a b", out=["launched"])
    t.cluster.lag = None
    t.expect("restart --timeout=300ms a b", 5, err="fleetctl: not restarted: b.service\nfleetctl: timed out: a.service " + STOPS_LATER + "\n")
    assert targets() == ["launched", "launched"]
    # The leader is away for a moment.
    t.cluster.fails = ["launched"]
    t.expect("restart --timeout=300ms a", 5, err="fleetctl: timed out: a.service " + STOPS_LATER + "\n")
    assert targets() == ["launched", "launched"] and t.cluster.fails == []
    t.expect("restart --block-attempts=1 b", 1, err=["timed out waiting for unit b.service to stop", "; b.service " + STOPS_LATER])
    assert targets() == ["launched", "launched"]
    # Another client has unloaded it: that stays.
    t.cluster.fails = ["launched"]
    t.cluster.on_fail = lambda: t.cluster.units["a.service"].update(desiredState="inactive")
    t.expect("restart --timeout=300ms a", 1, err=["a.service stops and is not started again: ", "changed meanwhile", "; to start it: fleetctl start a.service\n"])
    assert targets() == ["inactive", "launched"]


def a_unit_whose_machine_is_not_up_is_not_restarted(t):
    t.file("a.service")
    t.file("b.service")
    t.file("g.service", UNIT_TEXT + "[X-Fleet]\nGlobal=true\n")
    t.expect("start a b g", out=["launched"])
    for presence, said in (("away", "is away, and does not stop it: start fleetd there first: systemctl start fleetd"),
                           ("lost", "is lost, and cannot restart it; where it runs next: fleetctl why ")):
        t.cluster.machines = [{**m, "presence": presence if m["hostname"] == "beta" else "up"} for m in fake_fleetd.MACHINES]
        t.cluster.requests.clear()
        for units, name in ((("a", "b"), "b.service"), (("g",), "g.service")):
            t.expect(["restart", *units], 1, err=f"fleetctl: {name}: beta {said}{name if presence == 'lost' else ''}\nfleetctl: nothing was restarted\n")
        assert all(method == "GET" for method, _ in t.cluster.requests), t.cluster.requests
        t.expect("restart a", out=["a.service launched"])


# -- import --

def old_registry(units, prefix="/_coreos.com/fleet", **extra):
    """Return the keys of a registry of fleet as answers of etcd: {"/v2/keys/...": answer}."""
    jobs, contents = [], {}
    for name, (text, target) in units.items():
        printed = text.strip("\n") + "\n"
        digest = hashlib.sha1(printed.encode()).digest()
        nodes = [{"key": f"{prefix}/job/{name}/object", "value": json.dumps({"Name": name, "UnitHash": list(digest)})}]
        if target:
            nodes.append({"key": f"{prefix}/job/{name}/target-state", "value": target})
        jobs.append({"key": f"{prefix}/job/{name}", "dir": True, "nodes": nodes})
        contents[digest.hex()] = printed
    contents.update(extra.get("contents", {}))
    jobs += extra.get("jobs", [])
    return {
        f"{prefix}/job": {"key": f"{prefix}/job", "dir": True, "nodes": jobs},
        f"{prefix}/unit": {"key": f"{prefix}/unit", "dir": True, "nodes": [
            {"key": f"{prefix}/unit/{h}", "value": json.dumps({"Raw": t})} for h, t in contents.items()]},
        f"{prefix}/machines": {"key": f"{prefix}/machines", "dir": True, "nodes": extra.get("machines", [])}}


class OldEtcd(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        node = self.server.tree.get(self.path.split("?")[0][len("/v2/keys"):])
        data = json.dumps({"action": "get", "node": node} if node else {"errorCode": 100}).encode()
        self.send_response(200 if node else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def etcd_with(t, tree):
    server = ThreadingHTTPServer(("127.0.0.1", 0), OldEtcd)
    server.tree = tree
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def the_units_of_a_fleet_cluster_are_imported_from_its_etcd(t):
    machine = "2" * 32
    server, url = etcd_with(t, old_registry(
        {"web.service": (UNIT_TEXT, "launched"), "t@.service": (UNIT_TEXT, "inactive"), "idle.service": (UNIT_TEXT.replace("Example", "Idle"), None),
         "here.service": (UNIT_TEXT, "launched")},
        jobs=[{"key": "/_coreos.com/fleet/job/gone.service", "dir": True, "nodes": []}],
        machines=[{"key": f"/_coreos.com/fleet/machines/{machine}", "dir": True, "nodes": [
            {"key": f"/_coreos.com/fleet/machines/{machine}/metadata", "dir": True, "nodes": [
                {"key": f"/_coreos.com/fleet/machines/{machine}/metadata/gpu", "value": "yes"},
                {"key": f"/_coreos.com/fleet/machines/{machine}/metadata/old", "value": ""}]}]}]))
    t.file("here.service", UNIT_TEXT.replace("Example", "Other"))
    t.expect("submit here.service", out=["inactive"])
    table = ("UNIT\t\tDSTATE\t\tACTION\nhere.service\tlaunched\texists with another text\nidle.service\tinactive\timport\n"
             "t@.service\tinactive\timport\nweb.service\tlaunched\timport\n")
    t.expect(f"import --etcd={url}", 1, out=table, err="3 units and 2 metadata of machines are imported. Stop the old fleet first: its units continue to run.\nfleetctl: nothing was changed; confirm with --yes\n")
    assert list(t.cluster.units) == ["here.service"]
    t.expect(f"import --yes --etcd={url}", out=table + "Imported 3 units and 2 metadata of machines\n")
    assert {n: u["desiredState"] for n, u in t.cluster.units.items()} == {
        "here.service": "inactive", "web.service": "launched", "t@.service": "inactive", "idle.service": "inactive"}
    assert t.cluster.patched == [{"op": "add", "path": f"/{machine}/metadata/gpu", "value": "yes"}, {"op": "remove", "path": f"/{machine}/metadata/old"}]
    server.tree = {}
    t.expect(f"import --etcd={url}", 1, err=["no registry of fleet in this etcd", "nothing was changed"])
    t.expect("import", 2, err=["--etcd=http://HOST:2379"])
    t.expect("import --etcd=http://127.0.0.1:1", 1, err=["etcd: cannot reach", "nothing was changed"])


def a_name_of_two_hosts_names_neither(t):
    t.cluster.machines = [{**m, "hostname": "beta"} if m["id"] == "3" * 32 else m for m in fake_fleetd.MACHINES]
    several = f"beta: several machines match; choose one by its ID: {'2' * 32} (up), {'3' * 32} (up)\n"
    for command in ("remove beta --yes", "machine set beta zone=a", "machine show beta"):
        t.expect(command, 1, err=f"fleetctl: {several}")
    assert not hasattr(t.cluster, "patched")


def an_import_skips_rejected_units_and_prints_the_reasons(t):
    server, url = etcd_with(t, old_registry({"fleet-ui.service": (UNIT_TEXT, "launched"), "fleet.service": (UNIT_TEXT, "launched"),
                                             "systemd-old.service": (UNIT_TEXT, "launched")}))
    t.expect(f"import --yes --etcd={url}", out=["fleet-ui.service\tlaunched\timport\n",
                                                       "fleet.service\t\tlaunched\trejected: unit name fleet.service is refused: a unit of that name belongs to fleet itself\n",
                                                       "systemd-old.service\tlaunched\trejected: ", "Imported 1 unit and"])
    assert list(t.cluster.units) == ["fleet-ui.service"]


def an_import_with_a_corrupt_unit_changes_nothing(t):
    good = {"web.service": (UNIT_TEXT, "launched")}
    for extra, said in (({"contents": {hashlib.sha1(UNIT_TEXT.encode()).hexdigest(): "[Service]\nExecStart=/bin/other\n"}}, "web.service: the text has hash "),
                        ({"jobs": [{"key": "/_coreos.com/fleet/job/x.service", "dir": True, "nodes": [{"key": "/_coreos.com/fleet/job/x.service/object", "value": "{}"}]}]}, "x.service: object without a UnitHash"),
                        ({"jobs": [{"key": "/_coreos.com/fleet/job/x.service", "dir": True, "nodes": [{"key": "/_coreos.com/fleet/job/x.service/object", "value": json.dumps({"UnitHash": [1] * 20})}]}]}, "x.service: etcd has no text with hash 0101010")):
        server, url = etcd_with(t, old_registry(good, **extra))
        t.expect(f"import --yes --etcd={url}", 1, err=[said, "nothing was changed"])
        assert t.cluster.units == {}
    server, url = etcd_with(t, old_registry({"web.service": (UNIT_TEXT, "flying")}, prefix="/elsewhere"))
    t.expect(f"import --yes --etcd={url} --etcd-key-prefix=/elsewhere", 1, err=["web.service: target state 'flying': expected"])


# -- ssh --

SSH = """#!/bin/sh
echo "$@"
[ "$SSH_ASKPASS" ] && "$SSH_ASKPASS" "sure? "
cat
exit 7
"""


def ssh_runs_openssh_with_the_flags_of_fleet(t):
    path = os.path.join(t.dir, "bin")
    os.mkdir(path)
    t.file("bin/ssh", SSH)
    os.chmod(os.path.join(path, "ssh"), 0o755)
    env = {"PATH": path + ":" + t.env["PATH"]}
    t.file("a.service")
    t.file("g.service", UNIT_TEXT + "[X-Fleet]\nGlobal=true\n")
    t.expect("start a.service g.service", out=["launched"])
    status, out, err = t.run("ssh", "a.service", "--", "ps", "-ef", stdin="yes\nrest\n", env=env)
    assert (status, err) == (7, "sure? "), (status, out, err)
    assert out == "-o ConnectTimeout=10 -o StrictHostKeyChecking=ask -p 22 -- 10.0.0.1 ps -ef\nyes\nrest\n", out
    status, out, err = t.run("--ssh-username=me", "--known-hosts-file=/k", "ssh", "-A", "--ssh-port=23", "--machine=2222", "id", env=env)
    assert "-l me" in out and "UserKnownHostsFile=/k" in out and "-p 23 -A -- 10.0.0.2 id\n" in out, out
    status, out, err = t.run("--strict-host-key-checking=false", "ssh", "beta", env=env)
    assert "StrictHostKeyChecking=no" in out and "-- 10.0.0.2\n" in out, out
    for args, said in (("ssh", "one machine or unit must be provided"), ("ssh absent", "could not find matching unit or machine"),
                       ("ssh --machine=x", "machine does not exist"), ("ssh --unit=x", "unit does not exist"),
                       ("ssh g.service", "global units unsupported")):
        assert t.run(*args.split())[2].splitlines()[0] == f"Unable to proceed: {said}"
        t.expect(args, 1, err=["fleetctl: "] if "=" in args or "absent" in args else f"Unable to proceed: {said}\n")
    t.expect("ssh --machine=1 --unit=a", 1, err="Both machine and unit flags provided, please specify only one.\n")


def a_command_inherits_blocked_signals_except_those_that_end_it(t):
    os.mkdir(os.path.join(t.dir, "bin"))
    t.file("bin/ssh", "#!/usr/bin/env python3\nprint(next(line for line in open('/proc/self/status') if 'SigBlk' in line))\n")
    os.chmod(os.path.join(t.dir, "bin/ssh"), 0o755)
    blocked = [signal.SIGUSR1, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    p = subprocess.run([PROGRAM, "ssh", "alpha"], cwd=t.dir, env={**t.env, "PATH": t.dir + "/bin:" + t.env["PATH"]}, text=True, capture_output=True,
                       timeout=WAIT_SECONDS, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked))
    assert p.returncode == 0 and int(p.stdout.split()[1], 16) == 1 << (signal.SIGUSR1 - 1), p


def a_closed_standard_output_is_an_error_and_not_the_connection(t):
    p = subprocess.run(["sh", "-c", 'exec "$@" <&- >&-', "sh", PROGRAM, "list-machines"], env=t.env, stderr=subprocess.PIPE, text=True, timeout=WAIT_SECONDS)
    assert (p.returncode, p.stderr) == (1, "fleetctl: Failed to write to standard output: Bad file descriptor\n"), p


def the_exit_status_of_a_child_is_read_even_if_SIGCHLD_was_ignored(t):
    """The parent process of fleetctl ignores SIGCHLD, which is inherited."""
    t.file("a.service")
    t.expect("submit a.service", out=["inactive"])
    t.file("a.service", UNIT_TEXT.replace("Example", "Bye"))
    p = subprocess.run([PROGRAM, "diff", "a.service"], cwd=t.dir, env=t.env, text=True, capture_output=True, timeout=WAIT_SECONDS,
                       preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert p.returncode == 1 and "+Description=Bye" in p.stdout, p


def s01_version_flag(t):
    p = subprocess.run([PROGRAM, "--version"], env={"PATH": "/nowhere"}, capture_output=True, text=True)
    assert p.returncode == 0 and p.stderr == "" and p.stdout.startswith("fleetctl version ") and p.stdout.count("\n") == 1, p


def s02_help_shows_version(t):
    version = t.run("--version")[1].split()[-1]
    t.expect("help", out=[version])


def s03_help_variants(t):
    for args in (["--help"], ["-h"], ["help"], []):
        assert len(t.expect(args, out=["USAGE"])) > 500


def status_accepts_and_ignores_no_block(t):
    t.file("hello.service")
    t.run("start", "hello.service")
    assert t.run("status", "--no-block", "hello.service") == t.run("status", "hello.service")


def fd_forward_connects_the_streams_with_a_socket(t):
    request = "GET /fleet/v1/machines HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n\r\n"
    p = subprocess.Popen([PROGRAM, "fd-forward", t.socket], env=t.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    p.stdin.write(request)
    p.stdin.flush()
    assert "alpha" in p.stdout.read() and p.wait(WAIT_SECONDS) == 0
    t.expect("fd-forward", 1, err="Provide a single argument\n")
    t.expect("fd-forward /no/socket", 1, err=["Failed dialing remote address: "])
    t.expect(["fd-forward", "x" * 200], 1, err=["Unable to use \""])


def a_tunnel_forwards_the_socket_by_ssh(t):
    path = os.path.join(t.dir, "bin")
    os.mkdir(path)
    t.file("bin/ssh", fake_fleetd.SSH)
    os.chmod(os.path.join(path, "ssh"), 0o755)
    env = {"PATH": path + ":" + t.env["PATH"], "SAID": os.path.join(t.dir, "said")}
    status, out, err = t.run("--tunnel=bastion:2222", "list-machines", "--no-legend", env=env)
    assert status == 0 and "11111111..." in out, (status, out, err)
    said = open(env["SAID"]).read()
    assert "-N" in said and "-p 2222" in said and said.endswith("-- bastion"), said
    assert not os.path.exists(said.split("-L ")[1].split(":")[0])

    # A lock signals the descendants of its command only, and removes its key through the tunnel.
    p = subprocess.Popen([PROGRAM, "--tunnel=bastion", "kv", "lock", "job", "--", "sh", "-c", "echo begun; exec sleep 1000"], cwd=t.dir,
                         env={**t.env, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "begun\n" and len(t.cluster.keys) == 1, p.stderr.read()
    p.send_signal(signal.SIGTERM)
    said = p.communicate(timeout=WAIT_SECONDS)[1]
    assert (p.returncode, said, list(t.cluster.keys)) == (128 + signal.SIGTERM, "", []), (p.returncode, said, t.cluster.keys)

    t.file("bin/ssh", "#!/bin/sh\nexit 255\n")
    t_env = {**env}
    status, out, err = t.run("--tunnel=bastion", "list-machines", env=t_env)
    assert status == 1 and "Unable to initialize client: failed initializing SSH client: ssh ended with status 255" in err, err
    status, out, err = t.run("--tunnel=:22", "list-machines", env=t_env)
    assert status == 1 and "expected HOST or HOST:PORT" in err, err


def an_incomplete_stream_is_a_failure(t):
    t.file("cut.service")
    t.expect("start cut.service", out=["launched"])
    t.expect("status cut", 1, out="● cut.service on 1\n", err="fleetctl: cut.service: the machine was lost before the end of its answer\n")


def status_shows_the_cluster_on_one_screen(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    t.expect("status", out=["● fleet  3 machines, 1 unit, index ", "leader alpha (term 3)\n", "  voters   alpha beta gamma        can lose 1\n"])
    t.file("bad.service", "[Service]\nExecStart=/bin/false\n")
    t.file("nowhere.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n")
    t.expect("start --no-block bad nowhere", out=["Triggered"])
    t.cluster.problem = "no leader"
    t.cluster.silent = "gamma"
    t.expect("status", 1, out=["  4 problems\n", "voter unreachable; 2 of 3 voters left, none may be lost: if that lasts, start it    fleetctl help replace\n", "gamma (unreachable)        can lose 0\n", "bad.service", "failed on beta", "fleetctl journal bad.service",
                               "not placed: needs metadata region=mars", "no leader"])


def cluster_shows_the_replicas_and_changes_the_level(t):
    t.cluster.silent = "gamma"
    t.expect("cluster", out="cluster    abc, index 10, term 3\nleader     alpha\nthis host  alpha, leader\n"
             "level      1; level 2 follows one day after all hosts support it; to raise it now: fleetctl cluster level 2\n\n"
             "MACHINE\tADDRESS\tROLE\tREACHABLE\nalpha\t-\tvoter\tyes\nbeta\t-\tvoter\tyes\ngamma\t-\tvoter\tno\n")
    assert json.loads(t.expect("cluster -o json", out=["{"]))["levelKnown"] == 2
    said = "The feature level changes from 1 to 2 and cannot be lowered: no host can return to a fleetd without support for it.\n"
    t.expect("cluster level", out="1\n")
    t.expect("cluster level 2", 1, err=said + "fleetctl: nothing was changed; confirm with --yes\n")
    status, out = t.on_terminal("cluster", "level", "2", typed="n\n")
    assert status == 1 and "Raise it? [y/N] " in out and "nothing was changed" in out and t.cluster.level == 1, out
    status, out = t.on_terminal("cluster", "level", "2", typed="y\n")
    assert status == 0 and "Feature level 2\r\n" in out and t.cluster.level == 2, out
    t.expect("cluster level 2")
    t.expect("cluster level 3 --yes", 1, err=["fleetctl: cluster level 3: the level is 2; the fleetd of this host supports levels up to 2, "])
    t.expect("cluster level 1", 1, err=["fleetctl: cluster level 1: the level is 2; "])
    t.expect("cluster level high", 2, err="fleetctl: cluster level: expected one number, the new feature level\n")
    t.expect("cluster levl 2", 2, err="fleetctl: cluster has no verb levl; did you mean level? (cluster [level [N] | rekey | secure | stop-waiting])\n")

    t.expect("cluster stop-waiting", err="fleetctl: the cluster waits for no host\n")
    t.cluster.waits_for = ["beta", "gamma"]
    t.expect("cluster", out=["waits for  beta, gamma: running units not reported yet; start fleetd there, or if all are gone for ever: fleetctl cluster stop-waiting\n"])
    t.expect("status", 1, out=["fleet  1 machine, ", "no unit is started or moved until all hosts have reported their units; missing: beta, gamma    fleetctl cluster\n"])
    t.expect("cluster stop-waiting", 1, err=["beta, gamma: running units not reported.", "confirm with --yes"])
    t.file("a.service")
    t.expect("start --no-block a.service", out=["Triggered"])
    t.cluster.waits_for = ["alpha", "gamma"]
    t.expect("cluster stop-waiting", 1, err=["The cluster starts their units on other hosts: a.service. If these hosts still run, the units run twice."])
    t.expect("cluster stop-waiting --yes", out="The cluster no longer waits for alpha, gamma; the units of lost hosts start on other hosts: a.service\n")
    assert t.cluster.waits_for == []


def status_shows_recent_changes_in_presence(t):
    now = int(time.time() * 1000)
    for kind, machine, reason, age_s in (("presence", "2", "lost: silent", 7200), ("state", "3", "failed", 60), ("presence", "2", "away: stopped", 50),
                                         ("presence", "2", "lost: silent", 40), ("assigned", "3", "beta is lost; alpha has the fewest units", 39),
                                         ("assigned", "1", "beta is lost; gamma has the fewest units", 10), ("assigned", "1", "beta is the only machine", 9),
                                         ("presence", "2", "up: it is back", 8), ("presence", "2", "up: replica: its tree is being written", 8),
                                         ("presence", "2", "up: its replica works", 7), ("assigned", "2", "beta is lost; late", 6),
                                         ("assigned", "2", "fewest units", 5), ("presence", "3", "left: it shut down", 4),
                                         ("assigned", "2", "gamma was shut down; beta is the only machine", 3), ("assigned", "2", "fewest units", 2)):
        add_rows(t, {"kind": kind, "machine": machine * 32, "reason": reason, "first": now - age_s * 1000})
    said = t.expect("status", out=["  recent   "]).splitlines()[-1]
    assert re.fullmatch(r"  recent   (\d\d:){2}\d\d beta is lost; 2 units moved    (\d\d:){2}\d\d beta is up"
                        r"    (\d\d:){2}\d\d gamma was shut down; 1 unit moved", said), said
    for kind, machine, reason, age_s in (("leave", "8", "begun: its units move away", 1), ("leave", "9", "begun: its units move away", 1), ("leave", "9", "cancelled", 1),
                                         ("removed", "8", "delta", 1), ("removed", "9", "eps", 1)):
        add_rows(t, {"kind": kind, "machine": machine * 32, "reason": reason, "first": now - age_s * 1000})
    said = t.expect("status", out=["  recent   "]).splitlines()[-1]
    assert re.search(r" gamma was shut down; 1 unit moved    (\d\d:){2}\d\d delta left the cluster    (\d\d:){2}\d\d eps was removed$", said), said


# -- events --

def add_rows(t, *rows):
    with t.cluster.lock:
        for n, row in enumerate(rows, len(t.cluster.history) + 1):
            first = row.get("first", 1700000000000 + n * 60000)
            t.cluster.history.append({"count": 1, "index": n, **row, "first": first, "last": row.get("last", first)})
        t.cluster.lock.notify_all()


A_DAY = [
    {"kind": "joined", "machine": "2" * 32, "reason": "10.0.0.2:2380"},
    {"kind": "presence", "machine": "2" * 32, "reason": "up: it sends heartbeats"},
    {"kind": "version", "machine": "2" * 32, "reason": "0.1.0"},
    {"kind": "submitted", "name": "web.service", "user": "root"},
    {"kind": "target", "name": "web.service", "reason": "launched", "user": "kim"},
    {"kind": "assigned", "name": "web.service", "machine": "2" * 32, "reason": "fewest units"},
    {"kind": "state", "name": "web.service", "machine": "2" * 32, "reason": "active (running)"},
    {"kind": "state", "name": "web.service", "machine": "2" * 32, "reason": "activating (auto-restart)", "count": 412, "last": 1700003000000},
    {"kind": "presence", "machine": "2" * 32, "reason": "lost: it is silent\033[2J"},
    {"kind": "problem", "name": "b.service", "machine": "1" * 32, "reason": "refused: line 1: what"},
    {"kind": "metadata", "machine": "1" * 32, "reason": "gpu=yes", "user": "root"},
    {"kind": "destroyed", "name": "web.service", "user": "root"},
]


def events_are_printed_with_their_reasons(t):
    add_rows(t, *A_DAY)
    lines = "".join(f"2023-11-14 22:{14 + n:02}:20\t{said}\n" for n, said in enumerate((
        "-\tbeta\tjoined as a member: 10.0.0.2:2380", "-\tbeta\tup: it sends heartbeats", "-\tbeta\truns fleetd 0.1.0",
        "web.service\t-\tsubmitted by root", "web.service\t-\ttarget state launched by kim", "web.service\tbeta\tassigned: fewest units",
        "web.service\tbeta\tactive (running)", "web.service\tbeta\tactivating (auto-restart)    412 times since 2023-11-14 22:21:20",
        "-\tbeta\tlost: it is silent\\x1b[2J", "b.service\talpha\tunit directory: refused: line 1: what",
        "-\talpha\tmetadata gpu=yes by root", "web.service\t-\tdestroyed by root")))
    t.expect("events", out=lines.replace("22:21:20\tweb.service\tbeta\tactivating", "23:03:20\tweb.service\tbeta\tactivating"))
    assert t.expect("events w* web", out=["web.service\t-\tsubmitted"]).count("\n") == 6
    assert t.expect("events -m alpha", out=["gpu=yes"]).count("\n") == 2
    assert t.expect("events -n 2", out=["gpu=yes", "destroyed"]).count("\n") == 2
    assert t.expect("events -n 1 -m beta", out=["lost"]).count("\n") == 1
    assert [json.loads(line)["index"] for line in t.expect("events -o json", out=["{"]).splitlines()] == list(range(1, len(A_DAY) + 1))
    assert t.expect("events --after-index=10", out=["gpu=yes"]).count("\n") == 2
    t.expect(["events", "--since=2023-11-14 22:25:20", "-n", "1"], out="2023-11-14 22:25:20\tweb.service\t-\tdestroyed by root\n")
    assert t.expect(["events", "--until=2023-11-14 22:15:20"], out=["up: it sends"]).count("\n") == 2
    for since in ("-1h", "1h30min", "yesterday", "today"):
        t.expect(f"events --since={since}", err="fleetctl: no such event in the time asked\n")
    t.expect("events --since=soon", 2, err="fleetctl: --since=soon: expected a time, for example -1h, 12:00, yesterday or 2026-01-31 12:00\n")
    t.expect("events --since=2020-01-01 -n 1", out=["destroyed"],
             err="fleetctl: no events before 2023-11-14 22:14:20: the history begins there; the journals of the hosts may have more: fleetctl log --since=2020-01-01\n")
    t.cluster.history = None
    t.expect("events", 1, err="fleetctl: the history begins at feature level 4: when all hosts run this version, fleetctl cluster level 4\n")


def events_continue_after_a_restart_of_the_daemon(t):
    add_rows(t, *A_DAY)
    p = subprocess.Popen([PROGRAM, "events", "--follow", "-n", "1"], cwd=t.dir, env=t.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stdout.readline().endswith("web.service\t-\tdestroyed by root\n")
    add_rows(t, {"kind": "submitted", "name": "new.service"})
    assert p.stdout.readline().endswith("new.service\t-\tsubmitted\n")
    with t.cluster.lock:
        t.cluster.hang_up = True
        t.cluster.lock.notify_all()
    assert p.stderr.readline() == "fleetctl: connection to fleetd lost; reconnecting\n"
    add_rows(t, {"kind": "submitted", "name": "later.service"})
    assert p.stdout.readline().endswith("later.service\t-\tsubmitted\n")  # once, without earlier events
    p.kill()
    p.wait()
    p.stdout.close()
    p.stderr.close()


# -- kv --

def the_key_of_a_user_is_made_once_and_stays_here(t):
    folder = os.path.join(t.dir, "users")
    t.expect(["cert", "ops", "--rights=keys-read:/app,units-see", "--ttl=2h", "--out", folder],
             out=[f"Certificate in {folder}/ops.pem, key in {folder}/ops.key, roots in {folder}/ca.pem; valid until 2023-11-1"])
    read = lambda name: open(os.path.join(folder, name)).read()
    key = read("ops.key")
    assert "BEGIN PRIVATE KEY" in key and os.stat(os.path.join(folder, "ops.key")).st_mode & 0o777 == 0o600
    assert read("ops.pem") == "the certificate\n" and read("ca.pem") == "the roots\n" and sorted(os.listdir(folder)) == ["ca.pem", "ops.key", "ops.pem"]
    first = t.cluster.csrs.pop()
    assert first["rights"] == ["keys-read:/app", "units-see"] and first["ttl"] == 7200 and "BEGIN NEW CERTIFICATE REQUEST" in first["csr"], first
    t.expect(["cert", "create", "ops", "--out", folder, "--replace"], out=["Certificate in "])
    again = t.cluster.csrs.pop()
    assert read("ops.key") == key and "rights" not in again and again["replace"] is True
    public = lambda csr: subprocess.run(["openssl", "req", "-pubkey", "-noout"], input=csr, capture_output=True, text=True).stdout if shutil.which("openssl") else ""
    assert public(first["csr"]) == public(again["csr"])
    t.file("bad.key", "no key")
    t.expect(["cert", "bad", "--rights=units-see", "--out", t.dir], 1, err=[f"{t.dir}/bad.key"])
    assert not t.cluster.csrs


def keys_are_set_and_read(t):
    t.expect("kv set /a/b x", out="x\n")
    t.expect("kv get /a/b", out="x\n")
    t.expect("kv get a/b", out="x\n")
    t.expect(["kv", "set", "/a/c d", "ü & = +", "--ttl", "60"], out="ü & = +\n")
    assert t.cluster.form["ttl"] == ["60"]
    t.expect(["kv", "get", "/a/c d"], out="ü & = +\n")
    assert t.run("kv", "set", "/in", stdin="from\nstdin")[1] == "from\nstdin\n"
    t.expect("kv set /neg -- -1", out="-1\n")
    assert json.loads(t.expect("kv get /a/b --output=json", out=["{"]))["node"]["value"] == "x"


def many_keys_that_exist_before_a_unit_names_them_are_not_counted_to_the_end(t):
    t.file("shop.service", UNIT_TEXT + "[X-Fleet]\nEnvironmentKeys=/shop\nConfigKeys=/small\n")
    t.cluster.keys.update({f"/shop/{i}": ("x", 1) for i in range(1001)})
    t.cluster.keys.update({f"/small/{i}": ("x", 1) for i in range(1000)})
    t.expect("submit shop", out="Unit shop.service inactive\n", err="fleetctl: /shop has more than 1000 keys that exist already\n"
                                                                    "fleetctl: /small has 1000 keys that exist already\n")


def rejected_requests_of_keys_print_the_errors_of_etcdctl(t):
    t.expect("kv get /none", 4, err="Error:  100: Key not found (/none) [10]\n")
    t.expect("kv set /k old", out="old\n")
    t.expect("kv set /k new --swap-with-value=other", 4, err=["Error:  101: Compare failed ([other != old])"])
    t.expect("kv set /k new --swap-with-value=old", out="new\n")
    t.expect("kv rm /k --with-value=old", 4, err=["Error:  101: Compare failed"])
    t.expect("kv get", 2, err="fleetctl: kv get: expected one key\n")
    t.expect("kv frob", 2, err=['Error: unknown command "frob" for "fleetctl kv"\n'])
    status, said = t.on_terminal("kv", "set", "/k", typed="typed\n\x04")
    assert status == 0 and "fleetctl: reading standard input; end with Ctrl-D\r\n" in said, said
    t.expect("kv set /k v --ttl=soon", 2, out="", err=['invalid argument "soon" for --ttl'])


def an_interrupted_lock_leaves_the_queue(t):
    """Moments: the key exists and the answer is not sent; the queue is read, with another key before it or not; the key is watched."""
    def run(moment, queue, signal_sent):
        t.cluster.keys = {key: ("other", 5) for key in queue}
        t.cluster.requests.clear()
        p = subprocess.Popen([PROGRAM, "kv", "lock", "job", "--", "touch", "ran"], cwd=t.dir, env=t.env, stderr=subprocess.PIPE, text=True)
        t.cluster.before_request = lambda method, path: moment == (method, path.split("?")[1:]) and p.send_signal(signal_sent)
        t.cluster.before_answer = lambda method, key: moment == method and p.send_signal(signal_sent)
        if moment == "watch":
            until(lambda: any("wait=true" in path for _, path in t.cluster.requests) or p.poll() is not None, "no watch")
            p.send_signal(signal_sent)
        status, said = p.wait(WAIT_SECONDS), p.stderr.read()
        p.stderr.close()
        t.cluster.before_request = t.cluster.before_answer = lambda method, key: None
        return status, said, sorted(t.cluster.keys)

    other = ["/_lock/job/00000000000000000001"]
    for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for moment in ("POST", ("GET", ["sorted=true&quorum=true"]), "watch"):
            for queue in (other, []) if moment != "watch" else (other,):
                got = run(moment, queue, sent)
                assert got == (1, "", queue), (moment, queue, sent, got)
                assert not os.path.exists(os.path.join(t.dir, "ran")), (moment, queue, sent)


def an_interrupted_lock_ends_in_time_while_fleetd_hangs(t):
    """The answer with its key is missing."""
    hung = threading.Event()
    p = subprocess.Popen([PROGRAM, "kv", "lock", "job", "--request-timeout=600", "--", "touch", "ran"], cwd=t.dir, env=t.env, stderr=subprocess.PIPE,
                         text=True)
    t.cluster.before_answer = lambda method, key: (p.send_signal(signal.SIGTERM), hung.wait())
    try:
        status = p.wait(WAIT_SECONDS)
    finally:
        hung.set()
    said = p.stderr.read()
    p.stderr.close()
    assert status == 1, (status, said)
    assert "fleetctl: the request was interrupted: no answer from fleetd" in said, said
    assert "fleetctl: a key may remain in the queue; it expires in 30 s" in said, said
    assert not os.path.exists(os.path.join(t.dir, "ran"))


def a_signal_removes_temporary_files_and_folders(t):
    """A backup is written beside its final name, and an export."""
    for args, sent in ((["backup", "b"], signal.SIGTERM), (["export", "e"], signal.SIGINT), (["export", "f"], signal.SIGHUP)):
        hung, running, seen = threading.Event(), [], []

        def on_request(method, path):
            left = [name for name in os.listdir(t.dir) if ".new-" in name]
            if left and not seen:
                seen.extend(left)
                running[0].send_signal(sent)
                hung.wait()

        t.cluster.before_request = on_request
        running.append(subprocess.Popen([PROGRAM, *args], cwd=t.dir, env=t.env, stderr=subprocess.DEVNULL))
        try:
            status = running[0].wait(WAIT_SECONDS)
        finally:
            hung.set()
        t.cluster.before_request = lambda method, path: None
        assert (status, len(seen)) == (-sent, 1), (args, status, seen)
        assert not [name for name in os.listdir(t.dir) if ".new-" in name], os.listdir(t.dir)


def a_lock_ends_with_all_descendants_of_its_command(t):
    """The pipe ends with the last descendant of the command."""
    def run(script, *args):
        ours, theirs = os.pipe()
        p = subprocess.Popen([PROGRAM, "kv", "lock", *args, "job", "--", "sh", "-c", script], cwd=t.dir, env=t.env, stdout=theirs, stderr=subprocess.PIPE,
                             text=True)
        os.close(theirs)
        return p, os.fdopen(ours)

    def end(p, out):
        ready, _, _ = select.select([out], [], [], WAIT_SECONDS)
        assert ready and out.read() == "", "something that the command has begun goes on"
        status, said = p.wait(WAIT_SECONDS), p.stderr.read()
        p.stderr.close()
        out.close()
        return status, said, list(t.cluster.keys)

    for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A shell without job control lets its background commands ignore SIGINT.
        p, out = run("setsid env --default-signal=INT sleep 1000 & echo begun; wait")
        said = out.readline()
        assert said == "begun\n", (said, p.poll())
        until(lambda: descends_from(p.pid, "sleep"), "no child process")
        p.send_signal(sent)
        got = end(p, out)
        assert got == (128 + sent, "", []), got

    # Lost: processes that ignore SIGTERM are killed before the next client may start.
    p, out = run("setsid sh -c 'trap \"\" TERM; echo begun; while :; do sleep 1; done' & wait", "--ttl=15")
    said = out.readline()
    assert said == "begun\n", (said, p.poll())
    t.cluster.keys.clear()
    status, said, _ = end(p, out)
    assert status == 1 and "lock lost" in said, (status, said)

    # Interrupted: the lock is kept until the last process has ended.
    os.mkfifo(os.path.join(t.dir, "go"))
    p, out = run("sh -c 'trap \"echo got; read go <go; exit\" TERM; echo begun; while :; do sleep 0.1; done' 2>/dev/null & echo $$; wait")
    said = [out.readline(), out.readline()]
    assert "begun\n" in said, said
    child = next(line.strip() for line in said if line != "begun\n")
    p.send_signal(signal.SIGTERM)
    said = out.readline()
    assert said == "got\n", said
    until(lambda: not os.path.exists(f"/proc/{child}"), "it goes on")
    assert len(t.cluster.keys) == 1 and p.poll() is None, (t.cluster.keys, p.poll())
    with open(os.path.join(t.dir, "go"), "w") as go:
        go.write("\n")
    got = end(p, out)
    assert got == (128 + signal.SIGTERM, "", []), got

    # Background processes of a command that has ended by itself do not hold the lock.
    p, out = run("sleep 1000 & echo $!")
    left = int(out.readline())
    assert (p.wait(WAIT_SECONDS), list(t.cluster.keys)) == (0, [])
    os.kill(left, signal.SIGTERM)
    got = end(p, out)
    assert got == (0, "", []), got


def a_lock_reaps_the_orphans_of_its_command(t):
    p = subprocess.Popen([PROGRAM, "kv", "lock", "job", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do (/bin/true &); done | cat; echo begun; read go"], cwd=t.dir,
                         env=t.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "begun\n", p.poll()
    until(lambda: not descends_from(p.pid, "true"), "an orphan is left")
    p.communicate("go\n")
    assert (p.returncode, list(t.cluster.keys)) == (0, [])


def a_lock_ends_its_command_without_proc(t):
    """/proc of its mount namespace is hidden while it runs."""
    for sent in (signal.SIGTERM, None):
        p = subprocess.Popen(["unshare", "--mount", PROGRAM, "kv", "lock", "--ttl=15", "job", "--", "sh", "-c", "echo begun; exec sleep 1000"], cwd=t.dir,
                             env={**t.env, "ASAN_OPTIONS": "detect_leaks=0"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert p.stdout.readline() == "begun\n", p.stderr.read()
        subprocess.run(["nsenter", f"--mount=/proc/{p.pid}/ns/mnt", "mount", "-t", "tmpfs", "none", "/proc"], check=True)
        if sent:
            p.send_signal(sent)
        else:
            t.cluster.keys.clear()
        said = p.communicate(timeout=WAIT_SECONDS)[1]
        assert p.returncode == (128 + signal.SIGTERM if sent else 1), (p.returncode, said)
        assert ("lock lost" in said) == (not sent), said


def descends_from(pid, name):
    """Return whether a process of this name descends from 'pid'."""
    parents, found = {}, []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat:
                before, after = stat.read().rsplit(")", 1)
        except OSError:
            continue
        parents[int(entry)] = int(after.split()[1])
        if before.endswith("(" + name):
            found.append(int(entry))
    for one in found:
        while one in parents and one != pid:
            one = parents[one]
        if one == pid:
            return True
    return False


def a_watch_prints_changes_in_order(t):
    p = subprocess.Popen([PROGRAM, "kv", "watch", "--recursive", "--forever", "/w"], cwd=t.dir, env=t.env, text=True,
                         stdout=subprocess.PIPE)
    until(lambda: any("wait=true" in path for _, path in t.cluster.requests), "no watch")
    t.expect("kv set /w/a 1", out="1\n")
    assert p.stdout.readline() == "set /w/a 1\n"
    t.expect("kv set /w/b 2", out="2\n")
    t.expect("kv rm /w/a")
    assert p.stdout.readline() == "set /w/b 2\n"
    assert p.stdout.readline() == "delete /w/a\n"
    p.kill()
    p.wait()
    t.expect("kv watch --after-index=10 --recursive /w", out="set /w/a 1\n")


def a_watch_from_an_index_outside_the_window_continues_from_now(t):
    done = []
    thread = threading.Thread(target=lambda: done.append(t.run("kv", "watch", "--after-index=1", "/k")))
    thread.start()
    until(lambda: sum("wait=true" in path for _, path in t.cluster.requests) == 2, "no second watch")
    t.expect("kv set /k 1", out="1\n")
    thread.join(WAIT_SECONDS)
    status, out, err = done[0]
    assert (status, out) == (0, "set /k 1\n") and "no longer in the event window" in err, done


class Watch:
    """A watch of the directory /w in the background, which has begun."""

    WITHOUT_A_LEADER = (500, {"errorCode": 300, "message": "Raft Internal Error", "cause": bad_input.NO_LEADER, "index": 0})
    ECHO = ("--", "sh", "-c", "echo $ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE")

    def __init__(self, t, verb, *flags):
        self.t = t
        t.cluster.requests.clear()
        self.process = subprocess.Popen([PROGRAM, "kv", verb, "--recursive", *flags, "/w", *(self.ECHO if verb == "exec-watch" else ())], cwd=t.dir, env=t.env, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.begin()

    def begin(self):
        until(lambda: self.t.cluster.watching or self.process.poll() is not None, "no watch")

    def asks(self):
        """Wait for another request."""
        before = len(self.t.cluster.requests)
        until(lambda: len(self.t.cluster.requests) > before or self.process.poll() is not None, "no request of a watch")

    def set(self, key, value):
        with self.t.cluster.lock:
            self.t.cluster.notify(action="set", key=key, value=value)

    def prints(self, *lines):
        for line in lines:
            got = self.process.stdout.readline()
            assert got == line + "\n", (line, got, self.process.poll() is not None and self.process.stderr.read())

    def says(self, start):
        got = self.process.stderr.readline()
        assert got.startswith("fleetctl: " + start), (start, got)

    def end(self, sent=None, notes=False):
        """Return the exit status and the output that was not read; without notes of an interruption, which is long on a slow machine."""
        if sent:
            self.process.send_signal(sent)
        out, err = self.process.communicate(timeout=WAIT_SECONDS)
        self.t.cluster.end_watches()
        return self.process.returncode, out, err if notes else re.sub("fleetctl: (the watch is interrupted|fleetd answers again).*\n", "", err)


def until(condition, what):
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def has_read(t, name, process=None):
    """Wait until a client that waits for this unit has read what there is now. Its second read follows the answer to the first one."""
    for _ in range(2):
        with t.cluster.lock:
            n = len(t.cluster.requests)
            t.cluster.notify(kind="state", name=name)
        until(lambda: any(method == "GET" and "/events" not in path for method, path in t.cluster.requests[n:]) or (process and process.poll() is not None), "no read")
    assert not process or process.poll() is None, "it runs, and no client waits for its end"


FOREVER = (("watch", "--forever"), ("exec-watch",))


def a_watch_outlives_a_restart_and_misses_and_repeats_no_change(t):
    for args in FOREVER:
        w = Watch(t, *args)
        w.set("/w/a", "1")
        w.prints("set /w/a 1")
        w.begin()
        t.cluster.end_watches(broken=Watch.WITHOUT_A_LEADER)
        w.set("/w/b", "2")
        w.set("/w/c", "3")
        w.asks()
        t.cluster.broken = None
        w.prints("set /w/b 2", "set /w/c 3")
        w.begin()
        for i in range(3):  # without a change meanwhile
            t.cluster.end_watches()
            w.begin()
        w.set("/w/d", "4")
        w.prints("set /w/d 4")
        w.begin()
        assert w.end(signal.SIGTERM) == (-signal.SIGTERM, "", ""), args
        indexes = [int(parse.group(1)) for parse in (re.search("waitIndex=([0-9]+)", path) for _, path in t.cluster.requests) if parse]
        assert indexes[-1] == t.cluster.index + 1 and indexes == sorted(indexes), indexes


def a_watch_that_is_interrupted_for_more_than_a_second_reports_that_and_its_end(t):
    for args in FOREVER:
        w = Watch(t, *args)
        os.rename(t.socket, t.socket + "-away")
        t.cluster.end_watches()
        w.says(f"the watch is interrupted, and continues when fleetd answers: no fleetd listens at {t.socket}; systemctl start fleetd")
        w.set("/w/a", "1")
        t.cluster.broken = Watch.WITHOUT_A_LEADER
        os.rename(t.socket + "-away", t.socket)
        w.asks()
        t.cluster.broken = None
        w.says("fleetd answers again: the watch continues")
        w.prints("set /w/a 1")
        w.begin()
        t.cluster.end_watches(broken=Watch.WITHOUT_A_LEADER)
        w.says(f"the watch is interrupted, and continues when fleetd answers: Raft Internal Error ({bad_input.NO_LEADER})")
        w.asks()
        assert w.end(signal.SIGINT, notes=True) == (-signal.SIGINT, "", ""), args
        t.cluster.broken = None


def a_watch_of_one_change_outlives_a_restart(t):
    w = Watch(t, "watch")
    t.cluster.end_watches(broken=(503, {"error": {"code": 503, "message": "starting"}}))
    w.set("/w/a", "1")
    w.asks()
    t.cluster.broken = None
    assert w.end() == (0, "set /w/a 1\n", "")


def a_watch_reports_changes_that_are_no_longer_kept_and_continues(t):
    for args in FOREVER:
        for last in (None, {"errorCode": 400, "message": "watcher is cleared due to etcd recovery", "cause": "", "index": 0}):
            w = Watch(t, *args)
            former = t.cluster.index
            t.cluster.end_watches(last, broken=Watch.WITHOUT_A_LEADER if not last else None)
            if not last:
                w.set("/w/lost", "1")
                w.set("/elsewhere", "2")
                t.cluster.outdated = t.cluster.index + 1
                t.cluster.broken = None
                w.says(f"changes after index {former} may have been missed: they are no longer in the event window; the watch continues after index {former + 2}")
            else:
                w.says(f"changes after index {former} may have been missed")
            w.begin()
            until(lambda: "waitIndex" not in t.cluster.requests[-1][1] or f"waitIndex={former + 3}" in t.cluster.requests[-1][1], "it does not continue")
            w.set("/w/new", "3")
            w.prints("set /w/new 3")
            assert w.end(signal.SIGTERM) == (-signal.SIGTERM, "", ""), args


def a_watch_ends_when_it_is_refused(t):
    refusal = {"errorCode": 110, "message": "The request requires user authentication", "cause": "Insufficient credentials", "index": 0}
    said = "Error:  110: The request requires user authentication (Insufficient credentials) [0]\nfleetctl: this needs the right keys-read:/w (fleet-security(7), USERS)\n"
    for args in (*FOREVER, ("watch",)):
        w = Watch(t, *args)
        t.cluster.end_watches(refusal)
        assert w.end() == (4, "", said), args
        w = Watch(t, *args)
        t.cluster.end_watches(broken=(401, refusal))
        assert w.end() == (4, "", said), args
        t.cluster.broken = None
    t.cluster.broken = Watch.WITHOUT_A_LEADER  # before its begin
    t.expect("kv watch --forever /w", 1, err=f"Error:  300: Raft Internal Error ({bad_input.NO_LEADER}) [0]\n")
    os.unlink(t.socket)
    t.expect("kv watch --forever /w", 1, err=f"fleetctl: no fleetd listens at {t.socket}; systemctl start fleetd\n")


# -- verbs, flags, endpoints --

def an_unknown_verb_is_rejected(t):
    t.expect("frobnicate", 2, err='Error: unknown command "frobnicate" for "fleetctl"; see: fleetctl help\n')
    t.expect("strat x", 2, err='Error: unknown command "strat" for "fleetctl"; did you mean start? (fleetctl help)\n')
    t.expect("mv x", 2, err='Error: unknown command "mv" for "fleetctl"; did you mean move? (fleetctl help move)\n')
    t.expect("help ps", out=["fleetctl list-units [OPTIONS] [UNIT...]"], err="fleetctl: there is no verb ps; did you mean list-units? (fleetctl help list-units)\n")
    t.expect("list-unit", 2, err='Error: unknown command "list-unit" for "fleetctl"; did you mean list-unit-files, list-units? (fleetctl help)\n')


def wrong_input_is_answered_with_object_reason_and_next_step(t):
    for name in ("db.service", "web@1.service", "web@2.service", "dir.service"):
        t.file(name)
    t.expect("start db web@1 web@2 dir", out=["launched"])
    t.cluster.units["dir.service"]["owner"] = "2" * 32
    for name in ("db.service", "web@1.service", "web@2.service", "dir.service"):
        os.unlink(os.path.join(t.dir, name))
    t.file("plain.txt")
    t.file("t@.service")
    t.file("new.service")
    t.file("big.service", UNIT_TEXT + "#" * 128 * 1024)
    t.file("keys.json", '{"good":"1","/a":"2"}')
    t.file("good.json", '{"a":"2"}')
    for name in ("units", "d.service"):
        os.mkdir(os.path.join(t.dir, name))
    t.cluster.index = 10
    check_rows(t, bad_input.ROWS)
    assert not t.cluster.keys, "kv import checks all keys first"
    t.cluster.leaderless, t.cluster.problem = True, bad_input.NO_LEADER
    check_rows(t, bad_input.WITHOUT_A_LEADER)
    t.cluster.broken = (503, {"error": {"cause": "this host waits for admission to a cluster", "code": 503,
                                        "message": "fleet server unable to communicate with etcd"}})
    check_rows(t, bad_input.ON_A_HOST_WITHOUT_A_CLUSTER)


def check_rows(t, rows):
    wrong, t.env["EDITOR"] = [], "touch opened; true"
    for line, status, message, *terminal in rows:
        words = shlex.split(line)
        stdin = open(os.path.join(t.dir, words.pop()[1:])).read() if words[-1].startswith("<") else ""
        got, _, err = t.run(*words, stdin=stdin)
        said = err.splitlines()
        if (got, said[:1]) != (status, [message]) or (terminal and message.startswith("Error creating") and terminal[0].startswith("fleetctl: ") and terminal[0] not in said):
            wrong.append(f"in a pipe: {line}: {got}, {err!r}")
        if stdin:
            continue
        got, said = t.on_terminal(*words, typed="n\n" if words[0] == "destroy" else "", columns=200)
        said = [x for x in said.split("\r\n") if x not in ("n", "")]
        if (got, said[:1]) != (status, (terminal or [message])[:1]):
            wrong.append(f"on a terminal: {line}: {got}, {said!r}")
    assert not wrong, "\n".join(wrong)
    assert not os.path.exists(os.path.join(t.dir, "opened")), "an editor was opened"


def an_unknown_flag_is_rejected(t):
    t.expect("--bogus list-units", 2, out=["NAME:"],
             err="Error: unknown flag: --bogus\n\ncannot execute cmdFleet: unknown flag: --bogus\n")
    t.expect("list-units -z", 2, out=["NAME:"], err=["unknown shorthand flag: 'z' in -z"])
    t.expect("list-units --no-legnd", 2, out=["NAME:"], err="Error: unknown flag: --no-legnd\n\ncannot execute cmdFleet: unknown flag: --no-legnd\n"
             "fleetctl: did you mean --no-legend?\n")
    t.expect("list-units --replace", 2, out=["NAME:"], err=["unknown flag: --replace"])
    t.expect("list-units --fields", 2, out=["NAME:"], err=["flag needs an argument: --fields"])
    t.expect("events --bogus", 2, out="", err="fleetctl: unknown flag: --bogus (fleetctl help events)\n")  # fleet has no such verb
    t.expect("kv set /a --ttl", 2, out="", err="fleetctl: flag needs an argument: --ttl (fleetctl help kv set)\n")
    t.expect("start --block-attempts=many a", 2, out=["NAME:"], err=['invalid argument "many" for --block-attempts'])
    t.expect("submit --sign a", 2, err=["DEPRECATED"])
    assert t.run("verify", "a", env={"FLEETCTL_OUTPUT": "json"})[0] == 1  # the variable is for verbs that have the flag
    assert t.run("stop", "a", env={"FLEETCTL_OUTPUT": "json"})[:2] == (0, '{"result":"done","states":[],"units":[]}\n')


def help_explains_verbs_with_examples(t):
    root = t.expect("", out=["COMMANDS:", "list-machines", "--endpoint"])
    assert t.expect("help", out=["VERSION:"]) == t.expect("--help", out=["VERSION:"]) == root
    start = t.expect("help start", out=["fleetctl start [OPTIONS] UNIT...", "--block-attempts", "--replace"])
    assert t.expect("start --help x", out=["NAME:"]) == t.expect("star -h", out=["NAME:"]) == start
    t.expect("help frob", out="", err=["Unknown help topic [`frob`].\n", "fleetctl: topics: "])
    verbs = t.expect("help --verbs", out=["start\n", "kv get\n"]).splitlines()
    for verb in verbs:
        t.expect(f"help {verb.split()[0]}", out=["DESCRIPTION:"] if verb not in ("help", "version") else ["USAGE:"])
    said = t.expect("kv get --help", out=["kv get - Print the value of a key\n", "fleetctl kv get [OPTIONS] KEY\n", "--file", "--output"])
    assert "--ttl" not in said and said == t.expect("help kv get", out=["NAME"])
    assert "OPTIONS:\n  -o, --output" in t.expect("why --help", out=["NAME"])
    for args in ("version", "--version", "-v"):
        t.expect(args, out=["fleetctl version "])


def help_prints_the_sections_of_the_manual_about_tasks(t):
    headings = []
    for page in ("fleet", "fleet-change", "fleet-recovery"):
        with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), f"../../man/{page}.7.scd")) as f:
            headings += re.findall(r"^# (.*) \(([a-z]+)\)$", f.read(), re.M)
    topics = t.expect("help --topics", out=["maintain\n"]).splitlines()
    assert topics == [topic for _, topic in headings]
    verbs = t.expect("help --verbs", out=["start\n"]).splitlines()
    root = t.expect("help", out=["TOPICS:"])
    for title, topic in headings:
        title = title.capitalize().replace("dns", "DNS")
        assert f"\thelp {topic:14}{title}\n" in root
        text = t.expect(f"help {topic}", out=[title + "\n\n"])
        if topic in verbs:
            verb, text = text.split("\n" + title + "\n")
            assert verb == t.expect(f"{topic} --help", out=["OPTIONS"])
        assert not re.search(r"[*\\]_|_\*|\*[a-z]+\*|^```", text, re.M), text
        prose = [line for line in text.splitlines() if not line.startswith("        ")]
        assert len(prose) > 3 and max(map(len, prose)) <= 80, prose
    for columns, widest in ((40, 40), (80, 80), (220, 100)):  # longer lines are hard to read
        prose = [line for line in t.on_terminal("help", "maintain", columns=columns)[1].split("\r\n") if not line.startswith("        ")]
        assert widest - 12 < max(map(len, prose)) <= widest, (columns, prose)
    assert t.expect("help maint", out=["Maintain a host"]) == t.expect("help maintain", out=["fleetctl status"])


def help_prints_each_example_as_the_page_has_it(t):
    sections = []
    for page in ("fleet", "fleet-change"):
        with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), f"../../man/{page}.7.scd")) as f:
            sections += re.split(r"^# .* \(([a-z]+)\)$", f.read(), flags=re.M)[1:]
    n = 0
    for topic, section in zip(sections[::2], sections[1::2]):
        said = t.expect(f"help {topic}", out=["\n\n"])
        for block in re.findall(r"^```\n(.*?)^```$", section, re.M | re.S):
            wanted = "".join(" " * 8 * bool(line) + re.sub(r"\\(.)", r"\1", line) + "\n" for line in block.splitlines())
            assert "\n" + wanted in said, f"help {topic} has not the example\n{wanted}but\n{said}"
            n += 1
    assert n > 20, n
    assert re.search(r"\n    1\. [^\n]+\n       \S", t.expect("help replace", out=["\n    2. "])), "items of a list are not indented below their text"


def completion_offers_topics(t):
    script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../client/completion/fleetctl")
    run = '. "$0"; COMP_WORDS=(fleetctl help "$1"); COMP_CWORD=2; _fleetctl; printf "%s\\n" "${COMPREPLY[@]}"'
    for typed, offered in (("maint", "maintain\n"), ("sta", "start\nstatus\n"), ("ba", "backup\nbalance\n")):
        p = subprocess.run(["bash", "-c", run, script, typed], capture_output=True, text=True, timeout=WAIT_SECONDS,
                           env={**t.env, "PATH": f"{os.path.dirname(PROGRAM)}:{t.env['PATH']}"})
        assert (p.stdout, p.stderr) == (offered, ""), p


def a_verb_of_other_programs_is_answered_with_the_topic_of_its_task(t):
    for verb, topic in (("failover", "move"), ("deploy", "run"),
                        ("forget", "remove"), ("snapshot", "backup")):
        said = f"fleetctl: no verb {verb} in this version; see: fleetctl help {topic}"
        assert t.on_terminal(verb, "x") == (2, said + "\r\n"), t.on_terminal(verb, "x")
        t.expect(f"{verb} x", 2, err=f'Error: unknown command "{verb}" for "fleetctl"; see: fleetctl help {topic}\n')
        text = t.expect(f"help {topic}", out=["\n\n"])
        assert text.endswith(t.expect(f"help {verb}", out=["\n\n"], err="" if verb == topic else said + "\n"))  # a verb of that name comes first
    said = t.on_terminal("help", "maintian")
    assert said == (2, "fleetctl: no verb or topic maintian; did you mean maintain? (fleetctl help)\r\n"), said


def the_manual_names_every_verb_and_flag(t):
    with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../man/fleetctl.1.scd")) as f:
        manual = f.read()
    flags = set()
    for verb in t.expect("help --verbs", out=["start"]).splitlines():
        assert f"*{verb}*" in manual, f"fleetctl(1) does not name {verb}"
        flags |= {w.rstrip(",.:;").split("=")[0] for w in t.expect(f"{verb.split()[0]} --help", out=["OPTIONS"]).split() if w.startswith("--")}
    assert len(flags) > 25
    for flag in flags - {"--verbs", "--topics"}:
        assert f"*{flag}*" in manual, f"fleetctl(1) does not name {flag}"


def completion_offers_names_fields_and_unit_files(t):
    script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../client/completion/fleetctl")
    run = 'compopt() { :; }; . "$0"; COMP_WORDS=(fleetctl "$@"); COMP_CWORD=$#; _fleetctl; printf "%s\\n" "${COMPREPLY[@]}"'

    def complete(*words):
        p = subprocess.run(["bash", "-c", run, script, *words], cwd=t.dir, capture_output=True, text=True, timeout=WAIT_SECONDS,
                           env={**t.env, "PATH": f"{os.path.dirname(PROGRAM)}:{t.env['PATH']}"})
        assert p.stderr == "", p.stderr
        return sorted(p.stdout.split())

    for name in ("a.service", "t@.timer", "COPYING", "plain.txt", ".hidden.service"):
        t.file(name)
    for name in ("units", ".git"):
        os.mkdir(os.path.join(t.dir, name))
    t.expect("start a", out=["launched"])
    os.unlink(os.path.join(t.dir, "a.service"))
    assert complete("start", "") == ["a.service", "t@.timer", "units"]
    assert complete("plan", "u") == ["units"]
    assert complete("plan", ".g") == [".git"]
    assert complete("journal", "a") == ["a.service"]
    assert complete("journal", "-m", "") == complete("journal", "--machine", "=", "") == complete("journal", "--machine", "=") == ["alpha", "beta", "gamma"]
    assert complete("ssh", "be") == ["beta"]
    assert complete("list-units", "--fields", "=", "a") == complete("list-units", "--fields", "a") == ["active", "available"]
    assert complete("list-units", "--fields", "=") == ["active", "available", "hash", "health", "hostname", "load", "machine", "sub", "unit", "why"]
    assert complete("list-units", "--fields", "=", "unit,sub,ma") == ["unit,sub,machine"]
    assert complete("--output", "=", "json", "list-ma") == ["list-machines"]
    assert complete("list-units", "-o", "") == ["json"]
    assert complete("drain", "b") == ["beta"]
    t.cluster.machines = [{**m, "presence": "lost" if m["hostname"] == "beta" else "up"} for m in t.cluster.machines]
    assert complete("remove", "") == ["beta"]
    assert complete("top", "a") == ["a.service"] and complete("top", "--machine", "") == ["alpha", "beta", "gamma"]
    assert complete("top", "--sort", "=", "") == ["cpu", "io", "memory", "name", "tasks"] and complete("top", "-o", "") == ["json"]
    assert complete("t") == ["token", "top"] and complete("we") == ["web"] and complete("web", "") == []
    assert complete("web", "--l") == ["--listen"] and complete("top", "--in") == ["--interval"] and complete("web", "--u") == ["--url"]
    t.cluster.machines = [{**m, "hostname": "$(touch${IFS}executed)"} if m["hostname"] == "beta" else m for m in t.cluster.machines]
    assert complete("journal", "-m", "") == ["alpha", "gamma"]
    assert not os.path.exists(os.path.join(t.dir, "executed"))
    assert "--swap-with-value" in complete("kv", "set", "--s") and complete("kv", "s") == ["set"]


def a_missing_listener_is_an_error_with_the_next_step(t):
    t.expect("--endpoint unix:///nowhere/x.sock list-units", 1,
             err="fleetctl: no fleetd listens at /nowhere/x.sock; systemctl start fleetd\n")
    t.expect("--endpoint http://127.0.0.1:1 list-machines", 1, err=["fleetctl: cannot reach fleetd at http://127.0.0.1:1: "])
    t.expect("--endpoint http://127.0.0.1:1 submit x", 1, err=["fleetctl: cannot reach fleetd at http://127.0.0.1:1: "])


def an_invalid_endpoint_is_rejected(t):
    for endpoint, reason in (("", "URL scheme undefined"), ("run/x", "URL scheme undefined"),
                             ("unix://var/x", 'unable to connect to host "var" with scheme "unix"'),
                             ("ftp://x", 'unsupported protocol scheme "ftp"')):
        t.expect(["--endpoint", endpoint, "list-machines"], 1, err=f"Unable to initialize client: {reason}\n")
    t.expect("--driver=zzz list-machines", 1, err='Unable to initialize client: unrecognized driver "zzz"\n')
    t.expect("--tunnel=h --endpoint=https://x list-machines", 1, err="Unable to initialize client: --tunnel: expected a unix:// or http:// endpoint, not https://x\n")


def a_socket_without_permission_is_an_error_with_the_group(t):
    command = [PROGRAM]
    if os.getuid() == 0:    # root without capabilities is subject to permissions, perhaps also to those of the folder of the program
        shutil.copy(PROGRAM, t.dir)
        os.chmod(t.dir + "/fleetctl", 0o700)
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", t.dir + "/fleetctl"]
    os.chmod(t.socket, 0)
    p = subprocess.run([*command, "list-units"], env=t.env, text=True, capture_output=True, cwd="/")
    assert p.returncode == 1 and p.stderr == (f"fleetctl: cannot reach fleetd at {t.socket}: permission denied; "
                                              "it is for root and group fleet, whose members are root on all hosts; for less: LocalRights= in fleetd.conf(5)\n"), p.stderr


def an_unusable_store_is_reported_as_a_problem_of_the_daemon(t):
    t.file("a.service")
    t.cluster.broken = (503, {"error": {"code": 503, "message": "no leader: 1 of 3 voters reachable; reads still work"}})
    for command in ("list-units", "list-machines", "submit a.service", "stop a.service", "cat a", "kv get /a"):
        t.expect(command, 1, err="fleetctl: no leader: 1 of 3 voters reachable; reads still work (fleetctl status; if the majority is lost: fleetctl help recovery)\n")


def a_terminal_gets_the_next_step_after_an_error_of_etcd_without_a_leader(t):
    t.cluster.leaderless, t.cluster.problem = True, bad_input.NO_LEADER
    t.file("keys.json", '{"writes":[{"action":"set","key":"/k","value":"1"}]}')
    for args, error in (("kv set /x 1", f"Error:  300: Raft Internal Error ({bad_input.NO_LEADER}) [10]"), ("kv rm /x", f"Error:  300: Raft Internal Error ({bad_input.NO_LEADER}) [10]"),
                        ("kv txn keys.json", f"Error:  503: {bad_input.NO_LEADER}")):
        t.expect(args, 1, err=error + "\n")
        assert t.on_terminal(*args.split(), columns=200) == (1, f"{error}\r\nfleetctl: see: fleetctl status; if the majority is lost: fleetctl help recovery\r\n"), args
    t.cluster.broken = (503, {"error": {"code": 503, "message": "the cluster has no leader now"}})
    t.expect("token", 1, err="fleetctl: the cluster has no leader now (fleetctl status; if the majority is lost: fleetctl help recovery)\n")


def an_invalid_answer_is_an_error(t):
    t.cluster.broken = (200, "<html>")
    t.expect("list-units", 1, err=["fleetctl: fleetd's answer to /fleet/v1/state: "])
    t.expect("cat x", 1, err=["fleetctl: fleetd's answer about x.service: "])
    t.cluster.broken = (500, "")
    t.expect("list-units", 1, err=["got HTTP response code 500"])


def a_request_to_a_hanging_fleetd_times_out(t):
    import socket
    s = socket.socket(socket.AF_UNIX)
    s.bind(t.dir + "/mute")
    s.listen()
    t.expect(["--endpoint", f"unix://{t.dir}/mute", "--request-timeout", "0.3", "list-units"], 1,
             err=[f"fleetctl: no answer from fleetd at {t.dir}/mute within 0.3 s; see --request-timeout\n"])
    s.close()


def a_socket_for_the_group_fleet_is_reported_as_such(t):
    os.chmod(t.socket, 0)
    with open(PROGRAM, "rb") as program:  # its folder may be readable by root only
        p = subprocess.run([f"/proc/self/fd/{program.fileno()}", "list-units"], cwd="/", env={**t.env, "ASAN_OPTIONS": "detect_leaks=0"}, text=True,
                           capture_output=True, timeout=WAIT_SECONDS, pass_fds=[program.fileno()], **({"user": 65534} if os.geteuid() == 0 else {}))
    said = "".join(line for line in p.stderr.splitlines(True) if not line.startswith("profiling:"))  # of a build with coverage
    assert (p.returncode, said) == (1, f"fleetctl: cannot reach fleetd at {t.socket}: permission denied; it is for root and group fleet, whose "
                                    "members are root on all hosts; for less: LocalRights= in fleetd.conf(5)\n"), p


def the_command_line_overrides_the_environment(t):
    assert t.run("list-units", "--no-legend", env={"FLEETCTL_OUTPUT": "json"})[1] == "{}\n"
    assert t.run("list-units", "--no-legend", env={"FLEETCTL_ENDPOINT": "unix:///none"})[0] == 1
    assert t.run("list-units", "--endpoint", "unix://" + t.socket, env={"FLEETCTL_ENDPOINT": "unix:///none"})[0] == 0
    assert t.run("list-units", env={"FLEETCTL_REQUEST_TIMEOUT": "soon"})[0] == 0


# -- on a terminal --

def a_terminal_shows_hostnames_and_one_line_per_unit(t):
    t.file("a.service")
    t.file("bad.service", "[Service]\nExecStart=/bin/false\n")
    status, said = t.on_terminal("start", "a.service", "bad.service")
    assert status == 1
    last = said.rsplit("\033[2A", 1)[-1]
    assert "alpha" in last and "running" in last and " s\033[K" in last, repr(said)
    assert "failed" in last and "fleetctl journal bad.service" in last, repr(said)
    status, said = t.on_terminal("list-units")
    assert status == 0 and "alpha" in said and "11111111" not in said and "\t" not in said, repr(said)
    status, said = t.on_terminal("list-machines")
    assert "ROLE" in said and "leader" in said, repr(said)


def a_terminal_shows_the_reason_of_a_delay(t):
    t.file("nowhere.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n")
    status, said = t.on_terminal("start", "--block-attempts=1", "nowhere.service", columns=120)
    assert status == 1
    assert "waiting" in said and "needs metadata region=mars" in said, repr(said)


def progress_lines_are_redrawn_in_place(t):
    t.file("a.service")
    t.file("long-name-of-a-unit@7.service")
    t.cluster.delay = threading.Event()
    terminal = t.terminal("start", "a", "long-name-of-a-unit@7.service")
    terminal.wait_for("waiting")
    t.cluster.delay.set()
    assert terminal.end() == 0
    first, second, *rest = terminal.screen()
    assert re.fullmatch(r"a\.service {22}(alpha|beta ) +running     \d+\.\d\d s", first), first
    assert re.fullmatch(r"long-name-of-a-unit@7\.service  (alpha|beta ) +running     \d+\.\d\d s", second) and rest == [""], (second, rest)
    for verb, word in (("stop", "stopped"), ("restart", "running"), ("unload", "inactive"), ("load", "loaded"), ("destroy", "destroyed")):
        if verb == "restart":
            t.expect("start a", out=["launched"])
        terminal = t.terminal(verb, "a")
        assert terminal.end() == 0
        lines = terminal.screen()
        assert len(lines) == 2 and lines[0].startswith("a.service  ") and f"  {word} " in lines[0], (verb, lines)


def progress_lines_are_cut_and_never_wrapped(t):
    names = ["a-very-long-name-that-does-not-fit@1.service", "a-very-long-name-that-does-not-fit@2.service"]
    for name in names:
        t.file(name, UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n")
    for columns in (80, 40, 30, 12):
        terminal = t.terminal("start", "--block-attempts=1", *names, columns=columns)
        terminal.wait_for("needs" if columns > 40 else "1.ser" if columns > 12 else "–")
        assert terminal.end() == 1
        lines = terminal.screen()
        assert all(len(line) <= columns for line in lines[:2]) and (lines[0] != lines[1] or columns == 12) and "fleetctl" in lines[2], lines
        assert columns < 40 or "@1.service  –  waiting" in lines[0] and "…" in lines[0], lines
        t.expect(["unload", *names], out=["inactive"], err=["Successfully"])


def a_small_window_shows_failed_and_pending_units_first(t):
    names = [f"u{i:02}.service" for i in range(30)]
    for name in names:
        t.file(name, "[Service]\nExecStart=/bin/false\n" if name == "u29.service" else
               UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n" if name == "u28.service" else UNIT_TEXT)
    terminal = t.terminal("start", *names, "--block-attempts=1", rows=8)
    assert terminal.end() == 1
    lines = terminal.screen()
    assert lines[5:] == ["… and 25 more: 25 done", ""], lines
    assert "u29.service" in lines[4] and "failed" in lines[4] and "u28.service" in lines[3], lines


def global_units_are_counted_on_a_terminal(t):
    t.file("g.service", UNIT_TEXT + "[X-Fleet]\nGlobal=true\n")
    t.cluster.slow["g.service"] = ["3" * 32]
    terminal = t.terminal("start", "g")
    terminal.wait_for("2 of 3 machines")
    with t.cluster.lock:
        t.cluster.slow.clear()
        t.cluster.reach_target("g.service")
    assert terminal.end() == 0 and "3 of 3 machines  running" in terminal.screen()[0], terminal.screen()
    for verb, said in (("stop", "3 of 3 machines  stopped"), ("restart", "3 of 3 machines  running"), ("unload", "  inactive"),
                       ("load", "3 of 3 machines  loaded"), ("destroy", "  destroyed")):
        terminal = t.terminal(verb, "g")
        assert terminal.end() == 0 and said in terminal.screen()[0], (verb, terminal.screen())
        if verb in ("stop", "unload"):
            assert t.on_terminal(verb, "g") == (0, "")  # it already has this state
    t.file("g.service", "[Service]\nExecStart=/bin/false\n[X-Fleet]\nGlobal=true\n")
    terminal = t.terminal("start", "g")
    assert terminal.end() == 1 and "0 of 3 machines  failed      fleetctl journal g.service" in terminal.screen()[0], terminal.screen()


def an_interrupt_prints_what_the_cluster_continues(t):
    t.file("nowhere.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n")
    t.file("a.service")
    terminal = t.terminal("start", "a", "nowhere", columns=200)
    terminal.wait_for("needs metadata region=mars")
    terminal.wait_for("\033[32mrunning")
    os.write(terminal.me, b"\003")
    assert terminal.end() == -signal.SIGINT
    assert terminal.screen()[2:] == ["fleetctl: the cluster continues to start nowhere.service; the target state stays launched; to cancel: fleetctl unload nowhere.service",
                                     ""], terminal.screen()
    assert t.cluster.units["nowhere.service"]["desiredState"] == "launched"
    p = subprocess.Popen([PROGRAM, "start", "nowhere"], cwd=t.dir, env=t.env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while "region=mars" not in p.stderr.readline():
        assert p.poll() is None
    p.send_signal(signal.SIGINT)
    assert "fleetctl: the cluster continues to start nowhere.service" in p.stderr.read() and p.wait() == -signal.SIGINT
    terminal = t.terminal("start", "--wait", "nowhere", columns=200, blocked=[signal.SIGINT])
    terminal.wait_for("needs metadata region=mars")
    os.write(terminal.me, b"\003")
    assert terminal.end() == 1
    assert terminal.screen()[1:] == ["fleetctl: the cluster continues to run nowhere.service; the target state stays launched; to cancel: fleetctl unload nowhere.service", ""], terminal.screen()
    t.expect("stop nowhere", 1, err="Unable to stop unit nowhere.service in state inactive\n"
             "fleetctl: nowhere.service waits for a machine: needs metadata region=mars, no machine has it; to cancel: fleetctl unload nowhere.service\n")
    t.expect("unload nowhere", out="Unit nowhere.service inactive\n", err="Successfully unloaded units [nowhere.service].\n")
    assert t.cluster.units["nowhere.service"]["desiredState"] == "inactive"

    t.file("b.service")
    t.expect("start b", out=["launched"])
    t.cluster.lag = None
    terminal = t.terminal("restart", "a", "b", columns=200)
    terminal.wait_for("stopping")
    os.write(terminal.me, b"\003")
    assert terminal.end() == -signal.SIGINT
    assert terminal.screen()[2:] == ["fleetctl: not restarted: b.service", "fleetctl: a.service " + STOPS_LATER, ""], terminal.screen()
    assert t.cluster.units["a.service"]["desiredState"] == "launched"
    for verb, said in (("stop", "the cluster continues to stop b.service; the target state stays loaded; to start again: fleetctl start b.service"),
                       ("start", "the cluster continues to run a.service; the target state stays launched; to cancel: fleetctl unload a.service")):
        t.cluster.lag = None if verb == "stop" else 0
        terminal = t.terminal(verb, *(["b"] if verb == "stop" else ["--wait", "a"]), columns=200)
        terminal.wait_for("stopping" if verb == "stop" else "running")
        os.write(terminal.me, b"\003")
        assert terminal.end() == -signal.SIGINT and terminal.screen()[1] == "fleetctl: " + said, terminal.screen()

    t.file("c.service")
    t.file("d.service")
    t.cluster.lag = 0
    t.expect("start a b d", out=["launched"])
    t.expect("load c", out=["loaded"])
    t.cluster.lag = None
    terminal = t.terminal("unload", "c", "d", columns=200)
    terminal.wait_for("launched")
    os.write(terminal.me, b"\003")
    assert terminal.end() == -signal.SIGINT
    assert terminal.screen()[-2] == "fleetctl: the cluster continues to stop c.service, d.service; the target state stays inactive; to start again: fleetctl start UNIT...; to load the others again: fleetctl load UNIT...", terminal.screen()


def a_dumb_terminal_gets_plain_lines(t):
    t.file("a.service")
    t.file("nowhere.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n")
    status, said = t.on_terminal("start", "--block-attempts=1", "a", "nowhere", term="dumb")
    assert status == 1 and "\033" not in said and "Unit a.service launched on alpha\r\n" in said, repr(said)
    assert said.count("fleetctl: nowhere.service: needs metadata region=mars, no machine has it; to cancel: fleetctl unload nowhere.service\r\n") == 1, repr(said)


def a_delay_in_a_pipe_is_reported_with_its_reason(t):
    t.file("nowhere.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n")
    p = subprocess.Popen([PROGRAM, "start", "nowhere"], cwd=t.dir, env=t.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert p.stderr.readline() == "fleetctl: nowhere.service: needs metadata region=mars, no machine has it; to cancel: fleetctl unload nowhere.service\n"
    p.kill()
    p.wait()
    p.stderr.close()


def wait_returns_the_result_of_the_units(t):
    t.file("job.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    t.file("bad.service", "[Service]\nExecStart=/bin/false\n")
    t.file("a.service")
    t.expect("start --wait job", out="Unit job.service inactive\nUnit job.service launched on 11111111.../10.0.0.1\n")
    t.expect("start --wait bad", 1, out=["launched"], err=["Failed to find an active unit bad.service: it is failed on beta"])
    t.expect("start --wait --no-block a", 2, err="fleetctl: --wait cannot be combined with --no-block\n")

    def ends(*args, how, status, said="", waits=1):
        p = subprocess.Popen([PROGRAM, *args], cwd=t.dir, env=t.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        until(lambda: p.poll() is not None or sum(path.startswith("/fleet/v1/events") for _, path in t.cluster.requests) == waits, "no wait")
        has_read(t, args[-1] + ".service", p)
        with t.cluster.lock:
            how()
        assert p.wait(WAIT_SECONDS) == status, args
        got = p.stderr.read()
        p.stderr.close()
        assert said in got and (said or got == ""), got
        t.cluster.requests.clear()

    def now(name, active, finished=False):
        for (unit, _), state in t.cluster.states.items():
            if unit == name:
                state.update(systemdActiveState=active, systemdSubState="dead", since=state["since"] + 1, **({"finished": True} if finished else {}))
        t.cluster.notify(kind="state", name=name)

    def stopped(name):
        t.cluster.units[name]["desiredState"] = "loaded"
        t.cluster.reach_target(name)

    t.cluster.requests.clear()
    ends("start", "--wait", "a", how=lambda: now("a.service", "inactive", True), status=0)
    with t.cluster.lock:
        t.cluster.reach_target("a.service")
    ends("start", "--wait", "a", how=lambda: now("a.service", "failed"), status=1, said="a.service")  # it is already running
    t.expect("start a", 1, err=["a.service failed on ", "; to start it again: fleetctl restart a.service\n"])
    ends("restart", "--wait", "a", how=lambda: stopped("a.service"), status=0, waits=2)
    t.file("g.service", UNIT_TEXT + "[X-Fleet]\nGlobal=true\n")
    ends("start", "--wait", "g", how=lambda: now("g.service", "inactive", True), status=0)
    t.expect("start --wait g", out="Unit g.service launched on 3 of 3 machines\n")  # it has already ended
    t.expect("stop --wait g", out="Unit g.service loaded on 3 of 3 machines\n", err="Successfully stopped units [].\n")


def changes_of_other_clients_end_the_wait(t):
    t.file("slow.service", UNIT_TEXT + "# slow\n")
    for how, said in ((lambda u: u.update(desiredState="inactive"), "slow.service: another client has changed the target state to inactive"),
                      (lambda u: t.cluster.units.pop("slow.service"), "slow.service: another client has destroyed the unit")):
        p = subprocess.Popen([PROGRAM, "start", "slow"], cwd=t.dir, env=t.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "launched" not in p.stdout.readline():
            assert p.poll() is None
        with t.cluster.lock:
            how(t.cluster.units["slow.service"])
            t.cluster.notify(kind="target", name="slow.service")
        assert p.wait(WAIT_SECONDS) == 1
        assert said in p.stderr.read()
        p.stdout.close()
        p.stderr.close()


def typing_errors_get_suggestions_on_a_terminal(t):
    for name in ("web@1.service", "node.service", "t@.service"):
        t.file(name)
    t.expect("start web@1 node", out=["launched"])
    t.expect("submit t@.service", out=["inactive"])
    topics = " ".join(t.expect("help --topics", out=["backup\n"]).split())
    for args, status, said in (
            ("strat web@1", 2, "fleetctl: there is no verb strat; did you mean start? (fleetctl help)"),
            ("frobnicate", 2, "fleetctl: there is no verb frobnicate (fleetctl help)"),
            ("list-units --feilds=unit", 2, "fleetctl: unknown flag: --feilds; did you mean --fields? (fleetctl help list-units)"),
            ("start --no-blok x", 2, "fleetctl: unknown flag: --no-blok; did you mean --no-block? (fleetctl help start)"),
            ("start wbe.service", 1, "Error creating units: no unit wbe.service in the cluster or in this directory; write the file wbe.service here, or name its path\r\nfleetctl: did you mean web@1.service?"),
            ("why t@9", 4, "Unit t@9.service does not exist.\r\nfleetctl: the cluster has its template; to start it: fleetctl start t@9.service"),
            ("stop wbe", 0, "fleetctl: wbe.service: the cluster has no such unit\r\nfleetctl: did you mean web@1.service?"),
            ("why nod", 4, "Unit nod.service does not exist.\r\nfleetctl: did you mean node.service?"),
            ("journal nodee", 1, "Unit nodee.service does not exist.\r\nfleetctl: did you mean node.service?"),
            ("cat quite-another", 1, "Unit quite-another.service not found\r\nfleetctl: no events of it are stored; older ones: fleetctl log UNIT=quite-another.service"),
            ("help nosuch", 2, f"fleetctl: no verb or topic nosuch (fleetctl help)\r\nfleetctl: topics: {topics}"),
            ("help updte", 2, "fleetctl: no verb or topic updte; did you mean update? (fleetctl help)"),
            ("kv gte /a", 2, "Error: unknown command \"gte\" for \"fleetctl kv\"\r\nfleetctl: did you mean kv get?\r\nRun 'fleetctl help kv' for usage."),
            ("\033[2J", 2, "fleetctl: there is no verb \\x1b[2J (fleetctl help)")):
        assert t.on_terminal(*args.split()) == (status, said + "\r\n"), (args, t.on_terminal(*args.split()))


def a_terminal_gets_plain_messages_instead_of_those_of_fleet(t):
    assert t.on_terminal("list-units") == (0, "fleetctl: no unit is on a machine (fleetctl start FILE)\r\n")
    assert t.on_terminal("list-unit-files") == (0, "fleetctl: the cluster has no units (fleetctl start FILE)\r\n")
    assert t.on_terminal("directory") == (0, "fleetctl: no problems in unit directories\r\n")
    t.file("a.service")
    t.expect("start a", out=["launched"])
    assert t.on_terminal("list-units", "--state=failed") == (0, "fleetctl: no unit matches\r\n")
    t.cluster.broken = (503, {"error": {"code": 503, "message": "no leader: 1 of 3 voters reachable; reads still work"}})
    for args in ("list-units", "start a", "stop a", "cat a", "cluster", "status"):
        assert t.on_terminal(*args.split()) == (1, "fleetctl: no leader: 1 of 3 voters reachable; reads still work (fleetctl status; if the majority is lost: fleetctl help recovery)\r\n"), (args, t.on_terminal(*args.split()))


def a_unit_text_does_not_control_the_terminal(t):
    t.file("e.service", "[Unit]\nDescription=\033[2Jred\n[Service]\nExecStart=/bin/true\n")
    t.expect("submit e", out=["inactive"])
    assert t.on_terminal("cat", "e") == (0, "[Unit]\r\nDescription=\\x1b[2Jred\r\n\r\n[Service]\r\nExecStart=/bin/true\r\n")
    t.expect("cat e", out=["\033[2J"])


def a_narrow_terminal_gets_fewer_columns_and_shorter_descriptions(t):
    t.file("a-name-of-some-length.service", UNIT_TEXT + "[X-Fleet]\nMachineMetadata=region=mars\n")
    t.expect("start --no-block a-name-of-some-length", out=["Triggered"])
    status, said = t.on_terminal("list-unit-files", columns=60)
    assert status == 0 and said.splitlines() == ["UNIT                           STATE     TARGET", "a-name-of-some-length.service  inactive  -"], said
    assert "HASH" in t.on_terminal("list-unit-files", columns=100)[1]
    status, said = t.on_terminal("list-machines", columns=40)
    assert "METADATA" not in said and "leader" in said, said
    status, said = t.on_terminal("status", columns=60)
    assert "    a-nam…length.service  not placed: needs metadata region…\r\n" in said, said
    status, said = t.on_terminal("status", columns=110)
    assert "    a-name-of-some-length.service  not placed: needs metadata r…    fleetctl why a-name-of-some-length.service\r\n" in said, said
    said = t.expect("status", 1, out=["  1 problem\n"])
    assert "    a-name-of-some-length.service  not placed: needs metadata region=mars, no machine has it    fleetctl why a-name-of-some-length.service\n" in said, said


def colours_can_be_disabled(t):
    t.file("a.service")
    t.expect("start a.service", out=["launched"])
    assert "\033[3" in t.on_terminal("list-units")[1]
    t.env["NO_COLOR"] = "1"
    assert "\033[3" not in t.on_terminal("list-units")[1]


class Liar(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        data = json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def malicious_server(answer, status=200):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.answer, server.status = answer, status
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    return server, f"--endpoint=http://127.0.0.1:{server.server_address[1]}"


def an_export_writes_only_keys_below_its_key_and_inside_its_folder(t):
    for key in ("/", "/b", "/b/x", "/other/x", "/a/../../escaped", "/a//x", "/a/.", "/a/"):
        server, endpoint = malicious_server({"nodes": [{"key": "/a", "dir": True}, {"key": key, "value": "1"}]})
        for folder in ([], ["out/side"]):
            t.expect(["kv", endpoint, "export", "/a", *folder], status=1, err=[f"{key} is no key below /a"])
        assert not os.path.exists(os.path.join(t.dir, "escaped")) and not os.path.exists(os.path.join(t.dir, "out", "escaped"))
        server.shutdown()
        server.server_close()


def exported_files_have_the_modes_of_the_umask(t):
    server, endpoint = malicious_server({"nodes": [{"key": "/a", "dir": True}, {"key": "/a/d", "dir": True}, {"key": "/a/d/x", "value": "1"}]})
    before = os.umask(0o022)
    t.expect(["kv", endpoint, "export", "/a", "out"])
    os.umask(before)
    assert [os.stat(os.path.join(t.dir, "out", path)).st_mode & 0o777 for path in ("", "d", "d/x")] == [0o755, 0o755, 0o644]
    server.shutdown()
    server.server_close()


def answers_of_a_daemon_do_not_control_the_terminal(t):
    server, endpoint = malicious_server({"errorCode": 100, "message": "Key not found", "cause": "/a\u001b[2J", "index": 7}, 404)
    t.expect(["kv", endpoint, "get", "/a"], status=4, err="Error:  100: Key not found (/a\\x1b[2J) [7]\n")
    server.answer = {"error": {"code": 404, "message": "no\u001b[2J\nsuch unit"}}
    t.expect([endpoint, "list-machines"], status=1, err=["no?[2J?such unit"])
    server.shutdown()
    server.server_close()


LONG = [no_verb_lets_a_server_control_the_terminal, progress_lines_are_cut_and_never_wrapped, destroy_waits_until_no_machine_reports_the_unit,
        an_interrupted_lock_leaves_the_queue, an_interrupt_prints_what_the_cluster_continues]  # these start first


def processes_below(pid):
    """Return all descendants, without the process itself."""
    children, found = {}, [pid]
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat:
                children.setdefault(int(stat.read().rsplit(")", 1)[1].split()[1]), []).append(int(entry))
        except OSError:
            continue
    for one in found:
        found += children.get(one, [])
    return found[1:]


def end_processes_below(pid):
    """End all descendants, also those that start meanwhile. This process adopts orphans as children."""
    while below := processes_below(pid):
        for one in below:
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def adopt_orphans():
    """Make orphans of child processes children of this process, so that they are found."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


class Runner:
    """A test in its own process, which writes the reason of a failure into a pipe."""

    def __init__(self, number, test):
        self.number, self.test, self.until = number, test, time.monotonic() + TEST_SECONDS
        parent = os.getpid()
        self.pipe, answer = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(answer)
            self.pidfd = os.pidfd_open(self.pid)
            return
        os.close(self.pipe)
        try:
            adopt_orphans()
            signal.signal(signal.SIGTERM, lambda *_: (end_processes_below(os.getpid()), os._exit(1)))
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)
            os.write(answer, self.run().encode(errors="replace"))
            end_processes_below(os.getpid())
        finally:
            os._exit(0)

    def run(self):
        t = Test()
        try:
            self.test(t)
            return "ok"
        except (AssertionError, subprocess.TimeoutExpired) as e:
            return str(e)[:60000] or "assertion"
        except Exception:  # pylint: disable=broad-except
            return traceback.format_exc()[-60000:]
        finally:
            t.close()

    def kill(self):
        """Report a test that takes too long."""
        os.kill(self.pid, signal.SIGSTOP)
        for pid in (self.pid, *processes_below(self.pid)):
            os.kill(pid, signal.SIGKILL)

    def result(self):
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        os.set_blocking(self.pipe, False)  # child processes of the test may have it open
        try:
            return os.read(self.pipe, 65536).decode() or "it has ended without an answer"
        except BlockingIOError:
            return "it has ended without an answer"
        finally:
            os.close(self.pipe)


def main():
    tests = [f for _, f in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
             if f.__module__ == __name__ and list(inspect.signature(f).parameters) == ["t"]]
    tests.sort(key=lambda f: f.__code__.co_firstlineno)
    if len(sys.argv) > 1:
        tests = [f for f in tests if f.__name__ in sys.argv[1:]]
    for number in (signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # the parent process may ignore them, like a shell for background commands
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"1..{len(tests)}", flush=True)
    failed, running, scratch = 0, [], tempfile.mkdtemp(prefix="fleetctl-tests-")
    tempfile.tempdir = scratch
    adopt_orphans()
    to_come = sorted(enumerate(tests, 1), key=lambda t: t[1] not in LONG)
    try:
        while to_come or running:
            while to_come and len(running) < AT_ONCE:
                running.append(Runner(*to_come.pop(0)))
            first = min(r.until for r in running)
            ended = select.select([r.pidfd for r in running], [], [], max(first - time.monotonic(), 0))[0]
            for r in [r for r in running if r.pidfd in ended or time.monotonic() >= r.until]:
                late = r.pidfd not in ended
                if late:
                    r.kill()
                running.remove(r)
                said = r.result()
                said = f"it takes more than {TEST_SECONDS} s" if late else said
                failed += said != "ok"
                print(f"ok {r.number} - {r.test.__name__}" if said == "ok" else f"not ok {r.number} - {r.test.__name__}: {said}", flush=True)
    finally:
        end_processes_below(os.getpid())
        shutil.rmtree(scratch, ignore_errors=True)
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
