"""`jax-lstm grade` for a class: many files, points, JSON, the line of an error, a picture."""

import json

import pytest

from jax_lstm.commands.main import main
from jax_lstm.teaching.exercise import exercise
from jax_lstm.teaching.grade import Grade, Grades

SOLVED = exercise(numpy=True, solution=True)
CARRIED = "dc, _ = fork_bwd(None, (dc_from_h, dc_from_next))"
FORGOTTEN = SOLVED.replace(CARRIED, "dc = dc_from_h")
BROKEN = SOLVED.replace("return ds * s * (1 - s)", "return ds * no_such_name")


@pytest.fixture
def files(tmp_path):
    texts = {"anna": SOLVED, "ben": FORGOTTEN, "cora": BROKEN, "dan": "1 +"}
    paths = [tmp_path / f"{name}.py" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    return list(map(str, paths))


def test_points_of_each_file_the_line_of_an_error_and_json(files, tmp_path, capsys):
    out = tmp_path / "grades.json"
    assert main(["grade", *files, "--json", str(out)]) == 1
    said, found = capsys.readouterr().out, json.loads(out.read_text())["files"]
    assert [(f["points"], f["of"], f["ok"]) for f in found] == [
        (10, 10, True),
        (7, 10, False),
        (9, 10, False),
        (0, 0, False),
    ]
    line = 1 + BROKEN[: BROKEN.index("no_such_name")].count("\n")
    (wrong,) = [g for g in found[2]["grades"] if g["verdict"] == "WRONG"]
    assert wrong["says"].endswith(f"'no_such_name' is not defined, line {line}")
    assert "is not Python, line 1" in found[3]["error"]
    assert "--mutant 'dc of h alone'" in said
    assert all(f"== {file}" in said for file in files)
    assert main(["grade", files[3]]) == 2


def test_the_mistake_of_the_loop_is_drawn(files, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="pip install 'jax_lstm[experiments]'")
    picture = tmp_path / "mistake.svg"
    assert main(["grade", files[1], "--svg", str(picture)]) == 1
    assert picture.read_text().lstrip().startswith("<?xml")
    capsys.readouterr()


def test_points():
    some = Grades([Grade("tanh_bwd", "right"), Grade("backward", "WRONG", "", "dc not carried")])
    assert (some.points(), some.mistake()) == ((1, 4), "dc not carried")
    assert Grades([]).mistake() == ""
