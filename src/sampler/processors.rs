//! What changes the logits before a token is chosen from them: each step under transformers' name, in its order.

use std::collections::BTreeMap;

use super::params::SamplingParams;
use crate::token::TokenId;

/// Where the text stands for which the next token is chosen.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Prompt and tokens generated so far.
    pub ids: &'a [TokenId],
    /// How many of them are prompt; may be more than there are.
    pub n_prompt: usize,
}

impl<'a> Place<'a> {
    /// The tokens generated so far.
    fn generated(self) -> &'a [TokenId] {
        self.ids.get(self.n_prompt..).unwrap_or_default()
    }
}

/// When a step applies.
pub(super) enum When {
    Always,
    /// With fewer new tokens than these.
    Before(usize),
    /// With exactly so many new tokens.
    At(usize),
    /// When the whole text is so long.
    Length(usize),
    /// For the first new token, or for the second where `forced_bos_token_id` decides the first.
    Begin {
        is_bos_forced: bool,
    },
}

impl When {
    fn is_now(&self, place: Place) -> bool {
        let n_new = place.generated().len();
        match *self {
            When::Always => true,
            When::Before(n) => n_new < n,
            When::At(n) => n_new == n,
            When::Length(n) => place.ids.len() == n,
            When::Begin { is_bos_forced } => n_new == usize::from(is_bos_forced && place.n_prompt <= 1),
        }
    }
}

/// One step, which takes scores \[V\] to scores. Ids beyond V are ignored.
pub(super) enum Processor {
    /// Adds to the score of each sequence's last token where the text ends with the rest of it
    /// (`SequenceBiasLogitsProcessor`, `NoBadWordsLogitsProcessor`).
    Bias(Vec<(Vec<TokenId>, f32)>),
    /// `RepetitionPenaltyLogitsProcessor`
    RepetitionPenalty(f32),
    /// OpenAI's two penalties.
    Frequency { presence: f32, frequency: f32 },
    /// `NoRepeatNGramLogitsProcessor`
    NoRepeatNgram(usize),
    /// Takes tokens out (`MinNewTokensLengthLogitsProcessor`, `SuppressTokensLogitsProcessor`, `…AtBegin…`).
    Mask(Vec<TokenId>, When),
    /// Takes all others out (`ForcedBOSTokenLogitsProcessor`, `ForcedEOSTokenLogitsProcessor`).
    Force(Vec<TokenId>, When),
    /// `ExponentialDecayLengthPenalty`
    Decay { start: usize, factor: f64, eos: Vec<TokenId> },
}

/// The steps that these parameters ask for, none that is neutral. eos: the tokens that end the text
pub(super) fn processors(params: &SamplingParams, eos: &[TokenId], max_new_tokens: usize) -> Vec<Processor> {
    let p = params;
    let mut steps = Vec::new();
    let mut add = |is_on: bool, step: Processor| {
        if is_on {
            steps.push(step);
        }
    };
    let single = p.logit_bias.iter().map(|(&id, &bias)| (vec![id], bias as f32)).collect();
    add(!p.logit_bias.is_empty(), Processor::Bias(single));
    // of a sequence that is given twice the last counts
    let biases: BTreeMap<_, _> = p.sequence_bias.iter().map(|(ids, bias)| (ids.clone(), *bias as f32)).collect();
    add(!biases.is_empty(), Processor::Bias(biases.into_iter().collect()));
    add(p.repetition_penalty != 1.0, Processor::RepetitionPenalty(p.repetition_penalty as f32));
    let (presence, frequency) = (p.presence_penalty as f32, p.frequency_penalty as f32);
    add(presence != 0.0 || frequency != 0.0, Processor::Frequency { presence, frequency });
    add(p.no_repeat_ngram_size > 0, Processor::NoRepeatNgram(p.no_repeat_ngram_size));
    let is_end = |word: &Vec<TokenId>| matches!(word[..], [id] if eos.contains(&id));
    let bad_words = p.bad_words_ids.iter().filter(|word| !is_end(word));
    let bad_words: Vec<_> = bad_words.map(|word| (word.clone(), f32::NEG_INFINITY)).collect();
    add(!bad_words.is_empty(), Processor::Bias(bad_words));
    let has_eos = !eos.is_empty();
    add(p.min_new_tokens > 0 && has_eos, Processor::Mask(eos.to_vec(), When::Before(p.min_new_tokens)));
    let bos = p.forced_bos_token_id;
    add(bos.is_some(), Processor::Force(Vec::from_iter(bos), When::Length(1)));
    let last = When::At(max_new_tokens.saturating_sub(1));
    add(!p.forced_eos_token_id.is_empty(), Processor::Force(p.forced_eos_token_id.clone(), last));
    if let Some((start, factor)) = p.exponential_decay_length_penalty {
        add(has_eos, Processor::Decay { start, factor, eos: eos.to_vec() });
    }
    add(!p.suppress_tokens.is_empty(), Processor::Mask(p.suppress_tokens.clone(), When::Always));
    let begin = When::Begin { is_bos_forced: bos.is_some() };
    add(!p.begin_suppress_tokens.is_empty(), Processor::Mask(p.begin_suppress_tokens.clone(), begin));
    steps
}

