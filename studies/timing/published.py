"""The published procedure, written plainly with forward hooks: one item, one layer and one setting at a time.

Source: the published code of arXiv:2508.12815 runs context, positive and negative as passes of their own, reads one
layer a run, and at inference runs the prompt once for the context and again to reply. Its training on MM-SafetyBench
starts from a learned dictionary and draws batches from a data loader.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader, TensorDataset

from interv import Prompt
from methods import L2S, ContrastPair, Contrasts
from studies.timing.models import Contestants


@contextmanager
def hooked(module: nn.Module, hook: Callable) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def block(on: Contestants, layer: int) -> nn.Module:
    return on.plain.get_submodule(f"{on.blocks}.{layer}")


def read_last(on: Contestants, prompt: Prompt, layer: int) -> Tensor:
    """The hidden state leaving a block at the last token, [1, width], in a pass of its own."""
    kept: list[Tensor] = []
    with torch.no_grad(), hooked(block(on, layer), lambda module, args, output: kept.append(output[:, -1].clone())):
        on.plain(**on.vlm.encode([prompt]).model_inputs())
    return kept[0]


def capture(on: Contestants, pairs: Sequence[ContrastPair], layers: Sequence[int]) -> dict[int, tuple[Tensor, ...]]:
    """Context, positive and negative of every pair, [pairs, width] each, layer by layer."""
    found = {}
    for layer in layers:
        rows = [[read_last(on, p, layer) for p in (pair.prompt, pair.positive, pair.negative)] for pair in pairs]
        found[layer] = tuple(torch.cat(column) for column in zip(*rows, strict=True))
    return found


def steered(on: Contestants, prompt: Prompt, steerer: L2S, strength: float, tokens: int) -> list[int]:
    """The reply's tokens: the prompt runs once for the context and once more to reply, from its last token on."""
    vector = strength * steerer.predict(read_last(on, prompt, steerer.reads))

    def add(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, -1] += vector.to(output)
        return changed

    with hooked(block(on, steerer.writes), add):
        return unsteered(on, [prompt], tokens)[0]


def unsteered(on: Contestants, prompts: Sequence[Prompt], tokens: int) -> list[list[int]]:
    """Plain `generate` of the Hugging Face model, all prompts in one batch."""
    return replies(on.plain, on, prompts, tokens)


def replies(model: nn.Module, on: Contestants, prompts: Sequence[Prompt], tokens: int) -> list[list[int]]:
    inputs = on.vlm.encode(prompts).model_inputs()
    inputs.pop("position_ids")
    output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)  # type: ignore[operator]
    return output[:, inputs["input_ids"].shape[1] :].tolist()


def train(contrasts: Contrasts, *, hidden: int, epochs: int, iterations: int, seed: int = 0) -> nn.Module:
    """The network of the safety setting; its dictionary stops after `iterations`, of 5,000 in the published code."""
    from sklearn.decomposition import DictionaryLearning

    learner = DictionaryLearning(
        hidden,
        positive_code=True,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        max_iter=iterations,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = torch.from_numpy(learner.fit(contrasts.vectors.numpy()).components_).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, decoder = nn.Linear(contrasts.width, hidden), nn.Linear(hidden, contrasts.width, bias=False)
        decoder.weight.data = atoms.T.contiguous()
        network = nn.Sequential(encoder, nn.Tanh(), decoder)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        loader = DataLoader(TensorDataset(contrasts.context, contrasts.vectors), batch_size=64, shuffle=True)
        for _ in range(epochs):
            for context, target in loader:
                optimizer.zero_grad()
                loss(network(context), target).backward()
                optimizer.step()
    return network


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean square + mean absolute error - 0.1 * cosine, the mean over the rows."""
    error = prediction - target
    cosine = cosine_similarity(prediction, target, dim=1)
    return (error.square().mean(dim=1) + error.abs().mean(dim=1) - 0.1 * cosine).mean()
