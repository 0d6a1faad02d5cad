#!/usr/bin/env python3
# Takes 40 s.
"""The page in Debian's Chromium, served by fleet-web, which reads from a fleetd in Python."""

import os
import re
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../client"))
import browser  # noqa: E402
import counting  # noqa: E402
import fake_fleetd  # noqa: E402

PROGRAM = os.path.join(os.environ.get("LAB_BUILD", os.getcwd()), "client/web/fleet-web")
MARKUP = '<img src=x onerror=alert(1)><script>alert(2)</script>'
ROWS = "#units tbody tr"


def equal(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def raise_lost(*_):
    raise ConnectionResetError


class Test:
    """A cluster, fleet-web with a key that it keeps, and a page."""

    def __init__(self, b):
        self.b, self.folder = b, tempfile.TemporaryDirectory()
        self.fleetd = fake_fleetd.start(self.folder.name + "/sock")
        self.listen = "127.0.0.1:0"
        b.size(1400, 900)

    def start(self):
        self.program = subprocess.Popen([PROGRAM, f"--endpoint=unix://{self.folder.name}/sock", f"--listen={self.listen}"], stdout=subprocess.PIPE, text=True,
                                        env=os.environ | {"STATE_DIRECTORY": self.folder.name})
        self.address = self.program.stdout.readline().strip()
        self.listen = self.address.split("/")[2]

    def stop(self):
        self.program.kill()
        self.program.wait()
        self.program.stdout.close()

    def open(self, wait=ROWS):
        self.start()
        self.b.open(self.address)
        self.b.until("document.querySelector(arguments[0])", wait)

    def put(self, name, machine, active="active", sub="running"):
        """A unit with the state that its machine reports; without a machine, one that waits."""
        c = self.fleetd
        c.units[name] = {"name": name, "text": "", "options": [], "desiredState": "launched", "hash": "1" * 40, "machineID": machine, "reason": "needs metadata gpu=true",
                         "currentState": "launched" if machine else "inactive"}
        if machine:
            c.states[name, machine] = {"name": name, "machineID": machine, "hash": "1" * 40, "systemdLoadState": "loaded", "systemdActiveState": active,
                                       "systemdSubState": sub, "since": int(time.time() * 1000) - 3600_000}

    def change(self, **members):
        """Change the cluster, which reports that by its stream of events."""
        with self.fleetd.lock:
            for name, value in members.items():
                setattr(self.fleetd, name, value)
            self.fleetd.notify(kind="unit")

    def close(self):
        wrong = self.b.js("window.wrong ?? []")
        self.b.cdp("Network.disable")
        self.stop()
        self.fleetd.server.shutdown()
        self.fleetd.server.server_close()
        self.folder.cleanup()
        equal(wrong, [])


def spoiled(**changes):
    """Changes members of the answer about the cluster."""
    return lambda value: value | changes if isinstance(value, dict) and "clusterId" in value else value


def the_page_has_the_problems_and_states_of_the_daemon(t):
    for i, m in enumerate(fake_fleetd.MACHINES):
        t.put(f"web@{i}.service", m["id"])
    t.put("db.service", "2" * 32, "failed", "failed")
    t.put("report.service", "")
    t.open()
    rows = t.fleetd.found()
    equal([t.b.texts(f"#problems li {part}") for part in ("a", ".text", "code")], [[p[k] for p in rows] for k in ("name", "description", "command")])
    equal([r.split("\t")[:3] for r in t.b.texts(ROWS)], [["db.service", "failed", "beta"], ["report.service", "waiting", "–"]] +
          [[f"web@{i}.service", "active (running)", m["hostname"]] for i, m in enumerate(fake_fleetd.MACHINES)])
    t.put("db.service", "2" * 32)
    t.put("web@2.service", "3" * 32, "activating", "start")
    t.change()
    t.b.until("document.querySelectorAll('#problems li').length === 1")
    assert ["web@2.service", "activating (start)", "gamma"] in [r.split("\t")[:3] for r in t.b.texts(ROWS)], t.b.texts(ROWS)
    t.b.js("{ document.querySelector('#problems a').click(); }")
    t.b.until("document.querySelector('#details .lines div')")


def fifty_machines_and_2000_units_fit(t):
    t.fleetd.machines = [{"id": f"{i:032x}", "primaryIP": "10.0.0.1", "metadata": {"zone": "a"}, "hostname": f"host{i:02}", "presence": "up", "role": "voter"} for i in range(1, 51)]
    for i in range(2000):
        t.put(f"web@{i}.service", t.fleetd.machines[i % 50]["id"])
    t.b.cdp("Network.enable")
    t.b.cdp("Network.setBlockedURLs", urls=["*usage*"])  # figures change by themselves
    t.open()
    equal(set(t.b.texts("#machines h3")), {m["hostname"] for m in t.fleetd.machines})
    assert t.b.js("document.querySelectorAll('*').length") <= 6000
    t.b.size(360, 740)
    assert t.b.js("document.documentElement.scrollWidth <= innerWidth")
    t.b.js(counting.OBSERVE)
    t.put("web@5.service", t.fleetd.machines[5]["id"], "deactivating", "stop")
    t.change()
    t.b.until("document.querySelector('#units').innerText.includes('deactivating')")
    changed = t.b.js(counting.CHANGED)
    assert changed <= 20, f"{changed} elements"


def markup_passes_the_program_as_text(t):
    t.fleetd.machines = [dict(m, metadata={"k": MARKUP}) for m in fake_fleetd.MACHINES]
    t.put("web.service", "1" * 32)
    t.fleetd.found = lambda: [{"kind": "failed", "name": "web.service", "description": MARKUP, "severity": "critical", "command": f"fleetctl {MARKUP}"}]
    t.fleetd.spoil = spoiled(maintenance=[{"name": "alpha", "mode": "draining", "reason": MARKUP, "by": MARKUP}])
    now = int(time.time() * 1000)
    t.fleetd.history = [{"index": 1, "first": now, "last": now, "count": 1, "kind": "state", "name": "web.service", "machine": "1" * 32, "active": "failed", "reason": MARKUP}]
    t.open()
    for place in ("#problems .text", "#problems code", "#work .text", "#machines .meta"):
        assert MARKUP in t.b.text(place), f"{place}: {t.b.text(place)}"
    equal(t.b.js("document.querySelectorAll('img, script:not([src])').length"), 0)


def doubtful_data_has_a_banner(t):
    t.put("web.service", "1" * 32)
    t.open()
    t.change(before_request=raise_lost)
    t.b.until("document.querySelector('#banner').innerText")
    said = t.b.text("#banner")
    assert re.fullmatch(r"fleetd on alpha does not answer since \d\d:\d\d:\d\d: systemctl status fleetd\. Units are not affected\.", said), said
    assert t.b.js("document.body.classList.contains('stale')")
    equal(len(t.b.texts(ROWS)), 1)
    t.change(before_request=lambda *_: None)
    t.b.until("document.querySelector('#banner').hidden")
    t.change(spoil=spoiled(staleSec=12))
    t.b.until("document.querySelector('#banner').innerText")
    said = t.b.text("#banner")
    assert re.fullmatch(r"No leader for 12 s: alpha shows its own copy, of \d\d:\d\d:\d\d\. Units are not affected\.", said), said
    t.change(spoil=lambda value: value)
    t.b.until("document.querySelector('#banner').hidden")
    t.change(broken=(403, {"error": {"code": 403, "message": "ops may not see units"}}))
    t.b.until("document.querySelector('#banner').innerText.includes('ops may not see units')")
    t.change(broken=None)
    t.b.until("document.querySelector('#banner').hidden")


def a_host_that_was_removed_shows_only_that(t):
    t.put("web.service", "1" * 32)
    t.open()
    said = "this host was removed from the cluster"
    t.change(found=lambda: [{"kind": "removed", "name": "alpha", "description": said, "severity": "critical", "command": "fleetctl join"}])
    t.b.until("document.querySelector('#alone').innerText === arguments[0]", said)
    equal(t.b.texts("main, aside, #counts"), [])


def a_killed_program_is_missed_and_found_again(t):
    t.put("web.service", "1" * 32)
    t.open()
    t.b.js("{ window.former = true; }")
    t.stop()
    for _ in range(30):
        t.b.advance(1000)
        if t.b.text("#banner"):
            break
    assert t.b.text("#banner").startswith("No answer for "), t.b.text("body")
    t.start()  # it has the key of before; the page loads itself, as the program is another one
    for _ in range(200):
        t.b.advance(1000)
        if not t.b.js("window.former"):
            break
    t.b.until(f"!window.former && document.querySelector('{ROWS}') && document.querySelector('#banner').hidden")


def main():
    missing = browser.missing()
    if missing:
        print(f"ok skipped: apt-get install --no-install-recommends {missing}")
        return 0
    tests = [f for f in list(globals().values()) if getattr(f, "__code__", None) and f.__code__.co_varnames[:f.__code__.co_argcount] == ("t",)]
    tests = [f for f in tests if len(sys.argv) < 2 or f.__name__ in sys.argv[1:]]
    failed, b = 0, browser.Browser(int(time.time() * 1000))
    try:
        for f in tests:
            said, t = "ok", Test(b)
            try:
                try:
                    f(t)
                finally:
                    t.close()
            except Exception as e:
                said = "not ok"
                traceback.print_exc()
                print(f"not ok {f.__name__}: {(str(e) or repr(e)).splitlines()[0]}", flush=True)
            failed += said != "ok"
            if said == "ok":
                print(f"ok {f.__name__}", flush=True)
    finally:
        b.close()
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
