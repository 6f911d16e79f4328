//! The special tokens that a tokenizer puts around a text (`post_processor` in tokenizer.json).

use serde_json::Value;

use crate::error::{Error, Result, excerpt};
use crate::token::TokenId;

/// What a text becomes: its own tokens, with others before and behind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Ids(Vec<TokenId>),
    Text,
}

/// How long a template may be, parts: a file must not make a text thousands of times longer.
const MAX_PARTS: usize = 64;

impl Template {
    /// A text between tokens.
    pub fn around(before: Option<TokenId>, behind: Option<TokenId>) -> Self {
        let ids = |id: Option<TokenId>| Part::Ids(id.into_iter().collect());
        Self(vec![ids(before), Part::Text, ids(behind)])
    }

    /// Reads a `post_processor`.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] for a kind that is not known, [`Error::Checkpoint`] for one that is malformed.
    pub fn from_json(json: &Value) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        let wrong = |expected: &str| Error::file(FILE, expected, excerpt(&json.to_string()));
        let pair = |name: &str| {
            let id = json[name].get(1).and_then(Value::as_u64).and_then(|id| TokenId::try_from(id).ok());
            id.ok_or_else(|| wrong("a post-processor's `cls` and `sep`, each a token and its id"))
        };
        match json["type"].as_str() {
            Some("ByteLevel") => Ok(Self::around(None, None)), // it is about offsets, not about ids
            Some("BertProcessing" | "RobertaProcessing") => Ok(Self::around(Some(pair("cls")?), Some(pair("sep")?))),
            Some("TemplateProcessing") => {
                let parts = json["single"].as_array().ok_or_else(|| wrong("a template with `single`"))?;
                let parts = parts.iter().map(|part| template_part(part, &json["special_tokens"]));
                let parts = parts.collect::<Option<Vec<_>>>().filter(|parts| parts.len() <= MAX_PARTS);
                parts.map(Self).ok_or_else(|| wrong("a template of the text and of tokens in its `special_tokens`"))
            }
            Some("Sequence") => {
                let steps = json["processors"].as_array().ok_or_else(|| wrong("a sequence with `processors`"))?;
                let mut whole = Self(vec![Part::Text]);
                for step in steps {
                    let step = Self::from_json(step)?;
                    let put_in = |part: Part| if part == Part::Text { whole.0.clone() } else { vec![part] };
                    whole = Self(step.0.into_iter().flat_map(put_in).collect());
                    if whole.0.len() > MAX_PARTS {
                        return Err(wrong("a shorter post-processor"));
                    }
                }
                Ok(whole)
            }
            _ => {
                let expected = "ByteLevel, BertProcessing, RobertaProcessing, TemplateProcessing or Sequence";
                Err(Error::unsupported(FILE, "post_processor", expected, excerpt(&json.to_string())))
            }
        }
    }

    /// The ids of a whole text.
    pub fn whole(&self, text: &[TokenId]) -> Vec<TokenId> {
        fill(&self.0, text)
    }

    /// The ids of a text that is to be continued: without what stands behind it.
    pub fn prompt(&self, text: &[TokenId]) -> Vec<TokenId> {
        let n = self.0.iter().rposition(|part| *part == Part::Text).map_or(self.0.len(), |at| at + 1);
        fill(&self.0[..n], text)
    }

    /// The ids that it puts around a text.
    pub fn ids(&self) -> impl Iterator<Item = TokenId> {
        self.0
            .iter()
            .flat_map(|part| match part {
                Part::Ids(ids) => ids.as_slice(),
                Part::Text => &[],
            })
            .copied()
    }
}

fn template_part(part: &Value, special_tokens: &Value) -> Option<Part> {
    if let Some(sequence) = part.get("Sequence") {
        // "B" is the second of a pair of texts, and here is only one
        return (sequence["id"] == "A").then_some(Part::Text);
    }
    let name = part.get("SpecialToken")?["id"].as_str()?;
    let ids = special_tokens.get(name)?.get("ids")?.as_array()?;
    let ids = ids.iter().map(|id| id.as_u64().and_then(|id| TokenId::try_from(id).ok()));
    ids.collect::<Option<Vec<_>>>().filter(|ids| ids.len() <= MAX_PARTS).map(Part::Ids)
}

fn fill(parts: &[Part], text: &[TokenId]) -> Vec<TokenId> {
    let ids = parts.iter().flat_map(|part| match part {
        Part::Ids(ids) => ids.as_slice(),
        Part::Text => text,
    });
    ids.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prompt_has_nothing_behind_it() {
        let bert = Template::from_json(&json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}));
        let bert = bert.unwrap();
        assert_eq!((bert.whole(&[7, 8]), bert.prompt(&[7, 8])), (vec![2, 7, 8, 3], vec![2, 7, 8]));
        let chain = json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1, 4], "tokens": ["<s>", "x"]}}}]});
        assert_eq!(Template::from_json(&chain).unwrap().whole(&[7]), [1, 4, 7]);
    }

    #[test]
    fn what_cannot_be_filled_is_an_error() {
        for (json, word) in [
            (json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]}), "special_tokens"),
            (json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]}), "special_tokens"),
            (json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", -2]}), "cls"),
            (json!({"type": "Surprise"}), "post_processor"),
            (json!({"type": "Sequence"}), "processors"),
        ] {
            let error = Template::from_json(&json).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
