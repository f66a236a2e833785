"""`reconbench run` as a script, for `python bench/run.py` and `ray submit ... bench/run.py`.

Kept thin, since `ray submit` copies this file alone to the cluster's head; the package is there.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts the script's folder first, where modules of `bench` would hide top-level ones.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".") != Path(__file__).parent]
    from bench.cli import run_script

    run_script()
