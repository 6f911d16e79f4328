//! What the small files beside a vocabulary say: `tokenizer_config.json`, `special_tokens_map.json`,
//! `added_tokens.json`, and the class that an old `config.json` names. Read as `_from_pretrained` in
//! tokenization_utils_base.py of transformers 5.23 does.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::files::{TokenizerFiles, text};
use crate::checkpoint::read_json;
use crate::error::{Error, Result};
use crate::token::TokenId;

/// The special tokens that transformers knows by name, in its order.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// All that the small files say.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The class of the tokenizer in transformers, without its `Fast`.
    pub class: Option<String>,
    /// Special tokens by name, in transformers' order; `None` where a file says that there is none.
    named: Vec<(String, Option<AddedToken>)>,
    /// Special tokens without a name.
    pub extra: Vec<AddedToken>,
    /// Tokens with the ids that a file gives them; `None` if tokenizer.json has to say.
    pub added: Option<BTreeMap<TokenId, AddedToken>>,
    /// Those of added_tokens.json, which come before tokenizer.json's.
    pub legacy_added: BTreeMap<TokenId, AddedToken>,
    pub add_prefix_space: bool,
    pub add_bos_token: bool,
    pub add_eos_token: bool,
    pub do_lower_case: bool,
    pub strip_accents: Option<bool>,
    pub tokenize_chinese_chars: bool,
    pub clean_up_spaces: bool,
    /// As the flag's full name says, it spoils BPE's text.
    pub clean_up_spaces_of_bpe: bool,
    pub split_special_tokens: bool,
}

impl Settings {
    /// Reads the files, as far as they are there.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for one that is no JSON object, or has no token where one belongs.
    pub fn read(files: &TokenizerFiles) -> Result<Self> {
        let mut config = object(files.tokenizer_config_json.as_deref(), "tokenizer_config.json")?.unwrap_or_default();
        let class_of = |fields: &Map<String, Value>| Some(fields.get("tokenizer_class")?.as_str()?.to_string());
        let model_config = object(files.config_json.as_deref(), "config.json")?;
        let class = class_of(&config).or_else(|| class_of(&model_config?));
        let flag = |config: &Map<String, Value>, name: &str| config.get(name).and_then(Value::as_bool);
        let mut settings = Self {
            class: class.map(|class| class.strip_suffix("Fast").unwrap_or(&class).to_string()),
            add_prefix_space: flag(&config, "add_prefix_space").unwrap_or(false),
            add_bos_token: flag(&config, "add_bos_token").unwrap_or(false),
            add_eos_token: flag(&config, "add_eos_token").unwrap_or(false),
            do_lower_case: flag(&config, "do_lower_case").unwrap_or(true),
            strip_accents: flag(&config, "strip_accents"),
            tokenize_chinese_chars: flag(&config, "tokenize_chinese_chars").unwrap_or(true),
            clean_up_spaces: flag(&config, "clean_up_tokenization_spaces").unwrap_or(false),
            clean_up_spaces_of_bpe: flag(
                &config,
                "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
            )
            .unwrap_or(false),
            split_special_tokens: flag(&config, "split_special_tokens").unwrap_or(false),
            ..Self::default()
        };
        match config.remove("added_tokens_decoder") {
            Some(Value::Object(tokens)) => settings.added = Some(with_ids(tokens)?),
            Some(Value::Null) | None => {
                let map = object(files.special_tokens_map_json.as_deref(), "special_tokens_map.json")?;
                for (name, mut value) in map.unwrap_or_default() {
                    if let Value::Object(token) = &mut value
                        && name != "extra_special_tokens"
                    {
                        token.insert("special".into(), true.into());
                    }
                    config.insert(name, value);
                }
            }
            Some(_) => return Err(malformed("tokenizer_config.json", "added_tokens_decoder")),
        }
        settings.take_special(&mut config)?;
        if settings.added.is_none() {
            settings.take_legacy(files)?;
        }
        Ok(settings)
    }

    fn take_special(&mut self, config: &mut Map<String, Value>) -> Result<()> {
        const FILE: &str = "tokenizer_config.json";
        for name in NAMES {
            match config.remove(name) {
                None => {}
                Some(Value::Null) => self.named.push((name.to_string(), None)),
                Some(value) => {
                    let token = added_token(&value, true).ok_or_else(|| malformed(FILE, name))?;
                    self.named.push((name.to_string(), Some(token)));
                }
            }
        }
        let other = config.remove("additional_special_tokens");
        let extra = config.remove("extra_special_tokens").filter(|extra| match extra {
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => !items.is_empty(),
            _ => false,
        });
        // a model's own special tokens, such as `image_token`
        let own = config.iter().filter(|(name, value)| name.ends_with("_token") && !value.is_boolean());
        let own = own.map(|(name, value)| (name.clone(), added_token(value, true)));
        self.named.extend(own.filter(|(_, token)| token.is_some()));
        match extra.or(other) {
            Some(Value::Array(items)) => {
                let tokens = items.iter().map(|item| added_token(item, true));
                let tokens: Option<Vec<_>> = tokens.collect();
                self.extra = tokens.ok_or_else(|| malformed(FILE, "extra_special_tokens"))?;
            }
            Some(Value::Object(items)) => {
                let tokens = items.into_iter().map(|(name, value)| (name, added_token(&value, true)));
                self.named.extend(tokens.filter(|(_, token)| token.is_some()));
            }
            _ => {}
        }
        Ok(())
    }

