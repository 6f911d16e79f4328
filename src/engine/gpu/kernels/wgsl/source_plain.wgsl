// A matvec's input as it is. input: [K']
fn prepare(i: u32) {}

fn load(k4: u32) -> vec4<f32> {
    return input[k4];
}
