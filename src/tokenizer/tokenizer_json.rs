//! What a `tokenizer.json` says, read in one pass and without the `tokenizers` crate's own reader of models: that one
//! trusts its file, and makes each string several times over.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;

use super::decoder::DecoderFile;
use super::models::{Bpe, ModelParts};
use crate::error::{Error, Result};

const FILE: &str = "tokenizer.json";

/// A `tokenizer.json`. Padding and truncation are left out: a prompt is never cut or padded in silence, whatever the
/// file was trained with.
#[derive(Deserialize)]
pub(super) struct TokenizerJson {
    version: Option<String>,
    #[serde(default)]
    pub added_tokens: Vec<AddedTokenWithId>,
    // as any JSON at first: the crate panics where its reader of steps meets what is none
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    pub post_processor: Option<Value>,
    pub decoder: Option<Value>,
    model: Option<ModelFile>,
}

/// An added token and the id that the file gives it.
#[derive(Deserialize)]
pub(super) struct AddedTokenWithId {
    pub id: Option<u32>,
    #[serde(flatten)]
    pub token: AddedToken,
}

/// Its `model`. Dropout is left out: it is for training.
#[derive(Deserialize)]
struct ModelFile {
    r#type: Option<String>, // absent in old files
    continuing_subword_prefix: Option<String>,
    max_input_chars_per_word: Option<usize>,
    end_of_word_suffix: Option<String>,
    unk_token: Option<String>,
    unk_id: Option<usize>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    #[serde(default, deserialize_with = "vocab")]
    vocab: Option<VocabFile>,
    merges: Option<Vec<Merge>>,
}

/// The tokens: with their ids, or in their order and with their log-probabilities.
enum VocabFile {
    Ids(Vocab),
    Scored(Vec<(String, f64)>),
}

impl TokenizerJson {
    /// Reads the file's JSON.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is malformed, [`Error::UnsupportedModel`] for another version.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let file: Self =
            serde_json::from_slice(json).map_err(|e| Error::file(FILE, "a tokenizer in JSON", e.to_string()))?;
        match &file.version {
            Some(version) if version != "1.0" => {
                Err(Error::unsupported(FILE, "version", "\"1.0\"", format!("\"{version}\"")))
            }
            _ => Ok(file),
        }
    }

    /// Whether its text becomes the byte alphabet before the model, and its tokens bytes after it.
    pub fn is_byte_level(&self) -> bool {
        fn has_step(step: Option<&Value>, list: &str) -> bool {
            step.is_some_and(|step| {
                step["type"] == "ByteLevel"
                    || step[list].as_array().is_some_and(|steps| steps.iter().any(|step| has_step(Some(step), list)))
            })
        }
        has_step(self.pre_tokenizer.as_ref(), "pretokenizers") && has_step(self.decoder.as_ref(), "decoders")
    }

    /// How tokens become text.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a malformed one.
    pub fn take_decoder(&mut self) -> Result<Option<DecoderFile>> {
        read(self.decoder.take(), "a decoder")
    }

    /// Its model.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] for an unknown type, [`Error::Checkpoint`] where something is missing.
    pub fn take_model(&mut self) -> Result<ModelParts> {
        let model = self.model.take().ok_or_else(|| Error::file(FILE, "a `model`", "none"))?;
        let kind = match (model.r#type.as_deref(), &model.vocab) {
            (Some(kind), _) => kind,
            (None, Some(VocabFile::Scored(_))) => "Unigram",
            (None, _) if model.merges.is_some() => "BPE",
            (None, _) if model.continuing_subword_prefix.is_some() => "WordPiece",
            (None, _) => "WordLevel",
        };
        let unk_token = |model: &ModelFile| {
            let none = || Error::file(FILE, "`model.unk_token`, the token for unknown words", "none");
            model.unk_token.clone().ok_or_else(none)
        };
        Ok(match kind {
            "BPE" => {
                let (Some(VocabFile::Ids(vocab)), Some(merges)) = (model.vocab, model.merges) else {
                    let expected = "`model.vocab`, an object of token → id, and `model.merges`";
                    return Err(Error::file(FILE, expected, "not both"));
                };
                ModelParts::Bpe(Bpe {
                    vocab,
                    merges: merges.into_iter().map(|Merge(pair)| pair).collect(),
                    unk_token: model.unk_token,
                    continuing_prefix: model.continuing_subword_prefix,
                    end_of_word_suffix: model.end_of_word_suffix,
                    fuse_unk: model.fuse_unk.unwrap_or_default(),
                    byte_fallback: model.byte_fallback.unwrap_or_default(),
                    ignore_merges: model.ignore_merges.unwrap_or_default(),
                })
            }
            "WordPiece" => ModelParts::WordPiece {
                unk_token: unk_token(&model)?,
                continuing_prefix: model.continuing_subword_prefix.unwrap_or_else(|| "##".to_string()),
                max_word_chars: model.max_input_chars_per_word.unwrap_or(100),
                vocab: ids(model.vocab)?,
            },
            "WordLevel" => ModelParts::WordLevel { unk_token: unk_token(&model)?, vocab: ids(model.vocab)? },
            "Unigram" => {
                let Some(VocabFile::Scored(vocab)) = model.vocab else {
                    let expected = "`model.vocab`, an array of tokens with their log-probabilities";
                    return Err(Error::file(FILE, expected, "none"));
                };
                let byte_fallback = model.byte_fallback.unwrap_or_default();
                ModelParts::Unigram { vocab, unk_id: model.unk_id, byte_fallback }
            }
            other => {
                let expected = "\"BPE\", \"WordPiece\", \"WordLevel\" or \"Unigram\"";
                return Err(Error::unsupported(FILE, "model.type", expected, format!("\"{other}\"")));
            }
        })
    }
}

