//! Adapters that learn, against PyTorch's and PEFT's numbers.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use gpt2_web::adapter::{Adapter, CONFIG_FILE, WEIGHTS_FILE};
use learn::checkpoint::Checkpoint;
use learn::fused::{LaneOptions, Lora, LoraLayout, Rows, Workspace};
use learn::lora::{Base, LoraLearner, LoraRecipe, LoraSettings, parameters, peft_files, start};
use learn::optim::AdamW;
use learn::train::State;

fn read(base: &Checkpoint, folder: &Path) -> (LoraLayout, Vec<f32>) {
    let config = fs::read_to_string(folder.join(CONFIG_FILE)).expect("an adapter");
    let weights = fs::read(folder.join(WEIGHTS_FILE)).expect("an adapter");
    let adapter = Adapter::from_peft(&base.model.config, &config, &weights).expect("an adapter");
    parameters(&adapter, base.model.config.n_layer)
}

fn of(checkpoint: &Checkpoint) -> Base<'_> {
    Base { model: &checkpoint.model, params: &checkpoint.params }
}

fn recipe(lanes: LaneOptions) -> LoraRecipe {
    let adamw = AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    LoraRecipe { adamw, schedule: constant(0.01), max_norm: None, lanes }
}

const LANES: [LaneOptions; 3] = [
    LaneOptions { n_lanes: 1, rows_at_once: ROWS, recompute: false },
    LaneOptions { n_lanes: 2, rows_at_once: 1, recompute: true },
    LaneOptions { n_lanes: 3, rows_at_once: 2, recompute: false },
];

/// `lora_ids` [31, 4, 33].
struct LoraBatches {
    ids: Vec<u32>,
    labels: Vec<i32>,
}

impl LoraBatches {
    fn read(folder: &Path) -> Self {
        let tensors = tensors(&folder.join("batches.safetensors"));
        let rows = tensors["lora_ids"].chunks(TOKENS + 1);
        Self {
            ids: rows.clone().flat_map(|row| &row[..TOKENS]).map(|&id| id as u32).collect(),
            labels: rows.flat_map(|row| &row[1..]).map(|&id| id as i32).collect(),
        }
    }

    fn rows(&self, batch: usize) -> Rows<'_> {
        let range = batch * ROWS * TOKENS..(batch + 1) * ROWS * TOKENS;
        Rows { ids: &self.ids[range.clone()], labels: &self.labels[range], n_tokens: TOKENS }
    }
}

