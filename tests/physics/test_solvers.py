"""The regularised inverse against dense linear algebra, for every linear degradation."""

import pytest
import torch
from test_physics import OPERATORS, build, images
from torch import Tensor

from bench.physics import Physics
from bench.physics._solvers import regularised_inverse

SIZE = (8, 10)
LINEAR = [case for case in OPERATORS if build(case, (16, 16)).linear]


def dense(operator: Physics) -> Tensor:
    """Write A^T A as a matrix, from the images of all single pixels."""
    height, width = operator.shape
    basis = torch.eye(height * width).view(-1, 1, height, width)
    columns = operator.A_adjoint(operator.A(basis))
    return columns.flatten(1).T.double()


@pytest.mark.parametrize("case", LINEAR)
def test_value_and_gradients_are_those_of_a_dense_solve(case: str) -> None:
    operator = build(case, SIZE)
    normal = dense(operator)
    right = images(3, *SIZE) - 0.3
    mu = normal.diagonal().mean().float() * torch.tensor([0.03, 0.3, 3.0]).view(-1, 1, 1, 1)
    weights = images(3, *SIZE).flip(0)
    ours = [right.clone().requires_grad_(), mu.clone().requires_grad_()]
    x = regularised_inverse(operator, *ours, steps=100)
    (x * weights).sum().backward()
    theirs = [right.double().requires_grad_(), mu.double().requires_grad_()]
    system = normal + theirs[1].view(-1, 1, 1) * torch.eye(len(normal), dtype=torch.float64)
    expected = torch.linalg.solve(system, theirs[0].flatten(1)).view_as(right)
    (expected * weights).sum().backward()
    for one, other in zip(
        [x, *(v.grad for v in ours)], [expected, *(v.grad for v in theirs)], strict=True
    ):
        atol = 1e-4 * float(other.detach().abs().max())
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("case", ["gaussian_blur", "mri_cartesian coils"])
def test_gradcheck(case: str) -> None:
    operator = build(case, (4, 4))
    right = (images(2, 4, 4) - 0.3).requires_grad_()
    mu = torch.tensor([0.5, 2.0]).view(-1, 1, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *given: regularised_inverse(operator, *given), (right, mu),
        eps=1e-2, atol=2e-3, rtol=1e-2,
    )  # fmt: skip


def test_a_few_steps_have_the_gradient_of_a_few_steps_and_not_zero() -> None:
    """Through the iterations themselves, a right-hand side of 0 would have no gradient."""
    operator = build("ct_sparse_view", SIZE)
    right = torch.zeros(1, 1, *SIZE, requires_grad=True)
    regularised_inverse(operator, right, 0.1, steps=4).sum().backward()
    assert right.grad is not None
    assert right.grad.abs().min() > 0


def test_complex_images() -> None:
    operator = build("mri_cartesian coils", SIZE)
    operator.complex_image = True
    right = torch.complex(images(2, *SIZE), images(2, *SIZE).flip(0))
    x = regularised_inverse(operator, right, 0.1)
    torch.testing.assert_close(operator.A_normal(x) + 0.1 * x, right, atol=1e-5, rtol=1e-4)
