//! A tokenizer from its files, as transformers' `AutoTokenizer` reads them for a GPT-2 (5.23: `TokenizersBackend`,
//! `GPT2Tokenizer`, `RobertaTokenizer`, `BertTokenizer`).
//!
//! Three classes take only the vocabulary from a tokenizer.json and know all else themselves; any other class means
//! that the file is followed as it is written.

use tokenizers::models::bpe::Vocab;

use super::assemble::{Parts, assemble};
use super::class::Class;
use super::decoder::DecoderFile;
use super::files::{TokenizerFiles, text};
use super::models::{Bpe, ModelParts};
use super::post_processor::Template;
use super::settings::Settings;
use super::steps::Steps;
use super::tokenizer::Tokenizer;
use super::tokenizer_json::TokenizerJson;
use crate::error::{Error, Result, excerpt};

impl Tokenizer {
    /// Makes a tokenizer of its files. → with what of them is not used or is used otherwise, one sentence each
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a missing or malformed file, [`Error::UnsupportedModel`] for what cannot be run.
    pub fn from_files(mut files: TokenizerFiles) -> Result<(Self, Vec<String>)> {
        let mut warnings = Vec::new();
        let mut settings = Settings::read(&files)?;
        let mut class = Class::from_name(settings.class.as_deref());
        let parts = match files.tokenizer_json.take() {
            Some(json) => from_tokenizer_json(json, &mut class, &settings, &mut warnings)?,
            None => from_vocabulary(files, &mut class, &settings, &mut warnings)?,
        };
        settings.set_defaults(class.defaults());
        assemble(parts, class, settings, warnings)
    }

    /// Reads a copy of a `tokenizer.json` that has no other file beside it.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_files`].
    pub fn from_tokenizer_json(json: impl AsRef<[u8]>) -> Result<Self> {
        let mut files = TokenizerFiles::default();
        files.set("tokenizer.json", json.as_ref().to_vec())?;
        Ok(Self::from_files(files)?.0)
    }

    /// Reads a `vocab.json` (token → id) and a `merges.txt` (one pair a line, best first), as OpenAI published them.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_files`].
    pub fn from_vocab_and_merges(vocab: &str, merges: &str) -> Result<Self> {
        let mut files = TokenizerFiles::default();
        files.set("vocab.json", vocab.into())?;
        files.set("merges.txt", merges.into())?;
        Ok(Self::from_files(files)?.0)
    }
}

