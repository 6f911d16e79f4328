//! A tokenizer from its parts.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use tokenizers::AddedToken;

use super::class::Class;
use super::decoder::{DecoderFile, TokenDecoder};
use super::encoder::Encoder;
use super::models::ModelParts;
use super::pieces::Pieces;
use super::post_processor::Template;
use super::settings::Settings;
use super::steps::Steps;
use super::stream::Decoding;
use super::text_filters::CLEAN_UP_SPACES;
use super::tokenizer::Tokenizer;
use super::utf8::Utf8Stream;
use crate::error::{Error, Result, excerpt};
use crate::token::TokenId;

/// All that a tokenizer is made of, before it is put together.
pub(super) struct Parts {
    /// The file with the vocabulary, for errors.
    pub file: &'static str,
    pub model: ModelParts,
    pub steps: Steps,
    pub decoder: Option<DecoderFile>,
    pub is_byte_level: bool,
    /// Of tokenizer.json.
    pub template: Option<Template>,
    /// Of tokenizer.json, with the ids that it gives them.
    pub added: Vec<(Option<TokenId>, AddedToken)>,
}

/// Puts a tokenizer together. → with the warnings so far and its own
///
/// # Errors
/// [`Error::Checkpoint`] where the parts do not fit together, [`Error::UnsupportedModel`] for what cannot be run.
pub(super) fn assemble(
    parts: Parts,
    class: Class,
    settings: Settings,
    mut warnings: Vec<String>,
) -> Result<(Tokenizer, Vec<String>)> {
    let Parts { file, model, steps, decoder, is_byte_level, template, added } = parts;
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

    let (added, with_ids) = added_tokens(class, &settings, added);
    let encoder = Encoder::new(model, steps, added, settings.split_special_tokens, is_byte_level, file)?;
    for (id, token) in &with_ids {
        if let Some(found) = encoder.id(&token.content).filter(|found| found != id) {
            let content = excerpt(&token.content);
            warnings.push(format!(
                "the added token \"{content}\" has the id {found}, as transformers counts, and not its file's {id}"
            ));
        }
    }
    note_added(&encoder, &mut pieces, &mut warnings, file)?;

    let id = |name: &str| settings.special(name).and_then(|token| encoder.id(token));
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
    Ok((Tokenizer::new(encoder, Rc::new(pieces), decoding, template), warnings))
}

/// The tokens beside the vocabulary, in transformers' order: that gives them their ids. → with those to which files give
/// one
fn added_tokens(
    class: Class,
    settings: &Settings,
    of_file: Vec<(Option<TokenId>, AddedToken)>,
) -> (Vec<AddedToken>, BTreeMap<TokenId, AddedToken>) {
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
    (tokens, with_ids)
}

/// Notes the added tokens, whose ids are known now. What decodes is a token's normalized text, as in the crate.
///
/// # Errors
/// [`Error::UnsupportedModel`] for added tokens with which the crate would cut a text backwards, and panic: one that
/// takes the spaces behind it, and one of spaces alone that takes those before it.
fn note_added(encoder: &Encoder, pieces: &mut Pieces, warnings: &mut Vec<String>, file: &str) -> Result<()> {
    let added = encoder.added();
    let tokens = added.get_added_tokens_decoder();
    let takes_spaces = tokens.values().any(|token| token.rstrip);
    let (mut special, mut hidden) = (Vec::new(), Vec::new());
    for (&id, token) in tokens {
        let written = added.simple_id_to_token(id).unwrap_or_else(|| token.content.clone());
        if takes_spaces && token.lstrip && written.chars().all(char::is_whitespace) {
            let field = format!("added token \"{}\"", excerpt(&token.content));
            return Err(Error::unsupported(
                file,
                field,
                "no `lstrip` for spaces where another token has `rstrip`",
                "both",
            ));
        }
        if let Some(other) = encoder.token_of_vocabulary(id).filter(|other| *other != token.content) {
            warnings.push(format!(
                "{file}: the added token \"{}\" has the id {id}, as transformers counts, and takes the place of \"{}\"",
                excerpt(&token.content),
                excerpt(&other)
            ));
        }
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
