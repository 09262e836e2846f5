"""The vision and caption encoders: against plain loops, positions at other resolutions, padding, recomputation, work."""

import math
from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from omnictl.models.vision_encoder import VisionEncoder, VisionEncoderConfig, VisionOutput, training_flops
from omnictl.nn.recompute import CHECKPOINTING, Checkpointing
from omnictl.nn.transformer import EncoderBlock, RMSNorm

SMALL = VisionEncoderConfig(image_size=24, patch=6, stem=(), layers=1, width=12, heads=2, hidden=20)  # 4 × 4 patches

STEM: dict[str, object] = {"image_size": 32, "patch": 8, "stem": (16, 32), "layers": 2}

VARIANTS: dict[str, dict[str, object]] = {
    "patches": {},
    "stem": STEM,
    "deep stem": {**STEM, "stem_depth": 2},
    "class token": {"pooling": "class"},
    "registers": {"registers": 3},
    "class token and registers": {"pooling": "class", "registers": 3, "layers": 2},
}

Randomise = Callable[["nn.Module"], None]


def encoder(randomise: Randomise, changes: dict[str, object] | None = None) -> VisionEncoder:
    """In double precision, with two attributes of the image and one of its patches."""
    config = VisionEncoderConfig(**{**SMALL.model_dump(), **(changes or {})})
    model = VisionEncoder(config, (3, 4), (5,)).double().eval()
    randomise(model)
    return model


def images(count: int, height: int = 24, width: int | None = None) -> Tensor:
    """`(B, 3, H, W)` uint8, each image a function of its number."""
    made = [
        torch.randint(0, 256, (3, height, width or height), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        for number in range(count)
    ]
    return torch.stack(made)


def size_of(model: VisionEncoder) -> int:
    return model.config.image_size


def close(one: VisionOutput, two: VisionOutput) -> bool:
    pairs = ((one.patches, two.patches), (one.pooled, two.pooled))
    return one.grid == two.grid and all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in pairs)


def plain_patches(model: VisionEncoder, seen: Tensor) -> Tensor:
    """`(B, P, D)`: each patch's pixels times the weights, one patch after the other."""
    size, (layer,) = model.config.patch, model.embedding
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    scaled = (seen.double() / 255 - model.config.mean) / model.config.std
    found = []
    for top in range(0, seen.shape[2], size):
        for left in range(0, seen.shape[3], size):
            patch = scaled[:, :, top : top + size, left : left + size]
            found.append(torch.einsum("bchw,dchw->bd", patch, layer.weight) + layer.bias)
    return torch.stack(found, 1)


def plain_norm(x: Tensor, norm: RMSNorm) -> Tensor:
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + norm.eps) * norm.weight


def plain_block(x: Tensor, block: EncoderBlock) -> Tensor:
    """One layer of one image, `(T, D)`, head after head and query after query."""
    attention, width = block.attention, block.attention.head_width
    normed = plain_norm(x, block.attention_norm)
    heads = []
    for head in range(attention.heads):
        rows = slice(head * width, (head + 1) * width)
        q = plain_norm(normed @ attention.q_proj.weight[rows].T, attention.q_norm)
        k = plain_norm(normed @ attention.k_proj.weight[rows].T, attention.k_norm)
        v = normed @ attention.v_proj.weight[rows].T
        mixed = []
        for query in q:
            powers = torch.stack([(query @ key / math.sqrt(width)).exp() for key in k])
            mixed.append(sum(power * value for power, value in zip(powers / powers.sum(), v, strict=True)))
        heads.append(torch.stack(mixed))
    x = x + torch.cat(heads, -1) @ attention.o_proj.weight.T
    normed, mlp = plain_norm(x, block.mlp_norm), block.mlp
    gate = normed @ mlp.gate_proj.weight.T
    return x + (gate * torch.sigmoid(gate) * (normed @ mlp.up_proj.weight.T)) @ mlp.down_proj.weight.T


@torch.no_grad()
def test_patches_are_embedded_one_by_one(randomise: Randomise) -> None:
    model = encoder(randomise)
    given = images(2, 24, 36)
    scaled = (given.double() / 255 - model.config.mean) / model.config.std
    found = model.embedding(scaled)
    assert found.shape == (2, 12, 4, 6)
    torch.testing.assert_close(found.flatten(2).mT, plain_patches(model, given), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ["patches", "class token", "registers", "class token and registers"])
