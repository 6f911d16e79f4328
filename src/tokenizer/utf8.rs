//! Bytes → text, piece by piece, without ever splitting a character.

/// Turns the pieces of successive tokens into text.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// At most 3 bytes: the start of a character not yet complete.
    held: Vec<u8>,
}

impl Utf8Stream {
    /// Takes the next bytes. → the text that is complete with them; bytes that can never become UTF-8 as U+FFFD
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = std::mem::take(&mut self.held);
        loop {
            match std::str::from_utf8(&rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        None => {
                            self.held = after.to_vec(); // a character whose end may still come
                            return text;
                        }
                        Some(n_bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = after[n_bad..].to_vec();
                        }
                    }
                }
            }
        }
    }

    /// Ends the text. → U+FFFD if a character was left incomplete, else nothing
    pub fn finish(&mut self) -> &'static str {
        let incomplete = !self.held.is_empty();
        self.held.clear();
        if incomplete { "\u{fffd}" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_gives_the_text_of_the_whole() {
        let bytes: Vec<u8> =
            ["aé€😀z".as_bytes(), &[0xff, b'x', 0xe2, 0x82], "ß".as_bytes(), &[0xf0, 0x9f], b"!", &[0xe2, 0x82]]
                .concat();
        let whole = String::from_utf8_lossy(&bytes);
        for cut in 0..=bytes.len() {
            for step in 1..4 {
                let mut stream = Utf8Stream::default();
                let mut text = stream.push(&bytes[..cut]);
                for piece in bytes[cut..].chunks(step) {
                    text.push_str(&stream.push(piece));
                    assert!(stream.held.len() <= 3);
                }
                text.push_str(stream.finish());
                assert_eq!(text, whole, "cut at {cut}, then {step} at a time");
            }
        }
    }
}
