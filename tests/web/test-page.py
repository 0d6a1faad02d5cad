#!/usr/bin/env python3
# Takes 100 s.
"""The page of fleet-web in Debian's Chromium, against documents of the test: its states, sizes, keyboard, and what it does with hostile texts.

test-page.py [NAME...] runs these tests only; SHOTS=FOLDER keeps pictures there."""

import json
import os
import random
import re
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import browser  # noqa: E402
import counting  # noqa: E402
from fake_web import IDS, KEY, MINUTE, NOW, PAGE, FakeWeb, event, home, home_usage, large, large_usage, machine, problem, unit, view, why  # noqa: E402

WIDE, NARROW = (1400, 900), (360, 740)
NEEDS_KEY = "This page needs its key: open the address that fleetctl web prints."
ESCAPE, ENTER, TAB, UP, DOWN, BACKSPACE = "\ue00c", "\ue007", "\ue004", "\ue013", "\ue015", "\ue003"
MARKUP = '<img src=x onerror=alert(1)><script>alert(2)</script><b title="x">&amp;\'"'
ROWS = "#units tbody tr"
NAMES = "[...document.querySelectorAll('#units tbody a')].map((a) => a.innerText)"


class Test:
    """A page and its server. A page starts with the clock of the documents."""

    def __init__(self, b):
        self.b, self.web, self.expected = b, FakeWeb(), []
        b.media(prefers_color_scheme="light")
        b.size(*WIDE)
        b.driver.get_log("browser")

    def open(self, query="", key=KEY, wait=ROWS):
        self.b.open(self.web.address + query + (f"#key={key}" if key else ""))
        if wait:
            self.b.until("document.querySelector(arguments[0])", wait)

    def home(self, query="", **members):
        self.web.set(home(**members), home_usage())
        for name in ("db.service", "report.service", "web@2.container", IDS["beta"]):
            self.web.why[name] = why(name)
        self.open(query)
        self.b.until("document.querySelector('meter')")

    def set(self, document, **usage):
        """Show a document; the name of its cluster makes it different from the one before."""
        self.turn = getattr(self, "turn", 0) + 1
        self.web.set(dict(document, cluster=f"home {self.turn}"), **usage)
        self.b.until("document.querySelector('h1').innerText === arguments[0]", f"home {self.turn}")

    def advance_until(self, script, seconds=30):
        for _ in range(seconds):
            self.b.advance(1000)
            # Answers arrive while the clock of the page stands still.
            self.b.js("{ return new Promise((done) => { const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0); }); }")
            if self.b.js(script):
                return
        raise AssertionError(f"it does not become true in {seconds} s: {script}; the page: {self.b.text('body')[:1000]}")

    def retries(self):
        """Wait until the page waits before it asks again."""
        self.b.until("dueTimers().some((ms) => ms > 1000 && ms <= 2000)")

    def visible(self, is_visible):
        self.b.js("{ Object.defineProperty(document, 'visibilityState', {get: () => arguments[0], configurable: true});"
                  "document.dispatchEvent(new Event('visibilitychange')); }".replace("arguments[0]", json.dumps("visible" if is_visible else "hidden")))

    def close(self):
        wrong = self.b.js("window.wrong ?? []")
        self.web.break_off((500, ""))
        self.web.stop()
        assert wrong == self.expected, wrong


