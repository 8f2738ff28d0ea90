//! Request: commands as the bytes that travel, several in one write.

/// Commands on their way out, and how many answers they will have.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Request {
    pub(super) bytes: Vec<u8>,
    /// Answers to expect.
    pub answers: usize,
}

impl Request {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing yet, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), answers: 0 }
    }

    /// One command.
    pub fn of(args: &[&[u8]]) -> Self {
        let mut request = Self::new();
        request.command(args);
        request
    }

    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.answers = 0;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds a command with these arguments.
    pub fn command(&mut self, args: &[&[u8]]) -> &mut Self {
        self.begin(args.len());
        args.iter().for_each(|arg| self.argument(arg));
        self
    }

    /// Begins a command of so many arguments, its name included; they must follow.
    pub fn begin(&mut self, arguments: usize) {
        self.answers += 1;
        self.bytes.push(b'*');
        self.number(arguments);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// The next argument.
    pub fn argument(&mut self, bytes: &[u8]) {
        self.bytes.push(b'$');
        self.number(bytes.len());
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Arguments that are encoded already, as an answer held them.
    pub fn encoded(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn number(&mut self, number: usize) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_texts() {
        let mut request = Request::of(&[b"PING"]);
        request.begin(2);
        request.argument(b"a\r\n");
        request.encoded(b"$1\r\nb\r\n");
        assert_eq!(request.bytes, b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\na\r\n\r\n$1\r\nb\r\n");
        assert_eq!((request.answers, request.len()), (2, 34));
        assert!(Request::new().is_empty());
    }

    #[test]
    fn numbers_are_decimal() {
        for n in [0, 9, 10, 1234, usize::MAX] {
            let mut request = Request::new();
            request.number(n);
            assert_eq!(request.bytes, n.to_string().into_bytes());
        }
    }
}
