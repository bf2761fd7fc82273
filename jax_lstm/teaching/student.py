"""THE STUDENT'S SIDE of a grade: a process that runs their file, and answers with numbers alone.

It is given arrays and calls a function of the file with them; whoever started it compares. It needs
NumPy and nothing of jax_lstm: what a file changes in here changes no verdict.

    python student.py < questions > answers

A message is a token of 8 bytes, a length of 8 bytes and an .npz archive: arrays 0, 1, ... and a
`form` in JSON, the tree around their numbers. Both ends are moved away from 0 and 1 before the file
is run, so that what it prints goes to the terminal and what it reads is nothing.
"""

import contextlib
import dis
import io
import json
import os
import sys
import types
from typing import Any

import numpy as np

MISSING, WRONG = "missing", "WRONG"
LOOP, DELTAS = "backward", "deltas"
LARGEST = 2**20  # bytes of an answer; those of an exercise have a few hundred
LONGEST = 300  # characters of what an error says


# Messages -------------------------------------------------------------------------------------


def encode(tree):
    """A tree of arrays, texts, numbers and None in tuples, lists and dicts, as bytes."""
    arrays, file = [], io.BytesIO()
    form = json.dumps(form_of(tree, arrays))
    np.savez(file, form=np.array(form), **{str(n): x for n, x in enumerate(arrays)})
    return file.getvalue()


def form_of(tree, arrays):
    if isinstance(tree, dict):
        return {"dict": {k: form_of(x, arrays) for k, x in tree.items()}}
    if isinstance(tree, tuple | list):
        return [form_of(x, arrays) for x in tree]
    if isinstance(tree, np.ndarray | np.generic):
        arrays.append(np.asarray(tree))
        return {"array": len(arrays) - 1}
    return tree


def decode(arrays) -> Any:
    """The tree of an archive's arrays; a list is a tuple."""

    def inside(form):
        if isinstance(form, list):
            return tuple(map(inside, form))
        if not isinstance(form, dict):
            return form
        ((kind, x),) = form.items()
        return arrays[str(x)] if kind == "array" else {k: inside(v) for k, v in x.items()}

    return inside(json.loads(str(arrays["form"])))


# The file -------------------------------------------------------------------------------------


