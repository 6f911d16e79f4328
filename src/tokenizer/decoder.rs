//! From tokens to text, one token at a time, as the `decoder` of a tokenizer.json says.
//!
//! The `tokenizers` crate decodes whole lists of tokens. Here each of its steps is written as one that remembers what
//! it must, so that a text that is being generated comes out as it is made, and equals the text of the whole.

use serde::Deserialize;
use tokenizers::normalizers::replace::ReplacePattern;

use super::general::ReplaceRegex;
use super::pieces::bytes_by_char;
use super::text_filters::{TextFilter, WORD_PIECE_CLEANUP};
use super::token_stages::TokenStage;
use super::utf8::Utf8Stream;
use crate::error::{Error, Result};

/// A `decoder` as the file writes it.
#[derive(Clone, Deserialize)]
#[serde(tag = "type")]
pub(super) enum DecoderFile {
    ByteLevel {},
    WordPiece {
        prefix: String,
        cleanup: bool,
    },
    Metaspace {
        replacement: char,
        prepend_scheme: Option<PrependScheme>,
        add_prefix_space: Option<bool>,
    },
    BPEDecoder {
        suffix: String,
    },
    #[serde(rename = "CTC")]
    Ctc {
        pad_token: String,
        word_delimiter_token: String,
        cleanup: bool,
    },
    Sequence {
        decoders: Vec<DecoderFile>,
    },
    Replace {
        pattern: ReplacePattern,
        content: String,
    },
    Fuse {},
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
    ByteFallback {},
}

/// Before which words Metaspace puts its replacement.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum PrependScheme {
    First,
    Never,
    Always,
}

/// What joins the tokens to a text.
#[derive(Clone, Debug)]
enum Joint {
    /// They are put after each other.
    Text,
    /// They are the byte alphabet's bytes.
    Bytes(Utf8Stream),
}

/// A decoder and what it remembers of the tokens so far.
#[derive(Clone, Debug)]
pub(super) struct TokenDecoder {
    stages: Vec<TokenStage>,
    joint: Joint,
    filters: Vec<TextFilter>,
    /// Set once a step has made one token of all.
    is_joined: bool,
}

impl TokenDecoder {
    /// The decoder of a file; without one, tokens are joined by spaces.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] for steps in an order that cannot be run.
    pub fn new(file: Option<DecoderFile>) -> Result<Self> {
        let mut decoder = Self { stages: Vec::new(), joint: Joint::Text, filters: Vec::new(), is_joined: false };
        match file {
            Some(step) => decoder.add(step)?,
            None => decoder.stages.push(TokenStage::Join { is_first: true }),
        }
        Ok(decoder)
    }

    /// Changes the text at the end: each pattern becomes its content.
    pub fn add_replacements(&mut self, pairs: &[(&str, &str)]) {
        self.filters.extend(pairs.iter().map(|(pattern, content)| TextFilter::replace(pattern, content)));
    }

    fn add(&mut self, step: DecoderFile) -> Result<()> {
        match step {
            DecoderFile::Sequence { decoders } => decoders.into_iter().try_for_each(|step| self.add(step)),
            DecoderFile::Fuse {} => {
                self.is_joined = true;
                Ok(())
            }
            step if self.is_joined => self.add_filter(step),
            DecoderFile::ByteLevel {} => {
                (self.joint, self.is_joined) = (Joint::Bytes(Utf8Stream::default()), true);
                Ok(())
            }
            step => {
                self.stages.push(stage(step)?);
                Ok(())
            }
        }
    }

    /// A step after all tokens have become one.
    fn add_filter(&mut self, step: DecoderFile) -> Result<()> {
        match step {
            DecoderFile::Replace { pattern: ReplacePattern::String(pattern), content } if !pattern.is_empty() => {
                self.add_replacements(&[(&pattern, &content)]);
            }
            DecoderFile::Replace { pattern, content } => {
                self.filters
                    .push(TextFilter::Regex { replace: ReplaceRegex::new(pattern, content)?, text: String::new() });
            }
            DecoderFile::Strip { content, start, stop } => self.filters.extend([
                TextFilter::StripStart { content, n_left: start },
                TextFilter::StripEnd { content, n: stop, n_held: 0 },
            ]),
            DecoderFile::WordPiece { cleanup, .. } => {
                self.add_replacements(if cleanup { &WORD_PIECE_CLEANUP } else { &[] });
            }
            DecoderFile::Metaspace { replacement, prepend_scheme, add_prefix_space } => {
                // all of the text is the first token
                let space = if drops_first(prepend_scheme, add_prefix_space)? { "" } else { " " };
                self.add_replacements(&[(replacement.encode_utf8(&mut [0; 4]), space)]);
            }
            DecoderFile::BPEDecoder { suffix } if !suffix.is_empty() => self.add_replacements(&[(&suffix, "")]),
            DecoderFile::BPEDecoder { .. } => {}
            DecoderFile::ByteLevel {} | DecoderFile::ByteFallback {} | DecoderFile::Ctc { .. } => {
                let expected = "ByteLevel, ByteFallback and CTC before the step that joins all tokens";
                return Err(Error::unsupported("tokenizer.json", "decoder", expected, "one of them behind it"));
            }
            DecoderFile::Sequence { .. } | DecoderFile::Fuse {} => {}
        }
        Ok(())
    }

