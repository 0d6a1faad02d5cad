"""Debian's Chromium without a screen. The clock of its pages is that of the test, and stands still otherwise: timers run in advance(). On booted hosts
pages have the clock of the machine."""

import os
import shutil
import tempfile
import time

PATIENCE = 30  # seconds of waiting for an event, on a slow and busy machine

# Before each document: the clock of the test.
CLOCK = """
(() => {
  const timers = new Map();
  let now = %d, last = 0;
  const add = (f, ms, every) => (timers.set(++last, {at: now + (ms || 0), f, every}), last);
  Date.now = () => now;
  window.setTimeout = (f, ms) => add(f, ms);
  window.setInterval = (f, ms) => add(f, ms, ms);
  window.clearTimeout = window.clearInterval = (id) => timers.delete(id);
  const others = () => new Promise((done) => { const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0); });
  window.dueTimers = () => [...timers.values()].filter((t) => !t.every).map((t) => t.at - now);
  window.advance = async (ms) => {
    const until = now + ms;
    for (;;) {
      const due = [...timers].filter(([, t]) => t.at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      const [id, t] = due;
      now = Math.max(now, t.at);
      if (t.every) t.at = now + t.every;
      else timers.delete(id);
      t.f();
      await others();
    }
    now = until;
  };
})();
"""

# And what must not happen.
WRONG = """
(() => {
  window.wrong = [];
  document.addEventListener("securitypolicyviolation", (e) => window.wrong.push(`${e.violatedDirective}: ${e.blockedURI} ${e.sample}`));
  addEventListener("error", (e) => window.wrong.push(`error: ${e.message}`));
  addEventListener("unhandledrejection", (e) => window.wrong.push(`rejection: ${e.reason}`));
  window.alert = () => window.wrong.push("alert");
})();
"""


def missing():
    """What the tests need and this machine has not; None: nothing."""
    if not (shutil.which("chromium") and os.path.exists("/usr/bin/chromedriver")):
        return "chromium chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "python3-selenium"
    return None


class Browser:
    def __init__(self, now=None):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        self.profile = tempfile.mkdtemp(prefix="fleet-web-")
        for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--lang=en",
                         f"--user-data-dir={self.profile}") + (("--no-sandbox",) if os.getuid() == 0 else ()):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.driver.set_script_timeout(PATIENCE)
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WRONG + (CLOCK % now if now else ""))

    def close(self):
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def cdp(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def size(self, width, height=900):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, **features):
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": k.replace("_", "-"), "value": v} for k, v in features.items()])

    def open(self, address):
        self.driver.get("about:blank")  # another fragment alone would not load it
        self.driver.get(address)

    def js(self, script, *arguments):
        return self.driver.execute_script(f"return ({script})" if not script.startswith("{") else script, *arguments)

    def advance(self, ms):
        self.driver.execute_async_script("advance(arguments[0]).then(arguments[1])", ms)

    def until(self, script, *arguments):
        """Wait until the expression is true, and return its value."""
        end = time.monotonic() + PATIENCE
        while True:
            value = self.js(script, *arguments)
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"it does not become true: {script} {arguments}; the page: {self.text('body')[:2000]}")
            time.sleep(0.01)

    def text(self, selector):
        """The text as it is seen, of the first element."""
        return self.js("document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def texts(self, selector):
        return self.js("[...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).map((e) => e.innerText)", selector)

    def keys(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains
        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def focus(self):
        return self.js("document.activeElement.id || document.activeElement.innerText")

    def screenshot(self, path):
        self.driver.save_screenshot(path)