#[test]
fn gradients_of_a_and_b() {
    let Some(folder) = shared("learn") else { return };
    let (json, grads) = (json(&folder.join("lora/lora.json")), tensors(&folder.join("lora/grads.safetensors")));
    let base = checkpoint(&folder.join("trained"));
    let batches = LoraBatches::read(&folder);
    for name in ["init", "adapter"] {
        let (layout, params) = read(&base, &folder.join("lora").join(name));
        for lanes in LANES {
            let state = State::new(params.clone());
            let mut learner = LoraLearner::new(layout.clone(), recipe(lanes), state);
            let (sums, found) = learner.gradients(of(&base), &[batches.rows(30)]);
            let told = &json["grads"][name];
            assert_near("loss", sums.cross_entropy(), told["loss"].as_f64().unwrap(), 1e-5);
            assert_near("norm", learn::optim::norm(found), told["grad_norm"].as_f64().unwrap(), 1e-5);
            for (layer, parts) in layout.blocks.iter().enumerate() {
                for (part, (module, _)) in parts.iter().zip(gpt2_web::adapter::MODULES) {
                    let part = part.as_ref().unwrap();
                    for (matrix, range) in [("A", &part.a), ("B", &part.b)] {
                        let tensor =
                            format!("{name}.base_model.model.transformer.h.{layer}.{module}.lora_{matrix}.weight");
                        let expected = grads.get(&tensor).unwrap_or_else(|| panic!("no {tensor}: {:?}", grads.keys()));
                        assert_eq!(expected.len(), range.len());
                        for (found, expected) in found[range.clone()].iter().zip(expected) {
                            assert_near(&tensor, f64::from(*found), *expected, 2e-6);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn thirty_steps_are_those_of_peft() {
    let Some(folder) = shared("learn") else { return };
    let json = json(&folder.join("lora/lora.json"));
    let (losses, norms) = (floats(&json["loss"]), floats(&json["grad_norm"]));
    let base = checkpoint(&folder.join("trained"));
    let (layout, params) = read(&base, &folder.join("lora/init"));
    let (_, after_20) = read(&base, &folder.join("lora/adapter"));
    let batches = LoraBatches::read(&folder);
    let state = State::new(params);
    let mut learner = LoraLearner::new(layout, recipe(LANES[0]), state);
    assert_eq!(losses.len(), 30);
    for step in 0..30 {
        let report = learner.step(of(&base), &[batches.rows(step)]).unwrap();
        assert_near(&format!("loss {step}"), report.sums.cross_entropy(), losses[step], 1e-4);
        assert_near(&format!("norm {step}"), report.grad_norm, norms[step], 3e-4);
        if step + 1 == 20 {
            let squares = learner.state.params.iter().zip(&after_20).map(|(a, b)| f64::from(a - b).powi(2));
            let rms = (squares.sum::<f64>() / after_20.len() as f64).sqrt();
            assert!(rms <= 5e-5, "after 20 steps the parameters differ by {rms:.1e}");
        }
    }
}

#[test]
fn what_is_saved_is_read_and_gives_the_same_logits() {
    let Some(folder) = shared("learn") else { return };
    let base = checkpoint(&folder.join("trained"));
    let prompt: Vec<u32> = tensors(&folder.join("batches.safetensors"))["prompt"].iter().map(|&id| id as u32).collect();
    let logits = |layout: &LoraLayout, params: &[f32]| {
        let mut space = Workspace::default();
        let lora = Lora { layout, params };
        base.model.hidden_with(&base.params, Some(lora), &prompt, prompt.len(), &mut space).to_vec()
    };
    let settings = LoraSettings {
        r: 4,
        lora_alpha: 6.0,
        use_rslora: true,
        target_modules: vec!["c_attn".into(), "mlp.c_proj".into()],
    };
    let layout = settings.layout(&base.model.config).unwrap();
    let mut state = State::new(start(&layout, 3));
    let plain = base.model.hidden(&base.params, &prompt, prompt.len(), &mut Workspace::default()).to_vec();
    assert_eq!(logits(&layout, &state.params), plain, "the start changes nothing");
    state.params.iter_mut().enumerate().for_each(|(i, x)| *x += ((i * 7 % 13) as f32 - 6.0) * 0.01);
    let files = peft_files(&settings, &layout, &state.params, "some/model").unwrap();
    let [(_, config), (_, weights)] = &files;
    let adapter = Adapter::from_peft(&base.model.config, std::str::from_utf8(config).unwrap(), weights).unwrap();
    let (again, params) = parameters(&adapter, base.model.config.n_layer);
    assert_eq!((&again, &params), (&layout, &state.params));
    assert_ne!(logits(&again, &params), plain);
}

#[test]
fn merged_weights_are_those_of_peft() {
    let Some(folder) = shared("learn") else { return };
    let mut base = checkpoint(&folder.join("trained"));
    let (layout, params) = read(&base, &folder.join("lora/adapter"));
    let expected = checkpoint(&folder.join("lora/merged"));
    learn::lora::merge(&mut base.params, &base.model.layout, (&layout, &params), 1.0);
    for (found, expected) in base.params.iter().zip(&expected.params) {
        assert_near("weight", f64::from(*found), f64::from(*expected), 1e-6);
    }
    learn::lora::merge(&mut base.params, &base.model.layout, (&layout, &params), -1.0);
    let plain = checkpoint(&folder.join("trained"));
    for (found, expected) in base.params.iter().zip(&plain.params) {
        assert_near("weight, without it again", f64::from(*found), f64::from(*expected), 1e-6);
    }
}

#[test]
fn packed_weights_are_the_parameters_that_they_stand_for() {
    use gpt2_kernels::{Dtype, PackedModel};
    use gpt2_web::checkpoint::{CheckpointReader, PackingSink, packing};

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/demo");
    let read = checkpoint(&folder);
    for (dtype, tolerance) in [(Dtype::Fp32, 0.0), (Dtype::Fp16, 1e-3), (Dtype::Q8, 0.01), (Dtype::Q4, 0.12)] {
        let config = &read.model.config;
        let mut model = PackedModel::new(config.dims(), dtype).unwrap();
        let image = model.image_mut();
        let sink = PackingSink::new(packing::layout(config, dtype).unwrap(), |offset, bytes| {
            image[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        });
        let mut reader = CheckpointReader::new(config.clone(), sink);
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        reader.begin_file("model.safetensors", Some(bytes.len() as u64)).unwrap();
        reader.write(&bytes).unwrap();
        reader.finish().unwrap();
        let n_bytes = packing::layout(config, dtype).unwrap().n_bytes;
        let found = learn::checkpoint::unpack(config, &read.model.layout, dtype, &model.image()[..n_bytes]).unwrap();
        for slot in &read.model.layout.slots {
            let (found, expected) = (&found[slot.range.clone()], &read.params[slot.range.clone()]);
            let squares = |f: &dyn Fn(usize) -> f32| (0..found.len()).map(|i| f64::from(f(i)).powi(2)).sum::<f64>();
            let error = (squares(&|i| found[i] - expected[i]) / squares(&|i| expected[i])).sqrt();
            assert!(error <= tolerance, "{} in {}: {error:.1e}", slot.name, dtype.name());
        }
        let short = learn::checkpoint::unpack(config, &read.model.layout, dtype, &model.image()[..n_bytes - 1]);
        assert!(short.unwrap_err().to_string().contains("weights"));
    }
}

#[test]
fn a_text_is_learnt_until_what_is_kept_back_gets_worse() {
    use learn::finetune::{Finetune, FinetuneSettings};

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/demo");
    let demo = checkpoint(&folder);
    // a text with a habit: every fourth token is the same
    let text: Vec<u32> = (0..1600u32).map(|i| if i % 4 == 0 { 77 } else { (i * i * 31 + 7 * i) % 90 + 300 }).collect();
    let settings =
        FinetuneSettings { max_length: 64, epochs: 4.0, learning_rate: Some(5e-3), ..FinetuneSettings::default() };
    let mut run =
        Finetune::new(demo.model.clone(), demo.params.clone(), std::slice::from_ref(&text), settings.clone()).unwrap();
    let before = run.eval_loss().unwrap();
    let mut reports = Vec::new();
    let mut middle = None;
    loop {
        if reports.len() == 9 {
            middle = Some((run.progress(), run.numbers()));
        }
        reports.push(run.step().unwrap());
        if reports.last().unwrap().is_last {
            break;
        }
    }
    assert_eq!(reports.last().unwrap().step, reports.len() as u64);
    let best = reports.iter().filter_map(|r| r.eval_loss).fold(f64::INFINITY, f64::min);
    assert!(best < before - 1.0, "{before} before, {best} at best");
    assert!(reports.iter().any(|r| r.is_best));
    // the same seed gives the same bits
    let mut again = Finetune::new(demo.model.clone(), demo.params.clone(), &[text], settings).unwrap();
    for report in &reports[..3] {
        assert_eq!(again.step().unwrap(), *report);
    }
    // and so does going on where another visit stood
    let (progress, numbers) = middle.unwrap();
    assert_eq!((progress.step, progress.best_loss.is_some()), (9, true));
    again.restore(progress, &numbers).unwrap();
    assert_eq!((again.progress(), again.numbers()), (progress, numbers.clone()));
    for report in &reports[9..] {
        assert_eq!(again.step().unwrap(), *report);
    }
    assert_eq!(again.params(), run.params());
    assert!(again.restore(progress, &numbers[1..]).unwrap_err().to_string().contains("resume"));
    let late = learn::finetune::Progress { step: again.n_steps(), ..progress };
    assert!(again.restore(late, &numbers).unwrap_err().to_string().contains("steps"));
    for (wrong, name) in [
        (FinetuneSettings { r: 0, ..FinetuneSettings::default() }, "`r`"),
        (FinetuneSettings { batch_size: 0, ..FinetuneSettings::default() }, "batch_size"),
        (FinetuneSettings { learning_rate: Some(f64::NAN), ..FinetuneSettings::default() }, "learning_rate"),
        (FinetuneSettings { steps: Some(0), ..FinetuneSettings::default() }, "steps"),
    ] {
        let begun = Finetune::new(demo.model.clone(), demo.params.clone(), &[vec![1, 2, 3]], wrong);
        assert!(begun.err().unwrap().to_string().contains(name));
    }
    let foreign = Finetune::new(demo.model, demo.params, &[vec![1, 999_999]], FinetuneSettings::default());
    assert!(foreign.err().unwrap().to_string().contains("token ids below"));
}