def load_module(source, path):
    """The file's module, of its bytes."""
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise ValueError(f"{path} is not Python{where}: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"{path} is not Python: {error}") from None
    module = types.ModuleType(os.path.splitext(os.path.basename(path))[0])
    module.__file__ = path
    try:
        exec(code, module.__dict__)
    except BaseException as error:
        said = f"{line_of(error)}{place_of(error, path)}"
        raise ValueError(f"{path} cannot be run: {said}") from None
    return module


def line_of(error):
    """An error's name and the first line of what it says; it may be the file's own."""
    name = type(error).__name__
    try:
        return f"{name}: {error}".splitlines()[0][:LONGEST].rstrip(": ")
    except BaseException:
        return name


def place_of(error, path):
    """ ", line 12": the last line of the file that an error came through; "" where it has none."""
    line, trace = None, error.__traceback__
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == path else line
        trace = trace.tb_next
    return f", line {line}" if line else ""


def array_of(module):
    """The arrays of the file: JAX's, unless it knows NumPy alone."""
    if {"jnp", "jax"} & set(vars(module)):
        import jax.numpy as jnp  # late: many files need NumPy alone

        return jnp.asarray
    return np.array


def each(f: Any, tree: Any) -> Any:
    if isinstance(tree, tuple | list):
        return tuple(each(f, x) for x in tree)
    return None if tree is None else f(tree)


@contextlib.contextmanager
def right_twins(module, names, solution):
    """The twins of the solution in the place of these."""
    form = array_of(module)

    def right(name):
        twin = getattr(solution, name)
        return lambda *given: each(form, twin(*each(np.asarray, given)))

    before = {name: vars(module)[name] for name in names if name in vars(module)}
    vars(module).update({name: right(name) for name in names})
    try:
        yield
    finally:
        for name in names:
            vars(module).pop(name, None)
        vars(module).update(before)


# Questions ------------------------------------------------------------------------------------


def answer(module, solution, question, names, given):
    """What a file answers.

    Args:
      module: of the file.
      solution: a module whose twins are right.
      question: the name of a twin; or "forward", "backward" or "deltas" (of that `backward`), for
        arrays of a problem by name.
      names: twins that are to be right.
      given: what the function is given.

    Returns:
      (verdict, found): "" and what was found, or MISSING or WRONG, and why.
    """
    function: Any = getattr(module, LOOP if question == DELTAS else question, None)
    form = array_of(module)
    by_problem = {"forward": forward_of, LOOP: gradient_of, DELTAS: deltas_of}
    if question in by_problem:
        run = lambda: by_problem[question](module, given)
    else:
        run = lambda: every(function(*each(form, given)))
    if not (callable(function) or question == "forward"):  # which was given
        return MISSING, ""
    with right_twins(module, names, solution):
        return call(run, function, vars(module).get("__file__"))


def call(run, function, path=None):
    """("", result), or a verdict and why; with the line of the file where an error left it."""
    try:
        with np.errstate(all="ignore"):
            found = run()
    except NotImplementedError:
        return MISSING, ""
    except BaseException as error:  # exit() and KeyboardInterrupt are no way out
        return WRONG, f"raises {line_of(error)}{place_of(error, path)}"
    if found is not None:
        return "", found
    return (MISSING, "") if is_blank(function) else (WRONG, "returns None: is `return` missing?")


def is_blank(function):
    """Whether nothing stands in it but words, `pass` and `...`."""
    nothing = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS"}
    try:
        return {step.opname for step in dis.get_instructions(function)} <= nothing
    except TypeError:
        return False


def every(found):
    """Answers as arrays of real numbers; the name of a type stands for what is none."""
    return tuple(map(number, found)) if isinstance(found, tuple | list) else number(found)


def number(x):
    if x is None:
        return None
    kind = type(x).__name__
    try:
        x = np.asarray(x)
        kind += f" of {x.dtype}" * (kind == "ndarray")
        wide = x if x.dtype.kind == "c" else x.astype(np.float64)
    except (TypeError, ValueError):
        return kind
    if x.nbytes > LARGEST:
        raise ValueError(f"an answer of the shape {x.shape} is not looked at")
    if x.dtype.kind == "c":
        return str(x.dtype)
    return x if x.dtype.kind in "fiub" else wide


def forward_of(module, arrays):
    """h of every step."""
    return tuple(np.asarray(step["h"], np.float64) for step in forward_by(module, arrays)[1])


def forward_by(module, arrays):
    """The parameters as the file has them, a matrix for each gate, and its steps."""
    form = array_of(module)
    params = [x for k in ("W", "U", "b") for x in np.split(arrays[k], 4, axis=-1)]
    params = module.Params(*map(form, params))
    return params, module.forward(params, *(form(arrays[k]) for k in ("xs", "h0", "c0")))


def gradient_of(module, arrays):
    """The gradient of a problem by the forward and the backward of the file."""
    found = backward_by(module, arrays)
    if found is None:
        return None
    packed = [np.asarray(x) for x in found.dparams]
    dW, dU, db = (np.concatenate(packed[n : n + 4], axis=-1) for n in (0, 4, 8))
    rest = {k: np.asarray(getattr(found, k)) for k in ("dxs", "dh0", "dc0")}
    return {k: number(x) for k, x in ({"dW": dW, "dU": dU, "db": db} | rest).items()}


def backward_by(module, arrays):
    """What the backward of the file returns."""
    form, zeros = array_of(module), np.zeros_like(arrays["h0"])
    params, steps = forward_by(module, arrays)
    last = [form(arrays.get(f"d{k}_T", zeros)) for k in "hc"]
    return module.backward(params, steps, form(arrays["dhs"]), *last)


def deltas_of(module, arrays) -> tuple[bool, Any]:
    """(whether the file writes into arrays as NumPy does, its deltas of every step)."""
    found = backward_by(module, arrays).deltas
    if not isinstance(found, list | tuple):
        return array_of(module) is np.array, type(found).__name__
    named = lambda d: {str(k): number(x) for k, x in d.items()}
    steps = [named(d) if isinstance(d, dict) else type(d).__name__ for d in found]
    return array_of(module) is np.array, tuple(steps)


# The process ----------------------------------------------------------------------------------


def limit(seconds, bytes):
    """Bound the processor time and the memory of this process and of those that it starts."""
    try:
        import resource
    except ImportError:  # Windows: whoever started it looks at the clock alone
        return
    for kind, soft, hard in (("CPU", seconds, seconds + 5), ("DATA", bytes, bytes), ("CORE", 0, 0)):
        with contextlib.suppress(ValueError, OSError):  # a lower one is there
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (soft, hard))


def main():
    """Answer until there are no more questions."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def ask():
        head = questions.read(16)
        if len(head) < 16:
            raise EOFError
        size = int.from_bytes(head[8:], "little")
        with np.load(io.BytesIO(questions.read(size)), allow_pickle=False) as file:
            return head[:8], decode(dict(file))

    def tell(token, tree):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):  # they may be the file's own
                stream.flush()
        data = encode(tree)
        data = memoryview(token + len(data).to_bytes(8, "little") + data)
        while data:
            try:
                data = data[os.write(answers, data) :]
            except OSError:  # the file closed it
                os._exit(1)

    token, (limits, solution) = ask()
    limit(*limits)
    solution = load_module(solution.tobytes(), "the solution")
    tell(token, ("", "ready"))
    token, (source, path, names) = ask()
    try:
        module = load_module(source.tobytes(), path)
    except ValueError as error:
        return tell(token, (WRONG, str(error)))
    tell(token, ("", [k for k in names if callable(vars(module).get(k))]))
    while True:
        try:
            token, asked = ask()
        except EOFError:
            return
        tell(token, answer(module, solution, *asked))


if __name__ == "__main__":
    main()