@torch.no_grad()
def test_the_whole_forward_pass_is_that_of_plain_loops(variant: str, randomise: Randomise) -> None:
    model = encoder(randomise, {**VARIANTS[variant], "layers": 1})
    given = images(2)
    seen = model(given)
    for row, patches in enumerate(plain_patches(model, given)):
        x = patches + model.positions[0].flatten(1).T
        if model.extra is not None:
            x = torch.cat([model.extra, x])
        x = plain_block(x, model.blocks[0])  # type: ignore[arg-type]
        x = plain_norm(x, model.norm)
        torch.testing.assert_close(seen.patches[row], x[-16:], rtol=0, atol=1e-10)
        pooled = x[0] if model.config.pooling == "class" else x[-16:].mean(0)
        torch.testing.assert_close(seen.pooled[row], pooled, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_shapes_and_heads(variant: str, randomise: Randomise) -> None:
    model = encoder(randomise, VARIANTS[variant])
    seen = model(images(3, size_of(model)))
    assert model.config.grid == 4
    assert seen.patches.shape == (3, 16, 12)
    assert seen.grid == (4, 4)
    assert seen.pooled.shape == (3, 12)
    (patch_logits,) = model.patch_logits(seen)
    assert patch_logits.shape == (3, 16, 5)
    for logits, head in zip(model.attribute_logits(seen), model.head["picture"], strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(logits, seen.pooled @ head.weight.T + head.bias)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_an_image_alone_is_seen_as_in_a_batch(variant: str, randomise: Randomise) -> None:
    model = encoder(randomise, VARIANTS[variant])
    given = images(4, size_of(model))
    together = model(given)
    for row in range(4):
        alone = model(given[row : row + 1])
        assert close(alone, VisionOutput(together.patches[row : row + 1], (4, 4), together.pooled[row : row + 1]))
    assert (together.pooled[0] - together.pooled[1]).abs().max() > 1e-3


@torch.no_grad()
def test_every_patch_sees_the_whole_image(randomise: Randomise) -> None:
    model = encoder(randomise)
    given = images(1)
    plain = model(given).patches
    given[0, :, -1, -1] = 255 - given[0, :, -1, -1]
    assert ((model(given).patches - plain).abs().amax(-1) > 1e-9).all()


@torch.no_grad()
def test_the_class_token_and_the_registers_are_heard(randomise: Randomise) -> None:
    model = encoder(randomise, VARIANTS["class token and registers"])
    given = images(1)
    before = model(given)
    assert model.extra is not None
    assert model.extra.shape == (4, 12)
    for number in range(4):
        model.extra[number] += 1
        after = model(given)
        assert (after.patches - before.patches).abs().max() > 1e-4
        assert (after.pooled - before.pooled).abs().max() > 1e-4
        before = after


@torch.no_grad()
def test_pixels_are_standardised_by_the_config(randomise: Randomise) -> None:
    """A grey that the config calls the mean is no signal."""
    model = encoder(randomise, {"mean": 0.2, "std": 0.5})
    grey = torch.full((1, 3, 24, 24), 51, dtype=torch.uint8)  # 0.2 × 255
    expected = model.embedding[0].bias  # type: ignore[union-attr]
    scaled = (grey.double() / 255 - 0.2) / 0.5
    torch.testing.assert_close(model.embedding(scaled)[0, :, 1, 2], expected)
    shifted = encoder(randomise, {"mean": 0.0, "std": 0.5})
    assert not close(model(grey), shifted(grey))


@pytest.mark.parametrize("merge", [1, 2, 4])
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (4, 8), (8, 4), (4, 16)])  # of 4 × 16 as many as of 8 × 8
@torch.no_grad()
def test_merged_patches_are_squares_of_neighbours(rows: int, columns: int, merge: int, randomise: Randomise) -> None:
    model = encoder(randomise, {"merge": merge})
    seen = model(images(2, 6 * rows, 6 * columns))
    assert seen.grid == (rows, columns)
    merged = model.merge(seen)
    assert model.config.merged_grid == 4 // merge
    down, across = rows // merge, columns // merge
    assert merged.shape == (2, down * across, model.config.merged_width)
    for row in range(down):
        for column in range(across):
            corner = columns * merge * row + merge * column
            places = [corner + columns * below + right for below in range(merge) for right in range(merge)]
            expected = torch.cat([seen.patches[:, place] for place in places], -1)
            assert torch.equal(merged[:, across * row + column], expected)
    (logits,) = model.patch_logits(seen)
    (head,) = model.head["patch"]  # type: ignore[misc]
    torch.testing.assert_close(logits, merged @ head.weight.T + head.bias)


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (3, 2), (1, 4), (3, 3)])  # of 1 × 4 as many as of 2 × 2
@torch.no_grad()
def test_patches_that_do_not_fill_squares_are_seen_but_not_merged(rows: int, columns: int, randomise: Randomise) -> None:
    model = encoder(randomise, {"merge": 2})
    seen = model(images(2, 6 * rows, 6 * columns))
    assert seen.patches.shape == (2, rows * columns, 12)
    with pytest.raises(AssertionError, match=f"^{rows} × {columns} patches cannot be merged by 2"):
        model.merge(seen)


