"""The benchmark's command: what it runs, what it refuses, what is left of an interrupted run."""

import json

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from experiments.kit import record
from experiments.speed import cases, end_to_end, problems, programs
from experiments.speed import run as speed
from experiments.speed import tables as speed_tables
from tests.experiments.speed_results import ENVIRONMENT, case
from tests.tables import TOLERANCE, assert_close, relaxed

TINY = ["--tiny", "--only", "lstm,A0,G"]


@pytest.fixture(autouse=True)
def standard_promotion():
    """The other libraries are not written for strict promotion."""
    with relaxed("the contestants"):
        yield


@pytest.mark.slow
def test_a_tiny_run_and_its_comparison(tmp_path, capsys):
    argv = [*TINY, "--rounds", "3", "--results", str(tmp_path), "--run", "a"]
    assert speed.main(argv) == 0
    result = record.read_json(tmp_path / "speed" / "a" / "speed.json")
    (only,) = result["cases"]
    assert list(only["contestants"]) == ["lstm", "A0", "G"]
    for row in only["contestants"].values():
        for kind in ("gradient", "forward"):
            assert len(row[kind]["seconds"]) == 3
            assert row[kind]["temp_bytes"] > 0
            assert row[kind]["compile_seconds"] > 0
    assert {"jax", "jaxlib", "flax", "torch"} <= result["environment"]["versions"].keys()
    assert result["environment"]["slug"] == result["environment"]["slug"].lower()
    assert (tmp_path / "speed" / "a" / "speed.png").exists()
    assert speed_tables.tables(result) in capsys.readouterr().out


def test_compare_runs_what_the_old_file_holds(tmp_path, monkeypatch):
    old = tmp_path / "old.json"
    cases = [case("S0", lstm=([1.0] * 5, [1.0] * 5, {}))]
    old.write_text(json.dumps({"environment": ENVIRONMENT, "cases": cases}))
    seen = []
    monkeypatch.setattr(speed, "measure", lambda *args: seen.append(args) or case("S0"))
    assert speed.main(["--compare", str(old), "--results", str(tmp_path)]) == 1  # nothing measured
    ((job, rounds, _, only),) = seen
    assert (*job, rounds) == ("S0", "plain", ("gradient", "forward"), 20)
    assert only == ["lstm", "frugal", "log", "kernel", "A0", "G"]


def test_compare_runs_what_is_chosen_of_what_the_old_file_holds(tmp_path, monkeypatch):
    old, both = tmp_path / "old.json", ([1.0], [1.0], {})
    held = [case(s, v, lstm=both) for s in ("S1", "S2", "S3") for v in ("plain", "gru")]
    old.write_text(json.dumps({"environment": ENVIRONMENT, "cases": held}))
    seen = []
    monkeypatch.setattr(speed, "measure", lambda job, *_: seen.append(job) or case(job.size))
    asked = ["--quick", "--variants", "gru", "--passes", "forward"]
    speed.main(["--compare", str(old), *asked, "--results", str(tmp_path)])
    assert seen == [("S1", "gru", ("forward",)), ("S2", "gru", ("forward",))]
    seen.clear()
    speed.main(["--compare", str(old), "--variants", "plain", "--results", str(tmp_path)])
    assert seen == [(size, "plain", ("gradient", "forward")) for size in ("S1", "S2", "S3")]


def test_an_interrupted_run_keeps_what_it_has(tmp_path, monkeypatch, capsys):
    measure = iter([case("S0", lstm=([1.0, 2.0], [1.0, 1.0], {}))])

    def interrupt(*_):
        try:
            return next(measure)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(speed, "measure", interrupt)
    argv = [*TINY, "--variants", "plain,stack", "--results", str(tmp_path), "--run", "a"]
    assert speed.main(argv) == 130
    assert "Complete and readable until here" in capsys.readouterr().err
    path = tmp_path / "speed" / "a" / "speed.json"
    assert speed.main(["--table", str(path)]) == 0
    assert "| S0 (12, 2, 8) | 2 | 1000.00 |" in capsys.readouterr().out


