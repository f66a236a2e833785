"""The rules of a benchmark hold whoever starts it: nothing here goes through the command line."""

import pytest

from bench import rules, spec
from bench.cells import cells_of, matching
from bench.errors import UserError


def benchmark(**changes: object) -> spec.Benchmark:
    content = {
        "degradations": [{"name": "mri_cartesian", "levels": [4]}],
        "n_train": [4, 8],
        "methods": ["tv"],
        **changes,
    }
    return spec.parse(content)


def test_a_gan_has_its_generator_alone_beside_it() -> None:
    resolved, _ = rules.check(benchmark(methods=["kspace_gan"]))
    assert [method.label for method in resolved.methods] == [
        "kspace_gan",
        "kspace_gan_no_adversary",
    ]
    again, _ = rules.check(resolved)
    assert again.methods == resolved.methods  # a resolved file stays as it is


def test_what_a_method_does_not_support_is_said_and_has_no_cells() -> None:
    both = [
        {"name": "mri_cartesian", "levels": [4]},
        {"name": "gaussian_noise", "levels": [0.1, 0.5]},
    ]
    resolved, notices = rules.check(benchmark(degradations=both, methods=["tv", "cg_sense"]))
    assert any("cg_sense" in line and "gaussian_noise" in line for line in notices)
    cells = cells_of(resolved)
    assert {cell.task.level for cell in matching(cells, {"method": ["cg_sense"]})} == {4}
    assert len(matching(cells, {"method": ["tv"]})) == 3


def test_defaults_are_written_out() -> None:
    resolved, _ = rules.check(benchmark())
    assert resolved.degradations[0].options["coils"] == 1
    assert resolved.dataset.source == "template"


def test_open_sizes_shrink_and_stated_ones_do_not() -> None:
    few = {"image_size": 16, "subjects": 20, "slices_per_subject": 1}
    resolved, _ = rules.check(benchmark(dataset=few))
    prepared = rules.prepare(resolved, rules.shrinkable(benchmark(dataset=few)))
    assert any("images are few" in line for line in prepared.notices)
    assert len(prepared.split.test) == prepared.benchmark.dataset.n_test < 60
    stated = benchmark(dataset={**few, "n_test": 60})
    assert rules.shrinkable(stated) == (False, False)


def test_cells_that_nothing_matches() -> None:
    cells = cells_of(rules.check(benchmark(methods=["tv", "unet"]))[0])
    none = {"n_train": ["4"], "method": ["unet"], "level": ["4"]}
    two = [cell for cell in cells if (cell.n_train, cell.method.label) in {(8, "unet"), (0, "tv")}]
    other = benchmark(methods=["constant"], n_train=[4])
    with pytest.raises(UserError, match="no cell has n_train 4 and method unet and level 4"):
        matching([*two, *cells_of(other)], none)
    with pytest.raises(UserError, match="unknown method of a cell: 'tw'; did you mean 'tv'"):
        matching(cells, {"method": ["tw"]})