@pytest.mark.parametrize("variant", ["patches", "stem"])
@pytest.mark.parametrize(("more_down", "more_across"), [(1, 0), (0, 1), (-1, -1)])
def test_images_of_parts_of_patches_are_refused(more_down: int, more_across: int, variant: str, randomise: Randomise) -> None:
    """A convolution would drop the rest."""
    model = encoder(randomise, VARIANTS[variant])
    size = size_of(model)
    with pytest.raises(AssertionError, match=r"^sides are multiples of the patch"):
        model(images(1, size + more_down, size + more_across))


@torch.no_grad()
def test_rows_and_columns_are_not_confused(randomise: Randomise) -> None:
    """An image of one row of patches is the same as its first row seen alone, with the positions of such a grid."""
    model = encoder(randomise)
    given = images(1, 12, 36)
    seen = model(given)
    assert seen.grid == (2, 6)
    x = plain_patches(model, given)[0] + model._positions(2, 6)[0].flatten(1).T
    expected = plain_norm(plain_block(x, model.blocks[0]), model.norm)  # type: ignore[arg-type]
    torch.testing.assert_close(seen.patches[0], expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_positions_on_the_grid_of_training_are_those_learned(randomise: Randomise) -> None:
    model = encoder(randomise)
    assert model._positions(4, 4) is model.positions


@pytest.mark.parametrize(("height", "width"), [(8, 8), (2, 2), (4, 8), (7, 5)])
@torch.no_grad()
def test_positions_on_another_grid_keep_their_order(height: int, width: int, randomise: Randomise) -> None:
    """Two of them count rows and columns: so they must on any grid."""
    model = encoder(randomise)
    model.positions[0, 0] = torch.arange(4.0)[:, None].expand(4, 4)
    model.positions[0, 1] = torch.arange(4.0).expand(4, 4)
    model.positions[0, 2] = 7
    found = model._positions(height, width)
    assert found.shape == (1, 12, height, width)
    rows, columns, constant = found[0, :3]
    assert (rows.diff(dim=0) > 0).all()
    assert (columns.diff(dim=1) > 0).all()
    torch.testing.assert_close(rows, rows[:, :1].expand(height, width))
    torch.testing.assert_close(columns, columns[:1].expand(height, width))
    torch.testing.assert_close(constant, torch.full_like(constant, 7))
    # The middle of the image stays the middle.
    torch.testing.assert_close(rows.mean(), torch.tensor(1.5, dtype=torch.float64))
    torch.testing.assert_close(rows + rows.flip(0), torch.full_like(rows, 3))


@torch.no_grad()
def test_corners_stay_corners_on_a_grid_of_twice_the_size(randomise: Randomise) -> None:
    model = encoder(randomise)
    learned, found = model.positions[0], model._positions(8, 8)[0]
    corners = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    for row, column in corners:
        nearest = min(corners, key=lambda corner: float((learned[:, corner[0], corner[1]] - found[:, row, column]).norm()))
        assert nearest == (row, column)


def test_all_positions_learn_at_twice_the_resolution(randomise: Randomise) -> None:
    model = encoder(randomise)
    (gradient,) = torch.autograd.grad(model(images(2, 48)).pooled.square().sum(), model.positions)
    assert gradient.shape == (1, 12, 4, 4)
    assert gradient.abs().amax(1).all()


def test_a_fresh_encoder_is_its_embedding() -> None:
    """What adds to the residual stream starts as zero."""
    model = VisionEncoder(VisionEncoderConfig(**{**SMALL.model_dump(), "layers": 3}), (3,)).double()
    with torch.no_grad():
        given = images(2)
        embedded = plain_patches(model, given) + model.positions.flatten(2).mT
        torch.testing.assert_close(model(given).patches, plain_norm(embedded, model.norm))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("variant", ["stem", "class token and registers"])
def test_recomputation_gives_identical_gradients(variant: str, dropout: float, randomise: Randomise) -> None:
    model = encoder(randomise, {**VARIANTS[variant], "dropout": dropout}).train()
    given = images(3, size_of(model))

    def gradients(checkpointing: Checkpointing) -> list[Tensor]:
        torch.manual_seed(3)
        model.checkpointing = checkpointing
        model.zero_grad(set_to_none=True)
        seen = model(given)
        logits = [*model.attribute_logits(seen), *model.patch_logits(seen)]
        torch.autograd.backward(torch.stack([each.square().sum() for each in logits]).sum())
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients("off")
    assert len(plain) == len(list(model.parameters()))
    for one, two in zip(plain, gradients("full"), strict=True):
        assert torch.equal(one, two)


def test_recomputation_saves_memory(randomise: Randomise) -> None:
    """In blocks: of each only its input is kept."""
    model = encoder(randomise, {"layers": 6}).train()
    kept = []
    for checkpointing in CHECKPOINTING[::2]:
        model.checkpointing = checkpointing
        num_bytes = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal num_bytes
            num_bytes += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(images(4))
        kept.append(num_bytes)
    assert kept[1] < 0.4 * kept[0]


def test_dropout_is_for_training_alone(randomise: Randomise) -> None:
    model = encoder(randomise, {"dropout": 0.5})
    given = images(2)
    with torch.no_grad():
        assert close(model(given), model(given))
        model.train()
        assert not close(model(given), model(given))


TINY = VisionEncoderConfig(image_size=64, layers=2)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize(
    "changes",
    [{}, {"stem": (), "registers": 4}, {"stem_depth": 2}, {"patch": 8, "stem": (16, 32), "pooling": "class", "merge": 2}],
    ids=["stem", "patches", "deep stem", "class token"],
)
def test_flops_are_those_torch_counts(changes: dict[str, object], size: int) -> None:
    config = VisionEncoderConfig(**{**TINY.model_dump(), **changes})
    model = VisionEncoder(config, (10, 10, 9), (11, 11))
    # Plain matrix products instead of the fused kernel: there torch counts all T² pairs of an attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        seen = model(images(2, size))
        logits = [*model.attribute_logits(seen), *model.patch_logits(seen)]
        torch.autograd.backward(torch.stack([each.square().sum() for each in logits]).sum())
    assert training_flops(model, 2, size) == pytest.approx(counter.get_total_flops(), rel=1e-3)
    assert training_flops(model, 3, size) == 1.5 * training_flops(model, 2, size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 25}, "width 25 must be a multiple of heads (2)"),
        ({"patch": 10, "image_size": 100}, "patch 10 must be a multiple of 16, by which the stem shrinks an image"),
        ({"image_size": 72}, "image_size 72 must be a multiple of patch × merge (16)"),
        ({"image_size": 80, "merge": 2}, "image_size 80 must be a multiple of patch × merge (32)"),
        ({"stem": (32, 24, 96, 128)}, "the stem's channels must be multiples of 16, found 24"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        VisionEncoderConfig(**{**TINY.model_dump(), **change})
    assert message in str(caught.value)


def test_the_stem_shrinks_an_image_to_its_patches() -> None:
    config = VisionEncoderConfig(**{**TINY.model_dump(), "stem": (16, 32), "stem_depth": 3})
    model = VisionEncoder(config, ())
    strides = [layer.stride[0] for layer in model.embedding if isinstance(layer, nn.Conv2d)]
    assert strides == [2, 1, 1, 2, 1, 1, 4]
    assert not [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert model.merge(model(images(1, 64))).shape == (1, config.merged_grid**2, config.merged_width)