impl Processor {
    /// Changes the scores, none of which is NaN or +inf before or after. `sorted` is scratch memory.
    pub fn apply(&self, scores: &mut [f32], place: Place, sorted: &mut Vec<TokenId>) {
        match self {
            Processor::Bias(biases) => {
                for (sequence, bias) in biases {
                    if let Some((&last, rest)) = sequence.split_last()
                        && place.ids.ends_with(rest)
                    {
                        change(scores, last, |score| score + bias);
                    }
                }
            }
            Processor::RepetitionPenalty(penalty) => {
                sort_into(sorted, place.ids);
                sorted.dedup(); // a token that occurs twice is penalised once
                for &id in &*sorted {
                    change(scores, id, |score| if score < 0.0 { score * penalty } else { score / penalty });
                }
            }
            Processor::Frequency { presence, frequency } => {
                sort_into(sorted, place.generated()); // equal ids side by side, to count them
                for same in sorted.chunk_by(|a, b| a == b) {
                    change(scores, same[0], |score| score - (presence + same.len() as f32 * frequency));
                }
            }
            &Processor::NoRepeatNgram(n) => {
                if place.ids.len() >= n {
                    // the next token must not complete an n-gram whose first n - 1 tokens are the last n - 1 of the text
                    let suffix = &place.ids[place.ids.len() + 1 - n..];
                    for ngram in place.ids.windows(n).filter(|ngram| &ngram[..n - 1] == suffix) {
                        change(scores, ngram[n - 1], |_| f32::NEG_INFINITY);
                    }
                }
            }
            Processor::Mask(ids, when) => {
                if when.is_now(place) {
                    ids.iter().for_each(|&id| change(scores, id, |_| f32::NEG_INFINITY));
                }
            }
            Processor::Force(ids, when) => {
                if when.is_now(place) {
                    scores.fill(f32::NEG_INFINITY);
                    ids.iter().for_each(|&id| change(scores, id, |_| 0.0));
                }
            }
            Processor::Decay { start, factor, eos } => {
                let n_since = place.generated().len().saturating_sub(*start);
                if n_since > 0 {
                    let growth = factor.powi(n_since.min(i32::MAX as usize) as i32) - 1.0;
                    let growth = growth.min(f64::from(f32::MAX)) as f32;
                    for &id in eos {
                        change(
                            scores,
                            id,
                            |score| if score.is_finite() { score + score.abs() * growth } else { score },
                        );
                    }
                }
            }
        }
    }
}

/// Changes one score, and keeps it below infinity where a factor or a bias is large.
fn change(scores: &mut [f32], id: TokenId, f: impl FnOnce(f32) -> f32) {
    if let Some(score) = scores.get_mut(id as usize) {
        *score = f(*score).min(f32::MAX);
    }
}

fn sort_into(sorted: &mut Vec<TokenId>, ids: &[TokenId]) {
    sorted.clear();
    sorted.extend_from_slice(ids);
    sorted.sort_unstable();
}
