//! Generating and scoring, for JavaScript: many texts at once.

use js_sys::{Array, Float32Array, Reflect};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::js::{JsResult, set, take, to_js};
use super::kernels::PageEngine;
use super::session::{Scorer, Session};
use crate::error::Error;
use crate::generate::{self, Chunk, FinishReason, News, Step};

/// Runs many texts on one model. One call of `step` runs at a time.
#[wasm_bindgen]
pub struct Scheduler {
    pub(super) inner: generate::Scheduler<PageEngine>,
}

/// What happened to one text.
#[derive(Default, Serialize)]
struct EventMessage<'a> {
    id: u32,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_done: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_total: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<&'a Chunk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<FinishReason>,
}

impl EventMessage<'_> {
    fn of_part(id: u32, kind: &'static str, n_done: usize, n_total: usize) -> JsResult<JsValue> {
        to_js(&EventMessage { id, kind, n_done: Some(n_done), n_total: Some(n_total), ..Default::default() })
    }
}

#[derive(Serialize)]
struct Figures {
    max_batch_size: usize,
    n_running: usize,
    n_waiting: usize,
    n_guessed: usize,
    n_right: usize,
    cache_bytes: usize,
}

fn to_message(id: u32, news: &News) -> JsResult<JsValue> {
    match news {
        News::Step(Step::Refill) => to_js(&EventMessage { id, kind: "refill", ..Default::default() }),
        News::Step(Step::Prefill { n_done, n_total }) => EventMessage::of_part(id, "prefill", *n_done, *n_total),
        News::Scored(n_done, n_total) => EventMessage::of_part(id, "scored", *n_done, *n_total),
        News::Failed(error) => {
            let js = to_js(&EventMessage { id, kind: "failed", ..Default::default() })?;
            set(&js, "error", &error.clone().into());
            Ok(js)
        }
        News::Step(Step::Token(chunk, finish_reason)) => {
            let (kind, finish_reason) = ("token", *finish_reason);
            let js = to_js(&EventMessage { id, kind, chunk: Some(chunk), finish_reason, ..Default::default() })?;
            if let Some(blocks) = &chunk.attentions {
                let blocks: Array = blocks.iter().map(|w| JsValue::from(Float32Array::from(w.as_slice()))).collect();
                set(&Reflect::get(&js, &"chunk".into())?, "attentions", &blocks);
            }
            Ok(js)
        }
    }
}

#[wasm_bindgen]
impl Scheduler {
    /// Takes a text whose generation has begun. → `[{id, seed}]`: the text and, if its options ask for several, those that
    /// begin with it when its prompt is read
    pub fn add(&self, text: &Session) -> JsResult<JsValue> {
        to_js(&self.inner.add(take(&text.inner)?)?)
    }

    /// Takes a text that is to be scored. → its number
    #[wasm_bindgen(js_name = addScore)]
    pub fn add_score(&self, scorer: Scorer) -> u32 {
        self.inner.add_score(scorer.inner)
    }

    /// Gives a text back to where it came from, with its generation ended. Not while `step` is under way.
    pub fn leave(&self, id: u32, text: &Session) -> JsResult<()> {
        let missing = || Error::InvalidState(format!("the scheduler has no text {id}"));
        text.inner.set(Some(self.inner.leave(id).ok_or_else(missing)?));
        Ok(())
    }

    /// Gives a text up. Not while `step` is under way.
    pub fn discard(&self, id: u32) {
        drop(self.inner.leave(id));
    }

    /// Gives a score that is complete.
    pub fn score(&self, id: u32) -> JsResult<JsValue> {
        let missing = || Error::InvalidState(format!("the scheduler has no score {id}"));
        to_js(&self.inner.score(id).ok_or_else(missing)?)
    }

    /// Ends a generation early but softly, and those that would begin with it. → text that was held back. Not while
    /// `step` is under way.
    pub fn interrupt(&self, id: u32) -> String {
        self.inner.interrupt(id)
    }

    /// Does the next piece of work: a pass, in which at most `max_tokens` of each prompt are read. → what happened, in
    /// order: `{id, kind: "prefill" | "scored", n_done, n_total}`, `{id, kind: "refill"}`,
    /// `{id, kind: "token", chunk, finish_reason?}` or `{id, kind: "failed", error}`
    pub async fn step(&self, max_tokens: usize) -> JsResult<Array> {
        let events = self.inner.step(max_tokens).await?;
        events.iter().map(|event| to_message(event.id, &event.news)).collect()
    }

    /// The texts in the pass that is running.
    pub fn running(&self) -> Vec<u32> {
        self.inner.running()
    }

    /// `{max_batch_size, n_running, n_waiting, n_guessed, n_right, cache_bytes}`
    pub fn figures(&self) -> JsResult<JsValue> {
        let ((n_running, n_waiting), guesses) = (self.inner.n_texts(), self.inner.guesses());
        to_js(&Figures {
            max_batch_size: self.inner.n_seats(),
            n_running,
            n_waiting,
            n_guessed: guesses.n_guessed,
            n_right: guesses.n_right,
            cache_bytes: self.inner.cache_bytes(),
        })
    }
}
