// The tile of weights in f32, scaled on the way in.
alias Weights = vec4<f32>;
const IS_SCALED_LATER: bool = false;
