//! What a `tokenizer.json` says, read in one pass and without the `tokenizers` crate's own reader of models: that one
//! trusts its file, and makes each string several times over.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::{Merges, Vocab};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

use super::untrusted::NORMALIZERS;
use crate::error::{Error, Result, excerpt};

const FILE: &str = "tokenizer.json";

/// A `tokenizer.json`. Padding and truncation are left out: a prompt is never cut or padded in silence, whatever the
/// file was trained with. So is the post-processor, which puts special tokens around a text: none is added here.
#[derive(Deserialize)]
pub(super) struct TokenizerFile {
    version: Option<String>,
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    // as any JSON at first: the crate panics where its reader of steps meets what is none
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
    model: Option<ModelFile>,
}

/// What is done to a text before the model, and to tokens after it.
pub(super) struct Steps {
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
    pub decoder: Option<DecoderWrapper>,
}

/// Its `model`. Dropout is left out: it is for training.
#[derive(Deserialize)]
struct ModelFile {
    r#type: Option<String>, // absent in old files
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    unk_token: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    #[serde(default, deserialize_with = "vocab")]
    vocab: Option<Vocab>,
    merges: Option<Vec<Merge>>,
}

/// A byte-level BPE model.
#[derive(Default)]
pub(super) struct Bpe {
    pub vocab: Vocab,
    pub merges: Merges,
    pub unk_token: Option<String>,
    pub fuse_unk: bool,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
}

impl TokenizerFile {
    /// Reads the file's JSON.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let file: Self =
            serde_json::from_slice(json).map_err(|e| Error::file(FILE, "a tokenizer in JSON", e.to_string()))?;
        match &file.version {
            Some(version) if version != "1.0" => {
                Err(Error::unsupported("version (tokenizer.json)", "\"1.0\"", format!("\"{version}\"")))
            }
            _ => Ok(file),
        }
    }

    /// Its steps.
    pub fn take_steps(&mut self) -> Result<Steps> {
        fn read<T: DeserializeOwned>(step: Option<Value>, what: &str) -> Result<Option<T>> {
            let wrong = |e: serde_json::Error| Error::file(FILE, what, e.to_string());
            step.map(|step| serde_json::from_value(step).map_err(wrong)).transpose()
        }
        // the one step in whose reader the crate panics by itself; SentencePiece's, never byte-level BPE's
        if let Some(step) = self.normalizer.as_ref().map(Value::to_string).filter(|s| s.contains("\"Precompiled\"")) {
            return Err(Error::unsupported("normalizer (tokenizer.json)", NORMALIZERS, excerpt(&step)));
        }
        Ok(Steps {
            normalizer: read(self.normalizer.take(), "a normalizer")?,
            pre_tokenizer: read(self.pre_tokenizer.take(), "a pre-tokenizer")?,
            decoder: read(self.decoder.take(), "a decoder")?,
        })
    }

    /// Its model, which has to be one of byte-level BPE.
    pub fn take_bpe(&mut self) -> Result<Bpe> {
        let model = self.model.take().ok_or_else(|| Error::file(FILE, "a `model`", "none"))?;
        if let Some(kind) = model.r#type.filter(|kind| kind != "BPE") {
            return Err(Error::unsupported("model.type (tokenizer.json)", "\"BPE\"", format!("\"{kind}\"")));
        }
        for (name, affix) in [
            ("continuing_subword_prefix", model.continuing_subword_prefix),
            ("end_of_word_suffix", model.end_of_word_suffix),
        ] {
            if let Some(found) = affix.filter(|s| !s.is_empty()) {
                let field = format!("model.{name} (tokenizer.json)");
                return Err(Error::unsupported(field, "none, as in byte-level BPE", format!("\"{found}\"")));
            }
        }
        let (Some(vocab), Some(merges)) = (model.vocab, model.merges) else {
            return Err(Error::file(FILE, "`model.vocab`, an object of token → id, and `model.merges`", "not both"));
        };
        Ok(Bpe {
            vocab,
            merges: merges.into_iter().map(|Merge(pair)| pair).collect(),
            unk_token: model.unk_token,
            fuse_unk: model.fuse_unk.unwrap_or_default(),
            byte_fallback: model.byte_fallback.unwrap_or_default(),
            ignore_merges: model.ignore_merges.unwrap_or_default(),
        })
    }
}

/// The tokens and their ids. Other models than BPE have an array here: that is for `model.type` to tell.
fn vocab<'de, D: Deserializer<'de>>(json: D) -> std::result::Result<Option<Vocab>, D::Error> {
    struct Tokens;
    impl<'de> Visitor<'de> for Tokens {
        type Value = Option<Vocab>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of token → id")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut vocab = Vocab::new();
            while let Some((token, id)) = map.next_entry()? {
                vocab.insert(token, id);
            }
            Ok(Some(vocab))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
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
