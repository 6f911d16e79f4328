"""Writes the golden data beside this file from Hugging Face transformers. README.md says what each file holds.

Every weight, prompt and logit comes from numpy's PCG64 with a fixed seed (but for the self-test's weights, which the
program computes for itself), and transformers loads the very files that are committed, so a checkpoint that this script
accepts is one that transformers reads.
"""

import json
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

# Without these, the last bits follow the CPU's vector width.
os.environ["ATEN_CPU_CAPABILITY"] = "default"
os.environ["MKL_CBWR"] = "COMPATIBLE"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).resolve().parent
MIN_GAP = 0.01  # top-1 minus top-2 logit; keeps rounding in another implementation from changing a greedy token
MAX_GREEDY = 20

BASE = dict(vocab_size=97, n_positions=48, n_embd=32, n_head=4, n_layer=2)
# Only `base` and the half-precision models are as wide as BASE: the repository carries every byte.
SMALL = BASE | dict(n_embd=16, n_head=2)


@dataclass(frozen=True)
class Checkpoint:
    """One model to write: its GPT2Config, and how its file differs from a plain F32 one."""

    folder: str
    config: dict
    dtype: torch.dtype = torch.float32
    prefix: str = "transformer."
    # The causal masks that old checkpoints stored as `h.N.attn.bias`; a loader ignores them.
    mask_dtype: torch.dtype | None = None
    has_masked_bias: bool = False
    n_shards: int = 1
    prompt_len: int | None = None
    per_module: bool = False  # also keep the output of each module
    known_answer: bool = False  # weights that are computed, and the last logits as JSON, for every nonlinearity


CHECKPOINTS = [
    Checkpoint("models/base", BASE, per_module=True),
    Checkpoint("models/untied", SMALL | dict(n_embd=24, n_head=3, tie_word_embeddings=False)),
    Checkpoint("models/f16", BASE, torch.float16, prefix="", mask_dtype=torch.uint8, has_masked_bias=True),
    Checkpoint("models/bf16", BASE, torch.bfloat16, prefix="", mask_dtype=torch.bool),
    Checkpoint("models/gelu", SMALL | dict(activation_function="gelu")),
    Checkpoint("models/relu", SMALL | dict(activation_function="relu")),
    Checkpoint("models/silu", SMALL | dict(activation_function="silu")),
    Checkpoint("models/tanh", SMALL | dict(activation_function="tanh")),
    Checkpoint("models/quick_gelu", SMALL | dict(activation_function="quick_gelu")),
    Checkpoint("models/inverse_layer", SMALL | dict(n_layer=3, scale_attn_by_inverse_layer_idx=True), per_module=True),
    Checkpoint("models/unscaled", SMALL | dict(scale_attn_weights=False)),
    Checkpoint(
        "models/odd",
        dict(vocab_size=53, n_positions=19, n_embd=21, n_head=3, n_inner=35, n_layer=3, layer_norm_epsilon=1e-3),
        per_module=True,
    ),
    Checkpoint("models/sharded", SMALL | dict(n_embd=24), n_shards=3),
    Checkpoint("models/one", dict(vocab_size=7, n_positions=4, n_embd=5, n_head=1, n_layer=1)),
    Checkpoint(
        "self_test",
        dict(vocab_size=64, n_positions=32, n_embd=32, n_head=2, n_layer=2),
        torch.float16,
        prefix="",
        prompt_len=12,
        known_answer=True,
    ),
]


