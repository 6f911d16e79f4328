//! Stop strings: text that ends a generation and is not part of it, also where it spans several tokens.

/// Looks for stop strings in a text that comes piece by piece, and holds back what may be the start of one.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    /// Shorter than the longest stop string: a proper prefix of at least one of them, or empty.
    held: String,
}

impl StopStrings {
    /// A search for any of `stops`; none of them may be empty.
    pub fn new(stops: Vec<String>) -> Self {
        debug_assert!(stops.iter().all(|s| !s.is_empty()));
        Self { stops, held: String::new() }
    }

    /// Takes the next piece. → text that is safe to show, and whether a stop string was met right after it
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(piece);
        // the one that is complete first, so that it does not matter how the text was cut
        let ends = self.stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at)));
        if let Some((_, at)) = ends.min() {
            text.truncate(at);
            return (text, true);
        }
        // the earliest place from which the text is the start of a stop string
        let held_from = text
            .char_indices()
            .map(|(i, _)| i)
            .find(|&i| self.stops.iter().any(|stop| stop.starts_with(&text[i..])))
            .unwrap_or(text.len());
        self.held = text.split_off(held_from);
        (text, false)
    }

    /// Ends the text. → what was held back
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of `n` characters. → (what was shown, whether it stopped)
    fn run(stops: &[&str], text: &str, n: usize) -> (String, bool) {
        let mut search = StopStrings::new(stops.iter().map(|s| s.to_string()).collect());
        let mut shown = String::new();
        for piece in text.chars().collect::<Vec<_>>().chunks(n) {
            let (part, stopped) = search.push(&piece.iter().collect::<String>());
            shown.push_str(&part);
            if stopped {
                return (shown, true);
            }
        }
        shown.push_str(&search.finish());
        (shown, false)
    }

    #[test]
    fn found_at_every_cut() {
        for n in 1..12 {
            assert_eq!(run(&["\n\n"], "one\ntwo\n\nthree", n), ("one\ntwo".into(), true));
            assert_eq!(run(&["aab"], "aaaab!", n), ("aa".into(), true));
            assert_eq!(run(&["é€", "zz"], "xé€", n), ("x".into(), true));
            assert_eq!(run(&["abc", "b"], "xabc", n), ("xa".into(), true));
            assert_eq!(run(&["END"], "EN", n), ("EN".into(), false));
            assert_eq!(run(&[], "anything", n), ("anything".into(), false));
        }
    }

    #[test]
    fn the_earliest_of_several_wins() {
        assert_eq!(run(&["c", "ab"], "xabc", 10), ("x".into(), true));
    }
}
