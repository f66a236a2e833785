"""If a private name of Ray is missing, its caller falls back, and says so once."""

import os
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace

import pytest
from ray import tune
from ray.tune import registry
from ray.tune.experiment import Trial

from bench import private


@pytest.fixture(autouse=True)
def no_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_missing", {})
    monkeypatch.setattr(private, "_reported", set())


USES: dict[str, tuple[Callable[[], object], object]] = {
    "ray._private.services:canonicalize_bootstrap_address": (private.cluster_address, "host:1"),
    "ray._private.utils:get_num_cpus": (private.cpus_here, float(os.cpu_count() or 1)),
    "ray._private.ray_constants:ENABLE_RAY_CLUSTERS_ENV_VAR": (private.listen_on_loopback, None),
    "ray._private.worker:_global_node": (private.is_own_cluster, False),
    "ray.experimental.internal_kv:_internal_kv_get": (private.may_grow, True),
    "ray.tune.execution.class_cache:DEFAULT_ENV_VARS": (private.keep_warm_workers, None),
    "ray.train.v2._internal.exceptions:UserExceptionWithTraceback": (
        lambda: private.raised_by_code(ValueError()),
        False,
    ),
}


@pytest.mark.parametrize("name", private.NAMES.keys() - {"ray.tune.registry:_global_registry"})
def test_without_a_name_there_is_a_plain_answer_and_one_notice(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use, plain = USES[name]
    monkeypatch.setenv("RAY_ADDRESS", "host:1")
    module, _, attribute = name.partition(":")
    monkeypatch.delattr(import_module(module), attribute)
    assert use() == plain
    assert use() == plain
    (notice,) = private.notices()
    assert attribute in notice
    assert private.NAMES[name] in notice
    assert private.notices() == []


def test_a_trainable_is_registered_plainly_where_the_registry_has_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []
    monkeypatch.setattr(tune, "register_trainable", lambda name, trainable: told.append(name))
    monkeypatch.delattr(registry, "_global_registry")
    with private.registered("job", object) as name:
        assert told == [name] == ["job"]
    assert len(private.notices()) == 1


@pytest.mark.parametrize("attribute", ["_default_result_or_future", "get_json_state"])
def test_what_is_kept_of_trials_stays_where_its_name_is_gone(attribute: str) -> None:
    trial = Trial("job", stub=True, _setup_default_resource=False)
    names = {"trial_id": "1", "run_metadata": trial.run_metadata, "get_json_state": None}
    names["_default_result_or_future"] = {}
    del names[attribute]
    private.drop_history(SimpleNamespace(**names))
    private.drop_history(SimpleNamespace(**names))
    (notice,) = private.notices()
    assert attribute in notice


def test_with_every_name_there_nothing_is_said() -> None:
    for name in private.NAMES:
        private._find(name)
    assert private.notices() == []
