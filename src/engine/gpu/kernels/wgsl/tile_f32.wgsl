// The tile of weights in f32.
alias Weights = vec4<f32>;