def test_a_run_goes_on_in_its_file_until_all_have_their_rounds(tmp_path, monkeypatch, capsys):
    """Interrupted after the first of two cases; then asked again, with another pass and rounds."""
    seen = []
    names = ["lstm", "A0"]
    monkeypatch.setattr(cases, "names_of", lambda *_: names)

    def measure(job, rounds, config, only):
        seen.append((*job, rounds))
        if len(seen) == 2:
            raise KeyboardInterrupt
        rows = {n: {kind: {"seconds": [1.0] * rounds} for kind in job.passes} for n in names}
        return case(job.size, job.variant) | {"contestants": rows, "load": [0, 0]}

    monkeypatch.setattr(speed, "measure", measure)
    path = tmp_path / "all.json"
    argv = ["--sizes", "S0", "--variants", "plain,gru", "--add", str(path), "--rounds"]
    assert speed.main([*argv, "3"]) == 130
    said = capsys.readouterr().err
    assert said.count(str(tmp_path)) == 1  # FILE alone
    assert f"  {path}\nTo go on: the same command again" in said
    assert speed.main([*argv, "3"]) == 0
    both = ("gradient", "forward")
    assert seen == [("S0", v, both, 3) for v in ("plain", "gru", "gru")]
    assert speed.main([*argv, "5", "--passes", "gradient,eager"]) == 0
    assert seen[3:] == [
        (*("S0", variant), passes, rounds)
        for variant in ("plain", "gru")
        for passes, rounds in ((("gradient",), 2), (("eager",), 5))
    ]
    for found in record.read_json(path)["cases"]:
        for row in found["contestants"].values():
            assert {k: len(v["seconds"]) for k, v in row.items()} == {
                "gradient": 5,
                "forward": 3,
                "eager": 5,
            }
    names.append("F")  # somebody new: no round of the old ones can be paired with his
    more = ["--memory", "5"]  # from now on the file asks for as much
    assert speed.main([*argv, "3", "--passes", "forward", *more]) == 0
    assert seen[7:] == [("S0", v, ("forward",), 3) for v in ("plain", "gru")]
    assert record.read_json(path)["config"]["memory"] == 5.0
    names.remove("A0")  # somebody who ran and does not: his rounds are not thrown away
    capsys.readouterr()
    before = path.read_bytes()
    assert speed.main([*argv, "9", *more]) == 1
    assert "has rounds of A0 (now: not asked); their rounds stay" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"hardware": "another"}, "has hardware another; here it is"),
        ({"sources": "0123"}, "has sources 0123; here it is"),
        ({"sources": None}, "does not say of which sources of jax_lstm it is (sources), so that"),
        ({"seed": 7}, "has seed 7; here it is 0"),
        ({"seed": None}, "does not say with which --seed it was made, so that"),
        ({"memory": 8.0}, "argument --memory: must be >= 8, with which {0}/all.json was made"),
    ],
)
def test_rounds_of_another_machine_version_or_seed_are_refused(
    tmp_path, monkeypatch, capsys, change, complaint
):
    here = {**ENVIRONMENT, "sources": "abcd"}
    monkeypatch.setattr(speed.environment, "environment", lambda: dict(here))
    usual = {"seed": 0, "memory": 4.0}
    path, config = tmp_path / "all.json", usual | {k: change[k] for k in usual & change.keys()}
    changed = {k: change[k] for k in change.keys() - usual}
    old = {"environment": here | changed, "config": config, "cases": []}
    path.write_text(json.dumps(old))
    with pytest.raises(SystemExit):
        speed.main(["--sizes", "S0", "--add", str(path)])
    assert complaint.format(tmp_path) in capsys.readouterr().err


def test_the_sources_are_a_number_of_all_that_the_library_is_made_of(tmp_path, monkeypatch):
    """Another name, another byte, another file: another number; of .py and .cc alone."""
    monkeypatch.setattr(speed.environment.jax_lstm, "__file__", str(tmp_path / "__init__.py"))
    seen = [speed.environment.sources()]
    (tmp_path / "kernels").mkdir()
    for name, text in (("a.py", "x"), ("a.py", "y"), ("kernels/b.cc", "x"), ("kernels/c.cc", "x")):
        (tmp_path / name).write_text(text)
        seen.append(speed.environment.sources())
    assert len(set(seen)) == len(seen) == 5
    (tmp_path / "kernels/d.so").write_text("x")
    assert speed.environment.sources() == seen[-1]


