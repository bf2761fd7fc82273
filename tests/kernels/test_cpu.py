"""The LSTM with its loops in C++: the same gradient in every option, dtype and transform."""

import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl
from jax_lstm.kernels import build, cpu
from tests.cells.test_gradients import MASK, OPTIONS, RESETS
from tests.tables import (
    CELLS,
    QUICK,
    SIZE,
    TOLERANCE,
    assert_close,
    assert_same,
    normal_like,
    problem,
    quick_jit,
    value_and_cotangents,
    within,
)

T, B, D, H = SIZE
ROW = CELLS["lstm"]


TINY = 'extern "C" int seven() { return 7; }\n'


def write_tiny(folder):
    source = folder / "tiny.cc"
    source.write_text(TINY)
    return source


def has_compiler():
    try:
        return bool(build.compiler())
    except RuntimeError:
        return False


compiled = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler on this machine")


# The same table of options as every cell's -------------------------------------------------------


@functools.cache
def by_jax(reverse):
    """The twin's cotangents with every flag given as an array: one program for many options."""

    def run(params, state, xs, fresh, mask, resets):
        flags = {"mask": mask, "resets": resets, "reverse": reverse}
        f = lambda *args: jl.lstm_autodiff(*args[:3], reset_state=args[3], **flags)
        return value_and_cotangents(f, (params, state, xs, fresh))

    return jax.jit(run)


@compiled
@pytest.mark.parametrize("options", OPTIONS)
def test_every_cotangent_of_a_sequence(options):
    args, options = problem(ROW), OPTIONS[options]
    fresh = normal_like(5, args[1])
    mask, resets = options.get("mask", np.ones((T, B), bool)), options.get("resets")
    mask = mask & np.asarray(within(options.get("lengths", [T, T]), T))
    none = np.zeros((T, B), bool)
    want = by_jax(options.get("reverse", False))(
        *args, fresh, mask, none if resets is None else resets
    )
    if resets is not None:
        args, options = (*args, fresh), {**options}
    f = lambda *a: cpu.lstm(*a[:3], reset_state=a[3] if len(a) > 3 else None, **options)
    out, found = value_and_cotangents(f, args)
    assert_close((out, found), (want[0], want[1][: len(found)]))


@compiled
@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        ((0, 2, 3, 5), "float64"),
        ((3, 0, 3, 5), "float32"),
        ((1, 1, 1, 1), "float64"),
        ((3, 29, 2, 40), "float64"),
        ((40, 24, 2, 33), "float32"),
    ],
    ids=str,
)
def test_sizes_that_fill_no_vector_and_no_tile(size, dtype):
    """No step, no example, one of all, parts of vectors and tiles; the last on two threads."""
    args = problem(ROW, size, jnp.dtype(dtype))
    resets = np.arange(size[0])[:, None] % 3 + np.zeros(size[1]) > 1
    run = lambda lstm: value_and_cotangents(lambda *a: lstm(*a, resets=resets), args, options=QUICK)
    assert_close(run(cpu.lstm), run(jl.lstm), TOLERANCE[dtype])


@compiled
def test_any_batch_axes_and_each_row_by_itself():
    """To the bit: what stands beside an example changes nothing."""
    params, state, xs = problem(ROW, batch=(2, 3))
    last, hs = cpu.lstm(params, state, xs)
    alone = jax.tree.map(lambda s: s[1, 2], state)
    assert_same(cpu.lstm(params, alone, xs[:, 1, 2])[1], hs[:, 1, 2])
    assert_same(last.h, hs[-1])


# Numbers ----------------------------------------------------------------------------------------


def gates_at(a, dtype):
    """(sigmoid(a), tanh(a)) as the loops make them: of one step with net inputs a, and c = g."""
    n = len(a)
    zs = np.zeros((1, 1, 4 * n), dtype)
    zs[0, 0, 3 * n :], zs[0, 0, :n], zs[0, 0, 2 * n : 3 * n] = a, np.inf, a
    zero = jnp.zeros((1, n), dtype)
    run = cpu.loop(False, True)(
        jnp.zeros(4 * n, dtype), jnp.zeros((n, 4 * n), dtype), zero, zero, None, zs, None, None
    )
    return np.asarray(run.c[0])  # i = sigmoid(inf) = 1, so that c = tanh(a)


