"""A page that stays open in a browser while its program is replaced: it loads itself again, once.

Usage: open_page.py ADDRESS. It prints "open", and continues with a line of standard input, after which another program answers."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../web"))
import browser  # noqa: E402

if browser.missing():
    sys.exit(f"apt-get install --no-install-recommends {browser.missing()}")
b = browser.Browser(int(time.time() * 1000))
try:
    b.open(sys.argv[1])
    b.until("document.querySelector('#machines h3')")
    b.js("{ window.loads = 'before'; }")
    print("open", flush=True)
    sys.stdin.readline()
    for _ in range(300):
        b.advance(1000)
        if not b.js("window.loads"):
            break
    b.until("!window.loads && document.querySelector('#machines h3')")
    b.js("{ window.loads = 'once'; }")
    for _ in range(60):
        b.advance(1000)
    print(b.js("window.loads ?? 'again and again'"))
finally:
    b.close()
