//! Every parameter of a model learns a text: the loss falls, the best is told, and a run goes on to the bit.

mod common;

use std::path::Path;

use common::*;
use learn::finetune::{Finetune, FinetuneReport, FinetuneSettings, Method, estimate_bytes};

/// A text with a habit: every fourth token is the same.
fn text() -> Vec<u32> {
    (0..1600u32).map(|i| if i % 4 == 0 { 77 } else { (i * i * 31 + 7 * i) % 90 + 300 }).collect()
}

fn demo() -> learn::checkpoint::Checkpoint {
    checkpoint(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/demo"))
}

fn begin(settings: FinetuneSettings) -> Finetune {
    let demo = demo();
    Finetune::new(demo.model, demo.params, &[text()], settings).expect("a run")
}

fn to_the_end(run: &mut Finetune, reports: &mut Vec<FinetuneReport>) {
    while reports.last().is_none_or(|report: &FinetuneReport| !report.is_last) {
        reports.push(run.step().expect("a step"));
    }
}

#[test]
fn every_parameter_learns_and_a_run_goes_on_to_the_bit() {
    let settings =
        FinetuneSettings { method: Method::Full, max_length: 64, epochs: 2.0, ..FinetuneSettings::default() };
    let mut run = begin(settings.clone());
    assert!(run.lora_layout().is_none());
    let before = run.eval_loss().expect("a part that is kept back");
    let mut reports: Vec<FinetuneReport> = (0..7).map(|_| run.step().expect("a step")).collect();
    let (progress, numbers) = (run.progress(), run.numbers());
    to_the_end(&mut run, &mut reports);
    let best = reports.iter().filter_map(|report| report.eval_loss).fold(f64::INFINITY, f64::min);
    assert!(best < before - 1.5, "{before} before, {best} at best");
    assert!(reports.iter().all(|report| report.grad_norm.is_finite() && report.grad_norm > 0.0));
    let n_changed = run.params().iter().zip(&demo().params).filter(|(a, b)| a != b).count();
    assert!(n_changed > run.params().len() / 2, "{n_changed} of {} parameters changed", run.params().len());

    let mut again = begin(settings);
    again.restore(progress, &numbers).expect("the same run");
    let mut rest = reports[..7].to_vec();
    to_the_end(&mut again, &mut rest);
    assert_eq!(rest, reports);
    assert_eq!(again.params(), run.params());
}

#[test]
fn an_adapters_settings_decide_nothing_where_there_is_none() {
    let full = FinetuneSettings { method: Method::Full, max_length: 64, ..FinetuneSettings::default() };
    let (mut one, mut other) = (begin(full.clone()), begin(FinetuneSettings { r: 3, lora_alpha: 1.0, ..full.clone() }));
    assert_eq!(one.step().expect("a step"), other.step().expect("a step"));
    assert_eq!((full.rate(), FinetuneSettings::default().rate()), (5e-4, 1e-3));
    let demo = demo();
    let [of_all, of_adapter] = [&full, &FinetuneSettings { max_length: 64, ..FinetuneSettings::default() }]
        .map(|settings| estimate_bytes(&demo.model, settings).expect("an estimate"));
    // six more numbers a parameter, in the place of the adapter's
    assert!(of_all > of_adapter + 5 * 4 * demo.model.layout.n_params as u64);
}