fn ids(vocab: Option<VocabFile>) -> Result<Vocab> {
    match vocab {
        Some(VocabFile::Ids(vocab)) => Ok(vocab),
        _ => Err(Error::file(FILE, "`model.vocab`, an object of token → id", "none")),
    }
}

fn read<T: DeserializeOwned>(step: Option<Value>, what: &str) -> Result<Option<T>> {
    let wrong = |e: serde_json::Error| Error::file(FILE, what, e.to_string());
    step.map(|step| serde_json::from_value(step).map_err(wrong)).transpose()
}

/// The tokens, in either form.
fn vocab<'de, D: Deserializer<'de>>(json: D) -> std::result::Result<Option<VocabFile>, D::Error> {
    struct Tokens;
    impl<'de> Visitor<'de> for Tokens {
        type Value = Option<VocabFile>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of token → id, or an array of tokens with their log-probabilities")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut vocab = Vocab::new();
            while let Some((token, id)) = map.next_entry()? {
                vocab.insert(token, id);
            }
            Ok(Some(VocabFile::Ids(vocab)))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
            let mut tokens = Vec::new();
            while let Some(token) = seq.next_element()? {
                tokens.push(token);
            }
            Ok(Some(VocabFile::Scored(tokens)))
        }

        fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
            Ok(None)
        }
    }
    json.deserialize_any(Tokens)
}

/// Two pieces that make one: `["a", "b"]`, or in older files `"a b"`.
struct Merge((String, String));

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(json: D) -> std::result::Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two pieces in each of `model.merges`")
            }

            fn visit_str<E: serde::de::Error>(self, line: &str) -> std::result::Result<Merge, E> {
                match line.split_once(' ') {
                    Some((a, b)) if !b.contains(' ') => Ok(Merge((a.to_string(), b.to_string()))),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(line), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Merge, A::Error> {
                let (a, b, more) = (seq.next_element()?, seq.next_element()?, seq.next_element::<IgnoredAny>()?);
                match (a, b, more) {
                    (Some(a), Some(b), None) => Ok(Merge((a, b))),
                    _ => Err(serde::de::Error::custom(
                        "expected two pieces in each of `model.merges`, found another number",
                    )),
                }
            }
        }
        json.deserialize_any(Pair)
    }
}
