#!/bin/bash
# systemd rates the restrictions of fleetd.service, and fleet-security(7) has a reason for each of its points. Takes 1 s.
top=$(cd "$(dirname "$0")/../.." && pwd)
service=${LAB_BUILD:-$top/build}/dist/systemd/fleetd.service
points=$(systemd-analyze security --offline=true --no-pager --json=short "$service") || { echo "not ok systemd_rates_the_service: no answer for $service"; exit 1; }

rating=$(systemd-analyze security --offline=true --no-pager --threshold=22 "$service") && echo "ok the_exposure_is_at_most_2.2" ||
        echo "not ok the_exposure_is_at_most_2.2: $(tail -1 <<<"$rating")"
echo "# $(tail -1 <<<"$rating")"
python3 - "$top/man/fleet-security.7.scd" "$points" <<'END'
import json, re, sys
page = open(sys.argv[1]).read().split("# THE SERVICE'S SANDBOX")[1].split("\n# ")[0]
reasons = set(re.findall(r"\*([^*\n]+=[^*\n]*)\*", "\n".join(l for l in page.split("\n") if l.startswith("*"))))
points = {p["name"] for p in json.loads(sys.argv[2]) if float(p["exposure"] or 0) > 0}
wrong = ["no reason for " + name for name in sorted(points - reasons)]
wrong += ["a reason for %s, which is no point" % name for name in sorted(reasons - points)]
if wrong or not points:
    print("not ok the_manual_has_a_reason_for_each_point: fleet-security(7) has %s" % ", ".join(wrong))
else:
    print("ok the_manual_has_a_reason_for_each_point # %d points" % len(points))
END
