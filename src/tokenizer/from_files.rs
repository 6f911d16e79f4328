//! A tokenizer from its files, as transformers' `AutoTokenizer` reads them for a GPT-2 (5.23: `TokenizersBackend`,
//! `GPT2Tokenizer`, `RobertaTokenizer`, `BertTokenizer`).
//!
//! Three classes take only the vocabulary from a tokenizer.json and know all else themselves; any other class means that
//! the file is followed as it is written.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use tokenizers::models::bpe::Vocab;
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use super::decoder::{DecoderFile, TokenDecoder};
use super::files::{TokenizerFiles, text};
use super::models::{Bpe, ModelParts};
use super::pieces::Pieces;
use super::post_processor::Template;
use super::settings::Settings;
use super::stream::Decoding;
use super::text_filters::CLEAN_UP_SPACES;
use super::tokenizer::Tokenizer;
use super::tokenizer_json::TokenizerJson;
use super::utf8::Utf8Stream;
use crate::error::{Error, Result, excerpt};
use crate::token::TokenId;

/// GPT-2's one special token.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Whose rules a tokenizer follows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    Gpt2,
    Roberta,
    Bert,
    /// What tokenizer.json says.
    AsWritten,
}

impl Class {
    fn from_name(name: Option<&str>) -> Self {
        match name {
            None | Some("GPT2Tokenizer") => Self::Gpt2,
            Some("RobertaTokenizer" | "BartTokenizer" | "LongformerTokenizer" | "LEDTokenizer") => Self::Roberta,
            Some("BertTokenizer" | "DistilBertTokenizer" | "ElectraTokenizer" | "RetriBertTokenizer") => Self::Bert,
            Some(_) => Self::AsWritten,
        }
    }

    fn is_byte_level(self) -> bool {
        matches!(self, Self::Gpt2 | Self::Roberta)
    }

    /// The special tokens that it has unless a file says otherwise.
    fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Gpt2 => &[("bos_token", END_OF_TEXT), ("eos_token", END_OF_TEXT), ("unk_token", END_OF_TEXT)],
            Self::Roberta => &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("unk_token", "<unk>"),
                ("sep_token", "</s>"),
                ("pad_token", "<pad>"),
                ("cls_token", "<s>"),
                ("mask_token", "<mask>"),
            ],
            Self::Bert => &[
                ("unk_token", "[UNK]"),
                ("sep_token", "[SEP]"),
                ("pad_token", "[PAD]"),
                ("cls_token", "[CLS]"),
                ("mask_token", "[MASK]"),
            ],
            Self::AsWritten => &[],
        }
    }
}

/// All that a tokenizer is made of, before it is put together.
struct Parts {
    /// The file with the vocabulary, for errors.
    file: &'static str,
    model: ModelParts,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: Option<DecoderFile>,
    is_byte_level: bool,
    /// Of tokenizer.json.
    template: Option<Template>,
    /// Of tokenizer.json, with the ids that it gives them.
    added: Vec<(Option<TokenId>, AddedToken)>,
}

impl Tokenizer {
    /// Makes a tokenizer of its files. → with what of them is not used or is used otherwise, one sentence each
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a missing or malformed file, [`Error::UnsupportedModel`] for a kind that cannot be run.
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
            normalizer: file.take_normalizer()?,
            pre_tokenizer: file.take_pre_tokenizer()?,
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
            let vocab = serde_json::from_slice::<Vocab>(&vocab)
                .map_err(|e| Error::file("vocab.json", "an object of token → id", e.to_string()))?;
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
                let expected = "a tokenizer.json beside it, as `AutoTokenizer.from_pretrained(...).save_pretrained(...)` writes one";
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
        normalizer: None,
        pre_tokenizer: Some(ByteLevel::default().add_prefix_space(add_prefix_space).into()),
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
        normalizer: Some(BertNormalizer::new(true, tokenize_chinese_chars, strip_accents, do_lower_case).into()),
        pre_tokenizer: Some(BertPreTokenizer.into()),
        decoder: Some(DecoderFile::WordPiece { prefix: "##".to_string(), cleanup: true }),
        is_byte_level: false,
        template: None,
        added: Vec::new(),
    }
}

