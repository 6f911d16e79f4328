//! The text that new tokens add: complete characters, up to a stop string.

use std::collections::VecDeque;
use std::ops::Range;

use crate::token::TokenId;
use crate::tokenizer::{StopStrings, TextStream, Tokenizer};

/// Turns the tokens of one generation into text.
///
/// Stop strings are looked for in the *written* text, in which special tokens have their written form; what is shown is
/// that without them.
pub(super) struct GrowingText {
    stream: TextStream,
    stops: StopStrings,
    /// Bytes of written text that have gone into `stops`.
    n_in: usize,
    /// Bytes of written text that have come out of `stops`; at most `n_in`.
    n_out: usize,
    /// Where in the written text the special tokens are that have not come out yet.
    hidden: VecDeque<Range<usize>>,
}

impl GrowingText {
    /// What comes after the tokens `before`, until any of `stops` ends it; none of them may be empty.
    pub fn new(tokenizer: &Tokenizer, before: &[TokenId], stops: Vec<String>) -> Self {
        let stream = tokenizer.stream_after(before);
        Self { stream, stops: StopStrings::new(stops), n_in: 0, n_out: 0, hidden: VecDeque::new() }
    }

    /// Takes the next token. → text that can be shown, and whether a stop string was met right after it
    pub fn push(&mut self, tokenizer: &Tokenizer, id: TokenId) -> (String, bool) {
        if let Some(written) = tokenizer.special_text(id) {
            return self.push_hidden(written);
        }
        // a model may have more rows than its tokenizer has tokens (rows are often padded); such an id has no text
        let written = self.stream.push(id);
        self.push_written(&written)
    }

    /// Takes the token that ends the text, which is not shown. → as [`Self::push`]
    pub fn push_end(&mut self, tokenizer: &Tokenizer, id: TokenId) -> (String, bool) {
        self.push_hidden(&tokenizer.piece_text(id))
    }

    /// Ends the text. → what was held back for a character or a stop string
    pub fn finish(&mut self) -> String {
        let rest = self.stream.finish();
        let (mut text, stopped) = self.push_written(&rest);
        if !stopped {
            let held = self.stops.finish();
            text.push_str(&self.shown(held));
        }
        text
    }

    fn push_hidden(&mut self, written: &str) -> (String, bool) {
        self.hidden.push_back(self.n_in..self.n_in + written.len());
        self.push_written(written)
    }

    fn push_written(&mut self, written: &str) -> (String, bool) {
        self.n_in += written.len();
        let (text, stopped) = self.stops.push(written);
        (self.shown(text), stopped)
    }

    /// Written text, in the order in which it comes out of `stops`, without what is hidden in it.
    fn shown(&mut self, written: String) -> String {
        let (begin, end) = (self.n_out, self.n_out + written.len());
        self.n_out = end;
        let (mut shown, mut at) = (String::new(), begin);
        while let Some(hidden) = self.hidden.front_mut().filter(|hidden| hidden.start < end) {
            shown.push_str(&written[at - begin..hidden.start.max(at) - begin]);
            at = hidden.end.min(end);
            if hidden.end > end {
                hidden.start = end; // the rest of it is still held back
                break;
            }
            self.hidden.pop_front();
        }
        shown.push_str(&written[at - begin..]);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value};

    /// Printable ASCII from id 0 on, the two bytes of "é", `<|a|>` and `<|b|>`.
    fn tokenizer() -> Tokenizer {
        let letters = (b'!'..=b'~').map(char::from).chain(['Ã', '©']);
        let vocab: Map<String, Value> = letters.zip(0..).map(|(c, id)| (c.to_string(), Value::from(id))).collect();
        let added = |id: u32, content: &str| {
            serde_json::json!({ "id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false })
        };
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": [added(A, "<|a|>"), added(B, "<|b|>")], "normalizer": null,
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "post_processor": null,
            "model": { "type": "BPE", "vocab": vocab, "merges": [] },
        });
        Tokenizer::from_tokenizer_json(json.to_string().as_bytes()).unwrap()
    }

    fn run(stops: &[&str], ids: &[TokenId]) -> (String, bool) {
        let tokenizer = tokenizer();
        let mut text = GrowingText::new(&tokenizer, &[], stops.iter().map(|s| s.to_string()).collect());
        let mut shown = String::new();
        for &id in ids {
            let (more, stopped) = text.push(&tokenizer, id);
            shown.push_str(&more);
            if stopped {
                return (shown, true);
            }
        }
        shown.push_str(&text.finish());
        (shown, false)
    }

    const A: TokenId = 96;
    const B: TokenId = 97;
    const X: TokenId = (b'x' - b'!') as TokenId;
    const Y: TokenId = (b'y' - b'!') as TokenId;
    const LESS: TokenId = (b'<' - b'!') as TokenId;

    #[test]
    fn special_tokens_are_not_shown() {
        assert_eq!(run(&[], &[X, A, Y, B, A]), ("xy".into(), false));
        assert_eq!(run(&["never"], &[A, X, B, Y]), ("xy".into(), false));
        assert_eq!(run(&[], &[94, A, 95]), ("é".into(), false), "a character goes on after one");
        assert_eq!(run(&[], &[X, 9999, Y]), ("xy".into(), false), "a row without a token has no text");
    }

    #[test]
    fn a_stop_string_sees_them() {
        assert_eq!(run(&["<|b|>"], &[X, A, Y, B, X]), ("xy".into(), true));
        assert_eq!(run(&["y<|b|>"], &[X, A, Y, B, X]), ("x".into(), true), "text before it belongs to the match");
        assert_eq!(run(&["|>y"], &[X, A, Y, Y]), ("x".into(), true), "the match begins within one");
        assert_eq!(run(&["<|a|><|b|>"], &[X, A, A, B, Y]), ("x".into(), true));
        assert_eq!(run(&["<|b"], &[X, A, B]), ("x".into(), true));
    }

    #[test]
    fn what_was_held_back_comes_out_where_it_was() {
        // "<|a|>" may go on to "<|a|>z": held until "x" says that it does not
        assert_eq!(run(&["<|a|>z"], &[Y, A, X, LESS]), ("yx<".into(), false));
        assert_eq!(run(&["|>z"], &[Y, A, X]), ("yx".into(), false), "a part of a special token is held");
        assert_eq!(run(&["|>z"], &[Y, A]), ("y".into(), false));
        assert_eq!(run(&["xx<|b|>"], &[X, X, X, A, X]), ("xxxx".into(), false));
    }
}
