// The tile of weights in halves, exact: fp16 and q8 as they are, q4 without the scales of its blocks.
alias Weights = vec4<f16>;