@compiled
def test_a_tanh_and_a_sigmoid_are_right_to_a_few_roundings():
    """Near 0, where 1 - e loses digits; far out, where e is all there is; at infinity and NaN."""
    sides = np.concatenate([np.logspace(-12, 2, 400), np.linspace(0.1, 30, 400)])
    a = np.concatenate([-sides, sides, [0.0, np.inf, -np.inf, np.nan]])
    for dtype, units in (("float32", 4), ("float64", 6)):
        x = a.astype(dtype)
        wide = x.astype(np.longdouble)
        got = gates_at(x, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            want = {"tanh": np.tanh(wide), "sigmoid": 1 / (1 + np.exp(-wide))}
        for name, y in (("tanh", got), ("sigmoid", sigmoid_at(x, dtype))):
            assert np.isnan(y[-1])
            assert np.isfinite(y[:-1]).all()
            exact, y = want[name][:-1], y[:-1]
            normal = np.abs(exact) > np.finfo(dtype).tiny
            off = np.abs(y - exact) / np.abs(np.where(normal, exact, 1))
            assert off.max() <= units * np.finfo(dtype).eps, (name, dtype, x[off.argmax()])
        assert np.array_equal(got[: sides.size], -got[sides.size : 2 * sides.size])  # tanh is odd
        assert sigmoid_at(np.asarray([-np.inf], dtype), dtype) == 0  # so that 0 times inf is NaN


def sigmoid_at(a, dtype):
    """f of one step whose c was 1 and to which nothing is written."""
    n = len(a)
    zs = np.zeros((1, 1, 4 * n), dtype)
    zs[0, 0, n : 2 * n] = a
    zero = jnp.zeros((1, n), dtype)
    run = cpu.loop(False, False)(
        jnp.zeros(4 * n, dtype), jnp.zeros((n, 4 * n), dtype), zero, zero + 1, None, zs, None, None
    )
    return np.asarray(run.c[0])


@compiled
def test_bad_rows_stay_alone_and_padding_reaches_nothing():
    params, state, xs = problem(ROW)
    f = jax.jit(lambda *a: value_and_cotangents(cpu.lstm, a))
    clean, bad = f(params, state, xs), f(params, state, xs.at[2, 0].set(jnp.nan))
    assert np.isnan(bad[0][1][2:, 0]).all()
    assert np.isnan(bad[1][0].U).any()
    one = lambda found: (found[0][1][:, 1], found[1][2][:, 1], found[1][1].c[1])
    assert_same(one(bad), one(clean))
    masked = jax.jit(lambda *a: value_and_cotangents(lambda *a: cpu.lstm(*a, mask=MASK), a))
    dirty = jnp.where(MASK[..., None], xs, jnp.nan)
    with jax.debug_nans(True):
        assert_same(masked(params, state, dirty), masked(params, state, xs))


# Transforms -------------------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize("shared", [True, False], ids=["one weight", "a weight each"])
def test_vmap(shared):
    """Over examples they are more examples; over weights one call after another."""
    params, state, xs = problem(ROW)
    many = lambda tree: jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), tree)
    args = params if shared else many(params), many(state), many(xs)
    axes = (None if shared else 0, 0, 0)

    def over(lstm):
        run = functools.partial(lstm, mask=MASK, resets=RESETS)
        return value_and_cotangents(jax.vmap(run, in_axes=axes), args)

    assert_close(over(cpu.lstm), over(jl.lstm))
    nobody = jax.tree.map(lambda x: x[:0], args[1:])
    found = jax.eval_shape(jax.vmap(cpu.lstm, in_axes=(None, 0, 0)), params, *nobody)
    assert found[1].shape == (0, T, B, H)


@compiled
@pytest.mark.slow
def test_second_derivatives_are_those_of_the_engine():
    args = problem(ROW, (4, 2, 3, 5))
    dots = normal_like(6, args)

    def over(lstm):
        loss = lambda args: sum(
            jnp.sin(x).sum() for x in jax.tree.leaves(lstm(*args, mask=MASK[:4]))
        )
        dot = lambda args: sum(
            jnp.vdot(x, y)
            for x, y in zip(
                jax.tree.leaves(jax.grad(loss)(args)), jax.tree.leaves(dots), strict=True
            )
        )
        both = lambda args: (jax.jvp(jax.grad(loss), (args,), (dots,)), jax.grad(dot)(args))
        return quick_jit(both)(args)

    assert_close(over(cpu.lstm), over(jl.lstm_autodiff))


@compiled
@pytest.mark.slow
def test_checkpoint_scan_and_the_batch_over_devices():
    params, state, xs = problem(ROW, (6, 4, 3, 5))
    want = value_and_cotangents(jl.lstm, (params, state, xs))
    run = jax.checkpoint(lambda *a: cpu.lstm(*a))
    assert_close(value_and_cotangents(run, (params, state, xs)), want)
    assert_close(
        value_and_cotangents(
            jl.over_devices(cpu.lstm, devices=jax.devices()[:2], always=True), (params, state, xs)
        ),
        want,
    )

    def in_parts(params, state, xs):
        state, hs = jax.lax.scan(functools.partial(cpu.lstm, params), state, xs.reshape(3, 2, 4, 3))
        return state, hs.reshape(6, 4, 5)

    assert_close(value_and_cotangents(in_parts, (params, state, xs)), want)


@compiled
def test_export_says_that_the_loops_belong_to_this_library():
    """A program with a call of C++ is written where one allows it by name."""
    pytest.importorskip("flatbuffers", reason="jax.export writes with it: install jax_lstm[test]")
    args = problem(ROW)
    with pytest.raises(ValueError, match="custom call"):
        jax.export.export(jax.jit(cpu.lstm))(*args).serialize()
    allowed = jax.export.DisabledSafetyCheck.custom_call(cpu.target("lstm_forward"))
    exported = jax.export.export(jax.jit(cpu.lstm), disabled_checks=[allowed])(*args)
    again = jax.export.deserialize(exported.serialize())
    assert_close(again.call(*args), cpu.lstm(*args))


