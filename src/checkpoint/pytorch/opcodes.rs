//! The instructions of a pickle, protocols 0 to 5, that a state dict needs: <https://docs.python.org/3/library/pickletools.html>.

use crate::error::{Error, Result, excerpt};

/// No name or note in a state dict comes near this, bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// One instruction with its argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Instruction {
    /// Nothing that changes a value: a protocol's number, the length of a frame.
    Nothing,
    Stop,
    Mark,
    Pop,
    PopMark,
    Duplicate,
    None,
    Bool(bool),
    Int(i64),
    Text(String),
    /// A value that is no part of a tensor: a float, bytes, a number of more than 64 bits.
    Other,
    EmptyTuple,
    /// A tuple of the top values, so many.
    TupleOf(usize),
    /// A tuple of what stands above the mark.
    Tuple,
    EmptyList,
    List,
    Append,
    Appends,
    EmptyDict,
    Dict,
    SetItem,
    SetItems,
    EmptySet,
    /// What stands above the mark becomes elements of a set, a new or a given one.
    FrozenSet,
    AddItems,
    Global(String, String),
    /// Module and name are the top two values.
    StackGlobal,
    /// Calls the second value from the top with the first, a tuple.
    Call,
    Build,
    PersistentId,
    Put(u32),
    /// Puts at the next free number.
    Memoize,
    Get(u32),
}

/// Reads the instruction that the bytes begin with. → it, and its bytes; `None` if it is not whole yet
///
/// # Errors
/// [`Error::Checkpoint`] for one that no state dict needs, and for a text longer than any in one.
pub(super) fn next(bytes: &[u8], file: &str) -> Result<Option<(Instruction, usize)>> {
    let mut input = Input { bytes, at: 0, file };
    let instruction = input.instruction();
    match instruction {
        Ok(instruction) => Ok(Some((instruction, input.at))),
        Err(Halt::Incomplete) => Ok(None),
        Err(Halt::Wrong(error)) => Err(error),
    }
}

/// Why an instruction cannot be read.
enum Halt {
    Incomplete,
    Wrong(Error),
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    file: &'a str,
}

impl<'a> Input<'a> {
    fn instruction(&mut self) -> std::result::Result<Instruction, Halt> {
        use Instruction as I;
        let [opcode] = self.array()?;
        Ok(match opcode {
            0x80 => match self.array()? {
                [0..=5] => I::Nothing,
                [other] => return Err(self.wrong("a pickle of protocol 0 to 5", format!("protocol {other}"))),
            },
            0x95 => {
                self.array::<8>()?;
                I::Nothing
            }
            b'.' => I::Stop,
            b'(' => I::Mark,
            b'0' => I::Pop,
            b'1' => I::PopMark,
            b'2' => I::Duplicate,
            b'N' => I::None,
            0x88 => I::Bool(true),
            0x89 => I::Bool(false),
            b'I' => match self.line()? {
                "00" => I::Bool(false),
                "01" => I::Bool(true),
                digits => self.decimal(digits)?,
            },
            b'L' => {
                let digits = self.line()?;
                self.decimal(digits.strip_suffix('L').unwrap_or(digits))?
            }
            b'J' => I::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => I::Int(self.array::<1>()?[0].into()),
            b'M' => I::Int(u16::from_le_bytes(self.array()?).into()),
            0x8a => {
                let n = u64::from(self.array::<1>()?[0]);
                long(self.take(n)?)
            }
            0x8b => {
                let n = u32::from_le_bytes(self.array()?);
                long(self.take(n.into())?)
            }
            b'F' => {
                self.line()?;
                I::Other
            }
            b'G' => {
                self.array::<8>()?;
                I::Other
            }
            b'S' | b'V' => {
                let text = self.line()?;
                I::Text(text.trim_matches(|c| opcode == b'S' && (c == '\'' || c == '"')).to_string())
            }
            b'U' | 0x8c => {
                let n = u64::from(self.array::<1>()?[0]);
                self.text(n)?
            }
            b'T' | b'X' => {
                let n = u32::from_le_bytes(self.array()?);
                self.text(n.into())?
            }
            0x8d => {
                let n = u64::from_le_bytes(self.array()?);
                self.text(n)?
            }
            b'C' => {
                let n = u64::from(self.array::<1>()?[0]);
                self.skip(n)?
            }
            b'B' => {
                let n = u32::from_le_bytes(self.array()?);
                self.skip(n.into())?
            }
            0x8e | 0x96 => {
                let n = u64::from_le_bytes(self.array()?);
                self.skip(n)?
            }
            b')' => I::EmptyTuple,
            0x85 => I::TupleOf(1),
            0x86 => I::TupleOf(2),
            0x87 => I::TupleOf(3),
            b't' => I::Tuple,
            b']' => I::EmptyList,
            b'l' => I::List,
            b'a' => I::Append,
            b'e' => I::Appends,
            b'}' => I::EmptyDict,
            b'd' => I::Dict,
            b's' => I::SetItem,
            b'u' => I::SetItems,
            0x8f => I::EmptySet,
            0x90 => I::AddItems,
            0x91 => I::FrozenSet,
            b'c' | b'i' => {
                let (module, name) = (self.line()?.to_string(), self.line()?.to_string());
                if opcode == b'i' {
                    let found = format!("a new object of {}.{}", excerpt(&module), excerpt(&name));
                    return Err(self.wrong("a pickle of tensors alone", found));
                }
                I::Global(module, name)
            }
            0x93 => I::StackGlobal,
            b'R' | 0x81 => I::Call,
            b'b' => I::Build,
            b'Q' => I::PersistentId,
            b'p' | b'g' => {
                let digits = self.line()?;
                let number = digits.parse().map_err(|_| self.wrong("a number of the memo", excerpt(digits)))?;
                if opcode == b'p' { I::Put(number) } else { I::Get(number) }
            }
            b'q' => I::Put(self.array::<1>()?[0].into()),
            b'r' => I::Put(u32::from_le_bytes(self.array()?)),
            0x94 => I::Memoize,
            b'h' => I::Get(self.array::<1>()?[0].into()),
            b'j' => I::Get(u32::from_le_bytes(self.array()?)),
            other => {
                let expected = "only the pickle instructions that a state dict needs";
                return Err(self.wrong(expected, format!("{:?} ({other:#04x})", char::from(other))));
            }
        })
    }

