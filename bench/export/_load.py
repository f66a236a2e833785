"""Load this model: needs `pip install reconbench`."""

from pathlib import Path

from reconbench import load_model

model = load_model(Path(__file__).parent)

if __name__ == "__main__":
    print(model)  # x_hat = model(y), with measurements y of shape (n, ...); see README.md
