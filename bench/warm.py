"""Imports what a trial needs, in the first workers of a cluster that ReconBench starts.

Ray imports this module in every worker. The first ones are idle until the first trial; later ones
are needed at once, and not always for a trial.
"""

import os
import time
from importlib import import_module

if time.time() < float(os.environ.get("RECONBENCH_WARM_UNTIL", "0")):
    import_module("bench.sweep.trial")