def equal(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def at_most(found, limit, what=""):
    assert found <= limit, f"{found} of at most {limit} {what}"


# -- States, each with the way out --

def loading_is_stated_until_the_first_document(t):
    t.open(wait="body.waiting")
    t.b.until("document.querySelector('#alone').checkVisibility()")
    equal(t.b.text("#alone"), "reading the state of the cluster")
    equal(t.b.texts("main"), [])
    t.web.set(home())
    t.b.until("document.querySelector('#units tbody tr')")
    equal(t.b.texts("#alone"), [])


def without_the_key_the_page_says_what_it_needs(t):
    t.web.set(home())
    for key in (None, "d3JvbmctYW5kLW9sZC1rZXk"):
        t.open(key=key, wait="body")
        t.b.until("document.querySelector('#alone').innerText.startsWith('This page')")
        equal(t.b.text("#alone"), NEEDS_KEY)
        t.web.until_asked("usage", 1)
        asked = len(t.web.asked)
        t.b.advance(60000)
        equal(len(t.web.asked), asked)  # once: a proxy might add the key
    t.b.js("{ location.hash = arguments[0]; }", f"#key={KEY}")
    t.b.until(f"document.querySelector('{ROWS}')")
    assert all(key in (None, KEY, "d3JvbmctYW5kLW9sZC1rZXk") and KEY not in path for path, key in t.web.asked)


def a_key_that_ends_leaves_the_last_state(t):
    t.home()
    t.web.key = "b3RoZXItcnVuLW90aGVyLWtleQ"
    t.web.set(home())
    t.web.break_off((500, ""))
    t.web.break_off(None)
    t.advance_until("document.querySelector('#banner').innerText")
    equal(t.b.text("#banner"), NEEDS_KEY)
    equal(len(t.b.texts(ROWS)), 11)
    t.b.js("{ location.hash = arguments[0]; }", f"#key={t.web.key}")
    t.b.until("document.querySelector('#banner').hidden")


def a_proxy_may_add_the_key_and_a_prefix(t):
    t.web.key, t.web.prefix = None, "/fleet/page/"
    t.web.set(home(), home_usage())
    t.open("?unit=db.service", key=None)
    t.b.until("document.querySelector('meter')")
    assert {"view", "usage", "why"} <= {path.split("?")[0] for path, _ in t.web.asked}, t.web.asked


def an_empty_cluster_names_the_first_command(t):
    t.web.set(view(machines=[machine("alpha", role="leader")]))
    t.open(wait="#machines li")
    equal(t.b.texts("#units .none"), ["No units yet.\u2003fleetctl start hello.service"])
    equal(t.b.texts("#machines h3"), ["alpha"])
    equal(t.b.texts("#units table"), [])
    equal(t.b.text("#problems .none"), "none")
    equal(t.b.text("#verdict"), "no problems")
    equal(t.b.js("document.title"), "home")
    t.web.set(view(machines=[machine("alpha")], units=[unit("hello.service", "alpha")]))
    t.b.until(f"document.querySelector('{ROWS}')")
    equal(t.b.texts("#units .none"), [])


def silence_is_stated_and_ends_by_itself(t):
    t.home()
    t.b.advance(5000)  # the state is that of the last answer, not of when the next one was due
    t.web.stop()
    t.advance_until("!document.querySelector('#banner').hidden")
    said = t.b.text("#banner")
    assert re.fullmatch(r"No answer for 6 s: this is the state of \d\d:\d\d:\d\d\. Units are not affected\.", said), said
    assert t.b.js(f"new Date({NOW}).toTimeString().slice(0, 8)") in said, said
    assert t.b.js("document.body.classList.contains('stale')")
    t.b.advance(1000)
    assert t.b.text("#banner").startswith("No answer for 7 s: ") and t.b.text("#banner")[19:] == said[19:], t.b.text("#banner")
    equal(len(t.b.texts(ROWS)), 11)
    t.web.start()
    t.advance_until("document.querySelector('#banner').hidden")
    assert not t.b.js("document.body.classList.contains('stale')")


def a_restart_within_six_seconds_is_not_mentioned(t):
    t.home()
    asked = t.web.questions("view")
    t.web.stop()
    t.retries()
    t.web.start()
    t.b.advance(2000)
    t.web.until_asked("view", asked + 2)  # the state, and what is newer
    assert t.b.js("document.querySelector('#banner').hidden")
    t.b.advance(8000)
    assert t.b.js("document.querySelector('#banner').hidden")


def after_a_failure_the_page_asks_every_two_seconds(t):
    t.home()
    t.web.break_off((503, "busy"))
    for _ in range(4):
        t.retries()
        asked = t.web.questions("view")
        t.b.advance(1999)
        equal(t.web.questions("view"), asked)
        t.b.advance(1)
        t.web.until_asked("view", asked + 1)
    t.web.break_off(None)
    t.advance_until("document.querySelector('#banner').hidden")


def a_server_that_hangs_is_noticed(t):
    t.home()
    t.web.break_off("hang")
    t.web.no_news()
    t.advance_until("!document.querySelector('#banner').hidden", 40)
    assert t.b.text("#banner").startswith("No answer for "), t.b.text("#banner")
    t.web.break_off(None)
    t.advance_until("document.querySelector('#banner').hidden")


def a_document_that_is_cut_leaves_the_last_state(t):
    t.home()
    t.web.break_off("cut")
    t.advance_until("!document.querySelector('#banner').hidden")
    equal(len(t.b.texts(ROWS)), 11)
    t.web.break_off(None)
    t.advance_until("document.querySelector('#banner').hidden")


def no_news_changes_nothing(t):
    t.home()
    for _ in range(3):
        asked = t.web.questions("view")
        t.web.no_news()
        t.web.until_asked("view", asked + 1)
    assert all("?after=" in path for path, _ in t.web.asked[2:]), t.web.asked
    assert t.b.js("document.querySelector('#banner').hidden")


def messages_about_the_data_are_a_banner(t):
    t.home()
    for notice in ("fleetd on alpha does not answer since 12:04:11: systemctl status fleetd. Units are not affected.",
                   "No leader for 12 s: alpha shows its own copy, of 12:04:02. Units are not affected."):
        t.web.set(home(notice=notice))
        t.b.until("document.querySelector('#banner').innerText === arguments[0]", notice)
        assert t.b.js("document.body.classList.contains('stale')")
        equal(len(t.b.texts(ROWS)), 11)
        t.web.set(home())
        t.b.until("document.querySelector('#banner').hidden")
        assert not t.b.js("document.body.classList.contains('stale')")


def a_message_without_a_state_is_alone(t):
    t.home()
    for notice in ("This host was removed from the cluster: its state is that of 12:04:11.", "you may not see units: the certificate has ended"):
        t.web.set(view(notice=notice))
        t.b.until("document.querySelector('#alone').innerText === arguments[0]", notice)
        equal(t.b.texts("main, aside, #banner, #verdict"), [])
        t.web.set(home())
        t.b.until("document.querySelector('main').checkVisibility()")
        equal(t.b.texts("#alone"), [])


def another_program_loads_the_page_once(t):
    t.home("?q=web*")
    t.b.js("{ window.former = true; }")
    t.web.set(home(program="fleet-web 0.9.1 2"))
    t.b.until(f"!window.former && document.querySelector('{ROWS}')")
    equal(t.b.js("document.querySelector('#filter').value"), "web*")
    t.b.js("{ window.former = true; }")
    for program in ("fleet-web 0.9.0 1", "fleet-web 0.9.1 2", "fleet-web 0.9.0 1"):  # two servers answer by turns
        t.set(home(program=program))
    assert t.b.js("window.former")


# -- What is shown --

def the_parts_follow_the_questions_of_an_operator(t):
    t.home()
    equal(t.b.js("document.title"), "(3) home")
    equal(t.b.text("#verdict"), "3 problems")
    equal(t.b.text("#counts"), "4 of 5 machines up · 7 of 11 units run · leader alpha · can lose none")
    equal(t.b.texts("#problems li a"), ["db.service", "gamma", "report.service"])
    equal(t.b.texts("#problems li .text")[0], "failed on beta 4 min ago: exit status 1; 3 restarts used up")
    equal(t.b.texts("#problems li code"), ["fleetctl journal db.service", "fleetctl token --replace=gamma", "fleetctl why report.service"])
    equal(t.b.texts("#work li p"), ["4 of 6\u2002revision 4: web@3 delta updating", "draining: disk replaced at noon"])
    equal(t.b.texts("#machines h3"), ["gamma", "alpha", "beta", "delta", "epsilon", "no machine"])
    cards = dict(zip(t.b.texts("#machines h3"), t.b.texts("#machines .card")))
    assert "lost since 4 min" in cards["gamma"] and "cpu" not in cards["gamma"], cards["gamma"]
    assert "no answer for 4 s" in cards["delta"] and "draining" in cards["delta"], cards["delta"]
    assert "12 %" in cards["alpha"] and "zone=b, ssd=true" in cards["beta"] and "report.service" in cards["no machine"], cards
    equal([r.split("\t")[0] for r in t.b.texts(ROWS)],
          ["db.service", "report.service", "backup.service", "cache.service", "node-exporter.service"] + [f"web@{i}.container" for i in range(1, 7)])
    equal(t.b.texts(ROWS + ":nth-child(1) > *"), ["db.service", "failed", "beta", "4 min", "–", "–"])
    equal(t.b.texts(ROWS + ":nth-child(4) > *"), ["cache.service", "active (running)", "alpha", "3 h", "0 %", "1.0 M"])
    equal(t.b.texts("#events li")[0].split("\n")[1:], ["web@3.container", "epsilon", "activating"])
    assert "×4" in t.b.texts("#events li")[3], t.b.texts("#events li")
    t.set(view(machines=[machine("alpha")], units=[unit("a.service", "alpha")]))
    equal(t.b.texts("#work, #problems li"), [])
    equal(t.b.text("#problems .none"), "none")


def a_unit_on_an_unknown_machine_is_under_no_machine(t):
    t.web.set(view(machines=[machine("alpha")], units=[unit("a.service", "alpha"), unit("b.service", "omega", id="f" * 32),
                                                       unit("off.service", "", "off", "inactive")]))
    t.open()
    equal(t.b.texts("#machines h3"), ["alpha", "no machine"])
    equal(t.b.texts("#machines .card:last-child li a"), ["b.service"])
    equal(t.b.js(NAMES), ["a.service", "b.service", "off.service"])


def a_part_that_fails_says_so(t):
    t.home()
    for part, members in (("#problems", {"problems": None}), ("#work", {"work": None}), ("#machines", {"machines": None}), ("#units", {"units": None}), ("#events", {"events": None})):
        t.web.set(home(**members))
        t.b.until("document.querySelector(arguments[0])?.innerText.startsWith('This part cannot be shown: ')", part + " .fault")
        for other in ("#problems li", "#work li", "#machines h3", "#units tr", "#events li"):
            assert other.startswith(part) or t.b.texts(other), f"{part} {other}"
        t.set(home())
        equal(t.b.texts(".fault"), [])


def ages_are_those_of_the_clock_of_the_server(t):
    now = NOW + 180 * MINUTE  # the clock of the browser is three hours late
    seconds = (50, 3550, 86390, 0)
    t.web.set(view(now=now, machines=[machine("alpha")], units=[unit(f"{i}.service", "alpha", since=s and now - 1000 * s) for i, s in enumerate(seconds)]))
    t.open()
    since = ROWS + " td:nth-child(4)"
    equal(t.b.texts(since), ["50 s", "59 min", "23 h", "–"])
    t.b.advance(9000)
    equal(t.b.texts(since), ["59 s", "59 min", "23 h", "–"])
    t.visible(False)  # without a newer document
    t.b.advance(51_000)
    equal(t.b.texts(since), ["1 min", "1 h", "1 d", "–"])


def figures_end_with_their_stream(t):
    t.home()
    t.web.break_off((503, "busy"))
    t.advance_until("!document.querySelector('meter')")
    equal(t.b.texts(ROWS + ":nth-child(4) > *")[4:], ["–", "–"])
    t.web.break_off(None)
    t.advance_until("document.querySelector('meter')")


def a_hidden_page_asks_for_nothing(t):
    t.home()
    t.visible(False)
    t.web.no_news()
    asked = len(t.web.asked)
    t.b.advance(120_000)
    equal(len(t.web.asked), asked)
    t.web.set(home(cluster="later"))
    equal(t.b.text("h1"), "home")
    t.visible(True)
    t.b.until("document.querySelector('h1').innerText === 'later'")
    assert t.b.js("document.querySelector('#banner').hidden")


def rows_follow_on_request(t):
    d = large()
    t.web.set(d)
    t.open()
    equal((len(t.b.texts(ROWS)), t.b.text("#units .more"), t.b.text("#problems .more")), (200, "Show 1800 more", "Show 80 more"))
    t.b.js("{ document.querySelector('#problems .more').focus(); }")
    t.b.keys(ENTER)
    equal(len(t.b.texts("#problems li")), 100)
    equal(t.b.focus(), d["problems"][20]["name"])
    t.b.js("{ document.querySelector('#units .more').click(); }")
    equal(t.b.js(f"document.querySelectorAll('{ROWS}').length"), 2000)
    equal(t.b.texts("#units .more"), [])
    t.set(home())


# -- Filter, details, address --

def words_of_the_filter_narrow_machines_and_units(t):
    t.home()
    for q, machines, units in (("web@[", [], []), ("web*", ["beta", "alpha", "delta", "epsilon"], 6), ("web", ["beta", "alpha", "delta", "epsilon"], 6),
                               ("*@2*", ["delta"], 1), ("state:failed", ["beta"], ["db.service"]), ("state:active", ["alpha", "beta", "delta", "epsilon"], 7),
                               ("state:waits", ["no machine"], ["report.service"]), ("on:beta", ["beta"], 3), ("on:gam", ["gamma"], []), ("state:failed on:beta", ["beta"], ["db.service"]),
                               ("STATE:running ON:Beta web@1", ["beta"], ["web@1.container"]), ("gamma", ["gamma"], []), ("(+)", [], [])):
        t.b.js("{ const f = document.querySelector('#filter'); f.value = arguments[0]; f.dispatchEvent(new Event('input', {bubbles: true})); }", q)
        equal((q, sorted(t.b.texts("#machines h3"))), (q, sorted(machines)))
        found = t.b.js(NAMES)
        equal((q, len(found) if isinstance(units, int) else found), (q, units))
        equal(t.b.js("new URLSearchParams(location.search).get('q')"), q)
        equal(t.b.texts("#units .none"), [] if units else ["No unit matches."])
    equal(t.b.js("location.hash"), f"#key={KEY}")


def the_address_keeps_filter_and_details(t):
    t.home("?q=on%3Abeta&unit=db.service")
    t.b.until("document.querySelector('#details .lines div')")
    equal(t.b.js("document.querySelector('#filter').value"), "on:beta")
    equal(len(t.b.texts(ROWS)), 3)
    equal(t.b.texts("#details .lines > div")[0], "state\nfailed since 12:00:11")
    equal(t.b.texts("#details .commands code"), ["fleetctl why db.service", "fleetctl journal db.service"])
    equal(len(t.b.texts("#details .events li")), 1)
    equal(t.b.texts("#events"), [])
    t.b.js("{ document.querySelector('#machines h3 a').click(); }")
    t.b.until("document.querySelector('#details-h').innerText === 'beta'")
    equal(t.b.js("new URLSearchParams(location.search).get('machine')"), IDS["beta"])
    t.b.until("document.querySelector('#details .lines div')")
    equal(t.b.texts("#details .figures > div"), ["cpu\n63 %", "memory\n72 %", "disk\n97 %"])
    t.b.driver.back()
    t.b.until("document.querySelector('#details-h').innerText === 'db.service'")
    t.b.js("{ document.querySelector('#close').click(); }")
    equal((t.b.texts("#details"), len(t.b.texts("#events"))), ([], 1))
    t.b.driver.back()
    t.b.until("document.querySelector('#details').checkVisibility()")
    equal(t.b.js("location.hash"), f"#key={KEY}")


def details_of_what_does_not_exist_say_so(t):
    t.home("?unit=gone.service")
    t.b.until("document.querySelector('#details .none').innerText === 'there is no such unit'")
    t.web.why["gone.service"] = why("gone.service")
    t.set(home())
    t.b.until("document.querySelector('#details .lines div')")
    equal(t.b.texts("#details .none"), [])


def on_a_small_screen_details_cover_the_page(t):
    t.home()
    t.b.size(*NARROW)
    t.b.js("{ document.querySelector('#problems a').focus(); }")
    t.b.keys(ENTER)
    t.b.until("document.querySelector('#details .lines div')")
    equal(t.b.js("[[0, 0], [359, 0], [0, 739], [359, 739], [180, 370]].every(([x, y]) => document.elementFromPoint(x, y)?.closest('#side'))"), True)
    for _ in range(12):  # the keyboard stays in the details
        t.b.keys(TAB)
        assert t.b.js("document.activeElement === document.body || Boolean(document.activeElement.closest('#side'))"), t.b.focus()
    t.b.keys(ESCAPE)
    equal(t.b.texts("#details"), [])
    equal(t.b.focus(), "db.service")


# -- Large clusters --

def fifty_machines_and_2000_units_fit(t):
    d = large()
    t.web.set(d, large_usage(d))
    t.open()
    t.b.until("document.querySelector('meter')")
    equal(set(t.b.texts("#machines h3")), {m["name"] for m in d["machines"]})
    at_most(t.b.js("document.querySelectorAll('*').length"), 6000, "elements")
    assert "36 run\n" in t.b.texts("#machines .tally")[1] + "\n" or "40 run" in t.b.texts("#machines .tally")[1], t.b.texts("#machines .tally")[:3]
    for width in (360, 640, 900, 1120, 1400):
        t.b.size(width, 800)
        equal((width, t.b.js("document.documentElement.scrollWidth <= innerWidth")), (width, True))


def an_update_of_one_unit_changes_few_elements(t):
    d = large()
    t.web.set(d, large_usage(d))
    t.open()
    t.b.until("document.querySelector('meter')")
    t.set(d)
    changes = ({"c": "info", "state": "deactivating (stop)", "since": NOW - 1000}, {"c": "bad", "state": "failed", "since": NOW - 1000},
               {"c": "ok", "state": "active (running)", "since": NOW - 1000})
    found = []
    for i in (1, 105, 1999, 0):  # in the list, in the list, not in the list, the first
        for members in changes:
            d["units"][i] = d["units"][i] | members
            t.b.js(counting.OBSERVE)
            t.set(d)
            found.append(t.b.js(counting.CHANGED))
    at_most(max(found), 20 + 1, f"elements: {found}")  # and the name of the cluster, by which the test sees the change


def twenty_updates_leave_what_the_user_does(t):
    d, r = large(), random.Random(1)
    t.web.set(d, large_usage(d))
    t.web.why["web@30.service"] = {"lines": [[f"line {i}", "text " * 9] for i in range(40)], "events": [], "commands": []}
    t.open()
    t.b.js("{ const f = document.querySelector('#filter'); f.value = 'web@*'; f.dispatchEvent(new Event('input', {bubbles: true})); }")
    t.b.js("{ [...document.querySelectorAll('#units a')].find((a) => a.innerText === 'web@30.service').click(); }")
    t.b.until("document.querySelectorAll('#details .lines div').length === 40")
    t.b.js("{ document.querySelector('#side').scrollTop = 150; window.focused = [...document.querySelectorAll('#units tbody a')][60]; focused.focus(); focused.scrollIntoView({block: 'start'});"
           "getSelection().selectAllChildren([...document.querySelectorAll('#units tbody tr')][58].children[2]); }")
    state = ("[document.activeElement === focused, focused.innerText, Math.round(focused.getBoundingClientRect().top), getSelection().toString(), document.querySelector('#filter').value,"
             "document.querySelector('#details-h').innerText, document.querySelector('#side').scrollTop, document.querySelectorAll('#details .lines div').length]")
    before = t.b.js(state)
    for turn in range(20):
        for i in r.sample(range(2000), 5):
            c, s = r.choice((("bad", "failed"), ("ok", "active (running)"), ("info", "activating (start)"), ("off", "inactive (dead)")))
            if d["units"][i]["name"] != before[1]:
                d["units"][i] = d["units"][i] | {"c": c, "state": s, "since": NOW - 1000 * turn}
        d["units"].append(unit(f"web@{5000 + turn}.service", "host07", id=d["machines"][7]["id"]))
        d["events"].insert(0, event(-turn, f"web@{turn}.service", "host01", "failed: exit status 1"))
        d["problems"].insert(0, problem("bad", "unit", f"web@{turn}.service", "failed on host01", "fleetctl journal"))
        t.set(d, usage=large_usage(d))
        t.b.advance(1000)
        after = t.b.js(state)
        equal(after[:2] + after[3:], before[:2] + before[3:])
        assert abs(after[2] - before[2]) <= 3, f"turn {turn}: the row with the focus moves from {before[2]} to {after[2]}"


def focus_and_selection_stay_in_a_row_that_moves(t):
    t.home()
    t.b.js("{ window.focused = [...document.querySelectorAll('#units tbody a')].find((a) => a.innerText === 'web@5.container'); focused.focus(); }")
    d = home()
    for c, place in (("bad", 1), ("ok", 9)):
        d["units"] = [u | {"c": c} if u["name"] == "web@5.container" else u for u in d["units"]]
        t.set(d)
        equal((t.b.js(NAMES).index("web@5.container"), t.b.js("document.activeElement === focused")), (place, True))
    t.b.js("{ focused.blur(); getSelection().selectAllChildren(focused.closest('tr').children[2]); }")
    equal(t.b.js("getSelection().toString()"), "beta")
    for c, place in (("bad", 1), ("ok", 9)):
        d["units"] = [u | {"c": c} if u["name"] == "web@5.container" else u for u in d["units"]]
        t.set(d)
        equal((t.b.js(NAMES).index("web@5.container"), t.b.js("getSelection().toString()")), (place, "beta"))


def ten_times_the_units_cost_the_same_for_each_row(t):
    cost = []
    for n in (2000, 20000):
        d = large(n)
        t.web.set(d, large_usage(d))
        t.open()
        t.b.until("document.querySelector('meter')")
        equal(len(t.b.texts(ROWS)), 200)
        cost.append(t.b.js("[document.documentElement.outerHTML.length, document.querySelectorAll('*').length]"))
    for small, big in zip(*cost):
        at_most(big / small, 1.3, f"times: {cost}")


def the_three_files_are_small(_):
    at_most(sum(os.path.getsize(os.path.join(PAGE, name)) for name in os.listdir(PAGE)), 40_000, "bytes")


# -- Hostile texts --

def markup_is_text(t):
    t.web.set(view(cluster=MARKUP, leader=MARKUP, notice=MARKUP, problems=[problem("bad", "machine", MARKUP, MARKUP, MARKUP)],
                   work=[{"of": "machine", "name": MARKUP, "done": 1, "total": 2, "what": f"draining: {MARKUP}", "command": MARKUP}],
                   machines=[machine(MARKUP, role=MARKUP, badge=MARKUP, meta=MARKUP, id="1" * 32), machine("other", presence=MARKUP, id="2" * 32)],
                   units=[unit(MARKUP, MARKUP, state=MARKUP, health=MARKUP, id="1" * 32), unit("__proto__", "constructor", "toString", id="__proto__")],
                   events=[event(1, MARKUP, MARKUP, MARKUP), event(2, "", "__proto__", MARKUP)]),
              {"program": "", "machines": [{"id": "1" * 32, "note": MARKUP, "cpu": {"part": 0.1, "text": MARKUP}, "units": [{"name": MARKUP, "cpu": MARKUP, "memory": MARKUP}]}]})
    t.web.why[MARKUP] = {"lines": [[MARKUP, MARKUP]], "events": [event(1, MARKUP, MARKUP, MARKUP)], "commands": [MARKUP]}
    t.open()
    t.b.until("document.querySelector('meter')")
    t.b.js("{ [...document.querySelectorAll('#units a')].find((a) => a.innerText[0] === '<').click(); }")
    t.b.until("document.querySelector('#details .commands li')")
    equal(t.b.js("document.querySelectorAll('img, b, script:not([src])').length"), 0)
    for place in ("h1", "#banner", "#problems a", "#problems .text", "#problems code", "#work a", "#machines h3", "#machines .role", "#machines .badge", "#machines .meta",
                  "#machines .meters dd:last-child", "#units tr:last-child a", "#details-h", "#details .lines dt", "#details .lines dd", "#details .commands code", "#details .events .what"):
        assert MARKUP in t.b.text(place), f"{place}: {t.b.text(place)}"
    assert MARKUP in t.b.js("document.title")
    equal(t.b.js(NAMES), ["__proto__", MARKUP])
    equal(t.b.texts(".fault"), [])


def names_that_are_long_or_of_other_directions_stay_in_their_place(t):
    long, override = "x" * 247 + ".service", "a\u202e\u2067b.service"
    t.web.set(view(cluster="c" * 255, problems=[problem("bad", "unit", long, "m" * 900, "fleetctl why " + long)], machines=[machine("h" * 255, meta="k=" + "v" * 255, id="1" * 32)],
                   units=[unit(long, "h" * 255, id="1" * 32), unit(override, "h" * 255, "bad", "failed", id="1" * 32)], events=[event(1, long, "h" * 255, "w" * 500)]))
    for size in (NARROW, WIDE):
        t.b.size(*size)
        t.open(f"?unit={override}")
        assert t.b.js("document.documentElement.scrollWidth <= innerWidth"), size
    equal(t.b.js("getComputedStyle(document.querySelector('#units tbody a')).unicodeBidi"), "isolate")


def an_injected_script_does_not_run(t):
    t.home()
    t.b.js("""{
        const s = document.createElement("script"), d = document.createElement("div"), f = document.createElement("img");
        s.textContent = "alert(1)";
        d.setAttribute("onclick", "alert(2)");
        document.body.append(s, d, f);
        d.click();
        f.src = "https://example.com/stolen";
    }""")
    t.b.until("window.wrong.length >= 3")
    assert all(w.startswith(("script-src", "img-src")) for w in t.b.js("window.wrong")), t.b.js("window.wrong")
    t.expected = t.b.js("window.wrong")


# -- For everyone --

def five_tasks_by_keyboard_alone(t):
    t.home()
    # The failed unit, and its command.
    t.b.keys(TAB)
    equal(t.b.focus(), "skip")
    t.b.keys(ENTER, TAB)
    equal(t.b.focus(), "db.service")
    equal(t.b.js("document.activeElement.parentElement.querySelector('code').innerText"), "fleetctl journal db.service")
    equal(t.b.js("location.hash"), f"#key={KEY}")
    # Why report.service waits.
    t.b.keys(DOWN, DOWN, DOWN, UP, DOWN)
    equal(t.b.focus(), "report.service")
    t.b.keys(ENTER)
    t.b.until("document.querySelector('#details .lines div')")
    equal(t.b.focus(), "details-h")
    assert "it is being drained" in t.b.text("#details")
    # Back.
    t.b.keys(ESCAPE)
    equal((t.b.focus(), t.b.texts("#details")), ("report.service", []))
    # The host that runs web@2.
    t.b.keys("/", *"web@2")
    equal(t.b.focus(), "filter")
    equal(t.b.texts(ROWS + " > *")[:3], ["web@2.container", "active (running)", "delta"])
    t.b.keys(ESCAPE)
    equal(len(t.b.texts(ROWS)), 11)
    # The failed units of beta.
    t.b.keys(*"state:failed on:beta")
    equal(t.b.js(NAMES), ["db.service"])
    t.b.keys(ESCAPE, ESCAPE)
    equal((t.b.js("document.querySelector('#filter').value"), t.b.js("document.activeElement === document.body")), ("", True))


def each_control_has_a_name(t):
    t.home("?unit=db.service")
    t.b.until("document.querySelector('#details .lines div')")
    t.b.cdp("Accessibility.enable")
    nodes = [n for n in t.b.cdp("Accessibility.getFullAXTree")["nodes"] if not n.get("ignored")]
    named = {"link", "button", "searchbox", "textbox", "meter", "progressIndicator", "progressbar", "heading", "region", "RootWebArea", "columnheader", "rowheader"}
    without = [(n["role"]["value"], n.get("name")) for n in nodes if n["role"]["value"] in named and not n.get("name", {}).get("value", "").strip()]
    equal(without, [])
    found = {n["role"]["value"] for n in nodes}
    assert {"link", "button", "searchbox", "meter", "main", "complementary", "banner", "status", "table"} <= found, found
    # Each mark has a word, beside its shape.
    names = [n["name"]["value"] for n in nodes if n["role"]["value"] == "link"]
    for said in ("problem db.service", "waits report.service", "changes web@3.container", "stopped backup.service", "runs cache.service", "up alpha", "problem gamma"):
        assert said in [re.sub(r"\s+", " ", n) for n in names], (said, names)
    t.b.cdp("Accessibility.disable")


def each_mark_has_a_shape_and_a_word(t):
    t.home()
    shapes = t.b.js("""Object.fromEntries(["ok", "bad", "warn", "info", "off", "unknown"].map((c) => {
        const e = document.querySelector("main").appendChild(Object.assign(document.createElement("span"), {className: `mark ${c}`}));
        return [c, getComputedStyle(e, "::before").content];
    }))""")
    equal(shapes, {"ok": '"●" / "runs"', "bad": '"▲" / "problem"', "warn": '"◆" / "waits"', "info": '"◐" / "changes"', "off": '"○" / "stopped"', "unknown": '"□" / "unknown"'})


CONTRAST = """{
    const parse = (s) => s.match(/[\\d.]+/g).map(Number);
    const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
    const found = [];
    const check = (e, pseudo) => {
        const style = getComputedStyle(e, pseudo), a = light(parse(style.color)), b = light(behind(e));
        found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), `${e.tagName}.${e.className} ${pseudo ?? ""} ${style.color} ${behind(e)}`]);
    };
    for (const e of document.body.querySelectorAll("*")) {
        if (!e.checkVisibility()) continue;
        if ([...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) check(e);
        if (e.classList.contains("mark")) check(e, "::before");
    }
    check(document.querySelector("#filter"));
    check(document.querySelector("#filter"), "::placeholder");
    return found.sort((a, b) => a[0] - b[0])[0].concat(found.length);
}"""


def contrast_is_sufficient_in_both_schemes(t):
    t.home("?unit=db.service")
    t.b.until("document.querySelector('#details .lines div')")
    pages = []
    for scheme in ("light", "dark"):
        t.b.media(prefers_color_scheme=scheme)
        for members in ({}, {"notice": "No leader for 12 s", "staleMs": 12000}):
            t.set(home(**members))
            least, where, n = t.b.js(CONTRAST)
            assert n > 100 and least >= 4.5, (scheme, members, least, where, n)
        pages.append(t.b.js("getComputedStyle(document.body).backgroundColor"))
    equal(pages, ["rgb(255, 255, 255)", "rgb(15, 20, 25)"])


def forced_colours_and_reduced_motion_are_respected(t):
    t.home()
    t.b.until("document.querySelector('#events ul.live')")
    moves = "document.getAnimations().length + [...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).animationName !== 'none').length"
    assert t.b.js(moves) > 0
    t.b.media(prefers_reduced_motion="reduce")
    equal(t.b.js(moves), 0)
    t.b.media(forced_colors="active")
    for place in (".card", "#problems li", "meter", "#filter", ".badge"):
        equal((place, t.b.js("getComputedStyle(document.querySelector(arguments[0])).borderTopStyle", place)), (place, "solid"))
    assert t.b.js("getComputedStyle(document.querySelector('meter')).borderTopWidth") == "1px"


def each_page_fits_its_screen(t):
    folder = os.environ.get("SHOTS")
    t.home("?q=")
    for width, height, scheme in ((360, 1900, "light"), (700, 900, "dark"), (1400, 900, "light"), (1400, 900, "dark")):
        t.b.size(width, height)
        t.b.media(prefers_color_scheme=scheme)
        assert t.b.js("document.documentElement.scrollWidth <= innerWidth"), width
        cut = t.b.js("[...document.querySelectorAll('main *, aside *, header *')].filter((e) => e.checkVisibility() && e.id !== 'skip' && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 99))")
        equal(cut, [])
        if folder:
            t.b.screenshot(f"{folder}/page-{width}-{scheme}.png")


def main():
    missing = browser.missing()
    if missing:
        print(f"ok skipped: apt-get install --no-install-recommends {missing}")
        return 0
    tests = [f for f in globals().values() if callable(f) and getattr(f, "__code__", None) and f.__module__ == __name__ and f.__code__.co_varnames[:1] in (("t",), ("_",)) and f.__code__.co_argcount == 1]
    tests.sort(key=lambda f: f.__code__.co_firstlineno)
    tests = [f for f in tests if len(sys.argv) < 2 or f.__name__ in sys.argv[1:]]
    failed, b = 0, browser.Browser(NOW)
    try:
        for f in tests:
            t, why_not = Test(b), None
            try:
                try:
                    f(t)
                finally:
                    t.close()
            except Exception as e:
                why_not = str(e) or repr(e)
                traceback.print_exc()
            failed += why_not is not None
            print(f"ok {f.__name__}" if why_not is None else f"not ok {f.__name__}: {why_not.splitlines()[0]}", flush=True)
    finally:
        b.close()
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