@compiled
def test_it_is_a_sequence_function_like_any_other():
    assert pickle.loads(pickle.dumps(cpu.lstm)) == cpu.lstm != jl.lstm
    args = problem(ROW)
    with pytest.raises(TypeError, match="lstm_jvp"):
        jax.jvp(cpu.lstm, args, args)
    params = jl.init_stack(jax.random.key(0), D, [H, H])
    state, xs = jl.init_stack_state(params, (B,)), args[2].astype(jnp.float32)
    by = lambda lstm: jl.stack(params, state, xs, sequence=lstm)
    assert_close(by(cpu.lstm), by(jl.lstm), TOLERANCE["float32"])


# What it refuses --------------------------------------------------------------------------------


def test_other_dtypes_are_those_of_lstm():
    args = problem(ROW, dtype=jnp.bfloat16)
    with pytest.raises(ValueError, match=r"`params` .* float32 or float64; got bfloat16"):
        cpu.lstm(*args)
    with pytest.raises(ValueError, match="`residuals` must be"):
        cpu.lstm(*problem(ROW), residuals=0)


def test_without_a_compiler_it_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler: looked for .*jax_lstm\.lstm"):
        build.compiler()
    monkeypatch.setenv("CXX", "nowhere/c++\x1b -m64")
    with pytest.raises(RuntimeError, match=r"looked for \$CXX = 'nowhere/c\+\+\\x1b' -m64"):
        build.compiler()
    monkeypatch.setenv("CXX", "g++ 'half a word")
    with pytest.raises(RuntimeError, match=r"\$CXX cannot be split into words"):
        build.compiler()


def test_a_compiler_that_is_no_program_is_named(tmp_path, monkeypatch):
    fake = tmp_path / "fake"
    fake.write_bytes(b"\0")
    fake.chmod(0o700)
    monkeypatch.setenv("CXX", str(fake))
    with pytest.raises(RuntimeError, match=r"cannot be run at .*fake --version: "):
        build.shared_object(write_tiny(tmp_path))


@compiled
def test_what_others_may_have_written_is_not_loaded(tmp_path, monkeypatch):
    """A folder or a library of another user, or one that others may write to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, source = tmp_path / "jax_lstm", write_tiny(tmp_path)
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(RuntimeError, match=r"jax_lstm is not loaded: .* its mode is 777"):
        build.shared_object(source)
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    before = os.umask(0)
    try:
        path = build.shared_object(source)
    finally:
        os.umask(before)
    path.chmod(0o620)
    with pytest.raises(RuntimeError, match=r"\.so is not loaded: .* its mode is 620"):
        build.shared_object(source)
    path.chmod(0o600)
    with monkeypatch.context() as patch:
        (tmp_path / "file").touch()
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(NotADirectoryError) as error:
            build.shared_object(source)
        assert "XDG_CACHE_HOME may name another place" in error.value.__notes__[0]
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_uid=54321, st_mode=0o600))
    with pytest.raises(RuntimeError, match="it belongs to user 54321"):
        build.check_ours(path)


@compiled
def test_what_the_compiler_complains_about_is_shown(tmp_path, monkeypatch):
    """Shortened and in printable letters; nothing is left in the cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bad = tmp_path / "bad.cc"
    bad.write_text('#error "no \x1b[31m such thing"\n' + "int f( {\n" * 500)
    with pytest.raises(
        RuntimeError, match=r"(?s)failed \(exit status 1\) at .*bad\.cc.*such thing"
    ) as e:
        build.load(bad)
    said = str(e.value)
    assert len(said) < 3 * build.MOST_SAID
    assert "\x1b" not in said
    assert list((tmp_path / "cache" / "jax_lstm").iterdir()) == []


LOAD = """
import sys
from pathlib import Path
from jax_lstm.kernels import build
print(build.load(Path(sys.argv[1])).seven())
"""


@compiled
@pytest.mark.slow
def test_two_processes_may_build_at_once(tmp_path, monkeypatch):
    """Both find a whole library, one file, named anew when source or flags change."""
    source, folder = write_tiny(tmp_path), tmp_path / "cache"
    root = str(Path(jl.__file__).parents[1])
    env = os.environ | {"XDG_CACHE_HOME": str(folder), "PYTHONPATH": root}
    command = [sys.executable, "-c", LOAD, str(source)]
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(2)]
    assert [run.communicate()[0] for run in both] == [b"7\n", b"7\n"]
    files = set((folder / "jax_lstm").iterdir())
    assert len(files) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    next(iter(files)).write_bytes(b"not a library")
    with pytest.raises(RuntimeError, match=r"cannot be loaded.*Remove it"):
        build.load(source)
    monkeypatch.setenv("CXXFLAGS", "-DOTHER")
    assert build.load(source).seven() == 7
    assert len(set((folder / "jax_lstm").iterdir()) - files) == 1


def test_importing_the_package_builds_and_imports_nothing():
    code = (
        "import sys, jax_lstm; print([m for m in sys.modules if m.startswith('jax_lstm.kernels')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
