"""What transformers with PEFT makes of the adapter that lies here, which `learn/tests/recorded.rs` has saved.

    python3 -m venv target/golden
    target/golden/bin/pip install -r tests/golden/requirements.txt peft==0.21.0
    target/golden/bin/python tests/golden/lora/make_peft.py

writes expected.json and expected.safetensors, from the root of the repository.
"""

import json
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent
DEMO = HERE.parents[2] / "www/demo"
N_PROMPT = 48


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    ids = torch.tensor([json.loads((HERE / "run.json").read_text())["ids"][:N_PROMPT]])
    load = lambda: transformers.AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    base = load()(ids).logits[0]
    model = peft.PeftModel.from_pretrained(load(), HERE)
    n_params = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    logits = model(ids).logits[0]
    merged = model.merge_and_unload()(ids).logits[0]
    assert torch.allclose(merged, logits, atol=1e-4), "merged"
    assert (logits - base).abs().max() > 1, "the adapter counts"
    nll = lambda x: torch.nn.functional.cross_entropy(x[:-1], ids[0, 1:]).item()
    told = {
        "made_with": {"transformers": transformers.__version__, "peft": peft.__version__, "torch": torch.__version__},
        "ids": ids[0].tolist(),
        "n_params": n_params,
        "nll": nll(logits),
        "nll_base": nll(base),
    }
    (HERE / "expected.json").write_text(json.dumps(told, indent=1) + "\n")
    save_file({"logits_last": logits[-1].clone()}, HERE / "expected.safetensors")


main()
