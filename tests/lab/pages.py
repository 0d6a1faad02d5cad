#!/usr/bin/python3
"""Pages in Chromium for a scenario on booted hosts. A line of the FIFO "questions" is a command and its arguments, between tabs; the FIFO "answers"
gets "ok", or what is wrong.

pages.py FOLDER FLEETCTL: FLEETCTL_ENDPOINT is the daemon with which pages are compared."""

import json
import os
import re
import subprocess
import sys
import time
import traceback

FOLDER, FLEETCTL = sys.argv[1:]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../web"))
import browser  # noqa: E402

# One moment of the page: all that is compared.
SEEN = """(() => {
  const texts = (e, ...parts) => parts.map((p) => e.querySelector(p)?.innerText ?? "");
  const all = (list) => [...document.querySelectorAll(list)].filter((e) => e.checkVisibility());
  return {problems: all("#problems li").map((e) => texts(e, "a", ".text", "code")),
          units: all("#units tbody tr").map((e) => [...e.children].slice(0, 3).map((c) => c.innerText)),
          leader: / (?:leader (\\S+)|no leader)/.exec(document.querySelector("#counts").innerText)?.[1] ?? "",
          machines: all("#machines li.card").map((e) => texts(e, "h3", ".note:not([hidden])")),
          banner: all("#banner").map((e) => e.innerText).join(""), stale: document.body.classList.contains("stale"),
          meters: all("#machines li.card").filter((e) => e.querySelector("h3 a[href]")).map((e) => [...e.querySelectorAll("dl.meters > div")].map((m) => m.innerText.split(/\\s+/).join(" "))),
          wrong: window.wrong};
})()"""

# Of a unit that no machine reports, or that its machine reports otherwise than systemd: the words of "fleetctl why".
SILENT = {"inactive", "finished", "waiting", "unknown", "assigned", "on no machine"}
OTHERWISE = {"finished": ("inactive", "active"), "stopped": ("inactive",), "not started": ("inactive",), "not loaded": ("inactive", "active", "failed")}


def fleetctl(*arguments):
    done = subprocess.run([FLEETCTL, *arguments, "--output=json"], capture_output=True, text=True, timeout=20)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"fleetctl {arguments}: {done.stdout}{done.stderr}")


def difference(seen):
    """What the page has otherwise than the daemon; None: nothing."""
    status = fleetctl("status")
    wanted = [[p["name"], p["description"], p["command"]] for p in status["problems"]]
    if seen["problems"] != wanted:
        return f"problems {seen['problems']}, but status has {wanted}"
    leader = (status["cluster"].get("leader") or {}).get("name", "")
    if seen["leader"] != leader:
        return f"leader {seen['leader']}, but status has {leader}"
    machines = fleetctl("list-machines", "--all")["machines"]
    presences = sorted((m["hostname"], "" if m["presence"] == "up" else m["presence"]) for m in machines)
    shown = sorted((name, note.split(" since ")[0] if " since " in note else "") for name, note in seen["machines"] if name != "no machine")
    if shown != presences:
        return f"machines {shown}, but list-machines has {presences}"
    names = {m["id"]: m["hostname"] for m in machines}
    states = {(s["name"], names[s["machineID"]]): s for s in fleetctl("list-units")["states"]}
    rows = {(name, "" if machine == "–" else machine): state.split(", ")[0] for name, state, machine in seen["units"]}
    for of in sorted({*rows, *states}):
        state, s = rows.get(of), states.get(of)
        if not s:
            right = state in SILENT
        else:
            active, sub = s["systemdActiveState"], s["systemdSubState"]
            right = state == (active if sub in ("", active) else f"{active} ({sub})") or active in OTHERWISE.get(state, ())
        if not right:
            return f"{of}: {state}, but list-units has {s and (s['systemdActiveState'], s['systemdSubState'])}"
    return None


class Pages:
    def __init__(self):
        self.b, self.windows, self.kept = browser.Browser(), [], None

    def seen(self):
        return self.b.js(SEEN)

    def until(self, seconds, wrong):
        """Until there is nothing wrong with the page; 'wrong' says what is."""
        end = time.monotonic() + seconds
        while said := wrong(self.seen()):
            if time.monotonic() > end:
                raise AssertionError(said)
            time.sleep(0.1)

    def open(self, address):
        """One more page, in a window of its own."""
        if self.windows:
            self.b.driver.switch_to.new_window("window")
        self.windows.append(self.b.driver.current_window_handle)
        self.b.cdp("Page.addScriptToEvaluateOnNewDocument", source=browser.WRONG)
        self.b.driver.get(address)
        self.until(30, lambda s: "" if s["machines"] else self.b.text("body"))

    def hide(self, number):
        self.b.driver.switch_to.window(self.windows[int(number)])
        self.b.driver.minimize_window()
        assert self.b.js("document.visibilityState") == "hidden"

    def show(self, number):
        self.b.driver.switch_to.window(self.windows[int(number)])
        self.b.driver.set_window_rect(0, 0, 1400, 900)
        assert self.b.js("document.visibilityState") == "visible"

    def equal(self, banner=""):
        """The page has the problems, machines and states of the daemon, and a banner that matches. For a minute, texts have ages in seconds."""
        self.until(90, lambda s: difference(s) or ("" if re.fullmatch(banner, s["banner"]) and s["stale"] == bool(banner) else f"the banner is {s['banner']!r}"))

    def keep(self):
        self.kept = self.seen()

    def stays(self, banner):
        """There is a banner, and the state is that of keep()."""
        self.until(20, lambda s: "" if s["stale"] and re.fullmatch(banner, s["banner"]) else f"the banner is {s['banner']!r}")
        now = self.seen()
        for s in (now, self.kept):
            s["machines"] = [name for name, _ in s["machines"]]  # without ages
        for part in ("problems", "units", "machines"):
            assert now[part] == self.kept[part], f"{part}: {now[part]}, before {self.kept[part]}"

    def meters(self):
        """Each card has its three figures."""
        self.until(30, lambda s: "" if s["meters"] and all(re.fullmatch(r"cpu \d+ % memory \d+ % disk \d+ %", " ".join(m)) for m in s["meters"]) else f"meters: {s['meters']}")

    def clean(self):
        for w in self.windows:
            self.b.driver.switch_to.window(w)
            assert not self.seen()["wrong"], self.seen()["wrong"]


def main():
    pages = Pages()
    while True:
        with open(FOLDER + "/questions", encoding="utf-8") as f:
            command, *arguments = f.readline().rstrip("\n").split("\t")
        said = "ok"
        try:
            getattr(pages, command)(*arguments)
        except Exception as e:
            traceback.print_exc()
            said = (str(e) or repr(e)).strip()
        with open(FOLDER + "/answers", "w", encoding="utf-8") as f:
            f.write(said + "\n")


main()
