"""What the tests of the page share: its own script under node, and what is installed for it."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from jax_lstm.teaching import webpage

NODE, NPM = shutil.which("node"), shutil.which("npm")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
RUN = """
const fs = require("fs");
require("vm").runInThisContext(fs.readFileSync(process.argv[1], "utf8"));
const jobs = JSON.parse(fs.readFileSync(0), (k, v) => (v === "NaN" ? NaN : v));
const plain = (k, v) => (typeof v === "number" && !isFinite(v) ? String(v) : v);
const found = jobs.map(([name, ...given]) => globalThis.jaxLstm[name](...given));
console.log(JSON.stringify(found, plain));
"""


def script_of(page):
    """The script of a page, as a browser runs it."""
    return re.findall(r"<script>(.*?)</script>", page, re.S)[-1]


def ask(tmp_path, jobs):
    """What the page's own functions answer: jobs are (name, arguments...)."""
    file = tmp_path / "script.js"
    file.write_text(script_of((webpage.PAGE / "page.html").read_text("utf-8")), encoding="utf-8")
    given = json.dumps(jobs).replace("NaN", '"NaN"')
    command = [NODE, "-e", RUN, str(file)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


NO_NETWORK = ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "ENETUNREACH")


def install(folder):
    """The page's sources and what builds them, in a folder. It skips without npm or a network; a
    lock file that npm refuses is a failure."""
    if NPM is None:
        pytest.skip("npm is not installed")
    shutil.copytree(webpage.PAGE, folder)
    command = [NPM, "ci", "--loglevel=error", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if any(code in done.stderr for code in NO_NETWORK):
        pytest.skip(f"npm has no network: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return folder


def numbers(x):
    """A list of numbers, NaN among them, as an array."""
    return np.array([float(v) for v in x])
