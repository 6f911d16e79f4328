//! Guesses of the next tokens from earlier text (prompt lookup decoding), and when they are worth a try.
//!
//! Where the end of the text has stood before, what came next then may come next again. A pass that runs such guesses
//! beside the newest token costs more than one without; each guess that turns out right saves a whole pass. How often
//! guesses are right is counted for every token of the text, also while none are run, so that prose never pays for
//! them.
//!
//! A text that is written again with changes is followed across them: where a long match is broken by one token, what
//! stood behind the token that was replaced is likely to come next, and where it was replaced once, it is likely to be
//! replaced again.

use std::collections::HashMap;

use crate::token::TokenId;

/// A longer match says nothing more.
const MAX_MATCH: usize = 8;
/// Most tokens that are guessed at once; more rows than these make a pass of the kernels much longer.
const MAX_GUESS: usize = 15;
/// Most rows in a pass with guesses, if every text has as many.
const MAX_ROWS: usize = 32;
/// What one more row costs in a pass, in units of a pass with one row: measured, 0.35 where memory is slow (20 GB/s) to
/// 0.6 where it is fast (`./build.sh bench lookup`).
const ROW_COST: f64 = 0.5;
/// Guesses have to promise so many times the tokens per time that there are without.
const MIN_GAIN: f64 = 1.1;
/// How much a single outcome counts against those before it.
const RATE: f64 = 0.15;
/// How often a guess is right after a match of 1, 2, … tokens, before anything is known of the text.
const PRIOR: [f64; MAX_MATCH] = [0.05, 0.15, 0.3, 0.45, 0.6, 0.7, 0.75, 0.8];
/// Behind a token that replaced one in the longest match, as many tokens count as the same.
const N_AFTER_CHANGE: usize = 6;

/// What one text has taught of its guesses.
#[derive(Clone)]
pub(super) struct Lookup {
    /// Most tokens to guess; 0 is off.
    max_guess: usize,
    /// How often a guess has been right lately, after a match of 1, 2, … tokens.
    hit_rates: [f64; MAX_MATCH],
    /// Where the end of the text has stood before.
    place: Option<Place>,
    /// What has taken a token's place where earlier text was written again.
    changes: HashMap<TokenId, TokenId>,
    /// A change that counts if earlier text goes on behind it.
    change: Option<(TokenId, TokenId)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    /// Tokens that are the same, at least 1.
    n_match: usize,
    /// Index of the token that came next.
    next: usize,
}

impl Lookup {
    /// For a text of which nothing is known yet. max_guess: most tokens to guess at once, `None` for as many as pay
    pub fn new(max_guess: Option<usize>) -> Self {
        let max_guess = max_guess.unwrap_or(MAX_GUESS).min(MAX_GUESS);
        Self { max_guess, hit_rates: PRIOR, place: None, changes: HashMap::new(), change: None }
    }

    /// Looks up the end of a text that a generation begins after.
    pub fn begin(&mut self, text: &[TokenId]) {
        self.place = if self.max_guess == 0 { None } else { find(text) };
        self.change = None;
    }

    /// Learns of the text's newest token. text: with that token
    pub fn observe(&mut self, text: &[TokenId]) {
        if self.max_guess == 0 {
            return;
        }
        let Some((newest, before)) = text.split_last() else { return };
        let known = self.place.and_then(|place| Some((place, *before.get(place.next)?)));
        let Some((Place { n_match, next }, there)) = known else {
            self.place = find(text);
            return;
        };
        let is_hit = self.changed(there) == *newest;
        let rate = &mut self.hit_rates[n_match.min(MAX_MATCH) - 1];
        *rate += RATE * (f64::from(u8::from(is_hit)) - *rate);
        let change = self.change.take();
        if is_hit {
            self.changes.extend(change);
            // of places with as long a match, the one that was right before
            let on = Place { n_match: (n_match + 1).min(MAX_MATCH), next: next + 1 };
            let is_longest = on.n_match == MAX_MATCH;
            let better = if is_longest { None } else { find(text).filter(|place| place.n_match > on.n_match) };
            self.place = Some(better.unwrap_or(on));
            return;
        }
        self.place = find(text);
        if n_match >= MAX_MATCH && self.place.is_none_or(|place| place.n_match < N_AFTER_CHANGE) {
            self.changes.remove(&there);
            self.change = Some((there, *newest));
            self.place = Some(Place { n_match: N_AFTER_CHANGE, next: next + 1 });
        }
    }

    /// The tokens that are worth a try after `text`, at most `most`. n_others: rows of other texts in the same pass
    pub fn guess(&self, text: &[TokenId], most: usize, n_others: usize) -> Vec<TokenId> {
        let Some(place) = self.place.filter(|place| place.next < text.len()) else { return Vec::new() };
        let most = most.min(self.max_guess).min(MAX_ROWS / (1 + n_others));
        let n = self.worthwhile(place.n_match, most, n_others);
        let mut guess = Vec::with_capacity(n);
        for i in place.next..place.next + n {
            // a text that repeats itself goes on with what was just guessed
            let there = text.get(i).copied().unwrap_or_else(|| guess[i - text.len()]);
            guess.push(self.changed(there));
        }
        guess
    }

    /// What is likely to be written where `there` stood before.
    fn changed(&self, there: TokenId) -> TokenId {
        self.changes.get(&there).copied().unwrap_or(there)
    }

