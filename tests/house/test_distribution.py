"""Distribution: what the wheel and the sdist hold, and that an installed wheel works.

In a folder without a checkout beside them, the tests test the package that is installed: `.ci/run`
runs some of them there against the wheel.
"""

import email
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jax_lstm

ROOT = Path(__file__).parents[2]
VERSION = jax_lstm.__version__
IMPORT = """
import sys

import jax, numpy

class NotInstalled:
    names = {"optax", "flax", "orbax", "tensorstore", "safetensors", "matplotlib", "onnx", "torch"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
before = set(sys.modules)
import jax_lstm

assert not {name.partition(".")[0] for name in sys.modules} & NotInstalled.names
new = {name.partition(".")[0] for name in set(sys.modules) - before}
known = {name.partition(".")[0] for name in before} | sys.stdlib_module_names
print(*(new - known))
"""


THREE_LINES = """\
import sys
loaded = "jax" in sys.modules
def test_mine(gradient_check):
    assert gradient_check(lambda x: x**3, __import__("numpy").ones(2)) and not loaded
"""


def files_of(*folders):
    """Every file below these folders of the checkout, as paths from its root."""
    files = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(f.relative_to(ROOT)) for f in files if "__pycache__" not in f.parts}


def build(source, folder, *what):
    """Built with the backend that pyproject.toml names."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *what]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


def content(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with a wheel and an sdist of the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    (file,) = built.glob("*.tar.gz")
    subprocess.run(["tar", "-xzf", file, "-C", folder], check=True)
    return folder / f"jax_lstm-{VERSION}"


def test_the_package_that_is_tested_is_the_one_meant():
    """The checkout beside the tests; without one, what is installed."""
    package = Path(jax_lstm.__file__).parent
    if (ROOT / "jax_lstm").exists():
        assert package == ROOT / "jax_lstm"
    else:
        assert package == Path(sysconfig.get_path("purelib")) / "jax_lstm"


def test_the_import_needs_jax_and_numpy_alone(tmp_path):
    """Nothing else is loaded, and what might be is not there to load."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", IMPORT], check=False, **options)
    assert (done.returncode, done.stdout) == (0, "jax_lstm\n"), done.stderr


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in content(wheel) if ".dist-info/" not in name}
    assert names == files_of("jax_lstm") | {"jax_lstm_pytest.py"}
    assert names >= {
        "jax_lstm/py.typed",
        "jax_lstm/cells/__init__.py",
        "jax_lstm/referee/__init__.py",
        "jax_lstm/kernels/lstm.cc",
        "jax_lstm/diagnosis/examples/coursera.json",
        "jax_lstm/diagnosis/examples/gomez.json",
    }


def test_what_the_wheel_says_of_itself(wheel):
    info = f"jax_lstm-{VERSION}.dist-info"
    files = content(wheel)
    said = email.message_from_bytes(files[f"{info}/METADATA"])
    assert said["Name"] == "jax_lstm"
    assert said["Version"] == VERSION
    assert said["Requires-Python"] == ">=3.11"
    assert said["License-Expression"] == "Apache-2.0"
    assert "Typing :: Typed" in said.get_all("Classifier")
    needs = {re.split(r"\W", need)[0] for need in said.get_all("Requires-Dist") if ";" not in need}
    assert needs == {"jax", "jaxlib", "numpy", "optax", "safetensors"}
    extras = {"flax", "experiments", "test", "lint", "peers", "tensorboard", "page", "all"}
    extras |= {"evidence"}
    assert set(said.get_all("Provides-Extra")) == extras
    assert f"{info}/licenses/LICENSE" in files
    for line in (b"jax-lstm = jax_lstm.__main__:main", b"[pytest11]\njax_lstm_pytest = "):
        assert line in files[f"{info}/entry_points.txt"]


def test_the_sdist_holds_the_checkout(unpacked):
    names = {str(f.relative_to(unpacked)) for f in unpacked.rglob("*") if f.is_file()}
    pages = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"}
    pages |= {"SECURITY.md"}
    want = files_of("jax_lstm", "tests", "experiments", "docs", ".ci") | pages
    want |= {"pyproject.toml", "jax_lstm_pytest.py"}
    assert names - {"PKG-INFO", ".gitignore"} == want


def test_the_sdist_builds_the_same_wheel(unpacked, wheel, tmp_path):
    build(unpacked, tmp_path, "-t", "wheel")
    assert content(tmp_path / wheel.name) == content(wheel)


@pytest.mark.slow
def test_the_installed_wheel_has_a_working_command(wheel, tmp_path):
    """Somewhere else, with the examples that are data of the package."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, wheel], check=True)

    def run(*command):
        environment = os.environ | {"PYTHONPATH": str(site)}
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        ran = subprocess.run(command, check=False, **options)
        return ran.returncode, ran.stdout.splitlines()[-1], ran.stderr

    where = run(sys.executable, "-c", "import jax_lstm; print(jax_lstm.__file__)")
    assert where == (0, str(site / "jax_lstm" / "__init__.py"), "")
    status, said, error = run(site / "bin" / "jax-lstm", "diagnose", "--example", "gomez")
    assert (status, error) == (1, "")
    assert "zeros in the backward for the remembered h0 and c0" in said
    (tmp_path / "test_mine.py").write_text(THREE_LINES)
    command = sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"
    assert "1 passed" in run(*command)[1]


def test_the_checks_run_with_pinned_versions():
    """Each package that .ci/run installs has one version, which pyproject.toml allows; flax, whose
    internals are imported, has a range with two ends."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = extras["optional-dependencies"]
    needs = [
        *extras["dependencies"],
        *(need for group in groups.values() for need in group),
        *tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"],
    ]
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line[0] != "#")
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for need in map(Requirement, needs):
        if need.name != "jax_lstm":
            assert need.specifier.contains(pins[canonicalize_name(need.name)]), need
    (flax,) = map(Requirement, groups["flax"])
    assert {bound.operator for bound in flax.specifier} == {">=", "<"}
    script = (ROOT / ".ci" / "run").read_text()
    assert script.index("export PIP_CONSTRAINT=$copy/.ci/constraints.txt") < script.index("/pip ")
    assert '"flax==$oldest"' in script


# The pages beside the code --------------------------------------------------------------------


def test_the_citation_is_of_this_version():
    fields = re.findall(r"^([a-z-]+):(?: (.*))?$", (ROOT / "CITATION.cff").read_text(), re.M)
    said = dict(fields)
    assert len(said) == len(fields)
    assert said["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(said)
    assert said["version"] == VERSION
    assert said["license"] == "Apache-2.0"


def test_the_changelog_keeps_its_form():
    """Keep a Changelog 1.1.0: versions, newest first, the version here among them or unreleased."""
    text = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## (.*)$", text, re.M)
    assert heads[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads[1:])
    kinds = re.findall(r"^### (.*)$", text, re.M)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert kinds
    newest = heads[1].split("]")[0] if len(heads) > 1 else "[0.0.0"
    assert f"[{VERSION}" >= newest