    /// Takes the next token. → the text that is complete with it
    pub fn push(&mut self, token: &str) -> String {
        self.run(0, vec![token.to_string()])
    }

    /// Ends the text. → what was held back
    pub fn finish(&mut self) -> String {
        let mut text = String::new();
        for i in 0..self.stages.len() {
            let tokens = self.stages[i].finish();
            text.push_str(&self.run(i + 1, tokens));
        }
        let mut rest = match &mut self.joint {
            Joint::Text => String::new(),
            Joint::Bytes(utf8) => utf8.finish().to_string(),
        };
        for filter in &mut self.filters {
            rest = filter.push(&rest);
            rest.push_str(&filter.finish());
        }
        text + &rest
    }

    /// As in the middle of a text.
    pub fn skip_start(&mut self) {
        self.stages.iter_mut().for_each(TokenStage::skip_start);
        self.filters.iter_mut().for_each(TextFilter::skip_start);
    }

    /// Takes tokens through all from the stage `first` on.
    fn run(&mut self, first: usize, mut tokens: Vec<String>) -> String {
        for stage in &mut self.stages[first..] {
            tokens = tokens.into_iter().flat_map(|token| stage.push(token)).collect();
        }
        let text = match &mut self.joint {
            Joint::Text => tokens.concat(),
            Joint::Bytes(utf8) => tokens.iter().map(|token| utf8.push(&bytes(token))).collect(),
        };
        self.filters.iter_mut().fold(text, |text, filter| filter.push(&text))
    }
}

/// A step that takes token by token.
fn stage(step: DecoderFile) -> Result<TokenStage> {
    Ok(match step {
        DecoderFile::Replace { pattern: ReplacePattern::String(pattern), content } if !pattern.is_empty() => {
            TokenStage::Replace { pattern, content }
        }
        DecoderFile::Replace { pattern, content } => TokenStage::ReplaceRegex(ReplaceRegex::new(pattern, content)?),
        DecoderFile::WordPiece { prefix, cleanup } => {
            TokenStage::WordPiece { prefix, cleans_up: cleanup, is_first: true }
        }
        DecoderFile::Metaspace { replacement, prepend_scheme, add_prefix_space } => TokenStage::Metaspace {
            replacement,
            drops_first: drops_first(prepend_scheme, add_prefix_space)?,
            is_first: true,
        },
        DecoderFile::BPEDecoder { suffix } => TokenStage::Bpe { suffix, newest: None },
        DecoderFile::Ctc { pad_token, word_delimiter_token, cleanup } => {
            TokenStage::Ctc { pad: pad_token, delimiter: word_delimiter_token, cleans_up: cleanup, last: None }
        }
        DecoderFile::Strip { content, start, stop } => TokenStage::Strip { content, n_start: start, n_end: stop },
        DecoderFile::ByteFallback {} => TokenStage::ByteFallback { run: Vec::new() },
        DecoderFile::ByteLevel {} | DecoderFile::Fuse {} | DecoderFile::Sequence { .. } => {
            unreachable!("taken by `add`")
        }
    })
}

/// Whether Metaspace leaves out the first token's replacement. Old files have `add_prefix_space` alone.
fn drops_first(scheme: Option<PrependScheme>, add_prefix_space: Option<bool>) -> Result<bool> {
    let scheme = scheme.unwrap_or(PrependScheme::Always);
    if add_prefix_space == Some(false) && scheme != PrependScheme::Never {
        let expected = "a Metaspace whose `add_prefix_space` and `prepend_scheme` say the same";
        return Err(Error::file("tokenizer.json", expected, "others"));
    }
    Ok(scheme != PrependScheme::Never)
}

/// The bytes of a token in the byte alphabet; a token with another character stands for itself.
fn bytes(token: &str) -> Vec<u8> {
    thread_local!(static BYTE_OF: Vec<Option<u8>> = bytes_by_char());
    let bytes = BYTE_OF.with(|byte_of| token.chars().map(|c| byte_of.get(c as usize).copied().flatten()).collect());
    let bytes: Option<Vec<u8>> = bytes;
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}
