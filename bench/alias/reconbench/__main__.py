"""`python -m reconbench` is the `reconbench` command."""

from reconbench import main

main()
