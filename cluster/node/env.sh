# Read by every shell on a node (setup.sh adds one line to ~/.bashrc), since `ray submit` and
# `ray start` know of no other place: our Python first, and Ray's token demanded of everyone.
export PATH="$HOME/reconbench/.venv/bin:$PATH"
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
