"""Writes keys /written/PREFIX-1, -2, ... one after the other for some seconds, and says what became of each:

    MILLISECONDS ack|unknown|refused NUMBER

A number is "ack" when the store said that it is written, "refused" when it said that it is not. Run inside a host:
writer.py PREFIX SECONDS < /dev/null. It ends earlier when the file /run/writer-PREFIX exists."""
import http.client
import json
import os
import sys
import time

prefix, seconds = sys.argv[1], float(sys.argv[2])
end = time.time() + seconds
number = 0
conn = None
while time.time() < end and not os.path.exists("/run/writer-" + prefix):
    number += 1
    what = "unknown"
    try:
        conn = conn or http.client.HTTPConnection("127.0.0.1", 2379, timeout=5)
        conn.request("PUT", "/v2/keys/written/%s-%d" % (prefix, number), "value=%d" % number,
                     {"Content-Type": "application/x-www-form-urlencoded"})
        answer = conn.getresponse()
        body = json.loads(answer.read())
        if answer.status in (200, 201) and body["node"]["value"] == str(number):
            what = "ack"
        elif answer.status < 500:
            what = "refused"
    except (OSError, http.client.HTTPException, ValueError):
        conn = None
    print(int(time.time() * 1000), what, number, flush=True)
    time.sleep(0.005 if what == "ack" else 0.05)