fn from_tokenizer_json(
    json: Vec<u8>,
    class: &mut Class,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Parts> {
    const FILE: &str = "tokenizer.json";
    let mut file = TokenizerJson::from_json(&json)?;
    drop(json); // makes room for the tables, since WebAssembly's memory never shrinks
    let model = file.take_model()?;
    let template = file.post_processor.as_ref().map(Template::from_json).transpose()?;
    let is_byte_level = file.is_byte_level();
    let fits = match (*class, &model) {
        (Class::Gpt2 | Class::Roberta, ModelParts::Bpe(_)) => is_byte_level,
        (Class::Bert, ModelParts::WordPiece { .. }) => true,
        (Class::AsWritten, _) => true,
        _ => false,
    };
    if !fits {
        let name = settings.class.as_deref().unwrap_or("GPT2Tokenizer");
        warnings.push(format!("{FILE} is followed as it is written, for it is no {}", excerpt(name)));
        *class = Class::AsWritten;
    }
    let added = std::mem::take(&mut file.added_tokens).into_iter().map(|added| (added.id, added.token)).collect();
    let parts = match (*class, model) {
        (Class::Gpt2 | Class::Roberta, ModelParts::Bpe(bpe)) => {
            warn_of_unused(&file, settings, warnings);
            let bpe = Bpe { vocab: bpe.vocab, merges: bpe.merges, ..Bpe::default() };
            Parts { added, template, ..byte_level(bpe, settings.add_prefix_space, FILE) }
        }
        (Class::Bert, ModelParts::WordPiece { vocab, .. }) => {
            Parts { added, template, ..word_piece(vocab, settings, FILE) }
        }
        (_, model) => Parts {
            file: FILE,
            model,
            steps: Steps::written(file.normalizer.take(), file.pre_tokenizer.take()),
            decoder: file.take_decoder()?,
            is_byte_level,
            template,
            added,
        },
    };
    Ok(parts)
}

/// Tells of what GPT2Tokenizer does not take from a tokenizer.json.
fn warn_of_unused(file: &TokenizerJson, settings: &Settings, warnings: &mut Vec<String>) {
    let name = settings.class.as_deref().unwrap_or("GPT2Tokenizer");
    if let Some(step) = &file.normalizer {
        let step = excerpt(&step.to_string());
        warnings.push(format!("tokenizer.json: the normalizer {step} is not used, as in transformers' {name}"));
    }
    let plain = |step: &&serde_json::Value| step["type"] == "ByteLevel" && step["use_regex"] != false;
    if let Some(step) = file.pre_tokenizer.as_ref().filter(|step| !plain(step)) {
        let step = excerpt(&step.to_string());
        warnings.push(format!(
            "tokenizer.json: the pre-tokenizer {step} is not used, but GPT-2's own, as in transformers' {name}"
        ));
    }
}

fn from_vocabulary(
    files: TokenizerFiles,
    class: &mut Class,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Parts> {
    let TokenizerFiles { vocab_json, merges_txt, vocab_txt, sentencepiece, .. } = files;
    let name = settings.class.as_deref().unwrap_or("none");
    match (vocab_json, merges_txt, vocab_txt) {
        (Some(vocab), Some(merges), vocab_txt) if *class != Class::Bert || vocab_txt.is_none() => {
            if !class.is_byte_level() {
                warnings.push(format!(
                    "vocab.json and merges.txt are read as GPT-2's; the class that the files name is {}",
                    excerpt(name)
                ));
                *class = Class::Gpt2;
            }
            let bytes = vocab;
            let vocab = serde_json::from_slice::<Vocab>(&bytes)
                .map_err(|e| Error::file("vocab.json", "an object of token → id", e.to_string()))?;
            drop(bytes); // makes room for the tables
            let merges = read_merges(text(&merges, "merges.txt")?)?;
            Ok(byte_level(Bpe { vocab, merges, ..Bpe::default() }, settings.add_prefix_space, "merges.txt"))
        }
        (_, _, Some(tokens)) => {
            if *class != Class::Bert {
                warnings.push(format!(
                    "vocab.txt is read as BertTokenizer's; the class that the files name is {}",
                    excerpt(name)
                ));
                *class = Class::Bert;
            }
            let lines = text(&tokens, "vocab.txt")?.lines();
            let vocab: Vocab = lines.zip(0..).map(|(line, id)| (line.trim_end().to_string(), id)).collect();
            Ok(word_piece(vocab, settings, "vocab.txt"))
        }
        (Some(_), None, None) => Err(Error::file("merges.txt", "the merges that belong to vocab.json", "none")),
        (None, Some(_), None) => Err(Error::file("vocab.json", "the vocabulary that belongs to merges.txt", "none")),
        (None, None, None) => Err(match sentencepiece {
            Some(name) => {
                let expected =
                    "a tokenizer.json beside it, as transformers' `save_pretrained` of its fast tokenizer writes one";
                Error::file(name, expected, "a SentencePiece model alone, which cannot be run here")
            }
            None => {
                Error::file("tokenizer.json", "a tokenizer.json, or vocab.json with merges.txt, or vocab.txt", "none")
            }
        }),
        (Some(_), Some(_), None) => unreachable!("the first arm takes every pair without vocab.txt"),
    }
}

fn read_merges(merges: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for (i, line) in merges.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with("#version")) {
        match line.split_once(' ') {
            Some((a, b)) if !b.contains(' ') => pairs.push((a.to_string(), b.to_string())),
            _ => {
                let found = format!("\"{}\" in line {}", excerpt(line), i + 1);
                return Err(Error::file("merges.txt", "two pieces separated by a space in each line", found));
            }
        }
    }
    Ok(pairs)
}

/// GPT-2's way: words by its regular expression, in the byte alphabet.
fn byte_level(bpe: Bpe, add_prefix_space: bool, file: &'static str) -> Parts {
    Parts {
        file,
        model: ModelParts::Bpe(bpe),
        steps: Steps::Gpt2 { add_prefix_space },
        decoder: Some(DecoderFile::ByteLevel {}),
        is_byte_level: true,
        template: None,
        added: Vec::new(),
    }
}

/// BERT's way.
fn word_piece(vocab: Vocab, settings: &Settings, file: &'static str) -> Parts {
    let Settings { do_lower_case, strip_accents, tokenize_chinese_chars, .. } = *settings;
    Parts {
        file,
        model: ModelParts::WordPiece {
            vocab,
            unk_token: settings.special("unk_token").unwrap_or("[UNK]").to_string(),
            continuing_prefix: "##".to_string(),
            max_word_chars: 100,
        },
        steps: Steps::Bert { do_lower_case, strip_accents, tokenize_chinese_chars },
        decoder: Some(DecoderFile::WordPiece { prefix: "##".to_string(), cleanup: true }),
        is_byte_level: false,
        template: None,
        added: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with_added(normalizer: serde_json::Value, added: &[(&str, bool, bool)]) -> Result<Tokenizer> {
        let added: Vec<_> = added
            .iter()
            .map(|(content, lstrip, rstrip)| {
                json!({"content": content, "lstrip": lstrip, "rstrip": rstrip, "single_word": false,
                    "normalized": true, "special": false})
            })
            .collect();
        let vocab = json!({"a": 0, "b": 1, "[UNK]": 2});
        let model = json!({"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocab});
        let mut files = TokenizerFiles::default();
        let json = json!({"added_tokens": added, "normalizer": normalizer, "model": model});
        files.set("tokenizer.json", json.to_string().into_bytes())?;
        files.set("tokenizer_config.json", br#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#.to_vec())?;
        Ok(Tokenizer::from_files(files)?.0)
    }

    #[test]
    fn added_tokens_that_cut_backwards_are_refused() {
        let none = serde_json::Value::Null;
        let spaces = json!({"type": "Replace", "pattern": {"String": "x"}, "content": " "});
        let error = with_added(none.clone(), &[("a", false, true), (" ", true, false)]).unwrap_err().to_string();
        assert!(error.contains("rstrip"), "{error}");
        assert!(with_added(spaces, &[("a", false, true), ("x", true, false)]).is_err());
        // these only overlap
        for others in [(" ", false, false), (" b", true, true), ("b", true, true), ("  ", false, true)] {
            let tokenizer = with_added(none.clone(), &[("a", false, true), others]).unwrap();
            for text in ["a  ", "a b a  b", "  a   b  ", "ab \u{3000} a\u{3000} b"] {
                let _ = tokenizer.encode(text);
            }
        }
    }

    #[test]
    fn an_id_that_two_tokens_share_is_told() {
        let mut files = TokenizerFiles::default();
        files.set("vocab.json", br#"{"a": 0, "b": 2}"#.to_vec()).unwrap();
        files.set("merges.txt", Vec::new()).unwrap();
        let (tokenizer, warnings) = Tokenizer::from_files(files).unwrap();
        assert_eq!(tokenizer.special_text(2), Some("<|endoftext|>"));
        assert!(warnings[0].contains("place of \"b\""), "{warnings:?}");
    }

    #[test]
    fn an_added_token_that_normalizes_to_nothing_does_no_harm() {
        let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
        if let Ok(tokenizer) = with_added(strip, &[(" ", false, false), ("a", true, false)]) {
            let _ = tokenizer.encode(" a  b ");
        }
    }
}