    /// The tokens of `added_tokens.json`: token → id.
    fn take_legacy(&mut self, files: &TokenizerFiles) -> Result<()> {
        const FILE: &str = "added_tokens.json";
        for (token, id) in object(files.added_tokens_json.as_deref(), FILE)?.unwrap_or_default() {
            let id = id.as_u64().and_then(|id| TokenId::try_from(id).ok()).ok_or_else(|| malformed(FILE, &token))?;
            let special = self.named.iter().filter_map(|(_, named)| named.as_ref()).chain(&self.extra);
            let is_special = special.into_iter().any(|special| special.content == token);
            self.legacy_added.insert(id, AddedToken::from(token, is_special));
        }
        Ok(())
    }

    /// Gives special tokens their names where no file says what they are.
    pub fn set_defaults(&mut self, defaults: &[(&str, &str)]) {
        for &(name, content) in defaults {
            if !self.named.iter().any(|(known, _)| known == name) {
                self.named.push((name.to_string(), Some(AddedToken::from(content, true))));
            }
        }
        // transformers' own names come first and in its order; the sort is stable
        let rank = |name: &str| NAMES.iter().position(|&known| known == name).unwrap_or(NAMES.len());
        self.named.sort_by_key(|(name, _)| rank(name));
    }

    /// The text of the special token of that name.
    pub fn special(&self, name: &str) -> Option<&str> {
        let (_, token) = self.named.iter().find(|(known, _)| known == name)?;
        token.as_ref().map(|token| token.content.as_str())
    }

    /// The special tokens that have names.
    pub fn named(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.iter().filter_map(|(_, token)| token.as_ref())
    }
}

/// `added_tokens_decoder`: id → token with its flags.
fn with_ids(tokens: Map<String, Value>) -> Result<BTreeMap<TokenId, AddedToken>> {
    let entry = |(id, token): (String, Value)| Some((id.trim().parse().ok()?, added_token(&token, false)?));
    let tokens: Option<_> = tokens.into_iter().map(entry).collect();
    tokens.ok_or_else(|| malformed("tokenizer_config.json", "added_tokens_decoder"))
}

/// A token as files write it: its text, or an object with flags.
fn added_token(value: &Value, is_special: bool) -> Option<AddedToken> {
    if let Some(content) = value.as_str() {
        return Some(AddedToken::from(content, is_special));
    }
    let fields = value.as_object()?;
    let flag = |name: &str| fields.get(name).and_then(Value::as_bool);
    let token = AddedToken::from(fields.get("content")?.as_str()?, flag("special").unwrap_or(is_special));
    let normalized = flag("normalized").unwrap_or(token.normalized);
    Some(
        token
            .normalized(normalized)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false)),
    )
}

fn object(bytes: Option<&[u8]>, name: &str) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = bytes else { return Ok(None) };
    match read_json(name, text(bytes, name)?)? {
        Value::Object(fields) => Ok(Some(fields)),
        _ => Err(Error::file(name, "an object in JSON", "another value")),
    }
}

fn malformed(file: &str, field: &str) -> Error {
    Error::file(
        file,
        format!("a token, or tokens with their ids, in `{}`", crate::error::excerpt(field)),
        "something else",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Settings> {
        let mut all = TokenizerFiles::default();
        for (name, text) in files {
            all.set(name, text.as_bytes().to_vec()).unwrap();
        }
        Settings::read(&all)
    }

    #[test]
    fn tokens_are_texts_or_objects() {
        let config = r#"{"tokenizer_class": "GPT2TokenizerFast", "add_bos_token": true, "unk_token": null,
            "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": true, "normalized": true},
            "eos_token": "</s>", "additional_special_tokens": ["<a>", {"content": "<b>"}], "model_max_length": 1e30}"#;
        let mut settings = read(&[("tokenizer_config.json", config)]).unwrap();
        settings.set_defaults(&[("unk_token", "<unk>"), ("pad_token", "<pad>")]);
        assert_eq!(settings.class.as_deref(), Some("GPT2Tokenizer"));
        assert_eq!((settings.special("bos_token"), settings.special("unk_token")), (Some("<s>"), None));
        let named: Vec<_> = settings.named().map(|token| (token.content.as_str(), token.lstrip)).collect();
        assert_eq!(named, [("<s>", true), ("</s>", false), ("<pad>", false)]);
        assert_eq!(settings.extra.len(), 2);
    }

    #[test]
    fn the_models_own_file_names_the_class_of_old_checkpoints() {
        let settings = read(&[("config.json", r#"{"tokenizer_class": "BertTokenizer"}"#)]).unwrap();
        assert_eq!(settings.class.as_deref(), Some("BertTokenizer"));
    }

    #[test]
    fn pythons_words_for_no_number_are_read() {
        let config = r#"{"model_max_length": Infinity, "add_prefix_space": true}"#;
        assert!(read(&[("tokenizer_config.json", config), ("config.json", "{\"a\": NaN}")]).unwrap().add_prefix_space);
    }

    #[test]
    fn malformed_files_are_named() {
        for (name, text, word) in [
            ("tokenizer_config.json", "[]", "tokenizer_config.json"),
            ("tokenizer_config.json", r#"{"bos_token": 3}"#, "bos_token"),
            ("tokenizer_config.json", r#"{"added_tokens_decoder": {"x": "<s>"}}"#, "added_tokens_decoder"),
            ("added_tokens.json", r#"{"<s>": -1}"#, "<s>"),
            ("special_tokens_map.json", "", "special_tokens_map.json"),
        ] {
            let error = read(&[(name, text)]).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
