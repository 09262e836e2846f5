"""Speed of the `tiny` Thinker on this machine: training against the matrix-multiply rate, cached against uncached decoding.

python tests/benchmarks/thinker_speed.py
"""

import statistics
import time

import torch

from omnictl.data.text.tokenizer import END
from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.token_decoder import generate
from omnictl.models.thinker import Thinker, training_flops
from omnictl.nn.losses.cross_entropy import cross_entropy_sum
from omnictl.stages.pretrain import PRESETS
from omnictl.trainer.hardware.device import keep_freed_memory
from omnictl.trainer.hardware.precision import Precision, matmul_rate
from omnictl.trainer.optim.optimizers import Optimizers

CPU = torch.device("cpu")


def training_share(name: str, rate: float) -> None:
    """A whole step at the default batch: plain causal windows, forward, backward, clipping, Muon and AdamW."""
    config = PRESETS["tiny"]
    rows, length = config.train.batch_size, config.data.seq_len
    model = Thinker(config.model, config.data.vocab_size)
    optimizers = Optimizers(model, config.train, "muon")
    tokens = torch.randint(0, config.data.vocab_size, (rows, length))
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        with Precision(name, "benchmark").autocast(CPU):
            hidden = model(tokens).hidden.flatten(0, 1)
            loss = cross_entropy_sum(hidden, model.embedding.weight, tokens.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizers.parameters, 1.0)
        for part in optimizers.parts:
            part.step()
        optimizers.zero_grad()
        seconds.append(time.perf_counter() - began)
    step = statistics.median(seconds[2:])
    flops = training_flops(model, torch.full((rows,), length))
    print(f"training {name}: {rows * length / step:,.0f} tokens/s, {flops / step / rate:.0%} of the fp32 rate")


def decoding(prompt: int = 448, new: int = 64) -> None:
    """Greedy decoding up to length 512: with the cache, and by reading the whole prefix again for every token."""
    config = PRESETS["tiny"]
    model = Thinker(config.model, config.data.vocab_size).eval()
    ids = torch.randint(8, config.data.vocab_size, (prompt,)).tolist()
    greedy = SamplingConfig(temperature=0)
    began = time.perf_counter()
    written: list[int] = []
    first = 0.0
    for token in generate(model, ids, max_tokens=new, sampling=greedy, stop={END}, generator=torch.Generator()):
        written.append(token)
        first = first or time.perf_counter() - began  # the prompt is read once; it is not decoding
    cached = (time.perf_counter() - began - first) / (len(written) - 1)
    full = torch.tensor([ids + written])
    with torch.inference_mode():
        began = time.perf_counter()
        for _ in range(10):
            model.logits(model(full).hidden[0, -1])
        uncached = (time.perf_counter() - began) / 10
    print(
        f"decoding at length {full.shape[1]}: {1 / cached:,.0f} tokens/s cached, {1 / uncached:,.1f} not, {uncached / cached:.1f}x"
    )


if __name__ == "__main__":
    keep_freed_memory()
    fastest = matmul_rate(CPU)
    print(f"fp32 matrix products: {fastest / 1e9:.0f} GFLOP/s")
    training_share("fp32", fastest)
    training_share("bf16", fastest)
    decoding()