def draw_weights(config: GPT2Config, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Random float32 weights under transformers' own names, large enough that attention and MLP both matter."""
    with torch.device("meta"):  # names and shapes only
        shapes = {name: tuple(tensor.shape) for name, tensor in GPT2LMHeadModel(config).state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    # Without the division by sqrt(head dim), smaller queries and keys keep the softmax from saturating.
    std_c_attn = 0.25 if config.scale_attn_weights else 0.15
    weights = {}
    for name, shape in shapes.items():
        mean, std = 0.0, 0.2
        if ".ln_" in name and name.endswith("weight"):
            mean = 1.0
        elif name.endswith("c_attn.weight"):
            std = std_c_attn
        elif name.endswith(("wte.weight", "wpe.weight", "lm_head.weight")):
            std = 0.4
        weights[name] = torch.from_numpy((mean + std * rng.standard_normal(shape)).astype(np.float32))
    return weights


ACTIVATIONS = ("gelu_new", "gelu", "relu", "silu", "tanh", "quick_gelu")


def compute_weights(config: GPT2Config) -> dict[str, torch.Tensor]:
    """Weights that src/engine/self_test.rs computes as well, so that a page does not download them.

    A number is mean + step * k, with k from -64 to 63: the highest seven bits of a linear congruential generator whose
    seed is the FNV-1a hash of the tensor's name. All of them are exact in half precision.
    """
    weights = {}
    for name, drawn in draw_weights(config, np.random.default_rng(0)).items():
        name_in_file = name.removeprefix("transformer.")
        state = 0x811C9DC5
        for byte in name_in_file.encode():
            state = (state ^ byte) * 0x01000193 % 2**32
        mean, step = 0.0, 6 / 1024
        if ".ln_" in name or "ln_f" in name:
            mean = 1.0 if name.endswith("weight") else 0.0
        elif name.endswith("c_attn.weight"):
            step = 7 / 1024
        elif name.endswith(("wte.weight", "wpe.weight")):
            step = 11 / 1024
        numbers = []
        for _ in range(drawn.numel()):
            state = (state * 1664525 + 1013904223) % 2**32
            numbers.append(mean + step * ((state >> 25) - 64))
        weights[name] = torch.tensor(numbers, dtype=torch.float32).reshape(drawn.shape)
        assert torch.equal(weights[name], weights[name].to(torch.float16).to(torch.float32)), name
    return weights


def known_answers(path: Path, ids: list[int], next_id: int) -> dict[str, dict[str, list[float]]]:
    """By nonlinearity, the logits after the prompt and after one more token."""
    answers = {}
    for activation in ACTIVATIONS:
        model = load(path, activation_function=activation)
        last, following = (model(torch.tensor([ids + more])).logits[0, -1] for more in ([], [next_id]))
        answers[activation] = {"logits_last": rounded(last, 7), "logits_next": rounded(following, 7)}
    return answers


def write_checkpoint(path: Path, checkpoint: Checkpoint, config: GPT2Config, weights: dict[str, torch.Tensor]) -> None:
    """Writes `config.json` and the safetensors file or shards."""
    tensors = {
        name.replace("transformer.", checkpoint.prefix): tensor.to(checkpoint.dtype) for name, tensor in weights.items()
    }
    for i in range(config.n_layer):
        attn = f"{checkpoint.prefix}h.{i}.attn"
        if checkpoint.mask_dtype:
            mask = torch.ones(1, 1, config.n_positions, config.n_positions).tril()
            tensors[f"{attn}.bias"] = mask.to(checkpoint.mask_dtype)
        if checkpoint.has_masked_bias:
            tensors[f"{attn}.masked_bias"] = torch.tensor(-1e4, dtype=checkpoint.dtype)

    path.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(path)
    if checkpoint.n_shards == 1:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for shard in range(checkpoint.n_shards):
        file = f"model-{shard + 1:05}-of-{checkpoint.n_shards:05}.safetensors"
        # Dealt out in turn, so that a layer is spread over all the shards.
        names = sorted(tensors)[shard :: checkpoint.n_shards]
        save_file({name: tensors[name] for name in names}, path / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    total_size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def load(path: Path, **changes) -> GPT2LMHeadModel:
    """The checkpoint as transformers reads it, run in float32 whatever it is stored in, with changes to its config."""
    model, info = GPT2LMHeadModel.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **changes
    )
    assert not info["missing_keys"] and not info["mismatched_keys"], (path, info)
    return model.eval()


def greedy(model: GPT2LMHeadModel, ids: list[int], n_new: int, use_cache: bool) -> tuple[list[int], torch.Tensor]:
    """The `n_new` most probable continuations, one after the other, and the logits [n_new, V] that chose them."""
    sequence, steps, cache = list(ids), [], None
    for _ in range(n_new):
        fed = sequence[-1:] if cache else sequence
        output = model(torch.tensor([fed]), past_key_values=cache, use_cache=use_cache)
        cache = output.past_key_values if use_cache else None
        steps.append(output.logits[0, -1])
        sequence.append(int(steps[-1].argmax()))
    return sequence[len(ids) :], torch.stack(steps)


def module_outputs(model: GPT2LMHeadModel, ids: list[int]) -> dict[str, torch.Tensor]:
    """What every module gives for the prompt, [T, C], and the attention probabilities, [H, T, T]."""
    outputs = {}

    def keep(name):
        def hook(_module, _inputs, output):
            if isinstance(output, tuple):  # attention: (output, probabilities)
                output, outputs[f"{name}.weights"] = output[0], output[1][0].clone()
            outputs[name] = output[0].clone()

        return hook

    gpt2 = model.transformer
    named = {"embed": gpt2.drop, "ln_f": gpt2.ln_f}  # dropout does nothing here, and its input is wte + wpe
    for i, block in enumerate(gpt2.h):
        named |= {f"h.{i}.{part}": getattr(block, part) for part in ("ln_1", "attn", "ln_2", "mlp")}
        named[f"h.{i}"] = block
    hooks = [module.register_forward_hook(keep(name)) for name, module in named.items()]
    model(torch.tensor([ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return outputs


def rounded(values, digits: int) -> list[float]:
    return [float(f"{float(value):.{digits}g}") for value in values]


def try_checkpoint(checkpoint: Checkpoint, attempt: int) -> bool:
    """Writes the checkpoint and its expected output. False when a greedy choice is too close to be a fair test."""
    # The folder is in the seed, so that adding a model leaves the others as they are.
    rng = np.random.Generator(np.random.PCG64([zlib.crc32(checkpoint.folder.encode()), attempt]))
    end_of_text = checkpoint.config["vocab_size"] - 1  # the default, 50256, would be outside these vocabularies
    config = GPT2Config(
        **checkpoint.config,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        architectures=["GPT2LMHeadModel"],
        dtype=checkpoint.dtype,
    )
    prompt_len = checkpoint.prompt_len or config.n_positions // 2
    ids = rng.integers(config.vocab_size, size=prompt_len).tolist()
    path = HERE / checkpoint.folder
    weights = compute_weights(config) if checkpoint.known_answer else draw_weights(config, rng)
    write_checkpoint(path, checkpoint, config, weights)

    model = load(path)
    n_new = min(config.n_positions - prompt_len, MAX_GREEDY)
    tokens, steps = greedy(model, ids, n_new, use_cache=False)
    top = steps.topk(2).values
    gaps = top[:, 0] - top[:, 1]
    # A model that repeats itself would hide a wrong position or a stale cache.
    if gaps.min() <= MIN_GAP or len(set(tokens)) < n_new / 2:
        return False
    cached_tokens, cached_steps = greedy(model, ids, n_new, use_cache=True)
    assert cached_tokens == tokens, checkpoint.folder
    torch.testing.assert_close(cached_steps, steps, rtol=1e-4, atol=1e-4)

    expected = {"ids": ids, "greedy": tokens, "greedy_gaps": rounded(gaps, 7)}
    if checkpoint.known_answer:
        expected = {"ids": ids, "next": tokens[0], "answers": known_answers(path, ids, tokens[0])}
    (path / "expected.json").write_text(json.dumps(expected) + "\n")
    outputs = module_outputs(model, ids) if checkpoint.per_module else {}
    outputs["logits"] = model(torch.tensor([ids]), use_cache=False).logits[0].clone()
    save_file(outputs, path / "expected.safetensors")
    return True


# --- The sampler ---

# Each option alone, then mixtures; `None` in MIXED leaves the option out.
ALONE = dict(
    repetition_penalty=[0.7, 1.0, 1.3, 2.5],
    no_repeat_ngram_size=[1, 2, 3, 4],
    temperature=[1e-6, 0.01, 0.7, 1.0, 1.8],
    top_k=[1, 3, 10, 1000],
    top_p=[0.0, 0.3, 0.9, 0.999, 1.0],
    min_p=[0.0, 0.05, 0.5, 1.0],
)
MIXED = dict(
    repetition_penalty=[None, 0.8, 1.2, 1.9],
    no_repeat_ngram_size=[None, 1, 2, 3],
    temperature=[None, 0.001, 0.6, 0.9, 1.4],
    top_k=[None, 0, 2, 5, 40, 60],
    top_p=[None, 0.0, 0.5, 0.8, 0.95, 1.0],
    min_p=[None, 0.02, 0.1, 0.4],
)
VOCAB_SIZES = (5, 16, 50)
N_MIXED = 46


def draw_logits(rng: np.random.Generator, kind: str, vocab_size: int) -> np.ndarray:
    noise = rng.standard_normal(vocab_size)
    logits = {"plain": 3 * noise, "ties": np.round(1.5 * noise), "negative": 2 * noise - 12}[kind]
    return logits.round(3).astype(np.float32)


def process(logits: np.ndarray, ids: list[int], prompt_len: int, options: dict) -> tuple[list[int], torch.Tensor]:
    """The kept ids and their probabilities, through the processors that `generate` would build from `options`."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(logits), n_positions=1, n_embd=1, n_head=1, n_layer=1))
    processors = model._get_logits_processor(
        GenerationConfig(**options),
        input_ids_seq_length=prompt_len,
        model_kwargs={"attention_mask": torch.ones(1, prompt_len, dtype=torch.long)},
    )
    scores = processors(torch.tensor([ids]), torch.from_numpy(logits.copy())[None])[0]
    kept = torch.isfinite(scores).nonzero()[:, 0]
    return kept.tolist(), scores.softmax(dim=-1)[kept]


def is_fair(logits: np.ndarray, ids: list[int], prompt_len: int, options: dict, kept: list[int]) -> bool:
    """Whether some token is kept, and which ones hangs neither on rounding nor on how a sort orders equal logits."""
    if not kept:
        return False
    # transformers sorts unstably, so a top_p cut through equal probabilities keeps whichever happen to come last
    uncut = {name: value for name, value in options.items() if name not in ("top_p", "min_p")}
    probs = dict(zip(*process(logits, ids, prompt_len, uncut)))
    least = min(probs[i] for i in kept)
    variants = [[i for i, prob in probs.items() if prob >= least]]
    for factor in (1 - 1e-4, 1 + 1e-4):
        cuts = {name: options[name] for name in ("top_p", "min_p") if options.get(name, 1.0) < 1.0}
        nudged = {name: min(factor * cut, 1.0) for name, cut in cuts.items()}
        variants.append(process(logits, ids, prompt_len, options | nudged)[0])
    return all(variant == kept for variant in variants)


def f32_json(values) -> list[float]:
    """The shortest decimals (9 digits at most) that a float32 reader turns back into the same bits."""
    floats = [float(str(np.float32(value))) for value in values]
    assert all(np.float32(a) == np.float32(b) for a, b in zip(floats, values))
    return floats


def draw_case(rng: np.random.Generator, kind: str, vocab_size: int, options: dict) -> dict:
    while True:
        logits = draw_logits(rng, kind, vocab_size)
        # Few distinct tokens, and an end that repeats the start, so that n-grams recur; but never every token of the
        # vocabulary: something must be left to choose.
        seen = rng.permutation(vocab_size)[: min(4, vocab_size - 2)]
        start = rng.choice(seen, size=int(rng.integers(5, 10))).tolist()
        ids = start + start[: int(rng.integers(2, 6))]
        prompt_len = int(rng.integers(1, len(ids) + 1))
        kept, probs = process(logits, ids, prompt_len, options)
        if is_fair(logits, ids, prompt_len, options, kept):
            return {
                "logits": f32_json(logits),
                "ids": ids,
                "prompt_len": prompt_len,
                "options": options,
                "kept": kept,
                "probs": f32_json(probs),
            }


def write_sampler() -> None:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(b"sampler")))
    kinds = ("plain", "ties", "negative")
    alone = [{name: value, "do_sample": True} for name, values in ALONE.items() for value in values]
    wanted = [options for options in alone for _ in VOCAB_SIZES]
    for i in range(N_MIXED):
        drawn = {name: values[int(rng.integers(len(values)))] for name, values in MIXED.items()}
        options = {name: value for name, value in drawn.items() if value is not None}
        wanted.append(options | {"do_sample": i % 5 != 0})  # greedy ignores temperature, top_k, top_p and min_p
    wanted += [{"do_sample": True}, {"do_sample": False}]
    # Sizes go round fastest and kinds advance once a round, so that every option meets every size and kind.
    cases = [draw_case(rng, kinds[(i + i // 3) % 3], VOCAB_SIZES[i % 3], options) for i, options in enumerate(wanted)]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "sampler.json").write_text(f"[\n{lines}\n]\n")


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for stale in ("models", "self_test"):
        shutil.rmtree(HERE / stale, ignore_errors=True)
    for checkpoint in CHECKPOINTS:
        attempt = next(attempt for attempt in range(1000) if try_checkpoint(checkpoint, attempt))
        print(f"{checkpoint.folder}: attempt {attempt}")
    write_sampler()


if __name__ == "__main__":
    main()
