#!/usr/bin/env python3
"""Record the terminal session of README as docs/quickstart.svg, from a real ./quickstart. As root, after a first ./quickstart that built.

Usage: docs/record.py [FILE]

The commands and their pauses are fixed. Each line of output appears once, in order; lines that are redrawn are shown in their last state."""
import html, os, re, subprocess, sys, time

top = os.path.realpath(os.path.dirname(os.path.realpath(__file__)) + "/..")
sys.path.insert(0, f"{top}/tests/conformance")
import examples  # noqa: E402

COLUMNS, FONT, LINE, MARGIN = 100, 14, 18, 12
COLOURS = {"31": "#f47067", "32": "#6bc46d", "33": "#daaa3f"}
# Command, seconds until the next one, and a text that the output must have: the command is repeated until then.
SESSION = [
    ("./quickstart", 4, ""),
    ("./quickstart fleetctl list-units hello.service", 3, "running"),
    ("./quickstart kill {}", 2, ""),
    ("./quickstart fleetctl list-units hello.service", 4, "running"),
    ("./quickstart fleetctl why hello.service", 5, ""),
    ("./quickstart fleetctl status", 6, "can lose"),
]
END = re.compile(r"^All of it took")  # and the hints after it


def cells(data):
    """The lines of a terminal after these bytes: lists of (character, colour)."""
    lines, row, column, colour = [[]], 0, 0, ""
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|[^\x1b]|\x1b", data.decode("utf-8", "replace")):
        if part.startswith("\x1b["):
            number = re.sub(r"\D", "", part)
            if part[-1] == "m":
                colour = COLOURS.get(number, "")
            elif part[-1] == "A":
                row = max(row - int(number or 1), 0)
            elif part[-1] == "K":
                del lines[row][column:]
            elif part[-1] == "J":
                del lines[row][column:], lines[row + 1:]
        elif part == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append([])
        elif part == "\r":
            column = 0
        elif part >= " ":
            line = lines[row]
            line.extend([(" ", "")] * (column - len(line)))
            line[column:column + 1] = [(part, colour)]
            column += 1
    while lines and not lines[-1]:
        lines.pop()
    return lines


def text_of(line):
    return "".join(c for c, _ in line)


def record():
    """Lines with the second at which each appears."""
    env = {**os.environ, "TERM": "xterm"}
    env.pop("NO_COLOR", None)
    subprocess.run([f"{top}/quickstart", "down"], env=env, check=True)
    shown, second, host, lost = [], 1.0, "beta", None
    for command, pause, wanted in SESSION:
        command = command.format(host)
        shown.append((second, [(c, "#ffffff") for c in "# " + command]))
        second += 1
        end = time.monotonic() + 60
        while True:
            status, said = examples.run_on_terminal(["bash", "-c", command], top, env, 300)
            lines = cells(said)
            ends = [i for i, line in enumerate(lines) if END.match(text_of(line))]
            lines = lines[:ends[0]] if ends else lines
            text = "\n".join(map(text_of, lines))
            if status in (0, 1) and wanted in text and not (lost and f" {lost} " in text and "list-units" in command) or time.monotonic() > end:
                break
            time.sleep(0.3)
        found = re.search(r"^[a-z]+\.service +(\w+) +active ", text, re.M)
        if found:
            host = found.group(1)
        if " kill " in command:
            lost = host
        for line in lines + ([] if not lines else [[]]):
            shown.append((second, line[:COLUMNS]))
            second += 0.6 if command == "./quickstart" and len(shown) < 7 else 0.03
        second += pause
    subprocess.run([f"{top}/quickstart", "down"], env=env, check=True)
    return shown, second


def svg(shown, total):
    width, height = 2 * MARGIN + int(COLUMNS * FONT * 0.602), 2 * MARGIN + len(shown) * LINE
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="monospace" font-size="{FONT}" fill="#adbac7">', "<style>"]
    steps = sorted({at for at, _ in shown})
    for i, at in enumerate(steps):
        out.append(f"@keyframes k{i}{{0%,{100 * at / total:.2f}%{{opacity:0}}{100 * at / total + 0.01:.2f}%,100%{{opacity:1}}}}.k{i}{{animation:k{i} {total:.0f}s infinite}}")
    out += ["text{white-space:pre}", "@media(prefers-reduced-motion){text{animation:none!important}}", "</style>",
            f'<rect width="{width}" height="{height}" rx="6" fill="#22272e"/>']
    for row, (at, line) in enumerate(shown):
        spans, i = "", 0
        while i < len(line):
            j = i
            while j < len(line) and line[j][1] == line[i][1]:
                j += 1
            text = html.escape(text_of(line[i:j]))
            spans += f'<tspan fill="{line[i][1]}">{text}</tspan>' if line[i][1] else text
            i = j
        if spans:
            out.append(f'<text class="k{steps.index(at)}" x="{MARGIN}" y="{MARGIN + (row + 1) * LINE - 5}" xml:space="preserve">{spans}</text>')
    return "\n".join(out + ["</svg>", ""])


if __name__ == "__main__":
    with open(sys.argv[1] if len(sys.argv) > 1 else f"{top}/docs/quickstart.svg", "w", encoding="utf-8") as f:
        f.write(svg(*record()))
