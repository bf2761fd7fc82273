"""Pages that commands write: their text, as wide as the pages that people write."""

import re
import textwrap


def wrapped(text):
    """Paragraphs as wide as our pages, items with their indent; heads, code and tables stay."""

    def fill(part):
        if part.startswith(("#", "```", "|", "!")):
            return part
        items = re.split(r"\n(?=- )", part)
        indent = "  " if part.startswith("- ") else ""
        return "\n".join(
            textwrap.fill(" ".join(x.split()), 120, subsequent_indent=indent) for x in items
        )

    return "\n\n".join(fill(part) for part in text.strip().split("\n\n"))
