//! A run that is stopped and goes on is the run that never stopped, to the bit; killed at any moment, too.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::write_text;
use serde_json::Value;

const CONFIG: &str = r#"{"model_type":"gpt2","vocab_size":300,"n_positions":16,"n_embd":16,"n_head":2,"n_layer":2,
    "embd_pdrop":0.1,"attn_pdrop":0.1,"resid_pdrop":0.1}"#;

/// The command for a run of 40 steps in `out`.
fn learn(text: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_learn"));
    command.arg("train").arg("--text").arg(text).arg("--out").arg(out);
    command.arg("--config").arg(text.join("config.json"));
    command.args("--row-tokens 16 --rows 4 --accumulate 2 --warmup 5 --cooldown 10 --held-out-every 10".split(' '));
    command.args("--sample-every 0 --save-every 7".split(' ')).args(more);
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    command
}

fn succeed(mut command: Command) {
    let output = command.output().expect("learn");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Panics unless two runs came to the same.
fn assert_same(a: &Path, b: &Path) {
    for file in ["state.safetensors", "log.jsonl", "best/model.safetensors", "last/model.safetensors"] {
        let read = |run: &Path| fs::read(run.join(file)).expect(file);
        assert!(read(a) == read(b), "{file} differs");
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path();
    write_text(text);
    fs::write(text.join("config.json"), CONFIG).unwrap();
    for optimizer in ["muon", "adamw"] {
        let out = |name: &str| text.join(format!("{optimizer}-{name}"));
        let more = ["--optimizer", optimizer, "--steps", "40"];
        succeed(learn(text, &out("whole"), &more));

        // killed again and again, each time a little later, so that it dies while it reads, learns and saves
        let killed = out("killed");
        let mut n_killed = 0;
        for n_ms in std::iter::successors(Some(5), |n_ms| Some(n_ms + 3 + n_ms / 8)) {
            let mut run = learn(text, &killed, &more).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(n_ms));
            run.kill().unwrap();
            let status = run.wait().unwrap();
            if status.success() {
                break;
            }
            n_killed += 1;
        }
        assert!(n_killed > 0);
        succeed(learn(text, &killed, &more));
        assert_same(&out("whole"), &killed);

        // rows that nobody prepares beforehand are the same rows
        let unprepared = out("unprepared");
        succeed(learn(text, &unprepared, &[&more[..], &["--prefetch", "0"]].concat()));
        assert_same(&out("whole"), &unprepared);

        // ended sooner than planned, and then made longer before the rate has begun to fall
        let longer = out("longer");
        succeed(learn(
            text,
            &longer,
            &["--optimizer", optimizer, "--steps", "20", "--cooldown", "0", "--last-share", "1"],
        ));
        succeed(learn(text, &longer, &more));
        assert_same(&out("whole"), &longer);
        let picture = fs::read_to_string(longer.join("curve.svg")).unwrap();
        assert!(picture.contains("held out") && picture.contains("gradient norm"), "{picture}");
    }
}

/// Without Burn the program says so, and with it a run on Burn's processor device goes on as it began.
#[test]
fn a_run_on_another_device() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path();
    write_text(text);
    fs::write(text.join("config.json"), CONFIG.replace("0.1", "0.0")).unwrap();
    let more =
        |steps| ["--optimizer", "muon", "--device", "flex", "--read-every", "4", "--cooldown", "0", "--steps", steps];
    if cfg!(not(feature = "burn")) {
        let output = learn(text, &text.join("run"), &more("12")).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("built without Burn"));
        return;
    }
    let (whole, cut) = (text.join("whole"), text.join("cut"));
    let constant = ["--last-share", "1"];
    succeed(learn(text, &whole, &[&more("12")[..], &constant].concat()));
    succeed(learn(text, &cut, &[&more("7")[..], &constant].concat()));
    succeed(learn(text, &cut, &[&more("12")[..], &constant].concat()));
    let lines = |run: &Path| fs::read_to_string(run.join("log.jsonl")).unwrap();
    let steps = |run: &Path| lines(run).lines().filter(|line| line.contains("grad_norm")).count();
    assert_eq!((steps(&whole), steps(&cut)), (12, 12));
    let state = |run: &Path| fs::read(run.join("state.safetensors")).unwrap();
    assert!(lines(&cut).lines().take(6).eq(lines(&whole).lines().take(6)));
    assert!(whole.join("last/model.safetensors").exists() && state(&cut).len() == state(&whole).len());

    let output = learn(text, &text.join("no"), &["--device", "tpu"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("option `device`"));
}

#[test]
fn another_run_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path();
    write_text(text);
    fs::write(text.join("config.json"), CONFIG).unwrap();
    let out = text.join("run");
    succeed(learn(text, &out, &["--steps", "12"]));
    let run: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["settings"]["rows"], 4);
    for (more, named) in [(["--seed", "2"], "`seed` 1"), (["--rate", "0.9"], "the rates that the steps so far had")] {
        let output = learn(text, &out, &[&["--steps", "12"], &more[..]].concat()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.contains(named), "{words}");
    }
    let again: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(again, run, "what was refused changed nothing");
}

#[test]
fn wrong_inputs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path();
    fs::write(text.join("config.json"), CONFIG).unwrap();
    let fails = |more: &[&str], named: &str| {
        let output = learn(text, &text.join("run"), more).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.contains(named), "{words}");
    };
    fails(&[], "files `*.txt` or `*.txt.xz`");
    write_text(text);
    fails(&["--preset", "gpt5"], "option `preset`: expected one of");
    fails(&["--tokenizer", "nowhere.json"], "nowhere.json");
    fs::write(text.join("tales.txt.xz"), b"not packed").unwrap();
    fails(&[], "tales.txt.xz");
}
