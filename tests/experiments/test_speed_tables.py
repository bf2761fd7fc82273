"""What the benchmark's tables and pictures say of planted numbers."""

import copy

import pytest

from experiments.kit import record
from experiments.speed import cases, goals, pages
from experiments.speed import plots as speed_plots
from experiments.speed import tables as speed_tables
from tests.experiments.speed_results import case, plant


def test_tables_are_the_planted_numbers():
    """By hand: lstm / A1 by round 1, 0.5, 0.25: median 0.50; of the least 2 / 2 = 1."""
    assert speed_tables.tables(plant()).splitlines() == [
        "| (T, B, D = H) | rounds | ms of `lstm` | of peak | / A1 | / A0 | / F | / P | / G "
        "| forward / F | frugal / `lstm` | log / `lstm` |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        # / P: P1 has the least time; by round 2, 0.25, 1
        "| S3 (256, 32, 256) | 3 | 2000.00 | 50% | 0.50 (1.00) | 0.75 (0.50) | 0.50 (0.33) "
        "| 1.00 (2.00) | 3.00 (2.00) | 0.20 (0.25) | 1.00 (1.50) |  |",
        "",
        "| temporary MB | A0 | A1 | A2 | F | lstm | frugal | log |",
        "|---|---|---|---|---|---|---|---|",
        "| S3 (256, 32, 256) | 100.0 | 200.0 | 40.0 | 101.0 | 50.0 | 10.0 |  |",
    ]


def test_readme_s_table_is_the_medians():
    """Memory: 50 MB of 100."""
    assert speed_tables.at_a_glance(plant()).splitlines() == [
        "| T, B, D = H | `lstm`, ms | / `jax.grad` | / `jax.grad`, x W first | / flax | / torch "
        "| memory / `jax.grad` |",
        "|---|---|---|---|---|---|---|",
        "| 256, 32, 256 | 2000.0 | 0.75 | 0.50 | 0.50 | 1.00 | 0.50 |",
    ]


def test_what_was_wanted_beside_what_was_reached():
    result = plant()
    fast, slow = copy.deepcopy(result["cases"][0]), copy.deepcopy(result["cases"][0])
    fast["size"], slow["size"] = "S1", "S2"
    fast["contestants"]["lstm"]["gradient"]["seconds"] = [1.0, 1.0, 1.0]  # / A0: 0.25
    slow["contestants"]["lstm"]["gradient"]["seconds"] = [4.8, 4.8, 4.8]  # / A0: 1.2
    result["cases"] = [fast, slow, *result["cases"]]
    result["end_to_end"] = {
        "growth": {"T": [1, 4], "bytes": [100, 210]},
        "rounding": {"ratios": {"x1 norm": 0.9, "x1 element": 1.3}},
        "char_lm": {
            "H": {
                "T": 4,
                "B": 3,
                "routes": {
                    "lstm": {"seconds": [1, 2]},
                    "F": {"seconds": [2, 4]},
                    "lstm on 2": {"seconds": [0.5, 1]},
                },
            }
        },
        "largest": {
            "budget": 2**20,
            "asked": {"T": 2, "B": 3, "H": 5},
            "losses": {
                "all h": {
                    "lstm": {"T": 4, "B": 4},
                    "frugal": {"T": 8, "B": 8},
                    "A2": {"T": 4, "B": 4},
                    "F": {"T": 2, "B": 2},
                }
            },
        },
    }
    found = {}
    for text in goals.table(result).splitlines()[2:]:
        number, _, _, _, reached, met = (cell.strip() for cell in text[1:-1].split("|"))
        found.setdefault(number, []).append((reached, met))
    assert found["2"] == [("S1 0.17, S2 0.80, S3 0.50", "no")]
    # (0.25 x 1.2 x 0.75)^(1/3) = 0.608, within 0.70, but one is above 1
    assert found["1"] == [("**0.61** = mean of S1 0.25, S2 1.20, S3 0.75", "no")]
    assert found["7"] == [("S3 0.50", "yes")]
    assert found["8"] == [("S3 0.25", "yes")]
    assert found["10"] == [("S6 2.10", "yes")]
    assert found["11"] == [("S1 0.25, S2 0.25, S3 0.25", "yes")]
    assert found["13"] == [("S3 0.50", "yes")]
    assert found["14"] == [("x1 norm 0.90, x1 element 1.30", "no")]
    assert found["15"] == [("H 2.00", "yes"), ("H 4.00", "yes")]
    assert found["16"] == [("T, all h, frugal 4.00", "yes"), ("T, all h, frugal 2.00", "yes")]
    assert list(found)[:2] == ["2", "1"]
    jobs = speed_tables.everything(result)
    assert "| H | 8 | 4 | 16 |" in jobs  # T x B = 12 characters in medians of 1.5, 3, 0.75 seconds
    assert "| largest T at B 3, all h | 4 | 8 | 4 | 2 |" in jobs