def test_who_is_absent_is_so_in_a_pass_and_until_he_runs():
    """A0 has no room in one pass, later in the other alone; F runs at last."""
    row = lambda *kinds: {kind: {"seconds": [1.0]} for kind in kinds}
    made = lambda rows, absent: {**case("S1"), "contestants": rows, "absent": absent, "load": []}
    result = {"environment": ENVIRONMENT, "cases": []}
    lacks = lambda kind, *names: cases.rounds_of(result["cases"][0], kind, names) == 0
    cases.add(result, made({"lstm": row("gradient")}, {"A0": {"gradient": "no room"}}))
    assert not lacks("gradient", "lstm", "A0")
    assert lacks("forward", "lstm", "A0")
    cases.add(result, made({"lstm": row("forward"), "A0": row("forward")}, {}))
    assert result["cases"][0]["absent"] == {"A0": {"gradient": "no room"}}
    cases.add(result, made({"lstm": row("gradient"), "A0": row("gradient")}, {}))
    assert result["cases"][0]["absent"] == {}
    assert {
        n: len(r["gradient"]["seconds"]) for n, r in result["cases"][0]["contestants"].items()
    } == {
        "lstm": 1,  # nobody ran beside the first round's
        "A0": 1,
    }
    before = json.dumps(result)
    with pytest.raises(cases.Missing, match=r"S1 plain, forward: .* A0 \(now: no room\)"):
        cases.add(result, made({"lstm": row("forward")}, {"A0": {"forward": "no room"}}))
    assert json.dumps(result) == before