    /// How many guesses promise the most tokens for the time.
    fn worthwhile(&self, n_match: usize, most: usize, n_others: usize) -> usize {
        let cost = |n_guess: usize| 1.0 + ROW_COST * (n_others + n_guess) as f64;
        let n_texts = (1 + n_others) as f64;
        let plain = n_texts / cost(0);
        let (mut best, mut best_gain) = (0, MIN_GAIN);
        let (mut chance, mut n_tokens) = (1.0, n_texts);
        for n in 1..=most {
            chance *= self.hit_rates[(n_match + n - 1).min(MAX_MATCH) - 1];
            n_tokens += chance;
            let gain = n_tokens / cost(n) / plain;
            if gain > best_gain {
                (best, best_gain) = (n, gain);
            }
        }
        best
    }
}

/// Where the longest end of the text has stood before; of several places the last.
fn find(text: &[TokenId]) -> Option<Place> {
    let (last, before) = text.split_last()?;
    let mut best: Option<Place> = None;
    for (i, _) in before.iter().enumerate().rev().filter(|(_, id)| *id == last) {
        let same = text[..i].iter().rev().zip(before.iter().rev()).take(MAX_MATCH - 1).take_while(|(a, b)| a == b);
        let n_match = 1 + same.count();
        if best.is_none_or(|best| n_match > best.n_match) {
            best = Some(Place { n_match, next: i + 1 });
            if n_match == MAX_MATCH {
                break;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn the_longest_match_wins_and_then_the_last() {
        let place = |text: &[TokenId]| find(text).map(|p| (p.n_match, p.next));
        assert_eq!(place(&[]), None);
        assert_eq!(place(&[1, 2, 3]), None);
        assert_eq!(place(&[1, 2, 3, 1, 2, 4, 9, 2, 5, 1, 2]), Some((2, 5)), "the later of two");
        assert_eq!(place(&[7, 1, 2, 3, 1, 2, 4, 9, 2, 5, 7, 1, 2]), Some((3, 3)), "the longer of two");
        assert_eq!(place(&[5; 20]), Some((MAX_MATCH, 19)));
    }

    /// Feeds a text token by token, as a generation does. → (tokens guessed, tokens guessed right), with each pass's
    /// guess compared with what follows
    fn play(text: &[TokenId], n_prompt: usize, most: usize) -> (usize, usize) {
        let mut lookup = Lookup::new(None);
        lookup.begin(&text[..n_prompt]);
        let (mut n_guessed, mut n_right, mut n) = (0, 0, n_prompt);
        while n < text.len() {
            let guess = lookup.guess(&text[..n], most.min(text.len() - n), 0);
            let right = guess.iter().zip(&text[n..]).take_while(|(a, b)| a == b).count();
            (n_guessed, n_right) = (n_guessed + guess.len(), n_right + right);
            for _ in 0..=right {
                n += 1;
                if n <= text.len() {
                    lookup.observe(&text[..n]);
                }
            }
        }
        (n_guessed, n_right)
    }

    #[test]
    fn a_text_that_repeats_itself_is_guessed_and_one_that_does_not_is_left_alone() {
        let verse: Vec<TokenId> = (0..60).map(|i| i * 37 % 101).collect();
        let (n_guessed, n_right) = play(&verse.repeat(4), verse.len(), 100);
        assert!(n_right > 100 && n_right * 10 > n_guessed * 9, "{n_right} of {n_guessed}");
        // pairs that come again and again, each time followed by another token
        let fickle: Vec<TokenId> = (0..400).flat_map(|i| [1, 2, 1000 + i * 7919 % 997]).collect();
        let (n_guessed, _) = play(&fickle, 3, 100);
        assert!(n_guessed < 40 + 400 * 2, "a third of the tokens cannot be guessed: {n_guessed}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let noise: Vec<TokenId> = (0..600).map(|_| (rng.next_u64() >> 57) as TokenId).collect();
        let (n_guessed, _) = play(&noise, 3, 100);
        assert!(n_guessed < 12, "{n_guessed} guesses of a text without order");
    }

    #[test]
    fn a_text_that_is_written_again_with_changes_is_followed_across_them() {
        let verse: Vec<TokenId> = (0..240).map(|i| if i % 12 == 5 { 7 } else { 1000 + i * 37 % 1009 }).collect();
        let renamed: Vec<TokenId> = verse.iter().map(|&id| if id == 7 { 8 } else { id }).collect();
        let (n_guessed, n_right) = play(&[&verse[..], &renamed].concat(), verse.len(), 100);
        assert!(n_right > 200 && n_right * 10 > n_guessed * 9, "{n_right} of {n_guessed} and 240 tokens");
        // each token is replaced by another one: nothing is learned, and the place is not lost
        let varied: Vec<TokenId> = (100..).zip(&verse).map(|(n, &id)| if id == 7 { n } else { id }).collect();
        let (n_guessed, n_right) = play(&[&verse[..], &varied].concat(), verse.len(), 100);
        assert!(n_right > 160, "{n_right} of {n_guessed} and 220 tokens");
    }

    #[test]
    fn a_guess_goes_on_beyond_the_end_of_the_text() {
        let mut lookup = Lookup::new(None);
        let text: Vec<TokenId> = [1, 2, 3].repeat(10);
        lookup.begin(&text[..6]);
        for n in 7..=text.len() {
            lookup.observe(&text[..n]);
        }
        let guess = lookup.guess(&text, 9, 0);
        assert_eq!(guess, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
        assert!(lookup.guess(&text, 9, 40).len() < 9, "the fuller a pass is, the more a row weighs");
        assert!(Lookup::new(Some(0)).guess(&text, 9, 0).is_empty());
        assert!(lookup.guess(&text, 0, 0).is_empty());
    }
}
