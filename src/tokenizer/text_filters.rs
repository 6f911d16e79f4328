//! Changes to a text that comes piece by piece, each the same as the change to the whole text.

use super::general::ReplaceRegex;

/// What WordPiece's decoder does to the spaces before punctuation (`cleanup` in the `tokenizers` crate).
pub(super) const WORD_PIECE_CLEANUP: [(&str, &str); 11] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// What transformers does to a whole text if `clean_up_tokenization_spaces` (tokenization_utils_base.py).
pub(super) const CLEAN_UP_SPACES: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// One change to a text.
#[derive(Clone, Debug)]
pub(super) enum TextFilter {
    /// Puts `content` in the place of each `pattern`, from left to right.
    Replace {
        pattern: String,
        content: String,
        /// Shorter than `pattern`: a proper prefix of it, or empty.
        held: String,
    },
    /// Leaves out the first characters of the text, at most `n_left` more, as long as they are `content`.
    StripStart { content: char, n_left: usize },
    /// Leaves out at most `n` last characters that are `content`.
    StripEnd {
        content: char,
        n: usize,
        /// How many of them have come last; at most `n`.
        n_held: usize,
    },
    /// Replaces what a regular expression matches. A match may need all of the text: nothing comes out before its end.
    Regex { replace: ReplaceRegex, text: String },
}

impl TextFilter {
    /// Puts `content` in the place of each `pattern`.
    pub fn replace(pattern: &str, content: &str) -> Self {
        Self::Replace { pattern: pattern.to_string(), content: content.to_string(), held: String::new() }
    }

    /// Takes the next piece of the text. → what comes out of it
    pub fn push(&mut self, piece: &str) -> String {
        match self {
            Self::Replace { pattern, content, held } => {
                let mut text = std::mem::take(held);
                text.push_str(piece);
                let (mut out, mut rest) = (String::new(), text.as_str());
                while let Some(at) = rest.find(pattern.as_str()) {
                    out.push_str(&rest[..at]);
                    out.push_str(content);
                    rest = &rest[at + pattern.len()..];
                }
                // the longest end that may be the start of the pattern
                let from = rest.len().saturating_sub(pattern.len().saturating_sub(1));
                let from = (from..rest.len()).find(|&i| rest.get(i..).is_some_and(|end| pattern.starts_with(end)));
                let (shown, end) = rest.split_at(from.unwrap_or(rest.len()));
                out.push_str(shown);
                *held = end.to_string();
                out
            }
            Self::StripStart { content, n_left } => {
                let mut rest = piece;
                while *n_left > 0 && !rest.is_empty() {
                    match rest.strip_prefix(*content) {
                        Some(after) => (rest, *n_left) = (after, *n_left - 1),
                        None => *n_left = 0,
                    }
                }
                rest.to_string()
            }
            Self::StripEnd { content, n, n_held } => {
                let mut out: String = std::iter::repeat_n(*content, *n_held).collect();
                out.push_str(piece);
                *n_held = out.chars().rev().take(*n).take_while(|c| c == content).count();
                out.truncate(out.len() - *n_held * content.len_utf8());
                out
            }
            Self::Regex { text, .. } => {
                text.push_str(piece);
                String::new()
            }
        }
    }

    /// Ends the text. → what was held back
    pub fn finish(&mut self) -> String {
        match self {
            Self::Replace { held, .. } => std::mem::take(held),
            Self::Regex { replace, text } => replace.apply(std::mem::take(text)),
            Self::StripStart { .. } | Self::StripEnd { .. } => String::new(),
        }
    }

    /// As in the middle of a text.
    pub fn skip_start(&mut self) {
        if let Self::StripStart { n_left, .. } = self {
            *n_left = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(mut filter: TextFilter, text: &str, n: usize) -> String {
        let chars: Vec<char> = text.chars().collect();
        let mut out: String = chars.chunks(n).map(|piece| filter.push(&piece.iter().collect::<String>())).collect();
        out.push_str(&filter.finish());
        out
    }

    #[test]
    fn every_cut_gives_the_change_of_the_whole() {
        let text = "  ' s n't aab aaab . ..  !▁▁é€ ";
        for n in 1..8 {
            for (pattern, content) in WORD_PIECE_CLEANUP.into_iter().chain([("aab", "aa"), ("▁", " "), ("é€", "")])
            {
                let found = cut(TextFilter::replace(pattern, content), text, n);
                assert_eq!(found, text.replace(pattern, content), "{pattern:?} in pieces of {n}");
            }
            let strip = |content, n_left| TextFilter::StripStart { content, n_left };
            assert_eq!(cut(strip(' ', 1), text, n), text[1..]);
            assert_eq!(cut(strip(' ', 9), text, n), text[2..]);
            let strip = |content, max| TextFilter::StripEnd { content, n: max, n_held: 0 };
            assert_eq!(cut(strip(' ', 3), text, n), text[..text.len() - 1]);
            assert_eq!(cut(strip('a', 2), "xaaaa", n), "xaa");
            assert_eq!(cut(strip('a', 9), "aaaa", n), "");
        }
    }
}
