"""Files that another package ships, found without importing it."""

import importlib.util
from pathlib import Path


def folder_of(packages, *inside):
    """The first of these folders inside the packages that is there, or None."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        for root in (spec and spec.submodule_search_locations) or ():
            if (folder := Path(root, *inside)).is_dir():
                return folder
    return None
