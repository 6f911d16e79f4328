// A matvec's input as it is. input: [T, K']
fn prepare(i: u32) {}

fn load(t: u32, k4: u32) -> vec4<f32> {
    return input[t * K4 + k4];
}
