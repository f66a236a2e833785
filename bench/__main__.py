"""`python -m bench` is the `reconbench` command."""

from bench.cli import main

if __name__ == "__main__":
    main()
