"""Compare model.onnx with what PyTorch reconstructed: needs numpy and onnxruntime, nothing else.

    python check_onnx.py

prints the greatest difference for each example, and ends with exit status 1 if one is above 1e-4.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

TOLERANCE = 1e-4  # for images in [0, 1]


def main() -> int:
    """Run model.onnx on the images of examples.npz; return the exit status."""
    folder = Path(__file__).parent
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    examples = np.load(folder / "examples.npz")
    worst = 0.0
    for key in sorted(key for key in examples if key.startswith("image")):
        (found,) = session.run(None, {name: examples[key]})
        expected = examples[key.replace("image", "x_hat")]
        difference = float(np.abs(found - expected).max())
        print(f"{key} {'x'.join(map(str, found.shape))}: greatest difference {difference:.1e}")
        worst = max(worst, difference if np.isfinite(difference) else np.inf)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
