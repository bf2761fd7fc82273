"""The command that every Config becomes: its options, their help, its complaints."""

import dataclasses
import importlib
import re

import pytest

from experiments.kit import command
from experiments.kit.config import BadInput, BaseConfig, Bounds, check_bounds, flag

EXPERIMENTS = {
    "adding": "experiments.adding.run",
    "char_lm": "experiments.char_lm.run",
    "compare_gradients": "experiments.compare_gradients",
    "copy_memory": "experiments.copy_memory.run",
    "digits": "experiments.digits.run",
    "forecast": "experiments.forecast.run",
    "forget_bias": "experiments.forget_bias.run",
    "gradbench": "experiments.gradbench.run",
    "gradient_flow": "experiments.gradient_flow.run",
    "mnist1d": "experiments.mnist1d.run",
    "music": "experiments.music.run",
    "search_space": "experiments.search_space.run",
    "speed": "experiments.speed.run",
    "tmva_toy": "experiments.tmva_toy.run",
    "truncation": "experiments.truncation.run",
    "vowels": "experiments.vowels.run",
    "word_lm": "experiments.word_lm.run",
    "zoo": "experiments.zoo.run",
}


@pytest.fixture(params=EXPERIMENTS)
def experiment(request):
    return importlib.import_module(EXPERIMENTS[request.param])


def options_of(experiment, argv, capsys):
    """option -> the words of its help, as they are printed."""
    with pytest.raises(SystemExit) as status:
        experiment.main([*argv, "--help"])
    assert status.value.code == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[2] == experiment.__doc__.splitlines()[0]
    _, printed = re.split(r"(?m)^(?:╭─)? options\b.*$", shown)
    lines = [line.strip("│ ") for line in printed.splitlines() if line[:1] in ("│", " ")]
    names = r"(?m)^(-h, --help|--[a-z][a-z-]*)(?= |$)"
    _, *parts = re.split(names, "\n".join(lines))
    words = {
        name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {name.removeprefix("-h, "): text for name, text in words.items()}


def default_in(text):
    return re.search(r"\(default: (.*?)\)", text)[1]


def test_help_explains_every_option(experiment, capsys):
    fields = dataclasses.fields(experiment.Config)
    forms = {flag(form) for form in command.FORMS if hasattr(experiment.Config, form)}
    for argv, start in (([], experiment.Config()), (["--tiny"], experiment.Config.tiny())):
        options = options_of(experiment, argv, capsys)
        assert set(options) == {flag(field.name) for field in fields} | forms | {"--help"}
        for form in forms:
            assert "other options still count" in options[form]
        for field in fields:
            text, value = options[flag(field.name)], getattr(start, field.name)
            kind, *words = re.sub(r"\(default: .*", "", text).split()
            assert len(words) >= (1 if kind.isupper() else 0), field.name
            if value is not None:
                said = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                assert default_in(text) == said, field.name


def test_a_setting_to_start_from_and_what_is_asked_for(experiment):
    def parse(*argv):
        return command.parse(experiment.Config, "program", "", argv)

    assert parse() == experiment.Config()
    assert parse("--tiny") == experiment.Config.tiny()
    for argv in (["--seed", "3", "--tiny"], ["--tiny", "--seed=3", "--run", "None"]):
        run = "None" if "--run" in argv else None
        assert parse(*argv) == dataclasses.replace(experiment.Config.tiny(), seed=3, run=run)


def test_bad_numbers_are_named_before_any_work(experiment, tmp_path, capsys):
    for seed, complaint in (("-1", "must be >= 0"), ("x", "invalid literal for int()")):
        with pytest.raises(SystemExit) as status:
            experiment.main(["--tiny", "--results", str(tmp_path / "r"), "--seed", seed])
        assert status.value.code == 2
        error = capsys.readouterr().err
        assert "--seed" in error
        assert complaint in error
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("value", "bounds", "complaint"),
    [
        (1, Bounds(low=2), "must be >= 2; got 1"),
        (0.0, Bounds(above=0), "must be > 0; got 0.0"),
        (3, Bounds(low=2, below=3), "must be >= 2 and < 3; got 3"),
        (float("nan"), Bounds(above=0), "must be > 0; got nan"),
        (float("inf"), Bounds(low=0), "must be >= 0; got inf"),
        (2, Bounds(low=2, below=3), None),
    ],
)
def test_bounds(value, bounds, complaint):
    if complaint is None:
        check_bounds("--x", value, bounds)
        return
    with pytest.raises(BadInput, match=f"^argument --x: {re.escape(complaint)}$"):
        check_bounds("--x", value, bounds)


@pytest.mark.parametrize(
    ("error", "status"),
    [(command.Failed("no"), 1), (FloatingPointError("no"), 1), (KeyboardInterrupt(), 130)],
)
def test_what_went_wrong_is_an_exit_status(error, status, capsys):
    def run(config):
        raise error

    assert command.main(BaseConfig, run, "program", "", []) == status
    assert capsys.readouterr().err.startswith("program: ")
    assert command.main(BaseConfig, lambda config: None, "program", "", []) == 0
