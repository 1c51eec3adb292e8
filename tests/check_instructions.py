#!/usr/bin/env python3
"""Counts the instructions of the byte-work stages under valgrind and holds them against tests/instructions.json.

    tests/check_instructions.py            compare; fails when a stage takes more than 5 % more instructions than it did
    tests/check_instructions.py --renew    write the counts of now as the new baseline

Counts follow from the compiler, the processor's instructions that valgrind passes on, the C library and valgrind. The baseline names them, and
counts made with others are shown but not judged.
"""

import json
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = ROOT / "tests" / "instructions.json"
BENCH = ["cargo", "bench", "--locked", "-p", "warren-node", "--bench", "instructions", "--", "--output-format=json"]
# More than this, and somebody has to look; less is the noise of code layout and inlining.
TOLERANCE = 0.05
# What the assembly of the ciphers and hashes and the C library's copies choose by, as far as valgrind lets them.
FLAGS = ["aes", "avx", "avx2", "bmi2", "erms", "fsrm", "pclmulqdq", "rdrand", "sha_ni", "ssse3"]


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def environment():
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    field = lambda name: (re.search(rf"^{name}\s*: (.*)$", cpu, re.M) or ["", "unknown"])[1]
    present = set(field("flags").split())
    return {
        "architecture": platform.machine(),
        "compiler": output("rustc", "--version").strip(),
        "libc": " ".join(platform.libc_ver()),
        "processor": field("vendor_id"),
        "processor has": " ".join(flag for flag in FLAGS if flag in present),
        "valgrind": output("valgrind", "--version").strip(),
    }


def counts():
    found = {}
    for line in output(*BENCH).splitlines():
        summary = json.loads(line)
        [profile] = [profile for profile in summary["profiles"] if profile["tool"] == "Callgrind"]
        count = profile["data"]["total"]["metrics"]["Ir"]["values"]["new"]
        found[f"{summary['function_name']}.{summary['id']}"] = int(count)
    return dict(sorted(found.items()))


def main():
    now = {"environment": environment(), "instructions": counts()}
    if sys.argv[1:] == ["--renew"]:
        BASELINE.write_text(json.dumps(now, indent=2) + "\n")
        print(f"{BASELINE.relative_to(ROOT)} is written: commit it, and say in the message why the counts changed")
        return 0
    before = json.loads(BASELINE.read_text())
    others = [
        f"  {name}: {now['environment'][name]}, the baseline has {was}"
        for name, was in before["environment"].items()
        if now["environment"][name] != was
    ]
    worse, better = [], []
    for name in sorted({*before["instructions"], *now["instructions"]}):
        was, count = before["instructions"].get(name), now["instructions"].get(name)
        if was is None or count is None:
            print(f"{name:<28} {was or '-':>12} {count or '-':>12}   only in the {'baseline' if count is None else 'code'}")
            worse.append(name)
            continue
        change = count / was - 1
        print(f"{name:<28} {was:>12} {count:>12} {change:>+8.2%}")
        (worse if change > TOLERANCE else better if change < -TOLERANCE else []).append(name)
    if others:
        print("\n!!! NOT JUDGED: the counts were made in another environment than the baseline:\n" + "\n".join(others))
        print("If this is what the project is checked with from now on: tests/check_instructions.py --renew, and commit.")
        return 0
    if better:
        print(f"\nfewer instructions than the baseline: {', '.join(better)}. To keep it so: tests/check_instructions.py --renew")
    if worse:
        print(
            f"\nabove the baseline by more than {TOLERANCE:.0%}, or not in both: {', '.join(worse)}\n"
            "If there is a good reason: tests/check_instructions.py --renew, commit tests/instructions.json, and say why.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
