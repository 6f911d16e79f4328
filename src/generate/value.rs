//! The value of one option, read from JSON: what does not fit is an error that names the option, what it takes and what
//! was given.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::token::TokenId;

/// The largest number up to which JavaScript's numbers are exact, 2⁵³.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// An option's name and what was given for it.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub name: &'a str,
    pub value: &'a Value,
    pub vocab_size: usize,
}

impl Given<'_> {
    pub fn wrong(self, expected: &str) -> Error {
        Error::invalid_option(self.name, expected, self.value.to_string())
    }

    pub fn number(self) -> Result<f64> {
        self.value.as_f64().ok_or_else(|| self.wrong("a number"))
    }

    pub fn truth(self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    pub fn whole(self, min: usize) -> Result<usize> {
        let n = whole(self.value).and_then(|n| usize::try_from(n).ok());
        n.filter(|&n| n >= min).ok_or_else(|| self.wrong(&format!("a whole number of at least {min}")))
    }

    /// A number, or its digits as text where JavaScript's numbers do not reach.
    pub fn seed(self) -> Result<u64> {
        let seed = match self.value {
            Value::String(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            other => whole(other),
        };
        seed.ok_or_else(|| self.wrong("a whole number from 0 to 2^64 - 1"))
    }

    /// A string or a list of them, none of them empty.
    pub fn strings(self) -> Result<Vec<String>> {
        let strings = match self.value {
            Value::Array(list) => list.iter().map(|s| s.as_str().map(str::to_string)).collect(),
            one => one.as_str().map(|s| vec![s.to_string()]),
        };
        strings
            .filter(|strings: &Vec<String>| strings.iter().all(|s| !s.is_empty()))
            .ok_or_else(|| self.wrong("a string or a list of strings, none of them empty"))
    }

    /// A token or none.
    pub fn optional_token(self) -> Result<Option<TokenId>> {
        match self.value {
            Value::Null => Ok(None),
            one => self.id(one).map(Some).ok_or_else(|| self.wrong(&self.ids("a token id", ", or null"))),
        }
    }

    /// A token, a list of them, or none.
    pub fn tokens_or_one(self) -> Result<Vec<TokenId>> {
        let ids = match self.value {
            Value::Null => Some(Vec::new()),
            Value::Array(_) => self.id_list(self.value),
            one => self.id(one).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.wrong(&self.ids("a token id", ", a list of them, or null")))
    }

    /// A list of tokens.
    pub fn tokens(self) -> Result<Vec<TokenId>> {
        self.id_list(self.value).ok_or_else(|| self.wrong(&self.ids("a list of token ids", "")))
    }

    /// A list of lists of tokens.
    pub fn sequences(self) -> Result<Vec<Vec<TokenId>>> {
        let lists = self.value.as_array().and_then(|lists| lists.iter().map(|ids| self.id_list(ids)).collect());
        lists.ok_or_else(|| self.wrong(&self.ids("a list of lists of token ids", "")))
    }

    /// An object of token id → number.
    pub fn bias(self) -> Result<BTreeMap<TokenId, f64>> {
        let entry = |(id, bias): (&String, &Value)| {
            let id = id.parse().ok().filter(|&id: &TokenId| (id as usize) < self.vocab_size)?;
            Some((id, bias.as_f64()?))
        };
        let bias = self.value.as_object().and_then(|bias| bias.iter().map(entry).collect());
        bias.ok_or_else(|| self.wrong(&self.ids("an object of token ids", " and numbers")))
    }

    /// A list of [list of tokens, number].
    pub fn sequence_bias(self) -> Result<Vec<(Vec<TokenId>, f64)>> {
        let entry = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
            Some([ids, bias]) => Some((self.id_list(ids)?, bias.as_f64()?)),
            _ => None,
        };
        let pairs = self.value.as_array().and_then(|pairs| pairs.iter().map(entry).collect());
        pairs.ok_or_else(|| self.wrong(&self.ids("a list of [list of token ids", ", number]")))
    }

    /// [start, factor], or none.
    pub fn decay(self) -> Result<Option<(usize, f64)>> {
        let pair = match self.value {
            Value::Null => return Ok(None),
            Value::Array(pair) => match pair.as_slice() {
                [start, factor] => whole(start).and_then(|n| usize::try_from(n).ok()).zip(factor.as_f64()),
                _ => None,
            },
            _ => None,
        };
        pair.map(Some).ok_or_else(|| self.wrong("[a whole number, a number], or null"))
    }

    fn ids(self, before: &str, after: &str) -> String {
        format!("{before} below {}{after}", self.vocab_size)
    }

    fn id(self, value: &Value) -> Option<TokenId> {
        whole(value).filter(|&id| id < self.vocab_size as u64).and_then(|id| TokenId::try_from(id).ok())
    }

    fn id_list(self, value: &Value) -> Option<Vec<TokenId>> {
        value.as_array()?.iter().map(|id| self.id(id)).collect()
    }
}

/// 40.0 is a whole number in JSON from JavaScript.
fn whole(value: &Value) -> Option<u64> {
    let exact = |x: &f64| x.fract() == 0.0 && (0.0..=MAX_EXACT).contains(x);
    value.as_u64().or_else(|| value.as_f64().filter(exact).map(|x| x as u64))
}
