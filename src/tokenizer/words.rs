//! A text cut into words as by the regular expression of GPT-2 (OpenAI's encoder.py), which is
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
//!
//! Written by hand because an engine for regular expressions, with Unicode's tables, is larger than all else that a
//! page with GPT-2 needs.

use super::letters::{is_letter, is_number};

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// What a run of characters in one word has in common.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Letter,
    Number,
    Space,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Number,
            c if c.is_whitespace() => Self::Space,
            c if c.is_ascii() => Self::Other,
            c if is_letter(c) => Self::Letter,
            c if is_number(c) => Self::Number,
            _ => Self::Other,
        }
    }
}

/// The words of a text, in order; joined they are the text.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, behind) = rest.split_at(first_word(rest));
        rest = behind;
        (!word.is_empty()).then_some(word)
    })
}

/// Bytes of the first word; 0 for no text.
fn first_word(text: &str) -> usize {
    if let Some(contraction) = CONTRACTIONS.iter().find(|&&contraction| text.starts_with(contraction)) {
        return contraction.len();
    }
    let after_space = text.strip_prefix(' ').unwrap_or(text);
    match after_space.chars().next().map(Kind::of) {
        Some(kind) if kind != Kind::Space => text.len() - after_space.len() + run(after_space, kind),
        _ => {
            // the last of several spaces belongs to the word behind them
            let n = run(text, Kind::Space);
            let last = text[..n].chars().next_back().map_or(0, char::len_utf8);
            if n < text.len() && n > last { n - last } else { n }
        }
    }
}

/// Bytes of the characters of one kind that a text begins with.
fn run(text: &str, kind: Kind) -> usize {
    text.find(|c| Kind::of(c) != kind).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_gpt2s() {
        for (text, expected) in [
            ("", &[][..]),
            ("Hello  world's  \n end\n\nx ", &["Hello", " ", " world", "'s", "  \n", " end", "\n", "\n", "x", " "]),
            ("we'll''ve 'd'D", &["we", "'ll", "''", "ve", " '", "d", "'", "D"]),
            ("a1٣½ 12a", &["a", "1٣½", " 12", "a"]),
            ("\u{a0}x \u{a0}\u{3000}y  ", &["\u{a0}", "x", " \u{a0}", "\u{3000}", "y", "  "]),
            ("né\u{301}! 日本。", &["né", "\u{301}!", " 日本", "。"]),
        ] {
            assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }
}