def test_what_no_program_could_reach_is_said():
    """At a peak where S3's products take 3 seconds: 0.75 of A1's 2 and not 0.6 of flax's 6; and
    a third of it forward, where 0.6 of flax's 4 would do."""
    result = plant()
    result["peak"] /= 3
    met = {}
    for text in goals.table(result).splitlines()[2:]:
        number, *_, cell = (cell.strip() for cell in text[1:-1].split("|"))
        met.setdefault(number, cell)
    assert met["2"] == "yes; S3: beyond the fastest product seen"
    assert met["3"] == met["6"] == "yes"


def test_pictures(tmp_path):
    result = plant()
    result["cases"].append(
        {**case("S1", "stack", lstm=([1.0], [1.0], {})), "absent": {"K": {"gradient": "why"}}}
    )
    record.write(tmp_path / "speed.json", record.compact(result))
    drawn = speed_plots.draw(tmp_path)
    assert [path.name for path in drawn] == ["speed.png", "speed_stack.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert "K did not run (why): S1 stack" in speed_tables.everything(result)


def test_variants_and_more_passes_stand_in_tables_of_their_own():
    """By hand: 2 / 4, 3 / 4 in the variant; 1 / 2 and 3 / 1 of the tangents."""
    result = plant()
    assert speed_tables.variants(result) == speed_tables.more_passes(result) == ""
    cell = case("S2", "gru", lstm=([2.0, 3.0], [1.0], {}), A0=([4.0, 4.0], [1.0], {}))
    for name, seconds in (("lstm", [1.0, 1.0]), ("A0", [2.0, 2.0])):
        cell["contestants"][name]["jvp"] = {"seconds": seconds}
    result["cases"].append(cell)
    assert speed_tables.variants(result).splitlines()[2:] == [
        "| gru | S2 (256, 16, 128) | 2 | 2000.00 |  | 0.62 (0.50) |  |  |  |  |  |"
    ]
    assert speed_tables.more_passes(result).splitlines()[2:] == [
        "| jvp, gru | S2 (256, 16, 128) | 2 | 1000.00 | 0.50 (0.50) |  |  |  |"
    ]


def test_pages_get_what_a_result_says_and_nothing_else_of_them_changes():
    result = plant()
    names = ("run", "tables", "variants", "passes", "profile", "slower", "gaps", "goals")
    page = "Before.\n" + "".join(f"<!-- {n} -->\nold\n<!-- end -->\nkept {n}\n" for n in names)
    text = pages.with_result("docs/speed.md", page, result)
    assert "old" not in text
    assert all(f"\nkept {name}\n" in text for name in names)
    assert speed_tables.tables(result) in text
    said = " ".join(text.split())
    assert (
        "S1, S2, S3, S4, S5, S6 plain, none of gradient, forward; S1, S2 lengths, none of" in said
    )
    assert "- gradient, time over that of" not in text  # nobody is faster
    assert "- forward, time over that of P: 1.00" not in text
    assert pages.with_result("docs/speed.md", text, result) == text
    share = "0.10 to 0.20 of the time of `jax.grad`\n<!-- speed -->\n-\n<!-- end -->\n"
    text = pages.with_result("README.md", share, result)
    assert text.startswith("0.75 to 0.75 of the time of `jax.grad`")
    said = " ".join(text.split())
    assert "Torch is faster in 0 of 1 rows. We need more memory than `jax.grad` in 0 of 1." in said
    assert "by hand; float32; JAX 1; 3 rounds; nothing on a GPU." in said
    with pytest.raises(ValueError, match="0 sections <!-- run -->"):
        pages.with_result("docs/speed.md", share, result)
    with pytest.raises(ValueError, match=r"says 0 times what share of jax\.grad"):
        pages.with_result("README.md", share.replace("0.20", "a fifth"), result)
    gpu = {**result, "environment": result["environment"] | {"platform": "gpu"}}
    with pytest.raises(ValueError, match="it is of a gpu; the pages speak of a CPU"):
        pages.with_result("README.md", share, gpu)


def test_words_below_readme_s_table_count_the_rows_that_have_the_number():
    """S3 has torch, S1 has not; S1 is of fewer rounds and of 16 bits."""
    result = plant()
    few = case(
        "S1", lstm=([1.0], [1.0], {"temp_bytes": 3.0}), A0=([2.0], [1.0], {"temp_bytes": 2.0})
    )
    result["cases"] = [result["cases"][0], few | {"dtype": "bfloat16"}]
    said = " ".join(pages.in_words(result).split())
    assert said.startswith("Torch is faster in 0 of 1 rows. We need more memory than `jax.grad`")
    assert "in 1 of 2." in said
    assert "float32, bfloat16; JAX 1; 1 to 3 rounds;" in said


def test_a_traced_run_by_kind_and_its_largest_part():
    """By hand: 2 + 3 of 10 seconds are products, 1 is something else, 4 no kernel's."""
    names = ("kernel", "where", "kind", "seconds", "calls")
    kernel = lambda *row: dict(zip(names, (*row, 2), strict=True))
    kernels = [
        kernel("dot", "step", "product", 2.0),
        kernel("dot.1", "segment", "product", 3.0),
        kernel("fusion", "step", "other", 1.0),
    ]
    traced = {"seconds": 10.0, "between": 4.0, "kernels": kernels}
    result = plant()
    assert pages.apart(result) == ""
    result["cases"].append({**case("S2"), "profiles": {"lstm": traced}})
    said = pages.apart(result)
    assert "| product, by the step | 2000.00 (20%) | 2 |" in said
    assert "| no kernel on record | 4000.00 (40%) |  |" in said
    assert '"product, by the segment", 30% of the traced run. All products are 50%.' in said


def test_the_slower_ones_are_named():
    """By hand: 3 / 2 in the forward of a cell; S3's lstm is slower than nobody."""
    result = plant()
    assert pages.slower(result) == "Nobody is faster in this run."
    result["cases"].append(case("S2", "gru", lstm=([2.0], [3.0], {}), A0=([4.0], [2.0], {})))
    assert pages.slower(result) == "- forward, time over that of A0: 1.50 (S2 gru)."


def test_the_committed_run_has_every_case_and_pass_of_all():
    """With how many rounds is what the page says."""
    result = record.read_json(pages.COMMITTED)
    held = {(job.size, job.variant): job.passes for job in cases.jobs_of(result)}
    for job in cases.ALL:
        assert set(job.passes) <= set(held[job.size, job.variant]), job
        case = cases.find(result, job.size, job.variant)
        assert all(cases.seconds_of(case, kind) for kind in job.passes), job
        assert all(case["contestants"].values()), job  # nobody without a pass
        assert not cases.still_to_do(result, job, 17, devices=2), job
