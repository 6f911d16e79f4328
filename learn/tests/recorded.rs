//! A fine-tuning that is recorded in `tests/golden/lora`: the page's tests make the same one in a browser, and PEFT has
//! loaded what it saved (`make_peft.py`). The file that all are held against is written anew by
//! `cargo test -p gpt2-learn --test recorded -- --ignored`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use gpt2_web::adapter::{Adapter, CONFIG_FILE, WEIGHTS_FILE};
use learn::checkpoint::{Checkpoint, pretty};
use learn::finetune::{Finetune, FinetuneReport, FinetuneSettings};
use learn::lora::{LoraSettings, parameters, peft_files};
use learn::text::read_tokenizer;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/lora")
}

fn demo_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/demo")
}

fn demo() -> Checkpoint {
    checkpoint(&demo_folder())
}

fn recorded() -> Value {
    common::json(&folder().join("run.json"))
}

/// Makes the run again. → its steps, and the run at its end
fn run(recorded: &Value) -> (Vec<FinetuneReport>, Finetune) {
    let settings: FinetuneSettings = serde_json::from_value(recorded["settings"].clone()).expect("settings");
    let ids = floats(&recorded["ids"]).into_iter().map(|id| id as u32).collect();
    let demo = demo();
    let mut run = Finetune::new(demo.model, demo.params, &[ids], settings).expect("a run");
    let reports = (0..run.n_steps()).map(|_| run.step().expect("a step")).collect();
    (reports, run)
}

#[test]
fn the_losses_are_those_recorded() {
    let recorded = recorded();
    let (reports, _) = run(&recorded);
    let losses = floats(&recorded["losses"]);
    assert_eq!(losses.len(), 20);
    assert!(losses[19] < 0.6 * losses[0]);
    for (report, expected) in reports.iter().zip(losses) {
        assert_near(&format!("loss {}", report.step), report.loss, expected, 1e-4);
    }
    let last = reports[19].eval_loss.unwrap();
    assert_near("what is kept back", last, recorded["eval_loss"].as_f64().unwrap(), 1e-4);
}

#[test]
fn what_peft_has_loaded_is_what_is_saved() {
    let read = |name: &str| fs::read(folder().join(name)).unwrap();
    let (config, weights) = (read(CONFIG_FILE), read(WEIGHTS_FILE));
    let demo = demo();
    let adapter = Adapter::from_peft(&demo.model.config, std::str::from_utf8(&config).unwrap(), &weights).unwrap();
    let (layout, params) = parameters(&adapter, demo.model.config.n_layer);
    let settings: FinetuneSettings = serde_json::from_value(recorded()["settings"].clone()).unwrap();
    let lora: LoraSettings = settings.lora();
    assert_eq!(layout, lora.layout(&demo.model.config).unwrap());
    for (name, bytes) in peft_files(&lora, &layout, &params, "demo").unwrap() {
        assert!(bytes == read(name), "{name}");
    }
}

#[test]
#[ignore = "writes what the others are held against"]
fn record() {
    let mut recorded = recorded();
    let (_, tokenizer) = read_tokenizer(&demo_folder().join("tokenizer.json")).expect("a tokenizer");
    recorded["ids"] = json!(tokenizer.encode(recorded["text"].as_str().expect("a text")).expect("ids"));
    let (reports, run) = run(&recorded);
    recorded["losses"] = reports.iter().map(|report| json!(report.loss)).collect();
    recorded["eval_loss"] = json!(reports[19].eval_loss);
    fs::write(folder().join("run.json"), pretty(&recorded)).unwrap();
    for (name, bytes) in
        peft_files(&run.settings().lora(), run.lora_layout().expect("an adapter"), run.params(), "demo").unwrap()
    {
        fs::write(folder().join(name), bytes).unwrap();
    }
}
