// The tile of weights in halves, exact: fp16 and q8 as they are, q4 without the scales of its blocks. A block is the 32
// columns of a tile, so its scale is for the sums over the tile.
alias Weights = vec4<f16>;
const IS_SCALED_LATER: bool = QUADS == 8u;
