//! `learn distil` and `learn prune`: what they write, what they tell, and what they refuse.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{checkpoint, json, write_text};

const CONFIG: &str = r#"{"model_type":"gpt2","vocab_size":300,"n_positions":16,"n_embd":16,"n_head":2,"n_layer":2,
    "embd_pdrop":0,"attn_pdrop":0,"resid_pdrop":0}"#;
const STUDENT: &str = r#"{"model_type":"gpt2","vocab_size":300,"n_positions":16,"n_embd":8,"n_head":2,"n_layer":1,
    "embd_pdrop":0,"attn_pdrop":0,"resid_pdrop":0}"#;
const SHORT: &str = "--row-tokens 16 --rows 4 --warmup 5 --cooldown 10 --held-out-every 20 --sample-every 0";

fn learn(command: &str, text: &Path, out: &Path, more: &[&str]) -> Output {
    let mut learn = Command::new(env!("CARGO_BIN_EXE_learn"));
    learn.arg(command).arg("--text").arg(text).arg("--out").arg(out).args(SHORT.split(' ')).args(more);
    learn.output().expect("learn")
}

fn succeed(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn refused(output: Output, named: &str) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains(named), "expected {named}, found {words}");
}

/// A text, and a model in `large/best` that has learnt it.
fn prepare(folder: &Path) -> String {
    write_text(folder);
    fs::write(folder.join("config.json"), CONFIG).expect("config.json");
    fs::write(folder.join("student.json"), STUDENT).expect("student.json");
    let config = folder.join("config.json");
    succeed(learn(
        "train",
        folder,
        &folder.join("large"),
        &["--steps", "60", "--config", config.to_str().expect("a path in UTF-8")],
    ));
    folder.join("large/best").to_str().expect("a path in UTF-8").to_string()
}

/// (name, bits per byte) of each row of a run's table.
fn table(run: &Path) -> Vec<(String, f64)> {
    let text = fs::read_to_string(run.join("table.md")).expect("table.md");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    let rows = text.lines().skip(2).map(cells);
    rows.map(|cells| (cells[1].clone(), cells[6].parse().expect("bits per byte"))).collect()
}

#[test]
fn a_student_is_made_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path();
    let large = prepare(text);
    let (held_out, small) = (text.join("tales-valid.txt"), text.join("student.json"));
    let inputs = ["--teacher", &large, "--student", small.to_str().unwrap(), "--score", held_out.to_str().unwrap()];
    let out = text.join("small");
    let distil = |more: &[&str]| learn("distil", text, &out, &[&inputs[..], &["--steps", "40"], more].concat());
    refused(distil(&["--alpha", "1.5"]), "option `alpha`: expected a number from 0 to 1, found 1.5");
    refused(distil(&["--temperature", "0"]), "option `temperature`");
    succeed(distil(&[]));
    let rows = table(&out);
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["teacher", "student before", "student after"]);
    assert!(rows[2].1 < rows[1].1 - 0.1, "nothing was learnt: {rows:?}");
    assert_eq!(checkpoint(&out.join("best")).model.config.n_layer, 1);
    // with the text alone it becomes another model, and a run is not mixed with another
    refused(distil(&["--alpha", "1"]), "`alpha` 0.5");
    refused(learn("distil", text, &text.join("other"), &[&inputs[..4], &["--score", "no.txt"]].concat()), "no.txt");

    fs::write(&small, STUDENT.replace("300", "301")).unwrap();
    refused(learn("distil", text, &text.join("other"), &inputs), "option `student`: expected the teacher's 300 tokens");
}

#[test]
fn a_pruned_model_learns_on_and_its_zeros_stay() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path();
    let large = prepare(text);
    let held_out = text.join("tales-valid.txt");
    let inputs = ["--model", &large, "--score", held_out.to_str().unwrap(), "--batches", "4"];
    let prune = |out: &str, more: &[&str]| learn("prune", text, &text.join(out), &[&inputs[..], more].concat());
    refused(prune("refused", &["--neurons", "1"]), "option `neurons`: expected a share");
    refused(prune("refused", &["--heads", "4"]), "option `heads`: expected fewer than all 4, found 4");

    let all = ["--neurons", "0.25", "--heads", "1", "--weights", "0.5", "--steps", "20"];
    succeed(prune("pruned", &all));
    let out = text.join("pruned");
    let names: Vec<String> = table(&out).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["before", "pruned", "trained on"]);
    assert_eq!(json(&out.join("best/config.json"))["n_inner"], 48);
    let (pruned, trained) = (checkpoint(&out.join("pruned")), checkpoint(&out.join("best")));
    let (mut n_zeros, mut n_changed) = (0, 0);
    for slot in pruned.model.layout.slots.iter().filter(|slot| slot.is_block_matrix()) {
        for at in slot.range.clone() {
            assert!(pruned.params[at] != 0.0 || trained.params[at] == 0.0, "{} did not stay 0", slot.name);
            n_zeros += usize::from(pruned.params[at] == 0.0);
            n_changed += usize::from(pruned.params[at] != trained.params[at]);
        }
    }
    assert!(n_zeros > 2000 && n_changed > 2000, "{n_zeros} zeros, {n_changed} changed");
    // the same command again has nothing left to do, and says the same
    let before = fs::read(out.join("best/model.safetensors")).unwrap();
    succeed(prune("pruned", &all));
    assert!(fs::read(out.join("best/model.safetensors")).unwrap() == before);

    succeed(prune("neurons", &["--neurons", "0.5", "--steps", "0"]));
    assert_eq!(table(&text.join("neurons")).len(), 2);
    assert_eq!(checkpoint(&text.join("neurons/pruned")).model.config.n_inner, 32);
}
