//! What turns text into ids: GPT-2's own steps where a tokenizer has no others, else the `tokenizers` crate's.

use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, AddedVocabulary, Model};

use super::general::GeneralEncoder;
use super::gpt2_encoder::Gpt2Encoder;
use super::models::ModelParts;
use super::steps::Steps;
use crate::error::{Error, Result};
use crate::token::TokenId;

/// An encoder.
pub(super) enum Encoder {
    Gpt2(Box<Gpt2Encoder>),
    General(Box<GeneralEncoder>),
}

impl Encoder {
    /// An encoder with these added tokens.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the parts do not fit together, [`Error::UnsupportedModel`] for what cannot be run,
    /// [`Error::NotInThisBuild`] for what the larger build runs.
    pub fn new(
        model: ModelParts,
        steps: Steps,
        added: Vec<AddedToken>,
        split_special_tokens: bool,
        is_byte_level: bool,
        file: &str,
    ) -> Result<Self> {
        let wrong = |e: tokenizers::Error| Error::file(file, "room for the added tokens", e.to_string());
        match (model, steps) {
            (ModelParts::Bpe(bpe), Steps::Gpt2 { add_prefix_space })
                if !split_special_tokens && added.iter().all(Gpt2Encoder::can_add) =>
            {
                let mut encoder = Gpt2Encoder::new(bpe.build(is_byte_level, file)?, add_prefix_space);
                encoder.add_tokens(added).map_err(wrong)?;
                Ok(Self::Gpt2(Box::new(encoder)))
            }
            (model, steps) => {
                let mut encoder = GeneralEncoder::new(model, steps, is_byte_level, file)?;
                encoder.add_tokens(added).map_err(wrong)?;
                encoder.split_special_tokens(split_special_tokens);
                Ok(Self::General(Box::new(encoder)))
            }
        }
    }

    /// Text → ids.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the vocabulary lacks a token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        match self {
            Self::Gpt2(encoder) => encoder.encode(text),
            Self::General(encoder) => encoder.encode(text),
        }
    }

    /// The tokens beside the vocabulary.
    pub fn added(&self) -> &AddedVocabulary {
        match self {
            Self::Gpt2(encoder) => encoder.added(),
            Self::General(encoder) => encoder.added(),
        }
    }

    /// The id of a token, also of an added one.
    pub fn id(&self, token: &str) -> Option<TokenId> {
        match self {
            Self::Gpt2(encoder) => encoder.added().token_to_id(token, encoder.model()),
            Self::General(encoder) => encoder.id(token),
        }
    }

    /// The token of the vocabulary that has an id, whatever has been added.
    pub fn token_of_vocabulary(&self, id: TokenId) -> Option<String> {
        match self {
            Self::Gpt2(encoder) => BPE::id_to_token(encoder.model(), id),
            Self::General(encoder) => encoder.token_of_vocabulary(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::models::Bpe;
    use crate::tokenizer::pieces::byte_alphabet;

    /// GPT-2's kind of model: the bytes, and a few merges.
    fn bpe() -> Bpe {
        let merges = [("Ġ", "a"), ("a", "b"), ("Ġa", "b"), ("'", "s"), ("1", "2"), ("Ġ", "Ġ"), ("Ã", "©"), ("Ċ", "Ċ")];
        let bytes = byte_alphabet().map(|(c, _)| c.to_string());
        let tokens = bytes.chain(merges.iter().map(|(a, b)| format!("{a}{b}")));
        let merges = merges.map(|(a, b)| (a.to_string(), b.to_string())).to_vec();
        Bpe { vocab: tokens.zip(0..).collect(), merges, ..Bpe::default() }
    }

    fn added() -> Vec<AddedToken> {
        let plain = |content, normalized| AddedToken::from(content, false).normalized(normalized);
        vec![
            AddedToken::from("<|endoftext|>", true),
            AddedToken::from("<|e", true).normalized(true),
            plain("<|end", true),
            plain("'s a", true),
            plain("s ab", false),
            plain(" b", false),
            plain("ab", true),
        ]
    }

    /// The encoder of GPT-2's steps, and the `tokenizers` crate with the same.
    fn both(added: Vec<AddedToken>, add_prefix_space: bool) -> (Encoder, GeneralEncoder) {
        let steps = || Steps::Gpt2 { add_prefix_space };
        let own = Encoder::new(ModelParts::Bpe(bpe()), steps(), added.clone(), false, true, "x").unwrap();
        assert!(matches!(own, Encoder::Gpt2(_)), "these are GPT-2's steps");
        let mut general = GeneralEncoder::new(ModelParts::Bpe(bpe()), steps(), true, "x").unwrap();
        general.add_tokens(added).unwrap();
        (own, general)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn gpt2s_steps_give_what_the_crate_gives(
            text in prop_oneof![
                r"([ \t\n\u{a0}\u{3000}'sdlvretmab12éß日½①!.…🙂\u{301}]|<\|endoftext\|>|<\|end| ab|'s|'ll){0,30}",
                any::<String>(),
            ],
            n_added in 0_usize..8,
            add_prefix_space: bool,
        ) {
            let (own, general) = both(added().into_iter().take(n_added).collect(), add_prefix_space);
            prop_assert_eq!(own.encode(&text).unwrap(), general.encode(&text).unwrap());
        }
    }

    #[test]
    fn every_character_is_cut_as_the_crate_cuts_it() {
        let (own, general) = both(Vec::new(), false);
        let chars: Vec<char> = ('\0'..=char::MAX).collect();
        for chars in chars.chunks(64) {
            // a letter, a number or a sign is joined by its own kind alone, and spaces go with what follows
            let text: String = chars.iter().flat_map(|&c| ['a', c, c, '1', c, ' ', c, '!', c, ' ', ' ']).collect();
            assert_eq!(own.encode(&text).unwrap(), general.encode(&text).unwrap(), "{chars:?}");
        }
    }

    #[test]
    fn what_gpt2_has_no_steps_for_is_the_crates() {
        let general = |model, steps, added, split| {
            matches!(Encoder::new(model, steps, added, split, true, "x").unwrap(), Encoder::General(_))
        };
        let gpt2 = || Steps::Gpt2 { add_prefix_space: false };
        let token = || AddedToken::from("<x>", true);
        assert!(general(ModelParts::Bpe(bpe()), gpt2(), vec![token().lstrip(true)], false));
        assert!(general(ModelParts::Bpe(bpe()), gpt2(), vec![token().rstrip(true)], false));
        assert!(general(ModelParts::Bpe(bpe()), gpt2(), vec![token().single_word(true)], false));
        assert!(general(ModelParts::Bpe(bpe()), gpt2(), vec![token()], true));
        assert!(general(ModelParts::Bpe(bpe()), Steps::written(None, None), vec![token()], false));
        assert!(!general(ModelParts::Bpe(bpe()), gpt2(), vec![token()], false));
    }
}
