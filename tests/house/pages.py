"""The pages people read, their blocks, and how these run."""

import re
from pathlib import Path
from types import SimpleNamespace

from experiments.kit import record
from experiments.speed.pages import COMMITTED
from tests.tables import relaxed

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "tests" / "MUTANTS.md"])


def read(page):
    """The text of a page, by its path from the root."""
    return (ROOT / page).read_text()


def blocks(text, language):
    """The blocks of a page in a language, without their fences and their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.S | re.M)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in found]


@relaxed("what people write")
def run(source, page):
    """A Python block, run as it stands: its names."""
    names = {}
    exec(compile(source, page, "exec"), names)
    return SimpleNamespace(**names)


def measured():
    """The committed run of experiments.speed."""
    return record.read_json(COMMITTED)
