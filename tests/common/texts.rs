//! The demo model that the package carries, on an engine, with what texts need.

use std::rc::Rc;

use gpt2_web::engine::Engine;
use gpt2_web::generate::{GenerateOptions, Session};
use gpt2_web::tokenizer::Tokenizer;
use serde_json::Value;

use super::demo;

/// A prompt of some forty tokens.
pub const LONG: &str = "Once upon a time there was a little girl who lived with her mother in a small house at the edge of a great \
    forest, and every day she went out to gather wood, and flowers, and all the berries that she could find.";

/// The demo model on an engine.
pub struct Demo<E> {
    pub engine: Rc<E>,
    pub tokenizer: Rc<Tokenizer>,
}

impl<E: Engine> Demo<E> {
    pub fn new(engine: E) -> Self {
        let json = std::fs::read(demo().join("tokenizer.json")).expect("tokenizer.json");
        let tokenizer = Tokenizer::from_tokenizer_json(&json).expect("tokenizer");
        Self { engine: Rc::new(engine), tokenizer: Rc::new(tokenizer) }
    }

    pub fn session(&self) -> Session<E> {
        Session::new(self.engine.clone(), self.tokenizer.clone())
    }

    pub fn options(&self, given: Value) -> GenerateOptions {
        let Value::Object(given) = given else { panic!("an object") };
        let config = self.engine.config();
        GenerateOptions::defaults(config, None).0.with(&given, config).expect("options")
    }

    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text).expect("encode")
    }

    /// So many ids of ordinary text.
    pub fn prompt(&self, n: usize) -> Vec<u32> {
        self.encode(LONG).into_iter().cycle().take(n).collect()
    }

    pub fn n_ctx(&self) -> usize {
        self.engine.config().n_positions
    }
}
