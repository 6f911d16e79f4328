//! What a decoder does to tokens before they are joined to a text: each stage takes one token after the other.

use super::general::ReplaceRegex;
use super::text_filters::WORD_PIECE_CLEANUP;

/// One stage. What it remembers of earlier tokens is all that it needs to know of them.
#[derive(Clone, Debug)]
pub(super) enum TokenStage {
    /// Puts `content` in the place of each `pattern`.
    Replace { pattern: String, content: String },
    /// Puts a text in the place of what a regular expression matches.
    ReplaceRegex(ReplaceRegex),
    /// Puts a space before each token that does not begin with `prefix`, but for the first.
    WordPiece { prefix: String, cleans_up: bool, is_first: bool },
    /// Puts a space in the place of each `replacement`; in the first token, nothing if `drops_first`.
    Metaspace { replacement: char, drops_first: bool, is_first: bool },
    /// Puts a space in the place of each `suffix`; in the last token, nothing. So the newest token waits for the next.
    Bpe { suffix: String, newest: Option<String> },
    /// Leaves out what repeats the token before it, and `pad`; `delimiter` becomes a space.
    Ctc { pad: String, delimiter: String, cleans_up: bool, last: Option<String> },
    /// Leaves out the first and last characters that are `content`, at most so many.
    Strip { content: char, n_start: usize, n_end: usize },
    /// Makes a run of `<0xNN>` the characters of these bytes, or U+FFFD for each byte where the run is no UTF-8: what a
    /// run is shows only with the token after it.
    ByteFallback { run: Vec<u8> },
    /// Puts a space between all tokens, as where a file has no decoder.
    Join { is_first: bool },
}

impl TokenStage {
    /// Takes the next token. → those that come out of it
    pub fn push(&mut self, token: String) -> Vec<String> {
        match self {
            Self::Replace { pattern, content } => vec![token.replace(pattern.as_str(), content)],
            Self::ReplaceRegex(replace) => vec![replace.apply(token)],
            Self::WordPiece { prefix, cleans_up, is_first } => {
                let token = match (std::mem::take(is_first), token.strip_prefix(prefix.as_str())) {
                    (true, _) => token,
                    (false, Some(rest)) => rest.to_string(),
                    (false, None) => format!(" {token}"),
                };
                vec![if *cleans_up { cleaned(token) } else { token }]
            }
            Self::Metaspace { replacement, drops_first, is_first } => {
                let space = if std::mem::take(is_first) && *drops_first { "" } else { " " };
                vec![token.replace(*replacement, space)]
            }
            Self::Bpe { suffix, newest } => {
                let before = newest.replace(token);
                before.into_iter().map(|token| token.replace(suffix.as_str(), " ")).collect()
            }
            Self::Ctc { pad, delimiter, cleans_up, last } => {
                if last.as_ref() == Some(&token) {
                    return Vec::new();
                }
                let mut shown = token.replace(pad.as_str(), "");
                if *cleans_up {
                    shown = cleaned(shown).replace(delimiter.as_str(), " ");
                }
                *last = Some(token);
                if shown.is_empty() { Vec::new() } else { vec![shown] }
            }
            Self::Strip { content, n_start, n_end } => {
                let mut rest = token.as_str();
                for _ in 0..*n_start {
                    let Some(after) = rest.strip_prefix(*content) else { break };
                    rest = after;
                }
                for _ in 0..*n_end {
                    let Some(before) = rest.strip_suffix(*content) else { break };
                    rest = before;
                }
                vec![rest.to_string()]
            }
            Self::ByteFallback { run } => match byte_of(&token) {
                Some(byte) => {
                    run.push(byte);
                    Vec::new()
                }
                None => ended(run).into_iter().chain([token]).collect(),
            },
            Self::Join { is_first } => {
                vec![if std::mem::take(is_first) { token } else { format!(" {token}") }]
            }
        }
    }

    /// Ends the tokens. → those that were held back
    pub fn finish(&mut self) -> Vec<String> {
        match self {
            Self::Bpe { suffix, newest } => {
                newest.take().into_iter().map(|token| token.replace(suffix.as_str(), "")).collect()
            }
            Self::ByteFallback { run } => ended(run).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// As in the middle of a text.
    pub fn skip_start(&mut self) {
        match self {
            Self::WordPiece { is_first, .. } | Self::Metaspace { is_first, .. } | Self::Join { is_first } => {
                *is_first = false;
            }
            _ => {}
        }
    }
}

fn cleaned(text: String) -> String {
    WORD_PIECE_CLEANUP.iter().fold(text, |text, (pattern, content)| match text.contains(pattern) {
        true => text.replace(pattern, content),
        false => text,
    })
}

/// The byte that `<0xNN>` stands for.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The text of a run of bytes that has ended; none for no run.
fn ended(run: &mut Vec<u8>) -> Option<String> {
    let n = run.len();
    let text = String::from_utf8(std::mem::take(run));
    (n > 0).then(|| text.unwrap_or_else(|_| "\u{fffd}".repeat(n)))
}