def test_all_there_is_names_every_variant_and_pass():
    assert {job.variant for job in cases.ALL} == set(cases.VARIANTS)
    assert {kind for job in cases.ALL for kind in job.passes} == set(programs.PASSES)
    sizes = [job.size for job in cases.ALL if job.variant == "plain" and "forward" in job.passes]
    assert sizes == ["S1", "S2", "S3", "S4", "S5", "S6"]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--sizes S1,S9", "argument --sizes: knows S0, S1, S2, S3, S4, S5, S6, N1, N2, N3; got S9"),
        (
            "--variants plain,deep",
            "argument --variants: knows plain, lengths, stack, bidirectional, bfloat16, gru, ",
        ),
        (
            "--passes back",
            "argument --passes: knows gradient, forward, jvp, grad_of_grad, eager; got",
        ),
        (
            "--only lstm,Q",
            "argument --only: knows lstm, frugal, log, kernel, A0, AJ, A1, A2, F, FR, FC, ",
        ),
        ("--rounds 0", "argument --rounds: must be >= 1; got 0"),
        ("--memory 0", "argument --memory: must be > 0; got 0.0"),
        ("--devices 64", "argument --devices: "),
        ("--table {0}/none.json", "argument --table: {0}/none.json is not a result of this: "),
        ("--write", "argument --write: goes with --table FILE.json"),
        ("--write --table {0}/empty.json", "argument --table: {0}/empty.json: there is no plain"),
        ("--add {0}/list.json", "argument --add: {0}/list.json is not a result of this: "),
        ("--compare {0}/list.json", "argument --compare: {0}/list.json is not a result of this: "),
        ("--compare {0}/empty.json", "argument --compare: {0}/empty.json holds no case"),
        ("--table {0}/bare.json", "{0}/bare.json is not a result of this: it has no environment"),
        ("--table {0}/slug.json", "slug.json is not a result of this: its environment has no slug"),
        ("--table {0}/case.json", "case.json is not a result of this: a case has no size, variant"),
        (
            "--add {0}/new.json --compare {0}/empty.json",
            "argument --compare: does not go with --add: it runs ours, A0 and G alone",
        ),
        ("--add {0}/new.json --table {0}/empty.json", "argument --table: does not go with --add"),
        ("--add {0}/new.json --only lstm", "argument --only: does not go with --add"),
        ("--add {0}/none/x.json", "argument --add: {0}/none is not a folder"),
        ("--all --compare {0}/empty.json", "argument --all: does not go with --compare"),
        ("--all --sizes S2", "argument --all: names its own; leave out --sizes"),
        ("--compare {0}/s1.json --sizes S2", "argument --sizes: S2: {0}/s1.json holds no such"),
        ("--compare {0}/s1.json --sizes S1,S2,S3,S4", "argument --sizes: S2, S3, S4: {0}/s1.json"),
        ("--compare {0}/s1.json --sizes S9", "argument --sizes: knows S0, S1"),
        ("--compare {0}/s1.json --passes eager", "argument --passes: eager: {0}/s1.json holds no"),
        ("--table {0}/s1.json --sizes S2 --only G", "runs nothing; leave out --sizes, --only"),
        ("--all --variants gru --passes jvp", "leave out --variants, --passes"),
        ("--quick --tiny", "--quick and --tiny are not allowed together"),
    ],
)
def test_bad_options(tmp_path, capsys, argv, complaint):
    (tmp_path / "list.json").write_text("[1]")
    for name, result in (
        ("bare", {"cases": []}),
        ("empty", {"environment": ENVIRONMENT, "cases": []}),
        ("slug", {"environment": {"hardware": "x", "versions": {"jax": "1"}}, "cases": []}),
        ("case", {"environment": ENVIRONMENT, "cases": [{"contestants": {}}]}),
        ("s1", {"environment": ENVIRONMENT, "cases": [case("S1")]}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    argv = argv.format(tmp_path).split()
    with pytest.raises(SystemExit) as stopped:
        speed.main([*argv, "--results", str(tmp_path / "results")])
    assert stopped.value.code == 2
    assert complaint.format(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_profile_of_a_run(tmp_path):
    speed.main(
        [
            *("--sizes", "S0", "--only", "lstm,G", "--passes", "gradient", "--profile"),
            *("--rounds", "2", "--results", str(tmp_path), "--run", "profiled"),
        ]
    )
    (found,) = record.read_json(tmp_path / "speed/profiled/speed.json")["cases"]
    for name, traced in found["profiles"].items():
        calls = {(r["where"], r["kind"]): 0 for r in traced["kernels"]}
        for row in traced["kernels"]:
            calls[row["where"], row["kind"]] += row["calls"]
        steps = found["T"]
        assert calls["step", "product"] == 2 * steps, name  # h U forward, da Uᵀ backward
        assert 0 <= traced["between"] < traced["seconds"]


# End to end -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_job_is_the_same_along_every_route(tmp_path):
    """All updates give one loss and gradient norm, or it is an error; then they are timed."""
    for name, part in end_to_end.parts(tiny=True).items():
        numbers = part(speed.Config.tiny())
        if name == "char_lm":
            routes = numbers["tiny"]["routes"]
            assert list(routes) == ["lstm", "F"]
            assert all(
                len(row["seconds"]) == 2 and row["temp_bytes"] > 0 for row in routes.values()
            )
        elif name == "growth":
            assert 1 < numbers["bytes"][1] / numbers["bytes"][0] < 4
        else:
            assert all(0.2 < ratio < 5 for ratio in numbers["ratios"].values())


def test_one_that_trains_something_else_is_an_error():
    end_to_end.must_agree("F", (3.2, 0.5), (3.20001, 0.5))
    with pytest.raises(programs.Disagrees, match="F: loss and gradient norm"):
        end_to_end.must_agree("F", (3.2, 0.5), (3.2, 0.501))


@pytest.mark.slow
def test_what_fits_is_asked_of_the_same_sequences(monkeypatch):
    """The search itself is tested in test_memory.py; here, that it is given everybody's LSTM."""
    asked = []

    def plan(budget, *, T, B, D, H, sequence, init, init_state, residuals, last_only, limit):
        @jax.jit
        def answer(key):
            params = init(key, D, H, dtype=jnp.float32)
            xs = jax.random.normal(key, (T, B, D), jnp.float32)
            return sequence(params, init_state(params, (B,)), xs, residuals=residuals[0])

        asked.append((residuals, last_only, answer(jax.random.key(0))))
        row = jl.MemoryRow(residuals[0], *[0] * 4, True, largest_T=len(asked), largest_B=7)
        return jl.MemoryPlan(residuals[0], 0, 0, "", (row,), budget)

    monkeypatch.setattr(jl, "memory_plan", plan)
    cheap = problems.problem((5, 2, 4)).layers[0]
    monkeypatch.setattr(jl, "init_lstm", lambda *_, dtype: cheap)
    made = end_to_end.largest(1000, T=5, B=2, H=4, who=("lstm", "frugal", "F"))
    assert made["losses"]["h_T alone"]["F"] == {"T": 6, "B": 7}
    assert [a[:2] for a in asked[:2]] == [(("full",), False), (("auto",), False)]
    for _, _, answer in asked[1:]:
        assert_close(answer, asked[0][2], TOLERANCE["float32"])
