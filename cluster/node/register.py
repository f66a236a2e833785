"""Make workers that are new in the cluster file known to the autoscaler that runs on the head.

`ray up --no-restart` gives it the new file, but it takes the workers from a list of its own, which
it writes when it starts and never afterwards. For the provider `local` of Ray 2.60.
"""

from pathlib import Path

import yaml
from ray.autoscaler._private.local.node_provider import LocalNodeProvider

config = yaml.safe_load((Path.home() / "ray_bootstrap_config.yaml").read_text())
LocalNodeProvider(config["provider"], config["cluster_name"])  # writes the list
