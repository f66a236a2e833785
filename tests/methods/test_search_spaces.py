import optuna
import pytest

import search_spaces
from bench import methods, training
from bench.methods import losses


@pytest.mark.parametrize("name", methods.names())
def test_every_parameter_is_one_that_the_method_or_its_recipe_knows(name: str) -> None:
    space = methods.find(name).space()
    config = search_spaces.defaults(space)
    learned = methods.find(name).learned
    training.check(name, {**config, "perceptual": "none"} if learned else config)
    known = {**vars(training.Recipe()), **methods.METHODS.defaults(name)}
    if learned:  # the code has the publication's, the file what suits few images
        assert {key: type(known[key]) for key in config} == {
            key: type(value) for key, value in config.items()
        }
    else:
        assert config == {key: known[key] for key in config}, "file and code differ in a default"


@pytest.mark.parametrize("name", methods.names("learned"))
def test_every_loss_to_choose_is_a_mix(name: str) -> None:
    for text in methods.find(name).space()["loss"]["choices"]:
        assert losses.parse(text)


def test_a_network_from_elsewhere_varies_its_training() -> None:
    space = methods.find("torch.nn:Identity").space({"lr": 1e-3})
    assert set(space) == {"weight_decay", "loss", "augment"}
    training.check("torch.nn:Identity", search_spaces.defaults(space))


@pytest.mark.parametrize("name", methods.names())
def test_suggestions_lie_in_the_space(name: str) -> None:
    space = methods.find(name).space()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(10):
        config = search_spaces.suggest(study.ask(), space)
        assert config.keys() == space.keys()
        for key, value in config.items():
            entry = space[key]
            if "choices" in entry:
                assert value in entry["choices"]
            else:
                assert entry["low"] <= value <= entry["high"]
                assert isinstance(value, type(entry["default"]))


def test_what_is_held_fixed_is_not_searched() -> None:
    assert "width" in methods.find("unet").space()
    assert "width" not in methods.find("unet").space({"width": 8})


@pytest.mark.parametrize(
    "entry",
    [
        {"choices": [1, 2]},
        {"choices": [1, 2], "default": 3},
        {"low": 1, "high": 2},
        {"low": 1, "high": 2, "default": 5},
        {"low": 1, "high": 2, "default": 1, "step": 1},
    ],
)
def test_a_malformed_entry_names_its_place(entry: dict) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml: 'size'"):
        search_spaces.check({"size": entry}, "mine.yaml")
