//! Which checkpoints there are.

/// The folders in `tests/golden/models`, one for each kind of configuration and checkpoint.
pub const MODELS: [&str; 13] = [
    "base",
    "untied",
    "f16",
    "bf16",
    "gelu",
    "relu",
    "silu",
    "tanh",
    "inverse_layer",
    "unscaled",
    "odd",
    "sharded",
    "one",
];
