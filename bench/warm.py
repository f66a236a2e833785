"""Imports what a trial needs, in the workers that a cluster of our own begins with.

Ray imports this in every worker. The first workers are idle until the first trial; those that come
later are wanted at once, and not always for a trial.
"""

import os
import time
from importlib import import_module

if time.time() < float(os.environ.get("RECONBENCH_WARM_UNTIL", "0")):
    import_module("bench.sweep.trial")