    fn wrong(&self, expected: &str, found: String) -> Halt {
        Halt::Wrong(Error::file(self.file, expected, found))
    }

    /// The next `n` bytes.
    fn take(&mut self, n: u64) -> std::result::Result<&'a [u8], Halt> {
        if n > MAX_TEXT_BYTES {
            let expected = format!("at most {MAX_TEXT_BYTES} bytes for a name in a pickle");
            return Err(self.wrong(&expected, n.to_string()));
        }
        let taken = self.bytes[self.at..].get(..n as usize).ok_or(Halt::Incomplete)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> std::result::Result<[u8; N], Halt> {
        let taken = *self.bytes[self.at..].first_chunk().ok_or(Halt::Incomplete)?;
        self.at += N;
        Ok(taken)
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> std::result::Result<&'a str, Halt> {
        const MAX_LINE_BYTES: usize = 4096;
        let rest = &self.bytes[self.at..];
        match rest.iter().take(MAX_LINE_BYTES).position(|&b| b == b'\n') {
            Some(n) => {
                self.at += n + 1;
                std::str::from_utf8(&rest[..n]).map_err(|e| self.wrong("text in a pickle", e.to_string()))
            }
            None if rest.len() >= MAX_LINE_BYTES => {
                Err(self.wrong("a line in a pickle", format!("no end of one in {MAX_LINE_BYTES} bytes")))
            }
            None => Err(Halt::Incomplete),
        }
    }

    fn text(&mut self, n: u64) -> std::result::Result<Instruction, Halt> {
        let bytes = self.take(n)?;
        // Python 2's strings are bytes
        Ok(std::str::from_utf8(bytes).map_or(Instruction::Other, |text| Instruction::Text(text.to_string())))
    }

    fn skip(&mut self, n: u64) -> std::result::Result<Instruction, Halt> {
        self.take(n).map(|_| Instruction::Other)
    }

    fn decimal(&self, digits: &str) -> std::result::Result<Instruction, Halt> {
        match digits.parse() {
            Ok(number) => Ok(Instruction::Int(number)),
            Err(_) if digits.bytes().skip(1).all(|b| b.is_ascii_digit()) => Ok(Instruction::Other),
            Err(_) => Err(self.wrong("a number in a pickle", excerpt(digits))),
        }
    }
}

/// A whole number in two's complement, lowest byte first.
fn long(bytes: &[u8]) -> Instruction {
    if bytes.len() > 8 {
        return Instruction::Other;
    }
    let is_negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut number = [if is_negative { 0xff } else { 0 }; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    Instruction::Int(i64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_every_form() {
        use Instruction as I;
        for (bytes, expected) in [
            (&b"\x8a\x00"[..], I::Int(0)),
            (b"\x8a\x02\xff\x00", I::Int(255)),
            (b"\x8a\x01\xff", I::Int(-1)),
            (b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", I::Other),
            (b"I-12\n", I::Int(-12)),
            (b"I01\n", I::Bool(true)),
            (b"L7L\n", I::Int(7)),
            (b"J\xfe\xff\xff\xff", I::Int(-2)),
            (b"X\x02\0\0\0\xc3\xa9", I::Text("é".into())),
            (b"U\x01a", I::Text("a".into())),
            (b"S'a b'\n", I::Text("a b".into())),
            (b"\x8c\x01a", I::Text("a".into())),
            (b"cos\nsystem\n", I::Global("os".into(), "system".into())),
            (b"\x95\0\0\0\0\0\0\0\0", I::Nothing),
            (b"r\0\x01\0\0", I::Put(256)),
        ] {
            assert_eq!(next(bytes, "f").unwrap(), Some((expected, bytes.len())), "{bytes:?}");
            for n in 0..bytes.len() {
                assert_eq!(next(&bytes[..n], "f").unwrap(), None, "{bytes:?}: {n} bytes of it");
            }
        }
        for wrong in [&b"X\xff\xff\xff\xff"[..], b"\x80\x09", b"P0\n", b"\x84abcd", b"\x8d\0\0\0\0\0\0\0\x80"] {
            assert!(next(wrong, "f").is_err(), "{wrong:?}");
        }
    }
}
