//! The classes of tokenizers that transformers knows and that matter here.

/// GPT-2's one special token.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Whose rules a tokenizer follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Class {
    Gpt2,
    Roberta,
    Bert,
    /// What tokenizer.json says.
    AsWritten,
}

impl Class {
    /// The class of that name; GPT-2's own where no file names one.
    pub fn from_name(name: Option<&str>) -> Self {
        match name {
            None | Some("GPT2Tokenizer") => Self::Gpt2,
            Some("RobertaTokenizer" | "BartTokenizer" | "LongformerTokenizer" | "LEDTokenizer") => Self::Roberta,
            Some("BertTokenizer" | "DistilBertTokenizer" | "ElectraTokenizer" | "RetriBertTokenizer") => Self::Bert,
            Some(_) => Self::AsWritten,
        }
    }

    /// Whether it is GPT-2's way to make words and bytes.
    pub fn is_byte_level(self) -> bool {
        matches!(self, Self::Gpt2 | Self::Roberta)
    }

    /// The special tokens that it has unless a file says otherwise.
    pub fn defaults(self) -> &'static [(&'static str, &'static str)] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_unknown_class_the_file_counts() {
        assert_eq!(Class::from_name(Some("LlamaTokenizer")), Class::AsWritten);
        assert_eq!(Class::from_name(None), Class::Gpt2);
    }
}