fn assemble(
    parts: Parts,
    class: Class,
    settings: Settings,
    mut warnings: Vec<String>,
) -> Result<(Tokenizer, Vec<String>)> {
    let Parts { file, model, normalizer, pre_tokenizer, decoder, is_byte_level, template, added } = parts;
    let is_bpe = matches!(model, ModelParts::Bpe(_));
    let has_cleanup = settings.clean_up_spaces && (!is_bpe || settings.clean_up_spaces_of_bpe);
    let has_bytes = matches!(decoder, Some(DecoderFile::ByteLevel {})) && !has_cleanup;
    let decoding = if has_bytes {
        Decoding::Bytes(Utf8Stream::default())
    } else {
        let mut decoder = TokenDecoder::new(decoder)?;
        if has_cleanup {
            decoder.add_replacements(&CLEAN_UP_SPACES);
        }
        Decoding::Tokens(Box::new(decoder))
    };
    let mut pieces = Pieces::new(model.n_tokens(), has_bytes);
    model.each_token(|token, id| pieces.insert(token, id, file))?;

    let mut inner = HfTokenizer::new(model.build(is_byte_level, file)?);
    inner
        .with_normalizer(normalizer)
        .map_err(|e| Error::file(file, "a normalizer", e.to_string()))?
        .with_pre_tokenizer(pre_tokenizer);
    add_tokens(&mut inner, class, &settings, added, &mut warnings, file)?;
    inner.set_encode_special_tokens(settings.split_special_tokens);
    note_added(&inner, &mut pieces, file)?;

    let id = |name: &str| settings.special(name).and_then(|token| inner.token_to_id(token));
    let template = match class {
        Class::Bert | Class::Roberta => Template::around(id("cls_token"), id("sep_token")),
        _ if file == "tokenizer.json" => template.unwrap_or_else(|| Template::around(None, None)),
        _ => Template::around(
            id("bos_token").filter(|_| settings.add_bos_token),
            id("eos_token").filter(|_| settings.add_eos_token),
        ),
    };
    if let Some(id) = template.ids().find(|&id| pieces.get(id).is_none()) {
        let expected = "tokens in the vocabulary around a text";
        return Err(Error::file(file, expected, format!("an id of {id} in the post-processor")));
    }
    Ok((Tokenizer::new(inner, Rc::new(pieces), decoding, template), warnings))
}

/// Adds the tokens beside the vocabulary, in transformers' order: that gives them their ids.
fn add_tokens(
    inner: &mut HfTokenizer,
    class: Class,
    settings: &Settings,
    of_file: Vec<(Option<TokenId>, AddedToken)>,
    warnings: &mut Vec<String>,
    file: &str,
) -> Result<()> {
    let mut tokens: Vec<AddedToken> = Vec::new();
    if class == Class::AsWritten {
        tokens.extend(of_file.iter().map(|(_, token)| token.clone()));
    }
    let with_ids: BTreeMap<TokenId, AddedToken> = match &settings.added {
        Some(added) => added.clone(),
        None => {
            let of_file = of_file.into_iter().filter_map(|(id, token)| Some((id?, token)));
            settings.legacy_added.clone().into_iter().chain(of_file).collect()
        }
    };
    let named: HashSet<&str> = settings.named().map(|token| token.content.as_str()).collect();
    for token in with_ids.values() {
        let is_special = token.special || named.contains(token.content.as_str());
        tokens.push(token.clone().special(is_special));
    }
    for token in settings.named().chain(&settings.extra) {
        if !tokens.iter().any(|known| known.content == token.content) {
            let is_special = token.special || named.contains(token.content.as_str());
            tokens.push(token.clone().special(is_special));
        }
    }
    check_spaces(&tokens, file)?;
    inner.add_tokens(tokens).map_err(|e| Error::file(file, "room for the added tokens", e.to_string()))?;
    for (id, token) in &with_ids {
        if let Some(found) = inner.token_to_id(&token.content).filter(|found| found != id) {
            let content = excerpt(&token.content);
            warnings.push(format!(
                "the added token \"{content}\" has the id {found}, as transformers counts, and not {id} as its file says"
            ));
        }
    }
    Ok(())
}

/// Refuses added tokens that make the `tokenizers` crate cut a text backwards: one that takes the spaces behind it, and
/// one of spaces alone that takes those before it.
fn check_spaces(tokens: &[AddedToken], file: &str) -> Result<()> {
    let is_space = |token: &&AddedToken| token.lstrip && token.content.chars().all(char::is_whitespace);
    match tokens.iter().find(is_space).filter(|_| tokens.iter().any(|token| token.rstrip)) {
        None => Ok(()),
        Some(token) => {
            let field = format!("added token \"{}\" ({file})", excerpt(&token.content));
            Err(Error::unsupported(field, "no `lstrip` for a token of spaces where another has `rstrip`", "both"))
        }
    }
}

/// Notes the added tokens, whose ids are known now. What decodes is a token's normalized text, as in the crate.
fn note_added(inner: &HfTokenizer, pieces: &mut Pieces, file: &str) -> Result<()> {
    let added = inner.get_added_vocabulary();
    let (mut special, mut hidden) = (Vec::new(), Vec::new());
    for (&id, token) in added.get_added_tokens_decoder() {
        let written = added.simple_id_to_token(id).unwrap_or_else(|| token.content.clone());
        pieces.replace(&written, id, file)?;
        if token.special {
            special.push((id, token.content.clone()));
        }
        if added.is_special_token(&written) {
            hidden.push(id);
        }
    }
    pieces.set_special(special, hidden);
    Ok(())
}
